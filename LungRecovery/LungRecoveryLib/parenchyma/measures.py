"""What the lesions of one scan measure, whatever noise lets see of their faint parts and their rims."""

import numpy as np
import SimpleITK as sitk

from ..anatomy.working import bounding_box
from ..distances import distance_to
from ..grids import grid_of
from .tissue import smoothed

_MEAN_MM, _AROUND_MM = 3.0, 3.0  # SD of the local mean; how far around a lesion it counts
_COUNTS_HU = (90.0, 180.0)  # local means from which on a voxel begins to count, and counts in full
_LEAST_COUNT = 0.02  # of a voxel in a lesion, however faint


def lesion_measures(excess: sitk.Image, lesions: sitk.Image, lungs_ml: float) -> dict[str, float | None]:
    """Volume in ml, share of the lungs in % and mean excess in HU above the baseline (not cut to the window).

    `excess` and `lesions` as in :class:`.scan.Parenchyma`; keys that begin with "subtle" are those of label 2 alone.
    How much is seen of faint lesions and where their soft rims are cut depends on the scan's noise, and with it a plain
    mean over what is drawn. So voxels count by what the local mean, which hardly depends on the noise, rises to: hardly
    up to 90 HU, in full from 180 HU on, whether the rim was drawn or not.
    """
    labels, above = sitk.GetArrayViewFromImage(lesions), sitk.GetArrayViewFromImage(excess)
    grid = grid_of(excess)
    subtle = labels == 2
    measures: dict[str, float | None] = {}
    for prefix, mask in (("", labels > 0), ("subtle_", subtle)):
        volume = float(np.count_nonzero(mask)) * grid.voxel_ml
        measures[f"{prefix}volume_ml"] = volume
        measures[f"{prefix}percent"] = 100.0 * volume / lungs_ml
    measures["mean_excess_hu"] = _weighted_mean(labels, above, grid.spacing) if labels.any() else None
    measures["subtle_mean_excess_hu"] = float(above[subtle].mean()) if subtle.any() else None
    return measures


def _weighted_mean(labels: np.ndarray, above: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """The mean of `above` (z, y, x) in HU, 0 outside the lungs, in and around the labelled lesions; `spacing` in mm by
    (x, y, z). The faint ones (label 2) count on their own only where there are no others."""
    steps = np.array(spacing[::-1])
    drawn = labels == 1 if (labels == 1).any() else labels == 2
    box = bounding_box(drawn, int(np.ceil((_AROUND_MM + 3.0 * _MEAN_MM) / steps.min())))
    drawn, above = drawn[box], above[box].astype(np.float32)
    known = above != 0
    low, high = _COUNTS_HU
    rise = np.clip((np.nan_to_num(smoothed(above, known, list(_MEAN_MM / steps))) - low) / (high - low), 0.0, 1.0)
    near = known & (distance_to(drawn, steps) <= _AROUND_MM)
    weights = np.where(near, rise * rise * (3.0 - 2.0 * rise), 0.0) + _LEAST_COUNT * drawn
    return float(np.average(above, weights=weights))
