"""What the lesions weigh at every date, and what became of each since the baseline.

Volumes and excess of a date are measured in that date's own scan. The excess is what a lesion has above the scan's own
healthy lung (its baseline), so that a scanner's offset falls out of it. What
became of a lesion is judged in the baseline's frame, onto which the registration lays the follow-up's lesions: the same
tissue is compared, whatever the breath.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.lesions import LESION_NAMES
from ..grids import grid_of, resample_mask, to_array
from .jacobian import common_mask

RESOLVED, SHRINKING, STABLE, GROWING, NEW = FATES = ("resolved", "shrinking", "stable", "growing", "new")
CLASSES = ("healthy", "cleared", "persistent", "new")

_SMALLEST_ML = 0.5  # of a lesion that is followed by itself
_HEALTHY_STEP = 3


@dataclass(frozen=True)
class Repeatability:
    """How far a lesion's volume differs between two scans of unchanged lung: what is less is no change.

    A change counts beyond `relative` of the larger volume plus `absolute_ml`; a lesion is gone (or was not there)
    below `gone` of its volume at the other date. Cautious choices, not measured on scans repeated on one day.
    """

    relative: float = 0.20
    absolute_ml: float = 0.5
    gone: float = 0.05


def lesions_by_region(
    ct: sitk.Image,
    lesions: sitk.Image,
    vessels: sitk.Image | None,
    masks: Mapping[str, np.ndarray],
    healthy_hu: float | None = None,
) -> dict[str, dict]:
    """The lesions of one scan by region, from its own voxels.

    `ct` (HU), `lesions` (labels of `anatomy.lesions`) and `vessels` on one grid; bool masks (z, y, x) by region,
    among them "lungs"; `healthy_hu` the level of healthy lung, where it is known; else that of :func:`healthy_level`,
    which a sharp kernel lowers by a few HU. Returns {region: {volume_ml, share_percent (of the region), kinds_ml {kind:
    ml}, mean_excess_hu (above healthy lung; None without lesion), mass_excess_g}}.
    """
    hu, labels = sitk.GetArrayViewFromImage(ct), sitk.GetArrayViewFromImage(lesions)
    tubes = None if vessels is None else sitk.GetArrayViewFromImage(vessels) > 0
    healthy = healthy_level(hu, labels, tubes, masks["lungs"]) if healthy_hu is None else healthy_hu
    ml = grid_of(ct).voxel_ml
    table = {}
    for region, mask in masks.items():
        total = int(np.count_nonzero(mask))
        if not total:
            continue
        kinds, values = labels[mask], hu[mask]
        excess = values[kinds > 0].astype(np.float64) - healthy
        table[region] = {
            "volume_ml": excess.size * ml,
            "share_percent": 100.0 * excess.size / total,
            "kinds_ml": {name: float(np.count_nonzero(kinds == kind)) * ml for kind, name in LESION_NAMES.items()},
            "mean_excess_hu": float(excess.mean()) if excess.size else None,
            "mass_excess_g": float(excess.sum()) / 1000.0 * ml,
        }
    return table


def healthy_level(hu: np.ndarray, lesions: np.ndarray, tubes: np.ndarray | None, lungs: np.ndarray) -> float:
    """The median HU of the lung that neither a lesion nor a vessel touches; of the whole lung where none is left."""
    few = (slice(None, None, _HEALTHY_STEP),) * 3
    healthy = lungs & (lesions == 0)
    if tubes is not None:
        healthy &= ~ndimage.binary_dilation(tubes)
    chosen = hu[few][healthy[few]] if healthy[few].any() else hu[lungs]
    return float(np.median(chosen))


def lesion_fates(
    before: sitk.Image,
    after: sitk.Image,
    jacobian: sitk.Image,
    lungs: sitk.Image,
    inside: np.ndarray | None = None,
    limits: Repeatability | None = None,
) -> list[dict]:
    """What became of every lesion, the largest first, all images on the baseline's grid.

    `before` and `after` are the lesions of the baseline and of the follow-up laid on it, `inside` what both fields of
    view show. A lesion is a connected piece of either. Returns [{number, side ("right", "left"), centre_lps (mm),
    volume_ml (at the baseline), volume_followup_ml (at the follow-up: voxels times J), same_tissue_ml (the
    follow-up's extent in the baseline's frame, which decides), change_percent (None for new ones), kind, fate}].
    """
    limits = limits or Repeatability()
    grid = grid_of(before)
    sides = to_array(lungs)
    view = common_mask(sides > 0, inside)
    a, b = (to_array(image) * view for image in (before, after))
    j = sitk.GetArrayViewFromImage(jacobian)
    pieces, count = ndimage.label((a > 0) | (b > 0), np.ones((3, 3, 3), bool))
    index = np.arange(1, count + 1)
    volumes = ndimage.sum_labels(a > 0, pieces, index) * grid.voxel_ml
    tissue = ndimage.sum_labels(b > 0, pieces, index) * grid.voxel_ml
    own = ndimage.sum_labels(np.where(b > 0, j, 0.0), pieces, index) * grid.voxel_ml
    found = []
    boxes = ndimage.find_objects(pieces)
    for i in np.argsort(-np.maximum(volumes, tissue)):
        if max(volumes[i], tissue[i]) < _SMALLEST_ML:
            break
        piece = pieces[boxes[i]] == i + 1
        first = np.array([s.start for s in boxes[i]])
        centre = grid.points((np.argwhere(piece).mean(axis=0) + first)[None, ::-1])[0]
        kinds = a[boxes[i]][piece] if volumes[i] >= tissue[i] else b[boxes[i]][piece]
        found.append(
            {
                "number": len(found) + 1,
                "side": "right" if np.median(sides[boxes[i]][piece]) == 1 else "left",
                "centre_lps": [float(c) for c in centre],
                "volume_ml": float(volumes[i]),
                "volume_followup_ml": float(own[i]),
                "same_tissue_ml": float(tissue[i]),
                "change_percent": 100.0 * float(tissue[i] / volumes[i] - 1) if volumes[i] > 0 else None,
                "kind": LESION_NAMES[int(np.bincount(kinds, minlength=4)[1:].argmax()) + 1],
                "fate": fate(float(volumes[i]), float(tissue[i]), limits),
            }
        )
    return found


def fate(before_ml: float, after_ml: float, limits: Repeatability) -> str:
    """What became of a lesion of these volumes of the same tissue."""
    change = after_ml - before_ml
    if abs(change) <= limits.absolute_ml + limits.relative * max(before_ml, after_ml):
        return STABLE
    if change < 0:
        return RESOLVED if after_ml <= limits.gone * before_ml else SHRINKING
    return NEW if before_ml <= limits.gone * after_ml else GROWING


def laid_on(lesions: sitk.Image, baseline: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """A follow-up's lesions on the baseline's grid, by nearest voxels."""
    return resample_mask(lesions, baseline, transform)


def change_classes(
    before: sitk.Image, after: sitk.Image, masks: Mapping[str, np.ndarray], inside: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """The shares (percent) of each region that stayed healthy, cleared, persist or are new: a response map by lesions.

    `before` and `after` as for :func:`lesion_fates`; bool masks (z, y, x) by region.
    """
    a, b = (sitk.GetArrayViewFromImage(image) > 0 for image in (before, after))
    classes = a.astype(np.uint8) + 2 * b.astype(np.uint8)  # 0 healthy, 1 cleared, 2 new, 3 persistent
    names = {0: "healthy", 1: "cleared", 3: "persistent", 2: "new"}
    table = {}
    for region, mask in masks.items():
        cut = common_mask(mask, inside)
        total = np.count_nonzero(cut)
        if total:
            counts = np.bincount(classes[cut], minlength=4)
            table[region] = {name: 100.0 * float(counts[code]) / total for code, name in names.items()}
    return table
