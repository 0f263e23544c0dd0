"""Abnormal lung: parenchyma between -700 and +100 HU, until lesions are segmented.

A threshold on the raw voxels would count noise, the walls of vessels and the blurred edge of the pleura. So the density
of the parenchyma is estimated first: from voxels that neither belong to a vessel nor touch the lung's border, carried
into the others from the parenchyma around, and freed of noise by a median, which keeps the edges of lesions.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

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
from .jacobian import as_mask

ABNORMAL_LOW = -700.0
ABNORMAL_HIGH = 100.0

_WORKING_MM = 1.5  # finer scans are averaged to this: their noise is larger and lesions are not smaller
_BLOOD_HU = 40.0
_BRIGHTEST_HU = 200  # contrast medium and calcification, cut so that they do not shine into the lung around
_DENSE_HU = -300.0
_CORE_HU = -450.0  # brighter than ground glass; the blurred core of a vessel from about 2 mm on
_CORE_SMOOTHING_MM = 0.5
_FILL_MM = 2.0
_SMALLEST_ML = 0.15  # smaller specks are noise or crossings of vessels


def abnormal_mask(
    ct: sitk.Image, lungs: sitk.Image | np.ndarray, vessels: sitk.Image | np.ndarray | None
) -> np.ndarray:
    """The abnormal lung of a scan: parenchyma of -700..+100 HU without the vessels; bool (z, y, x) on the ct's grid.

    `ct` in HU; `lungs` and `vessels` (with their blurred rim, as `anatomy.vessels` gives them; None: no vessel is
    known) on its grid, as images or arrays (z, y, x), any value but 0 counting. The estimate is steady against noise up
    to an SD of 60 HU at 1.5 mm; lesions thinner than about 7 mm or smaller than 0.15 ml are not seen.
    """
    result = np.zeros(ct.GetSize()[::-1], bool)
    whole = as_mask(lungs)
    if not whole.any():
        return result
    # Only the lungs' box is looked at, to save memory: a native scan has 150 million voxels.
    box = crop_to_mask(to_image(whole, ct), 2.0 * _WORKING_MM)
    cut = window(grid_of(ct), box)
    native = np.clip(sitk.GetArrayViewFromImage(ct)[cut], AIR_HU, _BRIGHTEST_HU).astype(np.int16)
    lung = whole[cut]
    tubes = np.zeros_like(lung) if vessels is None else as_mask(vessels)[cut] & lung

    spacing = tuple(s if s > 0.8 * _WORKING_MM else _WORKING_MM for s in box.spacing)
    grid = box if spacing == box.spacing else with_spacing(box, spacing)
    hu = to_array(resample(to_image(native, box), grid), np.float32)
    inside = as_mask(resample_mask(to_image(lung, box), grid))
    # Averaging blurs the vessels into their neighbours: whatever they touch is not pure parenchyma.
    vascular = to_array(resample(to_image(tubes.astype(np.float32), box), grid, outside=0.0)) > 0.02
    parenchyma = _parenchyma_density(hu, inside, _around_cores(hu, vascular, grid), grid)
    found = inside & (parenchyma >= ABNORMAL_LOW) & (parenchyma <= ABNORMAL_HIGH)
    found = _without_specks(_without_thin_parts(found), grid)

    found = as_mask(resample_mask(to_image(found, grid), box)) & lung
    lumen = tubes & (native > _half_blood(to_array(resample(to_image(parenchyma, grid), box))))
    result[cut] = found & ~lumen
    return result


def _around_cores(hu: np.ndarray, tubes: np.ndarray, grid: Grid) -> np.ndarray:
    """The voxels of the vessels' mask in or beside a vessel's core.

    What is left is ground glass that the mask took for a vessel: bright for a lung, but nowhere as bright as blood.
    """
    smooth = ndimage.gaussian_filter(hu, [_CORE_SMOOTHING_MM / s for s in grid.spacing[::-1]], truncate=3.0)
    return tubes & ndimage.binary_dilation(tubes & (smooth > _CORE_HU), np.ones((3, 3, 3), bool))


def _half_blood(parenchyma: np.ndarray) -> np.ndarray:
    """The HU halfway from the parenchyma around to blood: where a vessel's lumen ends and its blurred rim begins.

    Its mask reaches into the lung around, which is to be counted. Dense parenchyma gives no contrast: there the whole
    mask is taken as vessel.
    """
    return 0.5 * (np.minimum(parenchyma, _DENSE_HU) + _BLOOD_HU)


def _parenchyma_density(hu: np.ndarray, lung: np.ndarray, tubes: np.ndarray, grid: Grid) -> np.ndarray:
    """HU of the parenchyma everywhere in the lung, without noise."""
    cross = ndimage.generate_binary_structure(3, 1)
    pure = ndimage.binary_erosion(lung, cross, border_value=1) & ~tubes
    filled = np.where(pure, hu, _carried(hu, pure, grid))
    return ndimage.median_filter(filled, size=3, mode="nearest")


def _carried(hu: np.ndarray, known: np.ndarray, grid: Grid) -> np.ndarray:
    """HU of the known voxels carried into the others: a Gaussian mean of the known around, twice as wide where few."""
    result = np.full_like(hu, AIR_HU)
    missing = np.ones_like(known)
    for width in (_FILL_MM, 2.0 * _FILL_MM, 4.0 * _FILL_MM):
        sigma = [width / s for s in grid.spacing[::-1]]
        weight = ndimage.gaussian_filter(known.astype(np.float32), sigma, truncate=3.0)
        value = ndimage.gaussian_filter(np.where(known, hu, 0.0).astype(np.float32), sigma, truncate=3.0)
        usable = missing & (weight > 0.05)
        result[usable] = value[usable] / weight[usable]
        missing &= ~usable
    return result


def _without_thin_parts(mask: np.ndarray) -> np.ndarray:
    """The mask where it is at least five voxels thick: walls of airways at the hila are thinner."""
    cross = ndimage.generate_binary_structure(3, 1)
    core = ndimage.binary_opening(mask, ndimage.iterate_structure(cross, 2))
    return ndimage.binary_dilation(core, cross, iterations=3, mask=mask)


def _without_specks(mask: np.ndarray, grid: Grid) -> np.ndarray:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_ml
    keep = sizes >= _SMALLEST_ML
    keep[0] = False
    return keep[labels]
