"""The two recovery scores, side by side, each explained in a sentence, and the class they lead to.

- The Jacobian score is the share of lung voxels with J in 0.8..1.2, plain and normalised. It measures unchanged volume,
  not health: an unchanged sick lung scores 1.
- Tissue recovery is 1 - A_t / A_0, with A the abnormal share of the lung at the follow-up and at the baseline, each
  from that date's own voxels. It is undefined where A_0 < 1 %, and negative where the lung got worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .jacobian import common_mask

UNRELIABLE = "Unreliable, the registration failed its quality gate."
COMPLETE, PARTIAL, PERSISTENT = "complete", "partial", "persistent"

# How well the volume of the same lung repeats between two scans (Du 2012): in people holding their breath, and in
# ventilated sheep, whose breath is fixed and where therefore only the measurement itself is left.
BREATH_REPEATABILITY = 0.058
VOLUME_REPEATABILITY = 0.021
# SD of the measured abnormal share, in percent of the lung, on phantoms with noise up to 60 HU at 1.5 mm.
ABNORMAL_ERROR_PERCENT = 0.5
LEAST_JACOBIAN_ERROR = 0.01  # registration noise remains where no voxel is near a limit


@dataclass(frozen=True)
class Thresholds:
    """The limits of the scores and classes; percentages are of the lung. `dataclasses.asdict` is JSON-able.

    A voxel's volume is unchanged with J in `jacobian_low`..`jacobian_high`. A score is complete from `complete`,
    partial from `partial`, else persistent. Below `minimum_abnormal_percent` at the baseline tissue recovery is
    undefined; complete recovery also leaves less than `complete_abnormal_percent`. A region is worse when its abnormal
    share rose by more than `worse_percent` (percentage points; less is within the measurement's error). Where the mean
    Jacobian lies outside `breath_low`..`breath_high` (an inspiration mismatch) the normalised Jacobian score decides
    instead of the plain one.
    """

    jacobian_low: float = 0.8
    jacobian_high: float = 1.2
    complete: float = 0.85
    partial: float = 0.50
    minimum_abnormal_percent: float = 1.0
    complete_abnormal_percent: float = 2.0
    worse_percent: float = 2.0
    breath_low: float = 0.85
    breath_high: float = 1.15


DEFAULT_THRESHOLDS = Thresholds()


def jacobian_score(values: np.ndarray, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> float | None:
    """The share of Jacobians (any shape) within `jacobian_low`..`jacobian_high`, limits included; None for none."""
    # The tolerance keeps a J of 0.8 or 1.2 inside whichever way float32 rounds it.
    low, high = thresholds.jacobian_low - 1e-6, thresholds.jacobian_high + 1e-6
    return float(np.count_nonzero((values >= low) & (values <= high))) / values.size if values.size else None


def tissue_recovery(
    baseline_percent: float, followup_percent: float, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> float | None:
    """1 - A_t / A_0 of the abnormal shares (percent); None where A_0 is below `minimum_abnormal_percent`."""
    if baseline_percent < thresholds.minimum_abnormal_percent or baseline_percent <= 0:
        return None
    return 1.0 - followup_percent / baseline_percent


def classify(
    recovery: float | None,
    jacobian: float | None,
    baseline_percent: float,
    followup_percent: float,
    region_worse: bool = False,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> str | None:
    """The class of a region or of the whole lung: "complete", "partial", "persistent", or None without any score.

    It follows `recovery` (from `tissue_recovery`) where that is defined, else the Jacobian score `jacobian`. Complete
    also needs an abnormal share below `complete_abnormal_percent` and `region_worse` False; otherwise it is partial.
    Abnormal lung that is new (none at the baseline, clearly some now) is persistent, whatever the volume did.
    """
    score = jacobian if recovery is None else recovery
    if score is None:
        return None
    much = followup_percent >= thresholds.complete_abnormal_percent
    if recovery is None and much and is_worse(baseline_percent, followup_percent, thresholds):
        return PERSISTENT
    if score >= thresholds.complete:
        return PARTIAL if much or region_worse else COMPLETE
    return PARTIAL if score >= thresholds.partial else PERSISTENT


def is_worse(baseline_percent: float, followup_percent: float, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> bool:
    """Whether the abnormal share (percent) rose beyond the error of its measurement."""
    return followup_percent - baseline_percent > thresholds.worse_percent


def scores(
    jacobian: sitk.Image,
    normalised: sitk.Image,
    masks: Mapping[str, np.ndarray],
    baseline_density: Mapping[str, Mapping],
    followup_density: Mapping[str, Mapping],
    inside: np.ndarray | None = None,
    reliable: bool = True,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict[str, dict]:
    """Both scores of a follow-up per region, with the class and a sentence that explains them.

    Parameters: the Jacobian and the normalised Jacobian; the baseline's regions as bool masks (z, y, x) on their grid;
    the densities of both dates from `density.density_by_region` (regions missing there are left out); `inside`, the
    voxels inside both fields of view; `reliable`, False where the registration failed its quality gate.

    Returns {region: {jacobian, jacobian_normalized (0 to 1), tissue_recovery (up to 1, None where undefined), class,
    explanation, reliable, errors {jacobian, jacobian_normalized, tissue_recovery: SD of the score's measurement}}}.
    """
    j, n = sitk.GetArrayViewFromImage(jacobian), sitk.GetArrayViewFromImage(normalised)
    cut = {region: common_mask(mask, inside) for region, mask in masks.items()}
    cut = {region: mask for region, mask in cut.items() if mask.any()}
    shares = {
        region: (baseline_density[region]["abnormal_percent"], followup_density[region]["abnormal_percent"])
        for region in cut
        if region in baseline_density and region in followup_density
    }
    worse = [region for region, share in shares.items() if is_worse(*share, thresholds)]
    mean_j = float(j[cut["lungs"]].mean(dtype=np.float64)) if "lungs" in cut else 1.0
    mismatch = not thresholds.breath_low <= mean_j <= thresholds.breath_high
    result = {}
    for region, (before, now) in shares.items():
        plain, normalised_score = (jacobian_score(image[cut[region]], thresholds) for image in (j, n))
        entry = _decide(plain, normalised_score, before, now, _worse_within(region, worse), mismatch, thresholds)
        recovery = entry["tissue_recovery"]
        errors = {
            "jacobian": _score_error(j[cut[region]], BREATH_REPEATABILITY, thresholds),
            "jacobian_normalized": _score_error(n[cut[region]], VOLUME_REPEATABILITY, thresholds),
            "tissue_recovery": None if recovery is None else tissue_recovery_error(before, now),
        }
        if not reliable:
            entry["explanation"] = f"{UNRELIABLE} {entry['explanation']}"
        result[region] = {**entry, "reliable": reliable, "errors": errors}
    return result


def baseline_scores(density: Mapping[str, Mapping], thresholds: Thresholds = DEFAULT_THRESHOLDS) -> dict[str, dict]:
    """The baseline's own scores, in the shape of `scores`: by definition 1 for the volume, 0 or None for the tissue.

    It has no class: there is nothing yet to recover from or to.
    """
    result = {}
    for region, values in density.items():
        share = values["abnormal_percent"]
        recovery = tissue_recovery(share, share, thresholds)
        result[region] = {
            "jacobian": 1.0,
            "jacobian_normalized": 1.0,
            "tissue_recovery": recovery,
            "class": None,
            "explanation": f"The baseline: {share:.1f} % of the lung is abnormal; recovery is measured from here."
            if recovery is not None
            else f"The baseline: hardly any abnormal lung ({share:.1f} %), so tissue recovery is undefined.",
            "reliable": True,
            "errors": {
                "jacobian": 0.0,
                "jacobian_normalized": 0.0,
                "tissue_recovery": None if recovery is None else 0.0,
            },
        }
    return result


def _worse_within(region: str, worse: list[str]) -> list[str]:
    """Which of the worse regions lie in this one, itself included."""
    if region == "lungs":
        return worse
    return [name for name in worse if name == region or name.startswith(f"{region}_")]


def _decide(
    plain: float,
    normalised: float,
    before: float,
    now: float,
    worse: list[str],
    mismatch: bool,
    thresholds: Thresholds,
) -> dict:
    """The scores, the class and the explanation of one region."""
    recovery = tissue_recovery(before, now, thresholds)
    decision = classify(recovery, normalised if mismatch else plain, before, now, bool(worse), thresholds)
    sentences = [
        f"{decision.capitalize()}: {_tissue_sentence(recovery, before, now, mismatch, thresholds)}",
        _demotion_sentence(decision, recovery, normalised if mismatch else plain, now, worse, thresholds),
        _volume_sentence(plain, normalised, thresholds),
    ]
    return {
        "jacobian": plain,
        "jacobian_normalized": normalised,
        "tissue_recovery": recovery,
        "class": decision,
        "explanation": " ".join(sentence for sentence in sentences if sentence),
    }


def _tissue_sentence(recovery: float | None, before: float, now: float, mismatch: bool, thresholds: Thresholds) -> str:
    if recovery is None:
        limit = thresholds.minimum_abnormal_percent
        return (
            f"the baseline shows hardly any abnormal lung ({before:.1f} %, below {limit:g} %), so tissue recovery is "
            f"undefined and the {'normalised ' if mismatch else ''}Jacobian score decides; {now:.1f} % is abnormal now."
        )
    course = "fell" if now < before else "rose" if now > before else "stayed"
    verdict = (
        f"{100 * recovery:.0f} % of the abnormal share recovered."
        if recovery >= 0
        else "there is more of it than at the baseline."
    )
    return f"abnormal lung {course} from {before:.1f} % to {now:.1f} %; {verdict}"


def _demotion_sentence(
    decision: str, recovery: float | None, score: float, now: float, worse: list[str], thresholds: Thresholds
) -> str:
    """Why a score that would be complete is not called so; empty where nothing was taken off."""
    if deciding_score(recovery, score) < thresholds.complete or decision == COMPLETE:
        return ""
    if decision == PERSISTENT:
        return "This abnormal lung is new since the baseline."
    reasons = []
    if now >= thresholds.complete_abnormal_percent:
        reasons.append(
            f"{now:.1f} % is still abnormal (complete needs less than {thresholds.complete_abnormal_percent:g} %)"
        )
    if worse:
        names = ", ".join(name.replace("_", " ") for name in worse)
        reasons.append(f"abnormal lung increased in: {names}")
    return f"It is not called complete because {' and '.join(reasons)}."


def deciding_score(recovery: float | None, jacobian: float) -> float:
    """The score that decides the class: tissue recovery where it is defined, else the Jacobian score."""
    return jacobian if recovery is None else recovery


def _volume_sentence(plain: float, normalised: float, thresholds: Thresholds) -> str:
    return (
        f"The volume of {100 * plain:.0f} % of it is unchanged (J in {thresholds.jacobian_low:g} to "
        f"{thresholds.jacobian_high:g}; {100 * normalised:.0f} % without the overall volume change), which measures "
        "volume, not health."
    )


def _score_error(values: np.ndarray, repeatability: float, thresholds: Thresholds) -> float:
    """How much a Jacobian score moves when the whole volume is off by its repeatability: half the spread."""
    found = [jacobian_score(values * np.float32(1 + sign * repeatability), thresholds) for sign in (-1, 0, 1)]
    return max(LEAST_JACOBIAN_ERROR, (max(found) - min(found)) / 2.0)


def tissue_recovery_error(
    baseline_percent: float, followup_percent: float, error_percent: float = ABNORMAL_ERROR_PERCENT
) -> float:
    """SD of tissue recovery when both abnormal shares are off by `error_percent` of the lung independently."""
    return error_percent / baseline_percent * float(np.hypot(1.0, followup_percent / baseline_percent))


def compare(earlier: Mapping, later: Mapping, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> dict:
    """Two follow-ups of a study against each other, from their entries in study.json.

    Both were measured against the same baseline, so the differences of their densities and scores are meaningful, and
    the ratio of their mean Jacobians is exactly how much the same tissue changed its volume between them. Tissue
    recovery between the two is 1 - A_later / A_earlier.

    Returns {earlier, later (labels), days (between them, or None), reliable (both are), jacobian {region: {mean (the
    ratio), volume_change_percent}}, change {region: {<density>: later - earlier, bands_percent {band: difference}}},
    scores {region: {jacobian, jacobian_normalized (later - earlier), tissue_recovery (or None), explanation}}} for the
    regions both have.
    """
    days = None if None in (earlier.get("days"), later.get("days")) else later["days"] - earlier["days"]
    return {
        "earlier": earlier["label"],
        "later": later["label"],
        "days": days,
        "reliable": bool(earlier["reliable"] and later["reliable"]),
        "jacobian": {
            region: _volume_between(earlier["jacobian"][region]["mean"], later["jacobian"][region]["mean"])
            for region in _shared(earlier, later, "jacobian")
        },
        "change": {
            region: _differences(earlier["density"][region], later["density"][region])
            for region in _shared(earlier, later, "density")
        },
        "scores": {
            region: _compared_scores(earlier, later, region, thresholds) for region in _shared(earlier, later, "scores")
        },
    }


def _shared(earlier: Mapping, later: Mapping, table: str) -> list[str]:
    return [region for region in earlier[table] if region in later[table]]


def _volume_between(earlier_mean: float, later_mean: float) -> dict[str, float | None]:
    if not earlier_mean > 0:
        return {"mean": None, "volume_change_percent": None}
    return {"mean": later_mean / earlier_mean, "volume_change_percent": 100.0 * (later_mean / earlier_mean - 1.0)}


def _differences(earlier: Mapping, later: Mapping) -> dict:
    return {
        name: _differences(value, later[name]) if isinstance(value, Mapping) else later[name] - value
        for name, value in earlier.items()
        if name in later
    }


def _compared_scores(earlier: Mapping, later: Mapping, region: str, thresholds: Thresholds) -> dict:
    before, now = (visit["density"][region]["abnormal_percent"] for visit in (earlier, later))
    a, b = earlier["scores"][region], later["scores"][region]
    recovery = tissue_recovery(before, now, thresholds)
    course = "fell" if now < before else "rose" if now > before else "stayed"
    share = "" if recovery is None else f", a tissue recovery of {recovery:.2f} between these two dates"
    return {
        "jacobian": b["jacobian"] - a["jacobian"],
        "jacobian_normalized": b["jacobian_normalized"] - a["jacobian_normalized"],
        "tissue_recovery": recovery,
        "explanation": f"Abnormal lung {course} from {before:.1f} % to {now:.1f} %{share}.",
    }
