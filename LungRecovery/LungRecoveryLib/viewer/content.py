"""The study's words and numbers as plain values for the page; the wording is the report's."""

from typing import Any

import numpy as np

from LungRecoveryLib.report import text
from LungRecoveryLib.report.checks import quality_table, sources
from LungRecoveryLib.report.tables import Table, region_level
from LungRecoveryLib.results import StudyResult, TimePointResult, standing_verdict
from LungRecoveryLib.scene import Overlay, StudyNodes, label_of_row, overlays, region_of_row
from LungRecoveryLib.scene.comparison import DIFFERENCE_HU, meanings
from LungRecoveryLib.scene.maps import label_count
from LungRecoveryLib.scene.nodes import Node
from LungRecoveryLib.scene.segmentations import lesion_colours, lesion_titles
from LungRecoveryLib.scene.sequences import item

_STOPS = 65  # of the legend's gradient
_LIMITS = {"ratio": (0.1, 5.0), "difference": (-1000.0, 1000.0), "likeness": (0.0, 1.0)}


def timepoints(result: StudyResult) -> list[dict]:
    """The time points in order with their verdicts."""
    return [
        {
            "label": timepoint.label,
            "title": text.title(timepoint),
            "short": "baseline" if timepoint.baseline else _short(timepoint),
            "baseline": timepoint.baseline,
            "verdict": standing_verdict(timepoint.quality, timepoint.reliable) or "none",
            "verdictWords": "Baseline" if timepoint.baseline else f"Registration: {text.verdict(timepoint)}",
        }
        for timepoint in result.timepoints
    ]


def overlay_choices(nodes: StudyNodes) -> list[dict]:
    """The maps that the study holds, as the page offers them."""
    return [
        {"name": o.name, "title": o.title, "tip": o.tooltip, "ranged": o.name in nodes.maps} for o in overlays(nodes)
    ]


def explanation(nodes: StudyNodes, compare: str, overlay: str) -> str:
    """What is seen, in a sentence, where colours and numbers do not say it."""
    if compare:
        return meanings()[compare]
    if overlay in nodes.maps and item(nodes, overlay, nodes.selected) is None:
        return "There is nothing to lay over the baseline here: this map shows changes since then."
    return ""


def difference_legend() -> dict:
    """The greys of the difference between follow-up and baseline."""
    labels = [{"at": 25 * i, "text": _plain(DIFFERENCE_HU * (i - 2) / 2)} for i in range(5)]
    gradient = "linear-gradient(to right, #000, #fff)"
    return {"title": "Follow-up less baseline (HU)", "labels": labels, "gradient": gradient, "ranged": False}


def range_limits(overlay: Overlay, highest: float) -> dict:
    """Between what the ends of an overlay's range may be chosen, and in what steps."""
    low, high = _LIMITS.get(overlay.kind, (0.0, max(highest * 2, 1.0)))
    return {"lowest": low, "highest": high, "step": overlay.step}


def lesion_kinds() -> list[dict]:
    """The kinds of lesion with their colours, as the page explains them."""
    titles = lesion_titles()
    return [
        {"title": titles[kind], "colour": "rgb({},{},{})".format(*(round(255 * c) for c in colour))}
        for kind, colour in lesion_colours().items()
    ]


def legend(nodes: StudyNodes, overlay: Overlay, low: float, high: float) -> dict:
    """The colours of a map from its lowest value to its highest, and the numbers that stand beside them."""
    table = nodes.maps[overlay.name].GetDisplayNode().GetColorNode()
    stops = []
    for share in np.linspace(0, 1, _STOPS):
        rgba = [0.0, 0.0, 0.0, 0.0]
        table.GetColor(round(share * (table.GetNumberOfColors() - 1)), rgba)
        red, green, blue = (round(255 * c) for c in rgba[:3])
        stops.append(f"rgba({red},{green},{blue},{rgba[3]:.2f}) {100 * share:.1f}%")
    labels = [
        {"at": 100 * (value - low) / (high - low), "text": _plain(value)}
        for value in np.linspace(low, high, label_count(overlay, low, high))
    ]
    gradient = f"linear-gradient(to right, {', '.join(stops)})"
    shown = {"title": overlay.legend_title, "low": low, "high": high, "labels": labels, "gradient": gradient}
    return shown | range_limits(overlay, high) | {"ranged": True}


def region_table(nodes: StudyNodes, label: str) -> dict:
    """What was measured in each region at a time point."""
    node = nodes.timepoints[label].table
    table = _table(node)
    for index, row in enumerate(table["rows"]):
        row["id"] = region_of_row(node, index)
        row["level"] = region_level(row["id"])
    return table


def score_table(nodes: StudyNodes) -> dict:
    """The whole lung at each time point."""
    node = nodes.tables["scores"]
    table = _table(node)
    for index, row in enumerate(table["rows"]):
        row["id"] = label_of_row(node, index)
    return table


def quality(result: StudyResult) -> dict:
    """The measures behind the verdicts, a column for each follow-up."""
    return _report_table(quality_table(result))


def scans(result: StudyResult) -> dict:
    """Where each scan came from."""
    return _report_table(sources(result))


def account(result: StudyResult, label: str) -> list[str]:
    """What a time point shows, where, and how far its registration can be trusted, in sentences."""
    return text.account(result, next(t for t in result.timepoints if t.label == label))


def caution(result: StudyResult, label: str) -> str:
    """What stands beside the maps and scores of a time point whose registration cannot be trusted; else empty."""
    timepoint = next(t for t in result.timepoints if t.label == label)
    if timepoint.reliable:
        return ""
    return f"{text.UNRELIABLE}: {text.why_unreliable(timepoint)}. Do not rely on maps and scores of {label}."


def _plain(value: float) -> str:
    """A number as a legend says it."""
    return f"{value:.3g}".replace("-", "−")


def _report_table(table: Table) -> dict[str, Any]:
    return {"columns": [c.title for c in table.columns], "rows": [{"cells": list(row.cells)} for row in table.rows]}


def _table(node: Node) -> dict[str, Any]:
    columns = [node.GetColumnName(c) for c in range(node.GetNumberOfColumns())]
    rows = [{"cells": [node.GetCellText(r, c) for c in range(len(columns))]} for r in range(node.GetNumberOfRows())]
    return {"columns": columns, "rows": rows}


def _short(timepoint: TimePointResult) -> str:
    return timepoint.label if len(timepoint.label) <= 14 else timepoint.label[:13] + "…"
