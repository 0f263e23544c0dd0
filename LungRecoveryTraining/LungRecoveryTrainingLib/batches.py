"""What every step on a batch of samples needs; for the keys see :mod:`LungRecoveryTrainingLib.datasets.samples`."""

from collections.abc import Callable

import torch

Batch = dict[str, object]
PointMap = Callable[[torch.Tensor], torch.Tensor]


def as_floats(batch: Batch) -> Batch:
    """The batch's tensors as float32, so that every step can work on them."""
    return {key: value.float() for key, value in batch.items() if isinstance(value, torch.Tensor)}


def restored(original: Batch, changed: Batch) -> Batch:
    """The changed tensors with masks, labels and truth in the type they had, and what is no tensor as it was."""
    result = {}
    for key, value in original.items():
        if key not in changed:
            result[key] = value
        else:
            result[key] = changed[key] if value.is_floating_point() else changed[key].to(value.dtype)
    return result


def moved_points(points: torch.Tensor, move: PointMap) -> torch.Tensor:
    """Points (n, K, 3) sent through a function of points (n, 3, z, y, x); absent ones (NaN) stay absent."""
    moved = move(points.nan_to_num().mT[..., None, None])[..., 0, 0].mT
    return torch.where(points.isnan(), points, moved)


def drop_points(batch: Batch, in_fixed: PointMap, in_moving: PointMap) -> None:
    """Make points absent (NaN) in both scans that one of them does not show.

    `in_fixed` and `in_moving` tell of points (n, 3, ...) whether they are shown: (n, 1, ...).
    """
    shown = in_fixed(batch["fixed_points"].mT) & in_moving(batch["moving_points"].mT)
    for key in ("fixed_points", "moving_points"):
        batch[key] = torch.where(shown.mT, batch[key], torch.nan)
