"""Diffeomorphic demons with symmetric forces, multi-resolution (SimpleITK).

Vercauteren, Pennec, Perchant, Ayache, Diffeomorphic demons: efficient non-parametric image registration, NeuroImage 45,
2009. Demons compare intensities directly and know no mask: the moving lungs get the intensity distribution of the fixed
ones, and outside the lungs both images get one soft-tissue value, so that only the lungs and their outline drive.
"""

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids
from methods.common import Pair, binary, windowed

MARGIN_MM = 15.0
OUTSIDE_HU = 0.0
QUANTILES = np.linspace(0.0, 1.0, 257)
LEVELS = ((4, 200), (2, 100), (1, 30))
SMOOTHING_VOXELS = 1.25


def register(pair: Pair, initial: sitk.AffineTransform, threads: int) -> sitk.Transform:
    """Register a pair on the fixed image's grid around the lungs, the moving image first laid there by `initial`."""
    grid = grids.crop_to_mask(pair.fixed_lungs, MARGIN_MM)
    fixed, fixed_mask = _laid(pair.fixed, pair.fixed_lungs, grid, None)
    moving, moving_mask = _laid(pair.moving, pair.moving_lungs, grid, initial)
    moving = np.interp(moving, *(np.quantile(i[m], QUANTILES) for i, m in ((moving, moving_mask), (fixed, fixed_mask))))
    images = [
        grids.to_image(np.where(mask, image, OUTSIDE_HU).astype(np.float32), grid)
        for image, mask in ((fixed, fixed_mask), (moving, moving_mask))
    ]
    field = None
    for shrink, steps in LEVELS:
        field = _level(*images, field, shrink, steps, threads)
    warp = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    # The last of a composite is applied first: the field on the fixed image's points, then the affine part.
    return sitk.CompositeTransform([initial, warp])


def _laid(
    image: sitk.Image, lungs: sitk.Image, grid: grids.Grid, transform: sitk.Transform | None
) -> tuple[np.ndarray, np.ndarray]:
    laid = grids.to_array(grids.resample(windowed(image), grid, transform), np.float32)
    return laid, grids.to_array(grids.resample_mask(binary(lungs), grid, transform)) != 0


def _level(
    fixed: sitk.Image, moving: sitk.Image, field: sitk.Image | None, shrink: int, steps: int, threads: int
) -> sitk.Image:
    if shrink > 1:
        fixed, moving = (sitk.BinShrink(image, [shrink] * 3) for image in (fixed, moving))
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfThreads(threads)
    demons.SetNumberOfIterations(steps)
    demons.SetUseGradientType(demons.Symmetric)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(SMOOTHING_VOXELS)
    if field is None:
        return demons.Execute(fixed, moving)
    finer = sitk.Resample(field, fixed, sitk.Transform(), sitk.sitkLinear, 0.0, useNearestNeighborExtrapolator=True)
    return demons.Execute(fixed, moving, finer)
