"""Courses over the time points and HU histograms as plot charts, with 95 % intervals as error bars.

Slicer's charts have no error bars of their own: they are drawn as a broken line, the gaps being rows without a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk
from vtk.util import numpy_support

from LungRecoveryLib import RESEARCH_USE_ONLY
from LungRecoveryLib.report import text, trends
from LungRecoveryLib.results import StudyResult
from LungRecoveryLib.scene.nodes import Node, add_node, mark
from LungRecoveryLib.scene.texts import _

HISTOGRAM_LOW, HISTOGRAM_HIGH, HISTOGRAM_BIN = -1020, 100, 20
COURSES = ("abnormal_percent", "mean_hu", "volume_ml")
_Z = 1.96  # of a 95 % interval
_BLUE, _ORANGE, _GREY = (0.04, 0.37, 0.65), (0.70, 0.33, 0.04), (0.42, 0.45, 0.50)
_SCORE_COLOURS = {"tissue_recovery": _BLUE, "jacobian": _ORANGE, "jacobian_normalized": _GREY}
_VISITS = ((0.11, 0.15, 0.19), (0.04, 0.37, 0.65), (0.70, 0.33, 0.04), (0.18, 0.55, 0.34), (0.55, 0.29, 0.62))
_CAP = 0.006  # half the width of an error bar's cap, as a share of the axis


@dataclass(frozen=True)
class _Look:
    colour: tuple[float, float, float]
    marker: str = "MarkerStyleCircle"
    line: str = "LineStyleSolid"


def add_scores_chart(scene: Node, study: str, result: StudyResult) -> Node | None:
    """The three scores of the whole lung over the time points; None where no score was followed."""
    looks = {
        "tissue_recovery": _Look(_SCORE_COLOURS["tissue_recovery"]),
        "jacobian": _Look(_SCORE_COLOURS["jacobian"], "MarkerStyleSquare", "LineStyleDash"),
        "jacobian_normalized": _Look(_SCORE_COLOURS["jacobian_normalized"], "MarkerStyleDiamond", "LineStyleDot"),
    }
    return _course_chart(scene, study, "scores", _("Recovery scores"), _("score"), result, looks)


def add_course_chart(scene: Node, study: str, result: StudyResult, measure: str) -> Node | None:
    """One density measure of the whole lung over the time points; None where it was not followed."""
    shown = text.DENSITY[measure]
    return _course_chart(scene, study, measure, shown.title, shown.unit, result, {measure: _Look(_BLUE)})


def add_histogram_chart(scene: Node, study: str, histograms: Mapping[str, np.ndarray]) -> Node:
    """Shares of the lung by HU at each time point, see :func:`histogram`."""
    table = {_("HU"): bin_centres()} | {label: shares for label, shares in histograms.items()}
    table_node = _numbers(scene, study, "histogram", _("HU histogram: data"), table)
    chart = _chart(scene, study, "histogram", _("HU histogram of the lungs"), _("HU"), _("% of the lung per 20 HU"))
    for index, label in enumerate(histograms):
        look = _Look(_VISITS[index % len(_VISITS)], "MarkerStyleNone")
        _series(chart, study, "histogram", label, table_node, (_("HU"), label), look)
    return chart


def histogram(hu: np.ndarray, lungs: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The share, in percent, of the lung (bool) in each bin of HU; what lies beyond counts in the outermost bins.

    Voxels count by their weight: the Jacobian of a follow-up laid on the baseline, so that each stands for its volume
    in the follow-up.
    """
    bins = (HISTOGRAM_HIGH - HISTOGRAM_LOW) // HISTOGRAM_BIN
    place = np.clip((hu[lungs] - np.float32(HISTOGRAM_LOW)) / HISTOGRAM_BIN, 0, bins - 1).astype(np.intp)
    counts = np.bincount(place, None if weights is None else weights[lungs], bins)
    return 100.0 * counts / max(counts.sum(), 1e-9)


def bin_centres() -> np.ndarray:
    """The middle of each bin of a histogram, HU."""
    return np.arange(HISTOGRAM_LOW, HISTOGRAM_HIGH, HISTOGRAM_BIN) + HISTOGRAM_BIN / 2.0


def error_bars(x: Sequence[float], low: Sequence[float], high: Sequence[float], cap: float) -> np.ndarray:
    """(N, 2) points of a line that draws a bar with caps from low to high at each x; NaN rows break it."""
    gap = (math.nan, math.nan)
    path: list[tuple[float, float]] = []
    for at, bottom, top in zip(x, low, high, strict=True):
        if bottom is None or top is None or not math.isfinite(bottom + top):
            continue
        path += [(at - cap, bottom), (at + cap, bottom), gap, (at, bottom), (at, top), gap]
        path += [(at - cap, top), (at + cap, top), gap]
    return np.array(path, float).reshape(-1, 2)


