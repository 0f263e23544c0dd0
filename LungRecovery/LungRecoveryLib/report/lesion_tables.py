"""The report's tables of the lesions: how much there is at every date, and what became of each."""

from collections.abc import Callable, Mapping

from LungRecoveryLib.report import text
from LungRecoveryLib.report.tables import LEFT, Column, Row, Table, band_title, time_column
from LungRecoveryLib.results import StudyResult, TimePointResult

MOST_LESIONS = 12  # a table of more is no help; the others are in study.json
_FATES = ("resolved", "shrinking", "stable", "growing", "new")
_ROWS: dict[str, tuple[str, int]] = {
    "volume_ml": ("Lesions, ml", 0),
    "share_percent": ("Share of the lung, %", 1),
    "mean_excess_hu": ("Mean excess over healthy lung, HU", 0),
    "mass_excess_g": ("Excess mass, g", 0),
}


def lesions_over_time(study: StudyResult, region: str = text.WHOLE) -> Table | None:
    """The lesions of a region, a row for each measure and a column for each time point; None without any measured."""
    tables = [(t.lesions or {}).get(region) for t in study.timepoints]
    if not any(tables):
        return None
    columns = (Column("Lesions", align=LEFT, width=2.6), *(time_column(t, mark=False) for t in study.timepoints))

    def row(title: str, decimals: int, value: Callable[[Mapping], float | None], level: int = 0) -> Row:
        values = (value(table) if table else None for table in tables)
        return Row((title, *(text.UNDEFINED if v is None else text.number(v, decimals) for v in values)), level)

    rows = [row(title, decimals, lambda t, key=key: t[key]) for key, (title, decimals) in _ROWS.items()]
    kinds = dict.fromkeys(kind for table in tables if table for kind in table["kinds_ml"])
    rows[1:1] = [row(f"{kind.capitalize()}, ml", 0, lambda t, kind=kind: t["kinds_ml"].get(kind), 1) for kind in kinds]
    notes = ("Measured in each scan's own voxels; vessels that run through a lesion are part of it.",)
    return Table("Lesions in each scan", columns, tuple(rows), notes)


def fates(study: StudyResult, timepoint: TimePointResult) -> Table | None:
    """What became of every lesion at a follow-up, the largest first; None where there is none to follow."""
    followed = timepoint.lesion_fates
    if not followed:
        return None
    columns = (
        Column("Lesion", align=LEFT, width=0.7),
        Column("Where", align=LEFT, width=0.8),
        Column("Kind", align=LEFT, width=1.2),
        Column("At baseline", "ml"),
        Column("In this scan", "ml"),
        Column("Change of the same tissue", "%", width=1.3),
        Column("What became of it", align=LEFT, width=1.3),
    )
    rows = tuple(
        Row(
            (
                str(lesion["number"]),
                lesion["side"],
                lesion["kind"],
                text.number(lesion["volume_ml"], 1),
                text.number(lesion["volume_followup_ml"], 1),
                text.UNDEFINED
                if lesion["change_percent"] is None
                else text.number(lesion["change_percent"], 0, signed=True),
                lesion["fate"],
            ),
            unreliable=not timepoint.reliable,
        )
        for lesion in followed[:MOST_LESIONS]
    )
    counts = {fate: sum(lesion["fate"] == fate for lesion in followed) for fate in _FATES}
    notes = [
        "Of all lesions: " + ", ".join(f"{count} {fate}" for fate, count in counts.items() if count) + ".",
        "Stable: the change is within what two scans of unchanged lung may show.",
    ]
    if len(followed) > MOST_LESIONS:
        notes.append(f"The {MOST_LESIONS} largest of {len(followed)} lesions; all of them are in study.json.")
    return Table(f"Lesions at {text.title(timepoint)}", columns, rows, tuple(notes))


def classes(study: StudyResult, timepoint: TimePointResult) -> Table | None:
    """How much of the lung stayed healthy, cleared, persists or is new at a follow-up, by side."""
    table = timepoint.lesion_classes or {}
    regions = [region for region in (text.WHOLE, "right", "left") if region in table]
    if not regions:
        return None
    names = list(table[regions[0]])
    columns = (Column("Region", align=LEFT, width=1.7), *(Column(name.capitalize(), "%") for name in names))
    rows = tuple(
        Row(
            (study.regions.get(region, region), *(text.number(table[region][name], 1) for name in names)),
            unreliable=not timepoint.reliable,
        )
        for region in regions
    )
    return Table("Response of the lung, voxel by voxel", columns, rows)


def severity(study: StudyResult) -> Table | None:
    """The CT severity score, a row for each lobe and their sum; None where no time point has all five lobes."""
    if not any(t.severity for t in study.timepoints):
        return None
    regions = next(t.severity for t in study.timepoints if t.severity)

    def cell(timepoint: TimePointResult, region: str) -> str:
        entry = (timepoint.severity or {}).get(region)
        return f"{entry['points']} ({text.percent(entry['share_percent'])})" if entry else text.UNDEFINED

    lobes = [Row((study.regions[r], *(cell(t, r) for t in study.timepoints)), 1) for r in regions if r != text.WHOLE]
    total = Row(("CT severity score, of 25", *(cell(t, text.WHOLE) for t in study.timepoints)))
    notes = [
        "0 to 5 points for each lobe by the share of it that lesions take (in brackets): none 0, below 5 % 1, 5 to "
        "25 % 2, 26 to 49 % 3, 50 to 75 % 4, more 5; less than 1 % counts as none. Measured in each scan's own voxels."
    ]
    notes += [f"Without a score: {text.title(t)}: {_no_lobes(t)}." for t in study.timepoints if not t.severity]
    columns = (Column("Lobe", align=LEFT, width=2.0), *(time_column(t, mark=False) for t in study.timepoints))
    return Table("CT severity score by lobe", columns, (total, *lobes), tuple(map(text.bind, notes)))


def _no_lobes(timepoint: TimePointResult) -> str:
    return (timepoint.lobes or {}).get("missing") or "its lobes are not known"


def band_changes(study: StudyResult, timepoint: TimePointResult) -> Table | None:
    """How much of the lung went from each density band to each; None where it was not measured."""
    shares = timepoint.band_changes
    if not shares:
        return None
    titles = {band["name"]: band_title(band) for band in study.settings.get("bands", [])}
    columns = (
        Column("At baseline", align=LEFT, width=1.7),
        *(Column(f"now {text.in_sentence(titles.get(name, name))}", "%") for name in shares),
    )
    rows = tuple(
        Row(
            (titles.get(name, name), *(text.number(value, 1) for value in row.values())),
            unreliable=not timepoint.reliable,
        )
        for name, row in shares.items()
    )
    note = (
        "Voxels that correspond by the registration; the follow-up's density at the baseline's volume (times J), so "
        "that a deeper breath alone moves nothing. Shares of the whole lung."
    )
    return Table("From band to band, voxel by voxel", columns, rows, (note,))
