"""What the lung weighs: density per region from a scan's own voxels, and its change voxel by voxel.

Densities of a date are measured in that date's own scan and own mask, never in a warped image, whose interpolation
narrows the histogram. Lung tissue is taken as air (-1000 HU, 0 mg/ml) mixed with water (0 HU, 1000 mg/ml), so
HU + 1000 is a density in mg/ml.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..grids import AIR_HU, grid_of, to_array, to_image
from .abnormal import ABNORMAL_HIGH, ABNORMAL_LOW, abnormal_mask
from .jacobian import common_mask

__all__ = [
    "ABNORMAL_HIGH",
    "ABNORMAL_LOW",
    "DEFAULT_BANDS",
    "Band",
    "abnormal_mask",
    "change_by_region",
    "density_by_region",
    "density_change",
    "hu_change",
]

LAA_HU = -950.0  # low attenuation area, "LAA-950" of the Chest Imaging Platform
HAA_HU = (-600.0, -250.0)  # high attenuation area, both limits included


@dataclass(frozen=True)
class Band:
    """A band of density: low <= HU < high."""

    name: str
    low: float
    high: float


# Nothing lies below -1024 HU in the project, so the first band is everything below -950 HU.
DEFAULT_BANDS = (
    Band("hyperinflated", AIR_HU, -950.0),
    Band("well_aerated", -950.0, -700.0),
    Band("poorly_aerated", -700.0, -300.0),
    Band("non_aerated", -300.0, 100.0),
)


def density_by_region(
    ct: sitk.Image,
    masks: Mapping[str, np.ndarray],
    vessels: sitk.Image | np.ndarray | None,
    bands: Sequence[Band] = DEFAULT_BANDS,
    abnormal: np.ndarray | None = None,
) -> dict[str, dict[str, float | dict[str, float]]]:
    """Density per region of one scan, from its own voxels.

    Parameters: the scan in HU; bool masks (z, y, x) by region, among them "lungs", on the scan's grid; the vessels on
    that grid; the bands; `abnormal`, the mask of `abnormal_mask`, computed from masks["lungs"] when not given.

    Returns {region: {volume_ml, mean_hu, sd_hu, perc15_hu (15th percentile), mass_g (sum of max(HU + 1000, 0) / 1000 x
    ml), laa950_percent (share below -950 HU), haa_percent (share in [-600, -250] HU), abnormal_percent, bands_percent
    {band: %}}}. Every share is of all voxels of the region, vessels included; what lies in no band (above 100 HU by
    default: contrast medium, calcification) is in none of the bands' shares. Empty regions are left out.
    """
    hu = sitk.GetArrayViewFromImage(ct)
    if abnormal is None:
        abnormal = abnormal_mask(ct, masks["lungs"], vessels)
    voxel_ml = grid_of(ct).voxel_ml
    return {
        name: _region_density(np.maximum(hu[mask], AIR_HU), abnormal[mask], voxel_ml, bands)
        for name, mask in masks.items()
        if mask.any()
    }


def _region_density(hu: np.ndarray, abnormal: np.ndarray, voxel_ml: float, bands: Sequence[Band]) -> dict:
    def percent(chosen: np.ndarray) -> float:
        return 100.0 * float(np.count_nonzero(chosen)) / hu.size

    hu = hu.astype(np.float32)
    return {
        "volume_ml": hu.size * voxel_ml,
        "mean_hu": float(hu.mean(dtype=np.float64)),
        "sd_hu": float(hu.std(dtype=np.float64)),
        "perc15_hu": float(np.percentile(hu, 15)),
        "mass_g": float(np.maximum(hu + 1000.0, 0.0).sum(dtype=np.float64)) / 1000.0 * voxel_ml,
        "laa950_percent": percent(hu < LAA_HU),
        "haa_percent": percent((hu >= HAA_HU[0]) & (hu <= HAA_HU[1])),
        "abnormal_percent": percent(abnormal),
        "bands_percent": {band.name: percent((hu >= band.low) & (hu < band.high)) for band in bands},
    }


def density_change(
    baseline: sitk.Image,
    warped: sitk.Image,
    jacobian: sitk.Image,
    lungs: sitk.Image | np.ndarray | None = None,
    inside: np.ndarray | None = None,
) -> sitk.Image:
    """What the tissue of each baseline voxel gained: J (HU_followup(phi) + 1000) - (HU_baseline + 1000), mg/ml.

    It is 0 where only air came or went: breathing alone changes nothing. All images on one grid, `warped` the
    follow-up laid on it. The result is float32 and 0 outside `lungs` and outside `inside` (where it is not defined,
    because the follow-up's field of view ends): averages must be taken inside both, as `change_by_region` does.
    """
    b, w, j = (to_array(image, np.float32) for image in (baseline, warped, jacobian))
    return _masked(j * (w + 1000.0) - (b + 1000.0), baseline, lungs, inside)


def hu_change(
    baseline: sitk.Image,
    warped: sitk.Image,
    lungs: sitk.Image | np.ndarray | None = None,
    inside: np.ndarray | None = None,
) -> sitk.Image:
    """HU_followup(phi) - HU_baseline, breath included; float32, 0 outside `lungs` and outside `inside`."""
    return _masked(to_array(warped, np.float32) - to_array(baseline, np.float32), baseline, lungs, inside)


def _masked(
    values: np.ndarray, grid: sitk.Image, lungs: sitk.Image | np.ndarray | None, inside: np.ndarray | None
) -> sitk.Image:
    if lungs is not None:
        values[~common_mask(lungs, inside)] = 0.0
    elif inside is not None:
        values[~inside] = 0.0
    return to_image(values, grid)


def change_by_region(
    density_change: sitk.Image,
    hu_change: sitk.Image,
    ssim: sitk.Image,
    lncc: sitk.Image,
    masks: Mapping[str, np.ndarray],
    inside: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """{region: {density_change_mean_mg_ml, hu_change_mean, ssim_mean, lncc_mean}} from the four maps.

    Means over the voxels of each region inside both fields of view; a region without one is left out.
    """
    maps = {
        "density_change_mean_mg_ml": density_change,
        "hu_change_mean": hu_change,
        "ssim_mean": ssim,
        "lncc_mean": lncc,
    }
    arrays = {name: sitk.GetArrayViewFromImage(image) for name, image in maps.items()}
    cut = {region: common_mask(mask, inside) for region, mask in masks.items()}
    return {
        region: {name: float(array[mask].mean(dtype=np.float64)) for name, array in arrays.items()}
        for region, mask in cut.items()
        if mask.any()
    }
