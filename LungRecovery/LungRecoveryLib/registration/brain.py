"""Inter-subject registration of brains (T1 MRI or alike), by the engine that registers lungs.

Brains have no air: intensities are taken relative to the brain's own, and no change of density is looked for.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk
import torch

from .. import grids
from ..errors import BadInput
from ..grids import Grid
from ..progress import Progress, no_progress
from ..resources import BRAIN_WEIGHTS, NO_NETWORK
from ..system import limited_threads
from .align import affine, align_lungs
from .deform import helps, predicted, timed
from .measure import folding_percent, inverse_consistency
from .prepare import PreparedPair, prepare_brains
from .refine import Level, Recipe, mismatch, refine
from .register import choose_device
from .velocity import Deformation, Velocity
from .weights import Weights, load_weights

SPACING_MM = 1.0
# Brains in one space overlap by more than this (Dice); those of different scanners hardly do.
SAME_SPACE_DICE = 0.85
# Folds of the cortex differ from person to person: the velocity may bend more than that of lungs, and what keeps the
# deformation from folding is asked for itself. Nothing around a brain moves.
BRAINS = Recipe(bending=0.3, diffusion=1.0, folding=1000.0, fade_mm=16.0, squarings=4)
# Closer nodes of the control grid pay more than images of 1 mm (measured in Dice of labels on a real pair).
_COARSE = (Level(4, 4, 40, 0.3, 1.0), Level(4, 2, 30, 0.2, 0.4), Level(2, 2, 20, 0.4, 0.15))
LEVELS: dict[str, tuple[Level, ...]] = {
    "fast": _COARSE,
    "standard": (*_COARSE, Level(2, 1.5, 40, 0.4, 0.15)),
    "accurate": (*_COARSE, Level(2, 1.5, 40, 0.4, 0.15), Level(1, 3, 20, 0.3, 0.15)),
}
# The preview is the network alone. After a network, too, every level pays: leaving out the first costs up to 0.09 in
# Dice where brains differ much.
PREVIEW = "preview"
PRESETS = (PREVIEW, *LEVELS)
# The maps' nodes are so many times closer than the control grid's: a coarse field folds where the velocity does not.
_FINER_NODES = 2.0


@dataclass(eq=False)
class BrainRegistration:
    """A moving brain registered onto a fixed one; maps lie on the fixed image's own grid.

    `transform` takes fixed points to moving points (LPS mm); `similarity_*`: mean squared LNCC in the brain, 0 to 1;
    `sd_log_jacobian` over the brain; `aligned`: the brains did not lie in one space and were aligned first.
    """

    transform: sitk.Transform
    inverse_transform: sitk.Transform
    warped: sitk.Image
    jacobian: sitk.Image
    fixed_brain: sitk.Image
    folding_percent: float
    sd_log_jacobian: float
    similarity_before: float
    similarity_after: float
    inverse_mean_mm: float
    inverse_p95_mm: float
    aligned: bool
    seconds: dict[str, float]
    settings: dict
    device: str
    weights_sha256: str | None = None
    notes: list[str] = field(default_factory=list)


def register_brains(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_brain: sitk.Image | None = None,
    moving_brain: sitk.Image | None = None,
    preset: str = "standard",
    weights: str = BRAIN_WEIGHTS,
    device: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    spacing_mm: float = SPACING_MM,
    progress: Progress = no_progress,
) -> BrainRegistration:
    """Register one brain onto another by a diffeomorphism.

    Parameters: 3D images of any intensities; masks of the brains (non-zero) on any grid, by default what is not
    background, which is the brain where skulls are stripped; `preset` one of PRESETS; `weights` of a network that
    gives the start, or "none"; the others as for lungs. Raises BadInput for an unknown preset, a preview without a
    network and brains that hold nothing.
    """
    _check_preset(preset, weights)
    torch.manual_seed(seed)
    where = choose_device(device)
    seconds: dict[str, float] = {}
    notes: list[str] = []
    with limited_threads(threads):
        with timed(seconds, "prepare", where):
            progress("prepare", 0.05)
            brains = [
                brain if brain is not None else foreground(image, name)
                for brain, image, name in ((fixed_brain, fixed, "fixed"), (moving_brain, moving, "moving"))
            ]
            pair = prepare_brains(fixed, moving, *brains, spacing_mm, where)
        with timed(seconds, "align", where):
            dice = _overlap(*brains)
            aligned = dice < SAME_SPACE_DICE
            if aligned:
                notes.append(f"The brains did not lie in one space (Dice {dice:.2f}): they were aligned first.")
            alignment = align_lungs(pair, lambda f: progress("align", 0.1 + 0.1 * f))
        network = start = None
        if weights != NO_NETWORK:
            with timed(seconds, "predict", where):
                network, start = _start(pair, alignment, load_weights(weights, where), alone=preset == PREVIEW)
            if start is None:
                notes.append("The network's start matched worse than none; refined from rest.")
        levels = LEVELS.get(preset, ())
        with timed(seconds, "refine", where):
            velocity = refine(pair, alignment, levels, start, lambda f: progress("refine", 0.2 + 0.7 * f), BRAINS)
        progress("maps", 0.92)
        with timed(seconds, "maps"):
            still = replace(velocity, coefficients=torch.zeros_like(velocity.coefficients))
            before = 1 - mismatch(pair, affine(np.eye(3), np.zeros(3), np.zeros(3)), still, 1)
            after = 1 - mismatch(pair, alignment, velocity, 1)
            moved = replace(velocity, coefficients=velocity.coefficients.cpu())
            nodes = moved.axes[0].spacing / _FINER_NODES
            result = _measured(Deformation(alignment, moved, pair.fixed_box, nodes), fixed, moving, brains[0])
    progress("maps", 1.0)
    settings = {
        "preset": preset,
        "levels": [vars(level) for level in levels],
        "network": network is not None,
        "spacing_mm": spacing_mm,
        "seed": seed,
    }
    return BrainRegistration(
        **result,
        similarity_before=before,
        similarity_after=after,
        aligned=aligned,
        seconds=seconds,
        settings=settings,
        device=str(where),
        weights_sha256=None if network is None else network.sha256,
        notes=notes,
    )


def _check_preset(preset: str, weights: str) -> None:
    if preset not in PRESETS:
        raise BadInput(f"there is no preset {preset!r} for brains: use one of {', '.join(PRESETS)}")
    if preset == PREVIEW and weights == NO_NETWORK:
        raise BadInput(f"the preset {preset!r} is the network alone: give its weights, or another preset")


def _start(
    pair: PreparedPair, alignment: sitk.Transform, network: Weights, alone: bool
) -> tuple[Weights, Velocity] | tuple[None, None]:
    """The network and its velocity; None where it matches worse than rest and refinement is to come (not `alone`)."""
    start = predicted(pair, alignment, network)
    return (network, start) if alone or helps(pair, alignment, start) else (None, None)


def foreground(image: sitk.Image, name: str) -> sitk.Image:
    """What is not background (0/1): the brain where skulls are stripped, else the head.

    Raises BadInput for an image that is all alike.
    """
    array = sitk.GetArrayViewFromImage(image)
    low = float(array.min())
    background = float(np.mean(array == low))
    if not 0 < background < 1:
        raise BadInput(f"the {name} image is all alike or has no background: give the mask of its brain")
    if background < 0.1:  # noise around the head: no value stands for it
        return sitk.OtsuThreshold(image, 0, 1)
    return sitk.BinaryFillhole(image > low)


def _overlap(fixed_brain: sitk.Image, moving_brain: sitk.Image) -> float:
    """Dice of two brains as the files say they lie."""
    fixed = sitk.GetArrayViewFromImage(fixed_brain) != 0
    there = grids.to_array(grids.resample_mask(moving_brain, fixed_brain)) != 0
    whole = (sitk.GetArrayViewFromImage(moving_brain) != 0).sum() * grids.grid_of(moving_brain).voxel_ml
    own = fixed.sum() * grids.grid_of(fixed_brain).voxel_ml
    return float(2.0 * (fixed & there).sum() * grids.grid_of(fixed_brain).voxel_ml / max(own + whole, 1e-9))


def _measured(deformation: Deformation, fixed: sitk.Image, moving: sitk.Image, fixed_brain: sitk.Image) -> dict:
    """Transforms, maps on the fixed grid and figures of a deformation."""
    grid: Grid = grids.grid_of(fixed)
    jacobian = np.empty(grid.shape, np.float32)
    for slab in deformation.slabs(grid):
        jacobian[slab.low : slab.high] = slab.jacobian.cpu().numpy()
    brain = grids.to_array(grids.resample_mask(fixed_brain, grid)) != 0
    transform, inverse = deformation.transform(), deformation.inverse_transform()
    errors = inverse_consistency(transform, inverse, grid, brain)
    lowest = float(sitk.GetArrayViewFromImage(moving).min())
    return {
        "transform": transform,
        "inverse_transform": inverse,
        "warped": grids.resample(moving, grid, transform, outside=lowest),
        "jacobian": grids.to_image(jacobian, grid),
        "fixed_brain": fixed_brain,
        "folding_percent": folding_percent(jacobian),
        "sd_log_jacobian": float(np.log(np.maximum(jacobian[brain], 1e-3)).std()),
        "inverse_mean_mm": float(errors.mean()),
        "inverse_p95_mm": float(np.percentile(errors, 95)),
    }
