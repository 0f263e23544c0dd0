"""The two recovery scores, side by side, each explained in a sentence, and the class they lead to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class Thresholds:
    """The limits of the scores and classes; percentages are of the lung. `dataclasses.asdict` is JSON-able."""

    jacobian_low: float = 0.8
    jacobian_high: float = 1.2
    complete: float = 0.85
    partial: float = 0.50
    minimum_abnormal_percent: float = 1.0
    complete_abnormal_percent: float = 2.0
    worse_percent: float = 1.0


def scores(
    jacobian: sitk.Image,
    normalised: sitk.Image,
    masks: Mapping[str, np.ndarray],
    baseline_density: Mapping[str, Mapping],
    followup_density: Mapping[str, Mapping],
    inside: np.ndarray | None = None,
    reliable: bool = True,
    thresholds: Thresholds = Thresholds(),
) -> dict[str, dict]:
    """{region: {jacobian, jacobian_normalized, tissue_recovery (None where undefined), class, explanation, reliable,
    errors {jacobian, jacobian_normalized, tissue_recovery}}} of a follow-up. Densities come from `density_by_region`;
    `masks` and `inside` lie on the Jacobian's grid."""
    raise NotImplementedError


def baseline_scores(density: Mapping[str, Mapping], thresholds: Thresholds = Thresholds()) -> dict[str, dict]:
    """The same for the baseline itself: jacobian 1, jacobian_normalized 1, tissue_recovery 0 or None, class None."""
    raise NotImplementedError


def classify(
    tissue_recovery: float | None,
    jacobian: float,
    abnormal_percent: float,
    worse: bool = False,
    thresholds: Thresholds = Thresholds(),
) -> str:
    """"complete", "partial" or "persistent"."""
    raise NotImplementedError


def compare(earlier: Mapping, later: Mapping, thresholds: Thresholds = Thresholds()) -> dict:
    """Two follow-ups against each other, from their entries in study.json (label, days, reliable, density, scores):
    {"from", "to", "days", "reliable", "density" {region: {name: difference}}, "scores" {region: {jacobian,
    jacobian_normalized (differences), tissue_recovery (1 - A_later/A_earlier or None), explanation}}}."""
    raise NotImplementedError
