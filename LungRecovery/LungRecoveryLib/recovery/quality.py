"""Can this registration be trusted: measures, and a verdict with its reasons in words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..grids import (
    crop_to_mask,
    grid_of,
    resample,
    resample_mask,
    to_array,
    to_image,
    transform_to_field,
    with_spacing,
)
from .jacobian import as_mask, common_mask, volume_check

if TYPE_CHECKING:  # torch is not needed to judge
    from ..registration.register import Registration

_INVERSE_SPACING_MM = 3.0  # the inverse is checked at these steps: displacements are smooth
_VOLUME_SPACING_MM = 3.0


@dataclass(frozen=True)
class Thresholds:
    """Where the verdict turns. Edit with `dataclasses.replace`; `dataclasses.asdict` is JSON-able.

    A registration fails above `fail_folds_percent`, below `fail_dice` or when the similarity's gain is not above
    `fail_similarity_gain`, except where the scans matched before and still do (both at least `identical_similarity`;
    scans of different breaths or positions start far below), where nothing can be gained. It is to be reviewed above
    `review_folds_percent`, below `review_dice`, above `review_inverse_p95_mm` or with a volume ratio outside
    low..high.
    """

    fail_folds_percent: float = 0.1
    fail_dice: float = 0.90
    fail_similarity_gain: float = 0.0
    identical_similarity: float = 0.7
    review_folds_percent: float = 0.0
    review_dice: float = 0.95
    review_inverse_p95_mm: float = 1.0
    review_volume_ratio_low: float = 0.85
    review_volume_ratio_high: float = 1.15


DEFAULT_THRESHOLDS = Thresholds()


def assess(
    registration: "Registration",
    moving_lungs: sitk.Image,
    tre: Mapping | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict:
    """Judge a registration of a follow-up onto the baseline by its own figures of merit and what the masks say.

    `moving_lungs`: the follow-up's lungs on its own grid (any label counts); `tre`: the landmark errors where landmarks
    are given.

    Returns {verdict, reasons, warnings, folds_percent, lung_dice, lung_hd95_mm, inverse_mean_mm, inverse_p95_mm,
    similarity_before, similarity_after, volume_ratio (follow-up / baseline), mean_jacobian, tre, thresholds}. Dice,
    HD95 and the volumes compare what both fields of view show of the lungs; undefined measures are None.
    """
    inside = as_mask(registration.inside)
    common = common_mask(registration.fixed_lungs, inside)
    warped = as_mask(registration.warped_lungs) & inside
    ratio = lung_volume_ratio(registration.fixed_lungs, moving_lungs, registration.inverse_transform, inside)
    mean_j = float(sitk.GetArrayViewFromImage(registration.jacobian)[common].mean(dtype=np.float64))
    measures = {
        "folds_percent": registration.folding_percent,
        "lung_dice": registration.lung_dice,
        "lung_hd95_mm": surface_hd95(common, warped, registration.jacobian),
        "inverse_mean_mm": registration.inverse_mean_mm,
        "inverse_p95_mm": registration.inverse_p95_mm,
        "similarity_before": registration.similarity_before,
        "similarity_after": registration.similarity_after,
        "volume_ratio": ratio,
        "mean_jacobian": mean_j,
        "tre": None if tre is None else dict(tre),
    }
    decision, reasons = verdict(measures, thresholds)
    check = volume_check(mean_j, ratio) if ratio else None
    return {
        "verdict": decision,
        "reasons": reasons,
        "warnings": [check] if check else [],
        **measures,
        "thresholds": asdict(thresholds),
    }


def verdict(measures: Mapping, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> tuple[str, list[str]]:
    """("pass" | "review" | "fail", the reasons in words) from the measures of `assess`; a pass has one reason too.

    A measure that is missing or not a number is a reason to review: what could not be measured is not vouched for.
    """
    failures, doubts = _failures(measures, thresholds), _doubts(measures, thresholds)
    if failures:
        return "fail", failures + doubts
    if doubts:
        return "review", doubts
    return "pass", ["No fold, the lungs agree, the similarity rose, the inverse is consistent, the breaths match."]


def _failures(measures: Mapping, limits: Thresholds) -> list[str]:
    folds, dice = _number(measures, "folds_percent"), _number(measures, "lung_dice")
    before, after = _number(measures, "similarity_before"), _number(measures, "similarity_after")
    reasons = []
    if folds is not None and folds > limits.fail_folds_percent:
        reasons.append(f"The deformation folds in {folds:.2g} % of the lung (limit {limits.fail_folds_percent:g} %).")
    if dice is not None and dice < limits.fail_dice:
        reasons.append(f"The lungs overlap with a Dice of only {dice:.3f} (limit {limits.fail_dice:g}).")
    if before is not None and after is not None:
        identical = before >= limits.identical_similarity and after >= limits.identical_similarity
        if after - before <= limits.fail_similarity_gain and not identical:
            reasons.append(
                f"The registration did not make the scans more alike ({before:.3f} before, {after:.3f} after)."
            )
    return reasons


def _doubts(measures: Mapping, limits: Thresholds) -> list[str]:
    folds, dice = _number(measures, "folds_percent"), _number(measures, "lung_dice")
    p95, ratio = _number(measures, "inverse_p95_mm"), _number(measures, "volume_ratio")
    reasons = []
    if folds is not None and limits.review_folds_percent < folds <= limits.fail_folds_percent:
        reasons.append(f"The deformation folds in {folds:.2g} % of the lung.")
    if dice is not None and limits.fail_dice <= dice < limits.review_dice:
        reasons.append(f"The lungs overlap with a Dice of {dice:.3f}, below {limits.review_dice:g}.")
    if p95 is not None and p95 > limits.review_inverse_p95_mm:
        reasons.append(
            f"Forth and back misses by {p95:.2f} mm at the 95th percentile (limit {limits.review_inverse_p95_mm:g} mm)."
        )
    low, high = limits.review_volume_ratio_low, limits.review_volume_ratio_high
    if ratio is not None and not low <= ratio <= high:
        reasons.append(
            f"Inspiration mismatch: the follow-up's lungs have {ratio:.2f} times the baseline's volume "
            f"(expected {low:g} to {high:g})."
        )
    missing = [words for name, words in _MEASURES.items() if _number(measures, name) is None]
    if missing:
        reasons.append(f"Could not be measured: {', '.join(missing)}.")
    return reasons


_MEASURES = {
    "folds_percent": "folds",
    "lung_dice": "the lungs' overlap",
    "inverse_p95_mm": "the inverse's consistency",
    "similarity_before": "the similarity before",
    "similarity_after": "the similarity after",
    "volume_ratio": "the volume ratio",
}


def _number(measures: Mapping, name: str) -> float | None:
    value = measures.get(name)
    return None if value is None or not isfinite(value) else float(value)


def lung_overlap(a: np.ndarray, b: np.ndarray, grid: sitk.Image) -> tuple[float | None, float | None]:
    """Dice and HD95 in mm of two masks (z, y, x) on the grid of an image.

    Without any voxel both are None; where only one mask is empty the Dice is 0 and HD95 None.
    """
    voxels = int(a.sum()) + int(b.sum())
    dice = 2.0 * np.count_nonzero(a & b) / voxels if voxels else None
    return dice, surface_hd95(a, b, grid)


def surface_hd95(a: np.ndarray, b: np.ndarray, grid: sitk.Image) -> float | None:
    """The 95th percentile of the surface distances in mm of two masks (z, y, x) on the grid of an image.

    The larger of the two directions, from every surface voxel of one mask to the surface of the other; None where a
    mask is empty.
    """
    if not a.any() or not b.any():
        return None
    union = _image(a | b, grid)
    box = crop_to_mask(union, 2 * max(union.GetSpacing()))
    surfaces = [_surface(resample_mask(_image(mask, grid), box)) for mask in (a, b)]
    distances = [_distance_to(surface) for surface in surfaces]
    one, other = (as_mask(surface) for surface in surfaces)
    return float(max(np.percentile(distances[1][one], 95), np.percentile(distances[0][other], 95)))


def _image(mask: np.ndarray, grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(grid)
    return image


def _surface(mask: sitk.Image) -> sitk.Image:
    """The voxels of a mask that touch its outside by a face; the image's border counts as outside."""
    padded = sitk.ConstantPad(mask, (1, 1, 1), (1, 1, 1), 0)
    return sitk.Crop(sitk.BinaryContour(padded, fullyConnected=False), (1, 1, 1), (1, 1, 1))


