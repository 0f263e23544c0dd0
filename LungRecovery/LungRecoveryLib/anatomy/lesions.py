"""Lesions of the parenchyma: ground glass, consolidation and reticulation.

A threshold on the raw voxels would count noise, the walls of bronchi and the blurred edge of the pleura. So the density
of the parenchyma is estimated first: from voxels that neither belong to a vessel or airway nor touch the lung's border,
carried into the others from the parenchyma around, and freed of noise by a median, which keeps the edges of lesions.
Lung that is denser than healthy lung over more than the thickness of a wall is a lesion. Its kind goes by density, and
reticulation by the lines in it: they make it rougher than the scan's noise makes smooth ground glass, and since they
are brighter than what lies between, the densities lean to the bright side; mottled ground glass is as often darker.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..distances import distance_to
from ..grids import (
    AIR_HU,
    Grid,
    crop_to_mask,
    grid_of,
    resample,
    resample_mask,
    to_array,
    to_image,
    window,
    with_spacing,
)
from ..nearby import sums_nearby
from .scale import on_scale
from .tubes import parenchyma, without_bundles
from .working import components

GROUND_GLASS, CONSOLIDATION, RETICULATION = 1, 2, 3
LESION_NAMES = {GROUND_GLASS: "ground glass", CONSOLIDATION: "consolidation", RETICULATION: "reticulation"}

_ABNORMAL_HU = -700.0  # from here on lung is not well aerated
_ABOVE_HEALTHY_HU = 80.0  # at least; healthy lung in expiration is denser than the limit itself
_SOLID_HU = -290.0  # halfway from dense ground glass to tissue without air
_WORKING_MM = 1.5  # finer scans are averaged to this: their noise is larger and lesions are not smaller
_BRIGHTEST_HU = 200  # contrast medium and calcification, cut so that they do not shine into the lung around
_CORE_HU = -450.0  # brighter than ground glass; the blurred core of a vessel from about 2 mm on
_CORE_SMOOTHING_MM = 0.5
_WALL_MM = 2.0  # of an airway, with its blur
_FILL_MM = 2.0
_SMALLEST_ML = 0.15  # smaller specks are noise or crossings of vessels
_ROUGH_MM = 1.5  # lines finer than this make lung rough
_ROUGH_WINDOW_MM = 4.0
_ROUGH_HU, _COARSE_HU = 40.0, 85.0  # at least; more than mottled ground glass shows
_ROUGH_NOISE = 1.8  # times the roughness of the scan's healthy lung
_SKEWNESS, _SKEWNESS_WINDOW_MM = 0.4, 8.0
_LINE_HU = 120.0  # beyond which detail is a vessel that was not segmented rather than a line
_FROM_SOLID = 2  # voxels from consolidation within which its edge is no line


def segment_lesions(
    ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None, vessels: sitk.Image | None
) -> sitk.Image:
    """The lesions in the lungs, uint8 on the grid of `ct`: 1 ground glass, 2 consolidation, 3 reticulation.

    `ct` in HU; `lungs`, `airways` (lumen) and `vessels` label maps on its grid, any value but 0 counting (None: not
    known). Vessels that run through a lesion belong to it. A lesion is denser than -700 HU and at least 80 HU denser
    than the healthy lung nearby. The estimate is steady against noise up to an SD of 60 HU at 1.5 mm; lesions thinner
    than about 7 mm or smaller than 0.15 ml are not seen.
    """
    grid = grid_of(ct)
    result = np.zeros(grid.shape, np.uint8)
    if not sitk.GetArrayViewFromImage(lungs).any():
        return to_image(result, grid)
    ct = on_scale(ct, lungs, airways)
    # Only the lungs' box is looked at, to save memory: a native scan has 150 million voxels.
    box = crop_to_mask(lungs, 2.0 * _WORKING_MM)
    cut = window(grid, box)
    native = np.clip(sitk.GetArrayViewFromImage(ct)[cut], AIR_HU, _BRIGHTEST_HU).astype(np.int16)
    lung = sitk.GetArrayViewFromImage(lungs)[cut] != 0
    spacing = tuple(s if s > 0.8 * _WORKING_MM else _WORKING_MM for s in box.spacing)
    work = box if spacing == box.spacing else with_spacing(box, spacing)
    hu = to_array(resample(to_image(native, box), work), np.float32)
    inside = to_array(resample_mask(to_image(lung, box), work)) > 0
    tubes = _tubes(hu, airways, vessels, work, inside)
    labels = _labels(hu, inside, tubes, work)
    found = to_array(resample_mask(to_image(labels, work), box))
    found[~lung] = 0
    if airways is not None:
        found[sitk.GetArrayViewFromImage(airways)[cut] != 0] = 0
    result[cut] = found
    return to_image(result, grid)


def _tubes(
    hu: np.ndarray, airways: sitk.Image | None, vessels: sitk.Image | None, work: Grid, inside: np.ndarray
) -> np.ndarray:
    """What is not pure parenchyma because of a vessel, or of an airway with its wall, (z, y, x) bool."""
    tubes = np.zeros(hu.shape, bool)
    if vessels is not None:
        tubes |= _around_cores(hu, ndimage.binary_dilation(_touched(vessels, work), mask=inside), work)
    if airways is not None:
        lumen = _touched(airways, work)
        if lumen.any():
            tubes |= distance_to(lumen, work.spacing[::-1]) <= _WALL_MM
    return tubes & inside


def _touched(mask: sitk.Image, work: Grid) -> np.ndarray:
    """The voxels of a grid that hold some of a mask: averaging blurs it into its neighbours."""
    return to_array(resample(sitk.Cast(mask != 0, sitk.sitkFloat32), work, outside=0.0)) > 0.02


def _around_cores(hu: np.ndarray, tubes: np.ndarray, grid: Grid) -> np.ndarray:
    """The voxels of the vessels' mask in or beside a vessel's core.

    What is left is ground glass that the mask took for a vessel: bright for a lung, but nowhere as bright as blood.
    """
    smooth = ndimage.gaussian_filter(hu, [_CORE_SMOOTHING_MM / s for s in grid.spacing[::-1]], truncate=3.0)
    return tubes & ndimage.binary_dilation(tubes & (smooth > _CORE_HU), np.ones((3, 3, 3), bool))


def _labels(hu: np.ndarray, inside: np.ndarray, tubes: np.ndarray, grid: Grid) -> np.ndarray:
    """The kinds of lesion (z, y, x) uint8 on the working grid."""
    pure = ndimage.binary_erosion(inside, ndimage.generate_binary_structure(3, 1), border_value=1) & ~tubes
    density = ndimage.median_filter(np.where(pure, hu, _carried(hu, pure, grid)), size=3, mode="nearest")
    healthy = parenchyma(hu, inside & ~tubes if (inside & ~tubes).any() else inside, float(np.mean(grid.spacing)))
    found = inside & (density >= np.maximum(_ABNORMAL_HU, healthy + _ABOVE_HEALTHY_HU)) & (density < _BRIGHTEST_HU)
    found = _tidied(without_bundles(_tidied(found, grid), pure, grid), grid)
    solid = found & (density > _SOLID_HU)
    rough = found & ~solid & _rough(hu, pure, found, solid, grid)
    return np.select([solid, rough, found], [CONSOLIDATION, RETICULATION, GROUND_GLASS], 0).astype(np.uint8)


def _rough(hu: np.ndarray, pure: np.ndarray, found: np.ndarray, solid: np.ndarray, grid: Grid) -> np.ndarray:
    """Where a lesion is rougher than the noise of the scan alone would make it, by bright lines, (z, y, x) bool.

    Only the inner part of a lesion is looked at: its own edge, and that of consolidation in it, are no lines.
    """
    wide = [_ROUGH_WINDOW_MM / s for s in grid.spacing[::-1]]
    aerated = pure & ~found
    inner = pure & found & ~ndimage.binary_dilation(solid, iterations=_FROM_SOLID) & ~ndimage.binary_dilation(~found)
    noise = 1.4826 * float(np.median(np.abs(_detail(hu, aerated, grid)[aerated]))) if aerated.any() else 0.0
    detail = np.clip(_detail(hu, inner, grid), -_LINE_HU, _LINE_HU)
    power, weight = sums_nearby(detail * detail, inner, wide)
    roughness = np.sqrt(power / np.maximum(weight, 1e-3))
    rough = roughness > max(_ROUGH_HU, _ROUGH_NOISE * noise)
    return rough & ((_skewness(detail, inner, grid) > _SKEWNESS) | (roughness > _COARSE_HU))


def _skewness(detail: np.ndarray, part: np.ndarray, grid: Grid) -> np.ndarray:
    """The third standardised moment of a part's values around every voxel, (z, y, x) float32."""
    sigma = [_SKEWNESS_WINDOW_MM / s for s in grid.spacing[::-1]]
    total, weight = sums_nearby(detail, part, sigma)
    square, cube = (sums_nearby(detail**power, part, sigma)[0] for power in (2, 3))
    mean, square, cube = (moment / np.maximum(weight, 1e-3) for moment in (total, square, cube))
    variance = np.maximum(square - mean**2, 1.0)
    return (cube - 3.0 * mean * square + 2.0 * mean**3) / variance**1.5


