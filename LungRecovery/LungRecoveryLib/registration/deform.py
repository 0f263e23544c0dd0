"""The deformation of a prepared pair: align -> predict -> refine, with less resolution where memory runs out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import SimpleITK as sitk
import torch

from ..errors import BadInput, OutOfMemory, is_out_of_memory
from ..progress import Progress
from ..resources import NO_NETWORK
from . import refine as refinement
from .align import align_lungs
from .predict import NetworkInputs, network_inputs, predict, start_velocity
from .prepare import PreparedPair, prepare
from .refine import Level
from .uncertainty import uncertainty
from .velocity import Deformation, Velocity
from .weights import Weights, load_weights

_COARSE = (Level(4, 4, 40, 0.3, 1.0), Level(4, 2, 40, 0.2, 1.0))
# What a network leaves of a very deep breath is still many voxels at half resolution.
_COARSE_AGAIN = Level(4, 4, 30, 0.4, 0.3)
_COARSEST_MM = 8.0  # of images worth another look after a network, which works on 12 and 6 mm
# Levels of refinement from rest, and from a network's start. The preview is the network alone.
FROM_REST: dict[str, tuple[Level, ...]] = {
    "fast": (*_COARSE, Level(2, 4, 40, 0.15, 0.5)),
    "standard": (*_COARSE, Level(2, 4, 50, 0.15, 1.0), Level(1, 4, 20, 0.15, 1.0)),
    "accurate": (*_COARSE, Level(2, 4, 80, 0.15, 1.0), Level(1, 4, 50, 0.15, 1.0)),
}
FROM_NETWORK: dict[str, tuple[Level, ...]] = {
    "preview": (),
    "fast": (_COARSE_AGAIN, Level(2, 4, 20, 0.15, 0.5)),
    # Half resolution is soft and quick here: nodes twice as far apart are four times as stiff for the same smoothness,
    # and what stiffness keeps from the pleura, full resolution has no steps to make up for.
    "standard": (_COARSE_AGAIN, Level(2, 4, 40, 0.3, 0.5), Level(1, 4, 8, 0.2, 1.0)),
    "accurate": (_COARSE_AGAIN, Level(2, 4, 80, 0.15, 1.0), Level(1, 4, 50, 0.15, 1.0)),
}
PRESETS = tuple(FROM_NETWORK)
# Steps beyond a preset's own, that tell how uncertain its field is: with more resolution or less smoothness.
_WITH_LESS_SMOOTHNESS = Level(1, 4, 4, 0.2, 0.3)
_PROBES = {
    "preview": FROM_NETWORK["fast"][-1],
    "fast": Level(1, 4, 6, 0.2, 1.0),
    "standard": _WITH_LESS_SMOOTHNESS,
    "accurate": _WITH_LESS_SMOOTHNESS,
}


@dataclass
class Plan:
    """How a pair is registered: `levels` of refinement after the start, and the `weights` that give it, if any; the
    `probe`, by which its uncertainty is told."""

    preset: str
    levels: tuple[Level, ...]
    weights: str | Path | None
    probe: Level

    @staticmethod
    def of(preset: str, weights: str | Path) -> "Plan":
        """The plan of a preset. Raises BadInput for an unknown preset and for a preview without a network."""
        if preset not in PRESETS:
            raise BadInput(f"There is no preset {preset!r}: use one of {', '.join(PRESETS)}.")
        if str(weights) != NO_NETWORK:
            return Plan(preset, FROM_NETWORK[preset], weights, _PROBES[preset])
        if preset not in FROM_REST:
            raise BadInput(f"The preset {preset!r} is the network alone: give weights, or another preset.")
        return Plan(preset, FROM_REST[preset], None, _PROBES[preset])

    def halved(self) -> "Plan":
        """The same plan without full resolution."""
        levels = tuple(level for level in self.levels if level.scale > 1)
        return replace(self, levels=levels, probe=replace(self.probe, scale=max(2, self.probe.scale)))


@dataclass(eq=False)
class Deformed:
    """A deformation, the device it was made on, the network that gave its start, and its uncertainty if asked for."""

    deformation: Deformation
    device: str
    network: Weights | None
    uncertainty: sitk.Image | None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def deform(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_lungs: sitk.Image,
    moving_lungs: sitk.Image,
    plan: Plan,
    device: torch.device,
    spacing_mm: float,
    progress: Progress,
    with_uncertainty: bool = False,
) -> Deformed:
    """The deformation of a pair on a device; at half resolution, then on the CPU, where memory runs out.

    Raises OutOfMemory when not even the CPU at half resolution has enough, BadInput for weights that cannot be used.
    """
    attempts = [(device, plan)]
    if device.type == "cuda":
        attempts += [(device, plan.halved()), (torch.device("cpu"), plan)]
    attempts += [(torch.device("cpu"), plan.halved())]
    notes: list[str] = []
    for attempt, (where, what) in enumerate(attempts):
        try:
            result = _attempt(
                fixed, moving, fixed_lungs, moving_lungs, what, where, spacing_mm, progress, with_uncertainty
            )
            result.notes[:0] = notes
            return result
        except (MemoryError, RuntimeError) as error:
            if not (isinstance(error, torch.OutOfMemoryError) or is_out_of_memory(error)):
                raise
            if attempt == len(attempts) - 1:
                raise OutOfMemory(
                    "Registration does not fit into memory: close other programs or use a machine with more."
                ) from error
            following = attempts[attempt + 1]
            resolution = "full resolution" if following[1] is plan else "half resolution"
            notes.append(f"Memory ran out on {where}; continued at {resolution} on {following[0]}.")
            if where.type == "cuda":
                torch.cuda.empty_cache()
    raise AssertionError("unreachable")


def _attempt(
    fixed, moving, fixed_lungs, moving_lungs, plan, device, spacing_mm, progress, with_uncertainty
) -> Deformed:
    seconds: dict[str, float] = {}
    with timed(seconds, "prepare", device):
        progress("prepare", 0.1)
        pair = prepare(fixed, moving, fixed_lungs, moving_lungs, spacing_mm, device)
    with timed(seconds, "align", device):
        alignment = align_lungs(pair, lambda f: progress("align", 0.12 + 0.08 * f))
    network = start = uncertain = None
    levels, notes = plan.levels, []
    if plan.weights is not None:
        network = load_weights(plan.weights, device)
        with timed(seconds, "predict", device):
            progress("predict", 0.2)
            start = predicted(pair, alignment, network)
            if levels and not helps(pair, alignment, start):
                start, levels = None, FROM_REST[plan.preset]
                notes.append("The network's start matched worse than none; refined from rest.")
            elif levels:
                levels = _not_seen_by_the_network(levels, spacing_mm)
    with timed(seconds, "refine", device):
        velocity = refinement.refine(pair, alignment, levels, start, lambda f: progress("refine", 0.25 + 0.6 * f))
    if with_uncertainty:
        with timed(seconds, "uncertainty", device):
            tell = lambda f: progress("uncertainty", 0.85 + 0.05 * f)
            uncertain = uncertainty(pair, alignment, velocity, plan.probe, bool(levels), tell)
    moved = replace(velocity, coefficients=velocity.coefficients.cpu())
    deformation = Deformation(alignment, moved, pair.fixed_box)
    return Deformed(deformation, str(device), network, uncertain, seconds, notes)


def _not_seen_by_the_network(levels: tuple[Level, ...], spacing_mm: float) -> tuple[Level, ...]:
    """The levels whose images are no coarser than those that the network has matched better than they could, and the
    last one."""
    return tuple(level for level in levels if level.scale * spacing_mm <= _COARSEST_MM) or levels[-1:]


def predicted(pair: PreparedPair, alignment, network: Weights) -> Velocity:
    """The network's velocity."""
    inputs: NetworkInputs = network_inputs(pair, alignment, network.spacing_mm)
    return start_velocity(pair, inputs, predict(network.network, inputs))


def helps(pair: PreparedPair, alignment, start: Velocity) -> bool:
    """Whether the images match better with the start than with the alignment alone."""
    scale = 4
    rest = replace(start, coefficients=torch.zeros_like(start.coefficients))
    return refinement.mismatch(pair, alignment, start, scale) < refinement.mismatch(pair, alignment, rest, scale)


@contextmanager
def timed(seconds: dict[str, float], stage: str, device: torch.device | None = None) -> Iterator[None]:
    """Adds a stage's wall-clock time, once the device has finished its work."""
    start = time.perf_counter()
    yield
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds[stage] = round(time.perf_counter() - start, 3)
