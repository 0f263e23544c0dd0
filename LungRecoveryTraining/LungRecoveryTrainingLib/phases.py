"""The multi-level strategy: which levels run and learn when, on how coarse a grid, and at what rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration.networks import Pyramid

from .batches import Batch


@dataclass(frozen=True)
class Phase:
    """A part of the multi-level strategy: the first `levels` levels run, those in `train` (from 0) learn, for `share`
    of the epochs, on pairs `coarsened` times, at up to `rate` times the learning rate. `spread`: the U-Net that tells
    the variance learns, too."""

    levels: int
    train: tuple[int, ...]
    share: float
    coarsened: int = 1
    rate: float = 1.0
    spread: bool = False


def check_phases(phases: Sequence[Phase], network) -> None:
    """Raise BadInput for phases that `network` cannot go through."""
    if not phases:
        return
    if not isinstance(network, Pyramid):
        raise BadInput("model.phases are for a network with levels: leave them out, or train a pyramid.")
    scales = [level.scale for level in network.levels]
    for number, phase in enumerate(phases, 1):
        where = f"model.phases, phase {number}"
        if not 1 <= phase.levels <= len(scales):
            raise BadInput(f"{where}: {phase.levels} levels cannot run; the network has {len(scales)}.")
        if phase.spread and (network.spread is None or phase.levels < len(scales)):
            raise BadInput(f"{where}: a spread learns where the network has one and all its levels run.")
        if not (phase.train or phase.spread) or not set(phase.train) <= set(range(phase.levels)):
            raise BadInput(f"{where}: levels {list(phase.train)} cannot learn; give some of 0 to {phase.levels - 1}.")
        if phase.coarsened < 1 or any(scale % phase.coarsened for scale in scales[: phase.levels]):
            raise BadInput(
                f"{where}: pairs coarsened {phase.coarsened} times are too coarse for a level that averages "
                f"{min(scales[: phase.levels])} voxels; give a divisor of that."
            )
        if phase.share <= 0 or phase.rate <= 0:
            raise BadInput(f"{where}: its share and rate must be above 0.")
    total = sum(phase.share for phase in phases)
    if not math.isclose(total, 1.0, abs_tol=1e-3):
        raise BadInput(f"model.phases: their shares add up to {total:g}; make them add up to 1.")


class Schedule:
    """Whole epochs for each phase, at least one, and the learning rate over the steps of a training.

    Without phases all epochs are one.
    """

    def __init__(self, phases: Sequence[Phase], epochs: int):
        self.phases, self.epochs = tuple(phases), epochs
        count = max(1, len(phases))
        if epochs < count:
            raise BadInput(f"trainer.max_epochs is {epochs}; {count} phases need at least one epoch each.")
        self.ends, done = [], 0.0
        for number, share in enumerate([phase.share for phase in phases] or [1.0]):
            done += share
            earliest = (self.ends[-1] if self.ends else 0) + 1
            self.ends.append(min(max(round(done * epochs), earliest), epochs - (count - 1 - number)))
        self.ends[-1] = epochs

    def number(self, epoch: int) -> int:
        """The number of the phase that an epoch (from 0) belongs to, from 0."""
        return next((number for number, end in enumerate(self.ends) if epoch < end), len(self.ends) - 1)

    def phase(self, epoch: int) -> Phase | None:
        """The phase of an epoch, None where there are no phases."""
        return self.phases[self.number(epoch)] if self.phases else None

    def rate(self, step: int, steps: int, warmup: float, final: float) -> float:
        """The factor of the learning rate at a step (from 0) of `steps` in all: see :func:`warm_cosine`."""
        per_epoch = steps / self.epochs
        number = self.number(int(step / per_epoch + 1e-9))
        first = (self.ends[number - 1] if number else 0) * per_epoch
        length = self.ends[number] * per_epoch - first
        rate = self.phases[number].rate if self.phases else 1.0
        return rate * warm_cosine(step - first, length, warmup, final)


def warm_cosine(step: float, length: float, warmup: float, final: float) -> float:
    """Up in a line over the first share `warmup` of `length` steps to 1, then down a cosine to `final`."""
    warm = warmup * length
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = min(1.0, (step - warm) / max(length - warm, 1e-9))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def coarsened(batch: Batch, factor: int) -> Batch:
    """A batch averaged over blocks of `factor`^3 voxels: masks keep what fills most of a block, labels its middle."""
    if factor == 1:
        return batch
    coarse, known = {}, batch["truth"].float()
    share = F.avg_pool3d(known, factor)
    for key, value in batch.items():
        if key in ("fixed", "moving"):
            coarse[key] = F.avg_pool3d(value.float(), factor)
        elif key == "displacement":
            mean = F.avg_pool3d(value.float() * known, factor) / share.clamp(min=1e-6)
            coarse[key] = mean * (share > 0) / factor
        elif key.endswith("_mask") or key == "truth":
            coarse[key] = (F.avg_pool3d(value.float(), factor) > 0.5).to(value.dtype)
        elif key.endswith("_labels"):
            z, y, x = (slice(factor // 2, n - n % factor, factor) for n in value.shape[2:])
            coarse[key] = value[:, :, z, y, x]
        elif key.endswith("_points"):
            coarse[key] = (value - (factor - 1) / 2) / factor
        else:
            coarse[key] = value
    return coarse
