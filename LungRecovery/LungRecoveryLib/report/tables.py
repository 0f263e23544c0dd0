"""The tables of the report, as text ready to be set in HTML or PDF."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from LungRecoveryLib.report import text, trends
from LungRecoveryLib.report.text import CHANGE, DENSITY, SCORES, UNDEFINED, WHOLE
from LungRecoveryLib.results import StudyResult, TimePointResult

LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class Column:
    """A column's head, the unit of its numbers, and how wide it is compared with the others."""

    title: str
    unit: str = ""
    align: str = RIGHT
    width: float = 1.0


@dataclass(frozen=True)
class Row:
    """A row's cells; `level` indents the first, `note` explains it in small print, `unreliable` marks the row."""

    cells: tuple[str, ...]
    level: int = 0
    note: str = ""
    unreliable: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a title and, below it, notes that say what the numbers are."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


def scores_by_time(study: StudyResult) -> Table:
    """The scores of the whole lung, side by side, a row for each time point."""
    columns = (
        Column("Time point", align=LEFT, width=1.7),
        Column("Tissue recovery", width=1.1),
        Column("Abnormal lung", "%"),
        Column("Jacobian score"),
        Column("Jacobian score, normalised", width=1.2),
        Column("Class", align=LEFT, width=1.3),
        Column("Registration", align=LEFT, width=1.5),
    )
    rows = tuple(
        Row(
            (
                text.title(t),
                *_scores(t, WHOLE, ("tissue_recovery",)),
                DENSITY["abnormal_percent"].show(text.get(t.density, WHOLE, "abnormal_percent")),
                *_scores(t, WHOLE, ("jacobian", "jacobian_normalized")),
                "baseline" if t.baseline else text.class_words(text.get(t.scores, WHOLE, "class")),
                "–" if t.baseline else text.verdict(t),
            ),
            unreliable=not t.reliable,
        )
        for t in study.timepoints
    )
    return Table(
        "Scores of the whole lung",
        columns,
        _mark(rows),
        tuple(text.meaning(study, measure) for measure in SCORES.values()),
    )


def score_explanations(study: StudyResult) -> list[tuple[str, str]]:
    """For each follow-up its title and the sentence that explains its scores."""
    return [
        (text.title(t), text.bind(text.get(t.scores, WHOLE, "explanation")))
        for t in study.followups
        if text.get(t.scores, WHOLE, "explanation")
    ]


def has_recovery(study: StudyResult) -> bool:
    """Whether tissue recovery is defined anywhere."""
    return any(text.get(t.scores, r, "tissue_recovery") is not None for t in study.followups for r in study.regions)


def recovery_by_region(study: StudyResult) -> Table:
    """Tissue recovery with the symbol of the class, a row for each region and a column for each follow-up."""

    def cell(timepoint: TimePointResult, region: str) -> str:
        (value,) = _scores(timepoint, region, ("tissue_recovery",))
        symbol = text.CLASS_SYMBOL.get(text.get(timepoint.scores, region, "class") or "", "")
        return value if value == UNDEFINED else f"{value} {symbol}".strip()

    return _by_region(study, "Tissue recovery by region", cell)


def jacobian_by_region(study: StudyResult) -> Table:
    """The plain and the normalised Jacobian score, a row for each region and a column for each follow-up."""

    def cell(timepoint: TimePointResult, region: str) -> str:
        return " / ".join(_scores(timepoint, region, ("jacobian", "jacobian_normalized")))

    return _by_region(study, "Jacobian score by region, plain / normalised", cell)


def _by_region(study: StudyResult, title: str, cell: Callable[[TimePointResult, str], str]) -> Table:
    columns = (Column("Region", align=LEFT, width=1.8), *map(time_column, study.followups))
    rows = tuple(
        Row((name, *(cell(t, region) for t in study.followups)), level=region_level(region))
        for region, name in regions(study).items()
        if any(region in t.scores for t in study.followups)
    )
    return Table(title, columns, rows)


