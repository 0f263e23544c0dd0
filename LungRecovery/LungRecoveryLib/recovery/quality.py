"""Can this registration be trusted: measures, and a verdict with its reasons in words."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class Thresholds:
    """Where the verdict turns. Edit with `dataclasses.replace`; `dataclasses.asdict` is JSON-able."""

    fail_folds_percent: float = 0.1
    fail_dice: float = 0.90
    fail_similarity_gain: float = 0.0
    review_folds_percent: float = 0.0
    review_dice: float = 0.95
    review_inverse_p95_mm: float = 1.0
    review_volume_ratio_low: float = 0.85
    review_volume_ratio_high: float = 1.15


def assess(
    jacobian: sitk.Image,
    fixed_lungs: sitk.Image,
    moving_lungs: sitk.Image,
    transform: sitk.Transform,
    inverse_transform: sitk.Transform,
    similarity_before: float,
    similarity_after: float,
    inside: np.ndarray | None = None,
    tre: dict | None = None,
    thresholds: Thresholds = Thresholds(),
) -> dict:
    """{"verdict", "reasons", "folds_percent", "lung_dice", "lung_hd95_mm", "inverse_mean_mm", "inverse_p95_mm",
    "similarity_before", "similarity_after", "volume_ratio", "tre", "thresholds", "warnings"}.

    `fixed_lungs` and `inside` are on the jacobian's grid, `moving_lungs` on the follow-up's.
    """
    raise NotImplementedError


def verdict(measures: dict, thresholds: Thresholds = Thresholds()) -> tuple[str, list[str]]:
    """("pass"|"review"|"fail", reasons) from the measures of `assess`."""
    raise NotImplementedError
