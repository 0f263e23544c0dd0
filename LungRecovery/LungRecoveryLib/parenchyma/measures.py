"""What the lesions of one scan measure, whatever noise lets see of their faint parts and their rims."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.working import bounding_box
from ..grids import grid_of
from .tissue import smoothed

# SD of the local mean; how far its highest value around counts, and what share of that is no rim.
_MEAN_MM, _AROUND_MM, _NO_RIM = 3.0, 6.0, 2 / 3


def lesion_measures(excess: sitk.Image, lesions: sitk.Image, lungs_ml: float) -> dict[str, float | None]:
    """Volume in ml, share of the lungs in % and mean excess in HU above the baseline (not cut to the window).

    `excess` and `lesions` as in :class:`.scan.Parenchyma`; keys that begin with "subtle" are those of label 2 alone.
    How much is seen of faint lesions and of soft rims depends on the scan's noise, and with it a mean over all: the
    mean is that of the plainly visible lesions without their rims, of the faint where there are no others.
    """
    labels, above = sitk.GetArrayViewFromImage(lesions), sitk.GetArrayViewFromImage(excess)
    grid = grid_of(excess)
    visible, subtle = labels == 1, labels == 2
    core = _without_rims(visible, above, grid.spacing) if visible.any() else subtle
    measures: dict[str, float | None] = {}
    for prefix, mask, measured in (("", labels > 0, core), ("subtle_", subtle, subtle)):
        volume = float(np.count_nonzero(mask)) * grid.voxel_ml
        measures[f"{prefix}volume_ml"] = volume
        measures[f"{prefix}percent"] = 100.0 * volume / lungs_ml
        measures[f"{prefix}mean_excess_hu"] = float(above[measured].mean()) if measured.any() else None
    return measures


def _without_rims(mask: np.ndarray, above: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """A mask (z, y, x) bool without voxels whose local mean is less than two thirds of the highest around, as those are
    that the scanner blurs over a border.

    `above` (z, y, x) in HU is 0 outside the lungs, `spacing` in mm by (x, y, z).
    """
    steps = np.array(spacing[::-1])
    box = bounding_box(mask, int(np.ceil(_AROUND_MM / steps.min())))
    mean = np.where(mask[box], smoothed(above[box], mask[box] | (above[box] != 0), list(_MEAN_MM / steps)), 0.0)
    highest = ndimage.maximum_filter(mean, 2 * np.rint(_AROUND_MM / steps).astype(int) + 1)
    core = np.zeros_like(mask)
    core[box] = mask[box] & (mean >= _NO_RIM * highest)
    return core
