"""How far a deformation may be off, in mm: from what ties it and what pulls at it.

The squared error is larger around where a few further steps still move the field, where it bends (smoothness pulls it
straight), and where tissue density has changed, so that the images say little. It is smaller where the images have
structure in every direction, and with the depth below the pleura, along which lungs slide. It is taken for a product
of powers of these; the exponents were fitted to the errors on phantoms by gamma regression, those of a network's field
apart from those of refined ones.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from .. import grids
from ..distances import distance_to
from ..nearby import sums_nearby
from .predict import coarser
from .prepare import PreparedPair
from .refine import CHANGE_SCALE, Level, LevelWarp, density_change, refine
from .velocity import Velocity

_SCALE = CHANGE_SCALE
# What is added to a clue so that 0 is not the end of it.
_LEAST = {"further": 0.02, "bending": 3e-4, "density": 0.005, "structure": 1e-9, "depth": 2.0}
# The exponents of the clues in the squared error (mm^2), in their order, and the logarithm of the constant.
_ALONE = (2.6, 0.2, 0.1, -0.1, -0.4), 1.5
_REFINED = (1.6, 0.85, 0.35, -0.3, -0.55), 4.07
_FURTHER_MM = 8.0  # SD of the window over which further movement is averaged
_STRUCTURE_MM = 6.0  # SD of the window in which the images' structure is told


@dataclass(frozen=True, eq=False)
class Clues:
    """What tells of the error at the voxels of the scale of density changes, each (z, y, x) float64.

    `further` (mm): how far a few further steps move the field nearby, as root mean square; `bending` (1/mm): the size
    of its second derivatives; `density` (g/ml): the change that motion leaves; `structure` ((g/ml/mm)^2): the least
    eigenvalue of the mean structure tensor of the fixed image; `depth` (mm) below the pleura.
    """

    further: np.ndarray
    bending: np.ndarray
    density: np.ndarray
    structure: np.ndarray
    depth: np.ndarray


def uncertainty(
    pair: PreparedPair,
    alignment: sitk.AffineTransform,
    velocity: Velocity,
    probe: Level,
    refined: bool = True,
    progress=lambda fraction: None,
) -> sitk.Image:
    """The expected length of the error of A exp(v) in mm (root mean square), float32 on voxels of twice the pair's.

    `probe` are the further steps that tell how far the field would still move; `refined` says that the field is not a
    network's own; `progress` is called with the fraction of the steps done and may raise to cancel. What is told
    outside the lungs only serves interpolation.
    """
    known = clues(pair, alignment, velocity, probe, progress)
    exponents, constant = _REFINED if refined else _ALONE
    log_square = np.full(known.depth.shape, constant)
    for (name, least), exponent in zip(_LEAST.items(), exponents, strict=True):
        log_square += exponent * np.log(getattr(known, name) + least)
    grid = coarser(pair.fixed_box, _SCALE, known.depth.shape)
    return grids.to_image(np.exp(log_square / 2).astype(np.float32), grid)


def clues(
    pair: PreparedPair,
    alignment: sitk.AffineTransform,
    velocity: Velocity,
    probe: Level,
    progress=lambda fraction: None,
) -> Clues:
    """What tells of the error of A exp(v), from which :func:`uncertainty` makes its map."""
    fixed, _, mask = pair.level(_SCALE)
    voxel_mm = _SCALE * pair.fixed_box.spacing[0]
    moved = _displacement_mm(pair, alignment, velocity)
    further = _displacement_mm(pair, alignment, refine(pair, alignment, (probe,), velocity, progress)) - moved
    lung = mask.cpu().numpy() > 0
    return Clues(
        further=np.sqrt(_mean_nearby(np.square(further).sum(0), lung, _FURTHER_MM / voxel_mm)),
        bending=_bending(moved, voxel_mm),
        density=density_change(pair, alignment, velocity).abs().cpu().double().numpy(),
        structure=_structure(fixed.cpu().double().numpy(), lung, voxel_mm),
        depth=distance_to(~lung) * voxel_mm,
    )


def _displacement_mm(pair: PreparedPair, alignment: sitk.AffineTransform, velocity: Velocity) -> np.ndarray:
    """exp(v) - id at the voxels, (3, z, y, x) mm along the box's axes."""
    shape = tuple(pair.level(_SCALE)[0].shape)
    with torch.no_grad():
        moved = LevelWarp(pair, alignment, _SCALE, velocity.axes, shape).displacement_at_voxels(velocity)
    return moved.cpu().double().numpy() * pair.fixed_box.spacing[0]


def _mean_nearby(values: np.ndarray, lung: np.ndarray, sigma: float) -> np.ndarray:
    """The mean of `values` over the voxels of the lung within a Gaussian window of `sigma` voxels."""
    total, weight = sums_nearby(values, lung, sigma, truncate=4.0)
    return total.clip(min=0.0) / np.maximum(weight, 1e-6)


def _bending(displacement: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The root of the sum of all squared second derivatives of a displacement (3, z, y, x) mm, in 1/mm."""
    total = np.zeros(displacement.shape[1:])
    for component in displacement:
        for slope in np.gradient(component, voxel_mm):
            total += sum(second**2 for second in np.gradient(slope, voxel_mm))
    return np.sqrt(total)


def _structure(image: np.ndarray, lung: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The least eigenvalue of the structure tensor, averaged over a Gaussian window, in the lungs and just around them.

    The pleura does not count: it ties the field only across.
    """
    inner = ndimage.binary_erosion(lung)
    near = ndimage.binary_dilation(lung, iterations=2)
    slopes = [slope * inner for slope in np.gradient(image, voxel_mm)]
    tensor = np.empty((np.count_nonzero(near), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            product = ndimage.gaussian_filter(slopes[i] * slopes[j], _STRUCTURE_MM / voxel_mm)
            tensor[:, i, j] = tensor[:, j, i] = product[near]
    least = np.zeros(image.shape)
    least[near] = np.linalg.eigvalsh(tensor)[:, 0].clip(min=0.0)
    return least
