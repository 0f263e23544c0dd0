"""Is the scanner's HU scale right? Air in the trachea and blood in the heart and the great vessels tell.

And whether contrast medium was given, which makes the parenchyma denser by the blood in it.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import AIR_HU, crop_to_mask, grid_of, resample, resample_mask, to_array, to_image, window, with_spacing
from .tissue import along_patient, distance_mm

AIR_RANGE_HU = (-1015.0, -950.0)  # scatter and beam hardening raise tracheal air by tens of HU
BLOOD_RANGE_HU = (15.0, 75.0)  # anaemia to dense blood, without contrast medium
CONTRAST_HU = 110.0
_WORKING_MM = 2.0
_LUMEN_MM = 2.5  # of a tube's wall that is not looked at
_WALL_VOXELS = 1.5  # that the wall blurs into, where voxels are coarse
_LEAST_VOXELS = 30
_FROM_LUNG_MM = 6.0
_SOFT_HU = (-20.0, 700.0)
_SMOOTH_MM = 2.0
_BRIGHT_SHARE = 0.12
_LEAST_ML = 15.0


@dataclass(frozen=True)
class Calibration:
    """Median HU of `air` in the trachea and of `blood` in the heart and the great vessels (None: not in the field);
    `contrast`: the blood holds contrast medium; `warnings` in whole sentences."""

    air_hu: float | None
    blood_hu: float | None
    contrast: bool
    warnings: tuple[str, ...] = ()


def check_calibration(ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None) -> Calibration:
    """Check a scan's HU in the trachea (label 1 or 2 of `airways`, its lumen) and in the mediastinum between the lungs.

    All on one grid. Blood is the middle of what lies between both lungs, ventral of the spine and away from fat, bone
    and lung: mostly the heart and the great vessels; where more than an eighth of it is bright, the bright part, which
    contrast medium has reached.
    """
    air = None if airways is None else _air(ct, airways)
    blood, contrast = _blood(ct, lungs)
    warnings = []
    if air is not None and air <= AIR_HU + 1:
        warnings.append(
            "the air in the trachea is at or below -1024 HU, where the scale was cut: how far the HU are off is not "
            "known; the baseline corrects for it"
        )
    elif air is not None and not AIR_RANGE_HU[0] <= air <= AIR_RANGE_HU[1]:
        warnings.append(
            f"the air in the trachea measures {air:.0f} HU, not about -1000: the scanner's calibration is off; "
            "compare absolute densities with care"
        )
    if contrast:
        warnings.append(
            f"contrast medium: blood measures {blood:.0f} HU, which makes the parenchyma denser as well; compare "
            "densities with scans like it only"
        )
    elif blood is not None and not BLOOD_RANGE_HU[0] <= blood <= BLOOD_RANGE_HU[1]:
        warnings.append(
            f"blood in the heart and great vessels measures {blood:.0f} HU, not 30 to 60: the scanner's calibration is "
            "off; compare absolute densities with care"
        )
    return Calibration(air, blood, contrast, tuple(warnings))


def _air(ct: sitk.Image, airways: sitk.Image) -> float | None:
    """The median HU of the trachea's middle, of the main bronchi where the trachea is not in the field; None where
    voxels are too coarse for a middle that the wall does not blur into."""
    labels = sitk.GetArrayViewFromImage(airways)
    hu = sitk.GetArrayViewFromImage(ct)
    for label in (1, 2):
        mask = labels == label
        if not mask.any():
            continue
        box = crop_to_mask(to_image(mask, ct), 4.0)
        cut = window(grid_of(ct), box)
        core = distance_mm(mask[cut], box) >= max(_LUMEN_MM, _WALL_VOXELS * max(box.spacing))
        if np.count_nonzero(core) >= _LEAST_VOXELS:
            return float(np.median(hu[cut][core]))
    return None


def _blood(ct: sitk.Image, lungs: sitk.Image) -> tuple[float | None, bool]:
    """HU of blood, None where the mediastinum is not shown, and whether contrast medium is in it."""
    box = crop_to_mask(lungs, 2.0)
    grid = with_spacing(box, tuple(max(s, _WORKING_MM) for s in box.spacing))
    hu = to_array(resample(ct, grid), np.float32)
    labels = to_array(resample_mask(lungs, grid))
    hu = ndimage.gaussian_filter(hu, [_SMOOTH_MM / s for s in grid.spacing[::-1]])
    between = _between(labels, grid) & (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1])
    bone = ndimage.binary_opening(hu > 180.0, iterations=2)
    between &= distance_mm(labels == 0, grid) >= _FROM_LUNG_MM
    values = hu[between]
    if values.size * grid.voxel_ml < _LEAST_ML:
        return None, False
    bright = values[values >= CONTRAST_HU]
    if bright.size > _BRIGHT_SHARE * values.size:
        return float(np.median(bright)), True
    plain = hu[between & ~bone & (hu < CONTRAST_HU)]
    return float(np.median(plain)), False


def _between(labels: np.ndarray, grid) -> np.ndarray:
    """What lies between both lungs and in the ventral two thirds of their depth, (z, y, x) bool; empty for one lung.

    The spine and its muscles lie behind. Lungs run beside each other along the patient's x axis, which is followed on
    the index axis that is nearest to it.
    """
    result = np.zeros(labels.shape, bool)
    if not ((labels == 1).any() and (labels == 2).any()):
        return result
    axis = 2 - int(np.argmax(np.abs(grid.axes[0])))
    seen = {}
    for side in (1, 2):
        mask = labels == side
        forward = np.logical_or.accumulate(mask, axis=axis)
        backward = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
        seen[side] = forward, backward
    result = ((seen[1][0] & seen[2][1]) | (seen[2][0] & seen[1][1])) & (labels == 0)
    if not result.any():
        return result
    front, back = np.percentile(along_patient(grid, labels > 0, 1), [1, 99])
    keep = along_patient(grid, result, 1) <= front + 0.62 * (back - front)
    result[result] = keep
    return result
