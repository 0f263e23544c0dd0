"""What the lung weighs: density per region from a scan's own voxels, and its change voxel by voxel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class Band:
    """A band of density: low <= HU < high."""

    name: str
    low: float
    high: float


DEFAULT_BANDS = (
    Band("hyperinflated", -1024, -950),
    Band("well_aerated", -950, -700),
    Band("poorly_aerated", -700, -300),
    Band("non_aerated", -300, 100),
)


def abnormal_mask(ct: sitk.Image, lungs: sitk.Image | np.ndarray, vessels: sitk.Image | np.ndarray | None) -> np.ndarray:
    """The abnormal lung (-700..+100 HU without vessels) of a scan; bool (z, y, x) on the ct's grid."""
    raise NotImplementedError


def density_by_region(
    ct: sitk.Image,
    masks: Mapping[str, np.ndarray],
    vessels: sitk.Image | np.ndarray | None,
    bands: Sequence[Band] = DEFAULT_BANDS,
    abnormal: np.ndarray | None = None,
) -> dict[str, dict]:
    """{region: {volume_ml, mean_hu, sd_hu, perc15_hu, mass_g, laa950_percent, haa_percent, abnormal_percent,
    bands_percent {band: %}}} on the scan's own grid; `abnormal` (from `abnormal_mask`) is computed when not given from
    masks["lungs"] and the vessels. Empty regions are left out."""
    raise NotImplementedError


def density_change(
    baseline: sitk.Image, warped: sitk.Image, jacobian: sitk.Image, lungs=None, inside: np.ndarray | None = None
) -> sitk.Image:
    """J (HU_followup(phi) + 1000) - (HU_baseline + 1000) in mg/ml, float32; 0 outside the lungs and outside `inside`."""
    raise NotImplementedError


def hu_change(baseline: sitk.Image, warped: sitk.Image, lungs=None, inside: np.ndarray | None = None) -> sitk.Image:
    """HU_followup(phi) - HU_baseline, float32; 0 outside the lungs and outside `inside`."""
    raise NotImplementedError


def change_by_region(
    density_change: sitk.Image,
    hu_change: sitk.Image,
    ssim: sitk.Image,
    lncc: sitk.Image,
    masks: Mapping[str, np.ndarray],
    inside: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """{region: {density_change_mean_mg_ml, hu_change_mean, ssim_mean, lncc_mean}} from the four maps."""
    raise NotImplementedError
