"""What about a scan makes its segmentation mean less, said in words."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import averaged_down, crop_to_mask, grid_of, isotropic_grid, resample, resample_mask, to_array
from .sides import LEFT, RIGHT
from .working import ball, components

_THICK_MM = 6.0
_CUT_SHARE = 0.02  # of a lung's voxels in the outermost slice of the field
_SMALL_SHARE = 0.35
_METAL_HU = 2500
_METAL_ML = 0.5
_DENSE_SHARE = 0.35
# Lung denser than this holds hardly any air; a ball of this radius does not fit into the vessels of the hilum.
_AIRLESS_HU, _AIRLESS_ML, _BALL_MM, _COARSE_MM = -100.0, 30.0, 7.5, 2.5
_NAMES = {RIGHT: "right", LEFT: "left"}


def segmentation_warnings(
    ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None = None, lesions: sitk.Image | None = None
) -> list[str]:
    """Sentences about what limits a segmentation: thick slices, a lung that is cut, missing or shrunken, metal, no
    airway, lungs that hold little air, large parts of them that hold none. All images on the grid of `ct`; an empty
    list where there is nothing to say."""
    grid, labels = grid_of(ct), sitk.GetArrayViewFromImage(lungs)
    told = []
    if max(grid.spacing) >= _THICK_MM:
        told.append(
            f"its slices lie {max(grid.spacing):.0f} mm apart: volumes hold, but vessels, airways and lesions thinner "
            "than a slice are not seen"
        )
    told += _about_the_lungs(labels)
    if labels.any():
        told += _about_airless_parts(ct, lungs)
    if np.count_nonzero(sitk.GetArrayViewFromImage(ct) > _METAL_HU) * grid.voxel_ml > _METAL_ML:
        told.append("it shows metal, whose streaks may pass for lesions nearby")
    if airways is not None and not sitk.GetArrayViewFromImage(airways).any():
        told.append("no trachea was found in it, so the airways are not segmented and may count as lung")
    if lesions is not None and labels.any():
        sick = sitk.GetArrayViewFromImage(lesions)[labels > 0]
        share = float((sick > 0).mean())
        if share > _DENSE_SHARE:
            told.append(
                f"{100 * share:.0f} % of the lung are lesions: with so little healthy lung to compare with, a scan in "
                "deep expiration looks alike"
            )
    return told


def _about_the_lungs(labels: np.ndarray) -> list[str]:
    counts = np.bincount(labels.ravel(), minlength=3)
    told = []
    found = [side for side in _NAMES if counts[side]]
    if len(found) == 1:
        told.append(f"only the {_NAMES[found[0]]} lung was found: the other is outside the field, removed or airless")
    elif len(found) == 2 and min(counts[1:3]) < _SMALL_SHARE * max(counts[1:3]):
        small = min(found, key=lambda side: counts[side])
        told.append(
            f"the {_NAMES[small]} lung has {100 * counts[small] / max(counts[1:3]):.0f} % of the other's volume: "
            "collapsed or airless parts of it may be missing"
        )
    cut = any(
        np.count_nonzero(np.take(labels, end, axis)) > _CUT_SHARE * counts[1:].sum() / labels.shape[axis]
        for axis in range(3)
        for end in (0, -1)
    )
    if cut:
        told.append("the field of view cuts the lungs: volumes and shares are those of the part that it shows")
    return told


def _about_airless_parts(ct: sitk.Image, lungs: sitk.Image) -> list[str]:
    """Where much lung holds no air, its surface is the least certain."""
    grid = isotropic_grid(crop_to_mask(lungs, _BALL_MM), _COARSE_MM)
    hu = to_array(resample(averaged_down(sitk.Cast(ct, sitk.sitkFloat32), grid.spacing), grid))
    labels = to_array(resample_mask(lungs, grid))
    airless = ndimage.binary_opening((hu > _AIRLESS_HU) & (labels > 0), ball(_BALL_MM / _COARSE_MM))
    pieces, sizes = components(airless)
    large = (sizes * grid.voxel_ml >= _AIRLESS_ML)[pieces] & airless
    volumes = {side: np.count_nonzero(large & (labels == side)) * grid.voxel_ml for side in _NAMES}
    return [
        f"about {ml:.0f} ml of the {_NAMES[side]} lung hold no air (consolidation, a collapsed lobe or a mass): check "
        "the lung's outline there"
        for side, ml in volumes.items()
        if ml >= _AIRLESS_ML
    ]
