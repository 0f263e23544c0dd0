"""The report's table of radiomic features: of the stable ones the few that say most, over the dates."""

from collections.abc import Iterator

from LungRecoveryLib.parenchyma.radiomics import LESIONS, STABLE_ICC, Feature, stable_features
from LungRecoveryLib.report import text, trends
from LungRecoveryLib.report.tables import LEFT, Column, Row, Table, time_column
from LungRecoveryLib.results import StudyResult

# Intensity: mean, 90th percentile, interquartile range, skewness; joint entropy; share of zones.
_TELLING = ("Q4LE", "8DWT", "SALO", "KE2A", "TU9B", "P30P")
_REGIONS = {text.WHOLE: "Lungs", LESIONS: "Lesions"}

STABILITY = (
    f"Only stable features are followed: their intraclass correlation ICC(2,1) is at least {STABLE_ICC:g} between "
    "scans of the same phantoms that differ in noise, kernel and breath, with the scan's bias taken out as here. All "
    "features, with their ICC, are in radiomics.csv; the course of every stable one, in lobes too, is in "
    "trajectory.csv."
)
IMAGE = "Features as the IBSI defines them, of the enhanced image: HU above the scan's own healthy parenchyma."


def features_over_time(study: StudyResult) -> Table | None:
    """A row for each telling feature of the lungs and of the lesions, a column for each time point, and the trend."""
    rows = tuple(_rows(study))
    if not rows:
        return None
    columns = (
        Column("Radiomics", align=LEFT, width=2.0),
        *(time_column(t, mark=False) for t in study.timepoints),
        Column("Change or trend", "with 95 % interval", align=LEFT, width=2.0),
    )
    return Table("Radiomic features in each scan", columns, rows, (IMAGE, STABILITY))


def _rows(study: StudyResult) -> Iterator[Row]:
    empty = ("",) * (len(study.timepoints) + 1)
    for region, name in _REGIONS.items():
        stable = (feature for feature in stable_features(region) if feature.ibsi in _TELLING)
        made = [_row(study, region, feature) for feature in stable]
        made = [row for row in made if row is not None]
        if made:
            yield Row((name, *empty))
            yield from made


def _row(study: StudyResult, region: str, feature: Feature) -> Row | None:
    """The row of a feature that is followed; None where it is not."""
    series = study.trajectory["series"].get(f"radiomics_{feature.ibsi}.{region}")
    if series is None:
        return None
    decimals = trends.measure_of(series).decimals
    values = [
        (((t.radiomics or {}).get(region) or {}).get("enhanced") or {}).get(feature.ibsi) for t in study.timepoints
    ]
    title = f"{series['title']}, {series['unit']}" if series["unit"] else series["title"]
    cells = (title, *(text.number(value, decimals) for value in values), trends.trend(series, study.trajectory["axis"]))
    return Row(cells, level=1)