def _distance_to(surface: sitk.Image) -> np.ndarray:
    """How far every voxel centre is from the nearest surface voxel's, mm."""
    return np.abs(to_array(sitk.SignedMaurerDistanceMap(surface, squaredDistance=False, useImageSpacing=True)))


def inverse_consistency(
    transform: sitk.Transform, inverse_transform: sitk.Transform, lungs: np.ndarray, grid: sitk.Image
) -> tuple[float | None, float | None]:
    """How far inverse(transform(p)) misses p over the lung: mean and 95th percentile, mm; None without lung.

    `lungs` is a mask (z, y, x) on the grid of the image `grid`.
    """
    if not lungs.any():
        return None, None
    mask = _image(lungs, grid)
    points = with_spacing(crop_to_mask(mask, 0.0), tuple(max(s, _INVERSE_SPACING_MM) for s in mask.GetSpacing()))
    forth_and_back = sitk.CompositeTransform([inverse_transform, transform])  # the last one is applied first
    miss = np.linalg.norm(transform_to_field(forth_and_back, points), axis=0)
    where = as_mask(resample_mask(mask, points))
    misses = miss[where] if where.any() else miss.ravel()
    return float(misses.mean(dtype=np.float64)), float(np.percentile(misses, 95))


def lung_volume_ratio(
    fixed_lungs: sitk.Image,
    moving_lungs: sitk.Image,
    inverse_transform: sitk.Transform | None = None,
    inside: np.ndarray | None = None,
) -> float | None:
    """The volume of the follow-up's lungs over the baseline's, each in its own mask; None without lung in either.

    Only what both fields of view show counts: the baseline's voxels in `inside`, and those of the follow-up that the
    inverse takes into the baseline's grid. So a scan cut short does not look like a smaller breath.
    """
    baseline = np.count_nonzero(common_mask(fixed_lungs, inside)) * grid_of(fixed_lungs).voxel_ml
    moving = as_mask(moving_lungs)
    followup = np.count_nonzero(moving) * grid_of(moving_lungs).voxel_ml
    if baseline == 0 or followup == 0:
        return None
    if inverse_transform is not None:
        followup *= _share_seen(moving_lungs, fixed_lungs, inverse_transform)
    return float(followup / baseline) if followup else None


def _share_seen(moving_lungs: sitk.Image, fixed_lungs: sitk.Image, inverse_transform: sitk.Transform) -> float:
    """The share of the follow-up's lungs that the inverse takes into the baseline's field of view."""
    coarse = with_spacing(
        crop_to_mask(moving_lungs, 0.0), tuple(max(s, _VOLUME_SPACING_MM) for s in moving_lungs.GetSpacing())
    )
    z, y, x = np.mgrid[: coarse.size[2], : coarse.size[1], : coarse.size[0]].reshape(3, -1)
    points = coarse.points(np.stack([x, y, z], axis=1))
    points += transform_to_field(inverse_transform, coarse).reshape(3, -1).T
    # How many voxels a point lies inside the baseline's box: smooth, so it can be interpolated to every voxel.
    target = grid_of(fixed_lungs)
    index = target.indices(points)
    depth = np.minimum(index + 0.5, np.array(target.size) - 0.5 - index).min(axis=1).astype(np.float32)
    depth = to_array(resample(to_image(depth.reshape(coarse.shape), coarse), moving_lungs, outside=-1.0))
    lungs = as_mask(moving_lungs)
    return float(np.count_nonzero(depth[lungs] >= 0)) / np.count_nonzero(lungs)