def comparisons(study: StudyResult) -> Table:
    """Follow-ups compared with each other, a row for each pair; the differences are later minus earlier."""
    columns = (
        Column("From", align=LEFT, width=1.2),
        Column("To", align=LEFT, width=1.2),
        Column("Days"),
        Column("Tissue recovery between"),
        Column("Abnormal lung", "% points"),
        Column("Mean density", "HU"),
        Column("Volume change", "%"),
        Column("Jacobian score"),
        Column("Jacobian score, normalised"),
    )
    rows = tuple(
        Row(
            (
                c["earlier"],
                c["later"],
                text.number(c["days"]),
                SCORES["tissue_recovery"].show(text.get(c["scores"], WHOLE, "tissue_recovery")),
                text.number(text.get(c["change"], WHOLE, "abnormal_percent"), 1, signed=True),
                text.number(text.get(c["change"], WHOLE, "mean_hu"), 0, signed=True),
                CHANGE["volume_change_percent"].show(text.get(c.get("jacobian"), WHOLE, "volume_change_percent")),
                *(
                    text.number(text.get(c["scores"], WHOLE, s), 2, signed=True)
                    for s in SCORES
                    if s != "tissue_recovery"
                ),
            ),
            unreliable=not c["reliable"],
        )
        for c in study.comparisons
    )
    notes = ("Tissue recovery between two follow-ups counts from the earlier one; all else is later minus earlier.",)
    return Table("Follow-ups compared with each other, whole lung", columns, _mark(rows), notes)


def regions_of(study: StudyResult, timepoint: TimePointResult) -> Table:
    """Everything about the regions at one follow-up: scores, class, volume and density."""
    present = [m for m in CHANGE if any(text.get(_table(timepoint, m), r, m) is not None for r in study.regions)]
    columns = (
        Column("Region", align=LEFT, width=1.7),
        Column("Tissue recovery"),
        Column("Abnormal lung", "%"),
        Column("Jacobian score"),
        Column("Jacobian score, normalised", width=1.2),
        *(Column(CHANGE[m].title, CHANGE[m].unit) for m in present),
        Column("Class", align=LEFT, width=1.25),
    )
    rows = tuple(
        Row(
            (
                name if timepoint.reliable else f"{name}\u00a0⚠",
                *_scores(timepoint, region, ("tissue_recovery",)),
                DENSITY["abnormal_percent"].show(text.get(timepoint.density, region, "abnormal_percent")),
                *_scores(timepoint, region, ("jacobian", "jacobian_normalized")),
                *(CHANGE[m].show(text.get(_table(timepoint, m), region, m)) for m in present),
                text.class_words(text.get(timepoint.scores, region, "class")),
            ),
            level=region_level(region),
            unreliable=not timepoint.reliable,
        )
        for region, name in regions(study).items()
        if region in timepoint.scores
    )
    notes = tuple(text.meaning(study, CHANGE[m]) for m in present)
    mark = "" if timepoint.reliable else f" {text.UNRELIABLE}"
    return Table(f"Regions at {text.title(timepoint)}{mark}", columns, rows, notes)


def density_over_time(study: StudyResult, region: str = WHOLE) -> Table:
    """The density of one region, a row for each measure and a column for each time point."""
    columns = (
        Column(regions(study).get(region, region), align=LEFT, width=2.6),
        *(time_column(t, mark=False) for t in study.timepoints),
    )
    rows = []
    for key, measure in DENSITY.items():
        values = [text.get(t.density, region, key) for t in study.timepoints]
        if any(v is not None for v in values):
            rows.append(_density_row(measure, values))
    for band in study.settings.get("bands", []):
        values = [(text.get(t.density, region, "bands_percent") or {}).get(band["name"]) for t in study.timepoints]
        if any(v is not None for v in values):
            measure = text.Measure(band_title(band), "%", 1, "share of the lung in this density band")
            rows.append(Row((f"{band_title(band)}, %", *(measure.show(v) for v in values)), note=band_range(band)))
    return Table(
        "The whole lung in each scan",
        columns,
        tuple(rows),
        (
            "Measured in each scan's own voxels, not in the registered images, so a failed registration does not "
            "touch it.",
        ),
    )


def density_by_region(study: StudyResult, timepoint: TimePointResult) -> Table:
    """The density of every region of one scan."""
    shown = {key: m for key, m in DENSITY.items() if key != "sd_hu"}
    columns = (Column("Region", align=LEFT, width=1.7), *(Column(m.title, m.unit) for m in shown.values()))
    rows = tuple(
        Row(
            (name, *(m.show(text.get(timepoint.density, region, key)) for key, m in shown.items())),
            region_level(region),
        )
        for region, name in regions(study).items()
        if region in timepoint.density
    )
    return Table(f"Density by region, {text.title(timepoint)}", columns, rows)


