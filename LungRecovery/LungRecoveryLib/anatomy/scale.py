"""How far a scan's HU scale is off, told by what hardly differs between people: air in the trachea, soft tissue.

A scale that is off moves both by as much. Contrast medium, fat and age move soft tissue alone, scatter moves air alone.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..distances import distance_to
from ..grids import AIR_HU, crop_to_mask, grid_of, resample, resample_mask, to_array, to_image, window, with_spacing

_AIR_HU = -992.0  # in the middle of the trachea
_TISSUE_HU = 47.0  # muscle and blood
_TUBE_MM = 2.5  # from the wall of an airway, whose blur is not air
_LEAST_AIR_VOXELS = 30
_COARSE_MM = 4.0  # voxels on which noise hardly counts
_TISSUE_RANGE_HU = (-45.0, 140.0)  # fat lies below, bone and contrast medium above
_BIN_HU = 5.0
_NEAR_HU = 35.0  # about the commonest value
_LEAST_TISSUE_VOXELS = 500


def on_scale(ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None) -> sitk.Image:
    """The scan with its scale put right by :func:`scale_offset`, whose arguments these are; thresholds in HU fit it."""
    return lowered(ct, scale_offset(ct, lungs, airways))


def lowered(ct: sitk.Image, offset: float) -> sitk.Image:
    """A scan with whole HU of an offset taken out; what lies at or below -1024 HU was cut there or is padding, and
    stays."""
    step = round(offset)
    if step == 0:
        return ct
    hu = sitk.GetArrayViewFromImage(ct)
    return to_image(np.where(hu <= AIR_HU, hu, hu - hu.dtype.type(step)), ct)


def scale_offset(ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None) -> float:
    """By how many HU the scale of a scan is too high, as far as air and soft tissue agree; 0 where either is unknown.

    `ct` in HU; `lungs` and `airways` (the lumen, any value but 0) label maps on its grid. Air that was cut at -1024 HU
    agrees with any scale that is too low.
    """
    air, tissue = _air(ct, airways), _soft_tissue(ct, lungs)
    if air is None or tissue is None:
        return 0.0
    off = tissue - _TISSUE_HU
    if air <= AIR_HU + 1:
        return min(off, 0.0)
    both = sorted((air - _AIR_HU, off), key=abs)
    return float(both[0]) if both[0] * both[1] > 0 else 0.0


def _air(ct: sitk.Image, airways: sitk.Image | None) -> float | None:
    """The median HU of the middle of the airways, None where none is wide enough to have one."""
    if airways is None or not sitk.GetArrayViewFromImage(airways).any():
        return None
    grid = grid_of(ct)
    box = crop_to_mask(airways, _TUBE_MM)
    cut = window(grid, box)
    lumen = sitk.GetArrayViewFromImage(airways)[cut] != 0
    middle = distance_to(~lumen, grid.spacing[::-1]) > _TUBE_MM + 0.5 * max(grid.spacing)
    values = sitk.GetArrayViewFromImage(ct)[cut][middle]
    return float(np.median(values)) if values.size >= _LEAST_AIR_VOXELS else None


def _soft_tissue(ct: sitk.Image, lungs: sitk.Image) -> float | None:
    """The commonest HU of soft tissue around the lungs, None where hardly any is shown."""
    box = crop_to_mask(lungs, 0.0)
    grid = with_spacing(box, tuple(max(s, _COARSE_MM) for s in box.spacing))
    hu = to_array(resample(ct, grid), np.float32)
    near_lung = ndimage.binary_dilation(to_array(resample_mask(lungs, grid)) != 0)
    low, high = _TISSUE_RANGE_HU
    values = hu[~near_lung & (hu > low) & (hu < high)]
    if values.size < _LEAST_TISSUE_VOXELS:
        return None
    counts, edges = np.histogram(values, np.arange(low, high + _BIN_HU, _BIN_HU))
    commonest = edges[np.argmax(ndimage.gaussian_filter1d(counts.astype(float), 2.0))] + 0.5 * _BIN_HU
    return float(np.median(values[np.abs(values - commonest) <= _NEAR_HU]))