def _course_chart(
    scene: Node, study: str, key: str, title: str, unit: str, result: StudyResult, looks: Mapping[str, _Look]
) -> Node | None:
    found = {name: _series_of(result, name) for name in looks}
    followed = {name: series for name, series in found.items() if series is not None}
    if not followed:
        return None
    by_day = result.trajectory["axis"] == "days"
    chart = _chart(scene, study, key, title, _("Days since baseline") if by_day else _("Visit"), unit)
    every_x = [p["x"] for series in followed.values() for p in series["points"]]
    span = max(max(every_x) - min(every_x), 1.0)
    chart.SetXAxisRangeAuto(False)
    room = 0.85 if len(followed) > 1 else 0.1  # for the legend, which lies within the chart
    chart.SetXAxisRange(min(every_x) - 0.05 * span, max(every_x) + room * span)
    for index, (name, series) in enumerate(followed.items()):
        shift = (index - (len(followed) - 1) / 2) * 2.5 * _CAP * span  # bars beside each other, not upon
        _add_course(chart, study, key, series, looks[name], shift, _CAP * span)
    return chart


def _add_course(
    chart: Node, study: str, key: str, series: Mapping[str, Any], look: _Look, shift: float, cap: float
) -> None:
    measure = trends.measure_of(series)
    x, y, low, high, reliable = (np.array(column) for column in zip(*_points(series, measure), strict=True))
    columns = {_("x"): x + shift, _("value"): y, _("low"): low, _("high"): high}
    columns[_("reliable")] = np.where(reliable, y, np.nan)
    columns[_("unreliable")] = np.where(reliable, np.nan, y)
    scene = chart.GetScene()
    table = _numbers(scene, study, key, _("{title}: data").format(title=measure.title), columns)
    curve = np.array([(p["x"], p["mid"]) for p in series.get("curve") or [] if p["mid"] is not None], float)
    parts = [curve.reshape(-1, 2), np.full((1, 2), np.nan)] if len(curve) else []
    lines = np.vstack([*parts, error_bars(x + shift, low, high, cap)])
    joined = _Look(look.colour, look.marker, look.line if not len(curve) else "LineStyleNone")
    _series(chart, study, key, measure.title, table, (_("x"), _("reliable")), joined)
    if len(lines):
        drawn = {_("x"): lines[:, 0], _("y"): lines[:, 1]}
        drawn_table = _numbers(scene, study, key, _("{title}: lines").format(title=measure.title), drawn)
        words = _("{title}: 95 %").format(title=measure.title)
        style = _Look(look.colour, "MarkerStyleNone", "LineStyleSolid")
        _series(chart, study, key, words, drawn_table, (_("x"), _("y")), style)
    if not reliable.all():
        crossed = _Look(look.colour, "MarkerStyleCross", "LineStyleNone")
        words = _("{title}: unreliable").format(title=measure.title)
        _series(chart, study, key, words, table, (_("x"), _("unreliable")), crossed)


def _points(series: Mapping[str, Any], measure: text.Measure) -> list[tuple[float, float, float, float, bool]]:
    """x, value, low and high end of the 95 % interval (cut to what the measure can be), reliable."""
    rows = []
    for p in series["points"]:
        if p["value"] is None:
            continue
        error = math.nan if p["error"] is None else _Z * p["error"]
        low, high = max(p["value"] - error, measure.low), min(p["value"] + error, measure.high)
        rows.append((p["x"], p["value"], low, high, p["reliable"]))
    return rows


def _series_of(result: StudyResult, name: str) -> Mapping[str, Any] | None:
    for series in result.trajectory.get("series", {}).values():
        if series["name"] == name and series["region"] == text.WHOLE:
            return series if any(p["value"] is not None for p in series["points"]) else None
    return None


def _chart(scene: Node, study: str, key: str, title: str, x_title: str, y_title: str) -> Node:
    chart = mark(add_node(scene, "vtkMRMLPlotChartNode", title), study, "chart", layer=key)
    chart.SetTitle(f"{title}. {_(RESEARCH_USE_ONLY)}")
    chart.SetXAxisTitle(x_title)
    chart.SetYAxisTitle(y_title)
    chart.SetTitleFontSize(14)
    chart.SetAxisTitleFontSize(13)
    chart.SetAxisLabelFontSize(12)
    chart.SetLegendFontSize(10)
    return chart


def _series(chart: Node, study: str, key: str, name: str, table: Node, columns: tuple[str, str], look: _Look) -> None:
    series = mark(add_node(chart.GetScene(), "vtkMRMLPlotSeriesNode", name), study, "series", layer=key)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(columns[0])
    series.SetYColumnName(columns[1])
    series.SetPlotType(series.PlotTypeScatter)
    series.SetMarkerStyle(getattr(series, look.marker))
    series.SetLineStyle(getattr(series, look.line))
    series.SetMarkerSize(9)
    series.SetLineWidth(2)
    series.SetColor(*look.colour)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _numbers(scene: Node, study: str, key: str, name: str, columns: Mapping[str, np.ndarray]) -> Node:
    node = mark(add_node(scene, "vtkMRMLTableNode", name), study, "chart data", layer=key)
    for title, values in columns.items():
        array = numpy_support.numpy_to_vtk(np.ascontiguousarray(values, float), deep=True, array_type=vtk.VTK_DOUBLE)
        array.SetName(title)
        node.AddColumn(array)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetHideFromEditors(True)
    return node
