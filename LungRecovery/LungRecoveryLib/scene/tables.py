"""The study's numbers as table nodes, in the words and units of the report.

Cells are text: rounded as in the report, empty where undefined, with a plain minus sign, so that they can be read as
numbers again. The full precision is in the study's CSV files and study.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import vtk

from LungRecoveryLib import RESEARCH_USE_ONLY
from LungRecoveryLib.recovery.score import COMPLETE
from LungRecoveryLib.report import text
from LungRecoveryLib.report.tables import regions as ordered_regions
from LungRecoveryLib.results import StudyResult, TimePointResult
from LungRecoveryLib.scene.nodes import UNRELIABLE, Node, add_node
from LungRecoveryLib.scene.texts import _

REGIONS = "LungRecovery.Regions"  # the regions' ids in the order of the table's rows
TIMEPOINTS = "LungRecovery.TimePoints"  # likewise the labels

Columns = Mapping[str, Sequence[str]]


def add_scores_table(scene: Node, name: str, study: StudyResult) -> Node:
    """The whole lung: a row for each time point."""
    columns: dict[str, list[str]] = {
        _("Time point"): [t.label for t in study.timepoints],
        _("Days"): [_cell(t.days, 0) for t in study.timepoints],
        _("Registration"): [_verdict(t) for t in study.timepoints],
        _("Class"): [text.get(t.scores, text.WHOLE, "class") or "" for t in study.timepoints],
    }
    for table, measures in (("scores", text.SCORES), ("density", text.DENSITY)):
        for key, measure in measures.items():
            columns[_title(measure)] = [_measure(getattr(t, table), text.WHOLE, key, measure) for t in study.timepoints]
    for key, measure in text.CHANGE.items():
        columns[_title(measure)] = [_measure(_change(t, key), text.WHOLE, key, measure) for t in study.timepoints]
    node = add_table(scene, name, columns)
    node.SetAttribute(TIMEPOINTS, json.dumps([t.label for t in study.timepoints]))
    return node


def add_region_table(scene: Node, name: str, study: StudyResult, timepoint: TimePointResult) -> Node:
    """One time point: a row for each region."""
    names = {r: n for r, n in ordered_regions(study).items() if r in timepoint.density or r in timepoint.scores}
    columns: dict[str, list[str]] = {_("Region"): list(names.values())}
    if not timepoint.reliable:
        columns[_("Registration")] = [_verdict(timepoint)] * len(names)
    if not timepoint.baseline:
        columns[_("Class")] = [_region_class(timepoint, region) for region in names]
        for key, measure in text.SCORES.items():
            columns[_title(measure)] = [_measure(timepoint.scores, region, key, measure) for region in names]
        for key, measure in text.CHANGE.items():
            columns[_title(measure)] = [_measure(_change(timepoint, key), r, key, measure) for r in names]
    for key, measure in text.DENSITY.items():
        columns[_title(measure)] = [_measure(timepoint.density, region, key, measure) for region in names]
    node = add_table(scene, name, columns)
    node.SetAttribute(REGIONS, json.dumps(list(names)))
    if not timepoint.reliable:
        node.SetAttribute(UNRELIABLE, "true")
    return node


def add_comparisons_table(scene: Node, name: str, study: StudyResult) -> Node:
    """Follow-ups compared with each other, the whole lung: the later one less the earlier one."""
    rows = study.comparisons
    columns: dict[str, list[str]] = {
        _("Earlier"): [str(c["earlier"]) for c in rows],
        _("Later"): [str(c["later"]) for c in rows],
        _("Days"): [_cell(c["days"], 0) for c in rows],
        _("Reliable"): [_("yes") if c["reliable"] else _("no") for c in rows],
    }
    for key, measure in text.SCORES.items():
        columns[_title(measure)] = [_measure(c["scores"], text.WHOLE, key, measure) for c in rows]
    for key, measure in text.DENSITY.items():
        columns[_title(measure)] = [_measure(c["change"], text.WHOLE, key, measure) for c in rows]
    return add_table(scene, name, {title: cells for title, cells in columns.items() if any(cells)})


def add_table(scene: Node, name: str, columns: Columns) -> Node:
    """A table node of text, its column titles kept as such."""
    node = add_node(scene, "vtkMRMLTableNode", name)
    node.SetDescription(RESEARCH_USE_ONLY)
    modified = node.StartModify()
    for title, cells in columns.items():
        array = vtk.vtkStringArray()
        array.SetName(title)
        for cell in cells:
            array.InsertNextValue(cell)
        node.AddColumn(array)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.EndModify(modified)
    return node


def region_of_row(table: Node, row: int) -> str | None:
    """The id of the region in a row of a region table; None for another table or row."""
    return _named(table, REGIONS, row)


def label_of_row(table: Node, row: int) -> str | None:
    """The label of the time point in a row of the table of scores; None for another table or row."""
    return _named(table, TIMEPOINTS, row)


def _named(table: Node, attribute: str, row: int) -> str | None:
    names = json.loads(table.GetAttribute(attribute) or "[]")
    return names[row] if 0 <= row < len(names) else None


def _title(measure: text.Measure) -> str:
    return f"{measure.title} ({measure.unit})" if measure.unit else measure.title


def _measure(table: Any, region: str, key: str, measure: text.Measure) -> str:
    return _cell(text.get(table, region, key), measure.decimals)


def _cell(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def _change(timepoint: TimePointResult, key: str) -> Any:
    return timepoint.change if key.startswith("density") else timepoint.jacobian


def _region_class(timepoint: TimePointResult, region: str) -> str:
    """The class of a region; one with hardly anything abnormal at either date has nothing to recover from."""
    found = text.get(timepoint.scores, region, "class") or ""
    abnormal = text.get(timepoint.density, region, "abnormal_percent")
    spared = text.get(timepoint.scores, region, "tissue_recovery") is None and abnormal is not None
    return _("not affected") if found == COMPLETE and spared else found


def _verdict(timepoint: TimePointResult) -> str:
    """The verdict in words, the reader's with it, without the report's symbol before them."""
    if timepoint.quality is None:
        return ""
    return _("Rejected") if text.rejected(timepoint) else text.verdict(timepoint).partition("\u00a0")[2]
