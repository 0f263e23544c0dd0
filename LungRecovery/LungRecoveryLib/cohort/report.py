"""The group report: one HTML page over the patients' records, with links to their studies."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from LungRecoveryLib import RESEARCH_USE_ONLY
from LungRecoveryLib.cohort.table import TABLE, counts, row_of
from LungRecoveryLib.files import atomic_write_text
from LungRecoveryLib.report.style import LIGHT, drawing
from LungRecoveryLib.results import REPORT_HTML

MEASURES = {
    "tissue_recovery": ("Tissue recovery", ""),
    "jacobian": ("Jacobian score", ""),
    "abnormal_percent": ("Abnormal lung", "%"),
    "volume_change_percent": ("Volume change", "%"),
}
OUTLIER = 3.5  # modified z-score beyond which a patient is named (Iglewicz and Hoaglin 1993)
_LEAST_FOR_OUTLIERS = 8
_COLOURS = (LIGHT.recovery, LIGHT.jacobian, "#2d7d46", "#7a3e9d", "#8c4a1f", LIGHT.muted)
_OTHERS = "not assigned"


def write(records: list[dict[str, Any]], folder: Path) -> None:
    """Write `report.html` into the folder of a cohort."""
    rows = [row_of(record) for record in records]
    measured = [row for row in rows if row["scans"]]
    relied = [row for row in measured if row["status"] == "done"]
    with drawing():
        figures = {"distributions": _uri(_distributions, relied), "trajectories": _uri(_trajectories, records)}
    environment = Environment(
        loader=PackageLoader("LungRecoveryLib.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("cohort.html").render(
        notice=RESEARCH_USE_ONLY,
        counts=counts(records),
        total=len(records),
        figures=figures if relied else {},
        groups=_groups(relied),
        outliers=outliers(relied),
        unreliable=[row for row in rows if row["status"] == "unreliable"],
        failed=[row for row in rows if row["status"] == "failed"],
        cost=_cost(measured),
        table=TABLE,
        report=REPORT_HTML,
    )
    atomic_write_text(Path(folder) / REPORT_HTML, page)


def outliers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Patients far from the others: {row, measure, value, median}, by the modified z-score of each measure.

    Fewer than eight patients, or a measure that most patients share exactly, name none.
    """
    found = []
    for name, (title, unit) in MEASURES.items():
        known = [row for row in rows if row[name] is not None]
        values = np.array([row[name] for row in known], float)
        if values.size < _LEAST_FOR_OUTLIERS:
            continue
        median = float(np.median(values))
        spread = float(np.median(np.abs(values - median)))
        if spread <= 1e-9:
            continue
        far = np.abs(0.6745 * (values - median) / spread) > OUTLIER
        found += [
            {"row": row, "measure": title, "unit": unit, "value": row[name], "median": median}
            for row, is_far in zip(known, far, strict=True)
            if is_far
        ]
    return found


def _groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and quartiles of every measure by group, and how many patients are in each class."""
    tables = []
    for group in _group_names(rows):
        members = [row for row in rows if (row["group"] or _OTHERS) == group]
        measures = {}
        for name, (title, unit) in MEASURES.items():
            values = [row[name] for row in members if row[name] is not None]
            quartiles = np.percentile(values, [25, 50, 75]).tolist() if values else None
            measures[title] = {"unit": unit, "quartiles": quartiles}
        classes = {name: sum(row["class"] == name for row in members) for name in ("complete", "partial", "persistent")}
        tables.append({"name": group, "count": len(members), "measures": measures, "classes": classes})
    return tables


def _group_names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({row["group"] or _OTHERS for row in rows})


def _cost(rows: list[dict[str, Any]]) -> dict[str, float] | None:
    """What a patient took in the median."""
    known = [row for row in rows if row["seconds"] is not None]
    if not known:
        return None
    return {name: float(np.median([row[name] for row in known])) for name in ("seconds", "peak_mb", "disk_mb")}


def _uri(draw: Callable[[Figure, Any], None], content: Any) -> str:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    draw(figure, content)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=LIGHT.muted, labelcolor=LIGHT.ink)
    axes.grid(axis="y", color=LIGHT.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def _distributions(figure: Figure, rows: list[dict[str, Any]]) -> None:
    """A histogram of each measure at the last date, the groups beside each other."""
    names = _group_names(rows)
    for axes, (name, (title, unit)) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        values = [[r[name] for r in rows if (r["group"] or _OTHERS) == g and r[name] is not None] for g in names]
        known = [v for group in values for v in group]
        if known:
            bins = np.linspace(min(known), max(known) if max(known) > min(known) else min(known) + 1, 13)
            colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
            axes.hist(values, bins=bins, color=colours, label=names, stacked=len(names) > 4)
        axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=LIGHT.ink)
        axes.set_xlabel(unit or "score", color=LIGHT.muted)
        axes.yaxis.get_major_locator().set_params(integer=True)
        _tidy(axes)
    figure.axes[0].set_ylabel("patients", color=LIGHT.muted)
    if len(names) > 1:
        figure.axes[0].legend(frameon=False, fontsize=7)


def _trajectories(figure: Figure, records: list[dict[str, Any]]) -> None:
    """Abnormal lung and volume of every patient over time, and each group's median by the days that it shares."""
    records = [record for record in records if record["timepoints"]]
    names = _group_names(records)
    measures = (("abnormal_percent", "Abnormal lung, %"), ("tissue_recovery", "Tissue recovery"))
    for axes, (name, title) in zip(figure.subplots(1, 2), measures, strict=True):
        for index, group in enumerate(names):
            colour = _COLOURS[index % len(_COLOURS)]
            courses = [_course(record, name) for record in records if (record["group"] or _OTHERS) == group]
            for course in courses:
                axes.plot(*course, color=colour, alpha=max(0.06, min(0.35, 8 / len(courses))), linewidth=0.8)
            days, medians = _medians(courses)
            axes.plot(days, medians, color=colour, linewidth=2.2, marker="o", markersize=3.5, label=group)
        axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=LIGHT.ink)
        axes.set_xlabel("days since the baseline" if _dated(records) else "visit", color=LIGHT.muted)
        _tidy(axes)
    if len(names) > 1:
        figure.axes[0].legend(frameon=False, fontsize=7, title="median of")


def _dated(records: list[dict[str, Any]]) -> bool:
    return all(point["days"] is not None for record in records for point in record["timepoints"])


def _course(record: dict[str, Any], name: str) -> tuple[list[float], list[float]]:
    """Where a patient's measure stands over time; unreliable scores are left out, densities are not."""
    points = [
        (point["days"] if point["days"] is not None else number, point[name])
        for number, point in enumerate(record["timepoints"])
        if point[name] is not None and (point["reliable"] or name == "abnormal_percent")
    ]
    return [x for x, _ in points], [y for _, y in points]


def _medians(courses: list[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """The median at every day at which at least a third of the courses have a value."""
    at: dict[float, list[float]] = {}
    for days, values in courses:
        for day, value in zip(days, values, strict=True):
            at.setdefault(day, []).append(value)
    shared = sorted(day for day, values in at.items() if len(values) >= len(courses) / 3)
    return shared, [float(np.median(at[day])) for day in shared]
