"""Tables that say how far a study can be trusted: where its scans came from, how well they were registered."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from LungRecoveryLib.report import content, text
from LungRecoveryLib.report.tables import LEFT, Column, Row, Table, time_column
from LungRecoveryLib.report.text import UNDEFINED
from LungRecoveryLib.results import StudyResult


def sources(study: StudyResult) -> Table:
    """Where each scan came from, a row for each property that any of them has."""
    found = [dict(content.source_lines(t)) for t in study.timepoints]
    names = list(dict.fromkeys(name for lines in found for name in lines))
    columns = (
        Column("Scan", align=LEFT, width=1.3),
        *(replace(time_column(t, mark=False), align=LEFT) for t in study.timepoints),
    )
    rows = tuple(Row((name, *(lines.get(name, UNDEFINED) for lines in found))) for name in names)
    return Table("The scans", columns, rows)


def quality_table(study: StudyResult) -> Table:
    """The measures behind the quality verdicts, with the limits they were held against."""
    limits = study.settings.get("quality_thresholds") or {}
    rows = []
    for key, (name, unit, decimals, limit) in _QUALITY.items():
        values = [(t.quality or {}).get(key) for t in study.followups]
        if any(isinstance(v, int | float) for v in values):
            shown = (text.number(v, decimals) if isinstance(v, int | float) else UNDEFINED for v in values)
            rows.append(Row((f"{name}, {unit}" if unit else name, *shown, limit(limits))))
    errors = [((t.quality or {}).get("tre") or {}) for t in study.followups]
    if any(isinstance(e.get("mean_mm", e.get("mean")), int | float) for e in errors):
        shown = (text.number(e.get("mean_mm", e.get("mean")), 2) for e in errors)
        rows.append(Row(("Landmark error (TRE), mean, mm", *shown, "")))
    rows.append(Row(("Verdict", *(text.verdict(t) for t in study.followups), "")))
    said = [text.reader_words(t) for t in study.followups]
    if any(said):
        rows.append(Row(("Reader", *(words or UNDEFINED for words in said), "")))
    columns = (
        Column("Measure", align=LEFT, width=2.2),
        *(time_column(t) for t in study.followups),
        Column("Limits", align=LEFT, width=2.4),
    )
    return Table("Quality of the registrations", columns, tuple(rows))


def _limits(limits: Mapping[str, Any], *parts: tuple[str, str]) -> str:
    return "; ".join(f"{words}{_plain(limits[key])}" for words, key in parts if limits.get(key) is not None)


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


_QUALITY = {
    "folds_percent": (
        "Folded voxels", "%", 3,
        lambda t: _limits(t, ("review above ", "review_folds_percent"), ("fail above ", "fail_folds_percent")),
    ),
    "lung_dice": (
        "Overlap of the lungs (Dice)", "", 3,
        lambda t: _limits(t, ("review below ", "review_dice"), ("fail below ", "fail_dice")),
    ),
    "lung_hd95_mm": ("Distance of the lungs' surfaces (HD95)", "mm", 1, lambda t: ""),
    "inverse_mean_mm": ("Inverse consistency, mean", "mm", 2, lambda t: ""),
    "inverse_p95_mm": (
        "Inverse consistency, 95th percentile", "mm", 2,
        lambda t: _limits(t, ("review above ", "review_inverse_p95_mm")),
    ),
    "similarity_before": ("Similarity before (LNCC)", "", 2, lambda t: ""),
    "similarity_after": (
        "Similarity after (LNCC)", "", 2, lambda t: "fail without a gain" if "fail_similarity_gain" in t else "",
    ),
    "volume_ratio": (
        "Lung volume, follow-up to baseline", "", 2,
        lambda t: _limits(t, ("review below ", "review_volume_ratio_low"), ("above ", "review_volume_ratio_high")),
    ),
}  # fmt: skip