def _detail(hu: np.ndarray, part: np.ndarray, grid: Grid) -> np.ndarray:
    """How much the voxels of a part differ from the part's mean around them, HU (z, y, x) float32."""
    fine = [_ROUGH_MM / s for s in grid.spacing[::-1]]
    total, weight = sums_nearby(hu, part, fine)
    return hu - total / np.maximum(weight, 1e-3)


def _carried(hu: np.ndarray, known: np.ndarray, grid: Grid) -> np.ndarray:
    """HU of the known voxels carried into the others: a Gaussian mean of the known around, twice as wide where few."""
    result = np.full_like(hu, AIR_HU)
    missing = np.ones_like(known)
    for width in (_FILL_MM, 2.0 * _FILL_MM, 4.0 * _FILL_MM):
        sigma = [width / s for s in grid.spacing[::-1]]
        total, weight = sums_nearby(hu, known, sigma, truncate=3.0)
        usable = missing & (weight > 0.05)
        result[usable] = total[usable] / weight[usable]
        missing &= ~usable
    return result


def _without_thin_parts(mask: np.ndarray) -> np.ndarray:
    """The mask where it is at least five voxels thick: walls of airways at the hila are thinner."""
    cross = ndimage.generate_binary_structure(3, 1)
    core = ndimage.binary_opening(mask, ndimage.iterate_structure(cross, 2))
    return ndimage.binary_dilation(core, cross, iterations=3, mask=mask)


def _tidied(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """The mask without thin parts and specks."""
    return _without_specks(_without_thin_parts(mask), grid)


def _without_specks(mask: np.ndarray, grid: Grid) -> np.ndarray:
    labels, sizes = components(mask)
    return (sizes * grid.voxel_ml >= _SMALLEST_ML)[labels] & mask