def trajectory_table(study: StudyResult) -> Table | None:
    """Trend and interval of each series of the whole lung; None where there is none."""
    axis = study.trajectory.get("axis", "visit")
    chosen = [s for s in study.trajectory.get("series", {}).values() if s["region"] == WHOLE]
    if not chosen:
        return None
    order = [*SCORES, *DENSITY]
    rows = []
    for series in sorted((s for s in chosen if s["name"] in order), key=lambda s: order.index(s["name"])):
        measure = trends.measure_of(series)
        reached = trends.day_reached(series) if series["name"] in SCORES and axis == "days" else UNDEFINED
        unit = f", {measure.unit}" if measure.unit else ""
        rows.append(
            Row(
                (
                    measure.title + unit,
                    _MODELS.get(series.get("model"), UNDEFINED),
                    trends.trend(series, axis),
                    reached,
                ),
                note=_left_out(study, series),
            )
        )
    columns = (
        Column("Whole lung", align=LEFT, width=0.3),
        Column("Model", align=LEFT, width=0.2),
        Column("Change or trend", f"with {_interval(chosen)} interval", align=LEFT, width=2.4),
        Column("Reaches 0.85", "with interval" if axis == "days" else "", align=LEFT, width=1.6),
    )
    return Table("Course over time", columns, tuple(rows), tuple(study.trajectory.get("notes") or ()))


def _left_out(study: StudyResult, series: Mapping[str, Any]) -> str:
    """Which time points do not count in a series because their registration failed."""
    by_day = study.trajectory.get("axis") == "days"
    bad = {p["x"] for p in series["points"] if not p["reliable"]}
    names = [text.title(t) for t in study.timepoints if (t.days if by_day else t.visit) in bad]
    return f"without {', '.join(names)} ({text.UNRELIABLE})" if names else ""


def _interval(series: list[Mapping[str, Any]]) -> str:
    return text.percent(100 * next((s["interval"] for s in series if s.get("interval")), 0.95))


_MODELS = {
    "change": "difference",
    "linear": "linear\u00a0trend",
    "exponential": "exponential\u00a0approach",
}


def regions(study: StudyResult) -> dict[str, str]:
    """The regions' names by id, the parts of each lung under that lung; "both" lungs only where both are shown."""

    def place(region: str) -> tuple[int, int]:
        sides = ("lungs", "right", "left")
        side = region.split("_")[0]
        return (sides.index(side), region_level(region)) if side in sides else (len(sides), 0)

    names = dict(sorted(study.regions.items(), key=lambda item: place(item[0])))
    if ("right" in names) != ("left" in names):
        names[WHOLE] = "Lung in the scan"
    return names


def region_level(region: str) -> int:
    """How deep a region stands below the whole lung."""
    return 0 if region == WHOLE else 1 if "_" not in region else 2


def band_title(band: Mapping[str, Any]) -> str:
    """A density band's name for readers."""
    name = str(band["name"]).replace("_", " ")
    return name[:1].upper() + name[1:]


def band_range(band: Mapping[str, Any]) -> str:
    """A density band's limits in words."""
    low, high = band.get("low"), band.get("high")
    if low is None or low <= -1000:
        return f"below {text.number(high)} HU"
    if high is None:
        return f"above {text.number(low)} HU"
    return f"{text.number(low)} to {text.number(high)} HU"


def _density_row(measure: text.Measure, values: list[float | None]) -> Row:
    return Row((f"{measure.title}, {measure.unit}", *(measure.show(v) for v in values)), note=measure.meaning)


def time_column(timepoint: TimePointResult, mark: bool = True) -> Column:
    """The column of a time point, marked where its registration failed."""
    unreliable = mark and not timepoint.reliable
    return Column(text.title(timepoint) + (f" {text.UNRELIABLE}" if unreliable else ""))


def _scores(timepoint: TimePointResult, region: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(SCORES[name].show(text.get(timepoint.scores, region, name)) for name in names)


def _table(timepoint: TimePointResult, measure: str) -> Mapping[str, Mapping[str, Any]] | None:
    return timepoint.change if measure.startswith("density") else timepoint.jacobian


def _mark(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Say in the first cell of every unreliable row that it is one."""
    return tuple(
        Row((f"{r.cells[0]} {text.UNRELIABLE}", *r.cells[1:]), r.level, r.note, True) if r.unreliable else r
        for r in rows
    )
