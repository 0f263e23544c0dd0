"""How good a registration is, against what an expert marked: landmarks (TRE) and labels (Dice, HD95)."""

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, grid_of, resample_mask, transform_points
from LungRecoveryLib.landmarks import LandmarkPairs, Points, dirlab_grid, read_landmarks, read_points
from LungRecoveryLib.recovery.quality import lung_overlap

__all__ = [
    "LandmarkPairs",
    "Points",
    "dirlab_grid",
    "error_statistics",
    "label_overlap",
    "landmark_errors",
    "named_labels",
    "read_landmarks",
    "read_points",
    "target_registration_error",
]

_LIMITS_MM = (1, 2, 3)


def target_registration_error(
    transform: sitk.Transform | None,
    fixed_points: np.ndarray,
    moving_points: np.ndarray,
    moving_grid: Grid | sitk.Image | None = None,
) -> dict:
    """The target registration error of a transform (None: the identity) at matching landmarks.

    Parameters: points (N, 3) LPS mm of the fixed scan (the baseline) and of the moving scan, row by row the same place;
    the moving image or its grid, where the error snapped to voxels is wanted.

    Returns the figures of :func:`error_statistics` for the sub-voxel errors, and under "initial" those before
    registration, under "snapped" (None without a grid) those after the mapped points were moved to the centre of the
    moving image's nearest voxel, as published DIR-Lab tables do, and under "errors_mm" every sub-voxel error in order.
    Raises BadInput for no points or numbers of points that differ.
    """
    fixed_points, moving_points = (np.asarray(p, float).reshape(-1, 3) for p in (fixed_points, moving_points))
    if len(fixed_points) != len(moving_points):
        raise BadInput(f"{len(fixed_points)} landmarks of one scan do not match {len(moving_points)} of the other")
    if not len(fixed_points):
        raise BadInput("there is no landmark to evaluate at; give a file with at least one pair of points")
    errors = landmark_errors(transform, fixed_points, moving_points)
    snapped = None
    if moving_grid is not None:
        snapped = error_statistics(landmark_errors(transform, fixed_points, moving_points, moving_grid))
    return {
        **error_statistics(errors),
        "initial": error_statistics(np.linalg.norm(fixed_points - moving_points, axis=1)),
        "snapped": snapped,
        "errors_mm": [float(e) for e in errors],
    }


def landmark_errors(
    transform: sitk.Transform | None,
    fixed_points: np.ndarray,
    moving_points: np.ndarray,
    snap_to: Grid | sitk.Image | None = None,
) -> np.ndarray:
    """The distances (N,) in mm from the mapped fixed points (N, 3) to the moving points (N, 3), LPS mm.

    With `snap_to`, the moving image or its grid, a mapped point first moves to the centre of its nearest voxel.
    """
    mapped = np.asarray(fixed_points, float) if transform is None else transform_points(transform, fixed_points)
    if snap_to is not None:
        grid = snap_to if isinstance(snap_to, Grid) else grid_of(snap_to)
        mapped = grid.points(np.rint(grid.indices(mapped)))
    return np.linalg.norm(mapped - moving_points, axis=1)


def error_statistics(errors_mm: np.ndarray) -> dict[str, float | int | None]:
    """Count, mean, sample SD (None of a single error), median, 95th percentile, maximum, shares below 1, 2, 3 mm."""
    errors = np.asarray(errors_mm, float)
    return {
        "count": int(errors.size),
        "mean_mm": float(errors.mean()),
        "sd_mm": float(errors.std(ddof=1)) if errors.size > 1 else None,
        "median_mm": float(np.median(errors)),
        "p95_mm": float(np.percentile(errors, 95)),
        "max_mm": float(errors.max()),
        **{f"below_{limit}_mm_percent": 100.0 * float((errors < limit).mean()) for limit in _LIMITS_MM},
    }


def label_overlap(
    fixed_labels: sitk.Image, moving_labels: sitk.Image, transform: sitk.Transform | None = None
) -> dict[str, dict]:
    """How well a moving label map, carried over by a transform (None: the identity), agrees with the fixed one.

    The moving labels are laid on the fixed grid by their nearest voxels through `transform`, which takes fixed points
    to moving points. Returns {"labels": {label: {"dice", "hd95_mm", "fixed_ml", "propagated_ml"}}, "mean_dice",
    "mean_hd95_mm", "only_fixed", "only_moving"}, labels as text. Labels that both maps have are scored; one that the
    transform carries out of the fixed image has Dice 0 and HD95 None. Labels that one map lacks are named, no more.
    Raises BadInput for images that are no label maps and for maps without a label in common.
    """
    fixed, moving = (_as_labels(image, which) for image, which in ((fixed_labels, "fixed"), (moving_labels, "moving")))
    grid = grid_of(fixed_labels)
    propagated = sitk.GetArrayFromImage(resample_mask(moving, grid, transform))
    target = sitk.GetArrayFromImage(fixed)
    own, others = (np.setdiff1d(np.unique(sitk.GetArrayViewFromImage(image)), [0]) for image in (fixed, moving))
    if not len(own) and not len(others):
        raise BadInput("neither label map has a label other than 0; give the label maps of the two scans")
    if not len(np.intersect1d(own, others)):
        raise BadInput("the label maps have no label in common; give maps with the same meaning of labels")
    labels = {}
    for label in np.intersect1d(own, others):
        a, b = target == label, propagated == label
        dice, hd95 = lung_overlap(a, b, fixed_labels)
        volumes = {"fixed_ml": a.sum() * grid.voxel_ml, "propagated_ml": b.sum() * grid.voxel_ml}
        labels[str(int(label))] = {"dice": dice or 0.0, "hd95_mm": hd95, **{k: float(v) for k, v in volumes.items()}}
    return {
        "labels": labels,
        "mean_dice": _mean(labels, "dice"),
        "mean_hd95_mm": _mean(labels, "hd95_mm"),
        "only_fixed": [str(int(label)) for label in np.setdiff1d(own, others)],
        "only_moving": [str(int(label)) for label in np.setdiff1d(others, own)],
    }


def named_labels(overlap: Mapping) -> list[str]:
    """Sentences that name the labels which only one of two maps has, from what :func:`label_overlap` found."""
    return [
        f"labels that only the {which} map has are not scored: {', '.join(overlap[f'only_{which}'])}"
        for which in ("fixed", "moving")
        if overlap[f"only_{which}"]
    ]


def _mean(labels: Mapping[str, Mapping], key: str) -> float | None:
    values = [figures[key] for figures in labels.values() if figures[key] is not None]
    return float(np.mean(values)) if values else None


def _as_labels(image: sitk.Image, which: str) -> sitk.Image:
    """The label map with whole numbers as its voxels; a map stored as floating point is taken where it holds such."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(f"the {which} label map is not a 3D image with one number a voxel; give a label map")
    array = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(array.dtype, np.integer):
        return image
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise BadInput(f"the {which} label map holds fractions, not labels; give a label map, not a probability map")
    return sitk.Cast(image, sitk.sitkInt32)
