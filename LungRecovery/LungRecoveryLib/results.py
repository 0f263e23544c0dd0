"""What a study leaves on disk: the names of its files, `study.json` with its schema, the tables, and reading back.

Nothing here computes. A study's folder holds no patient name, no date and no absolute path: time points are known by
label and by days since the baseline, files by their path relative to the folder.
"""

import csv
import io
import json
import math
import platform
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np

from LungRecoveryLib import RESEARCH_USE_ONLY, __version__
from LungRecoveryLib.errors import BadInput

SCHEMA = "lungrecovery-study-1"

STUDY_FILE = "study.json"
SCORES_FILE = "scores.csv"
REGIONS_FILE = "regions.csv"
TRAJECTORY_FILE = "trajectory.csv"
RADIOMICS_FILE = "radiomics.csv"  # where radiomics were asked for
REPORT_HTML = "report.html"
REPORT_PDF = "report.pdf"
DICOM = "dicom"
FIGURES = "figures"
BASELINE = "baseline"

BASELINE_LAYERS = {
    "ct": "ct.nii.gz",
    "lungs": "lungs.nii.gz",
    "regions": "regions.nii.gz",
    "lesions": "lesions.nii.gz",
}
FOLLOWUP_LAYERS = {
    "transform": "transform.h5",
    "inverse_transform": "inverse_transform.h5",
    "warped": "warped.nii.gz",
    "jacobian": "jacobian.nii.gz",
    "jacobian_normalized": "jacobian_normalized.nii.gz",
    "density_change": "density_change.nii.gz",
    "hu_change": "hu_change.nii.gz",
    "similarity": "similarity.nii.gz",
    "lungs": "lungs.nii.gz",
    "lesions": "lesions.nii.gz",
}
# Made where registration started from a probabilistic network.
UNCERTAINTY_LAYER = {"uncertainty": "uncertainty.nii.gz"}
# Made where a scan shows healthy parenchyma to compare with: the baseline's on the grid of the maps, a follow-up's on
# its own.
ENHANCED_LAYER = {"enhanced": "enhanced.nii.gz"}
LOBES_LAYER = {"lobes": "lobes.nii.gz"}  # made where any fissure is visible
THIRDS = "the lungs are divided into thirds of their height instead"
ABSENT = {
    "lobes": f"the fissures were not looked for; {THIRDS}",
    "severity": "the CT severity score (0 to 25) is a sum over five lobes, which are not all known",
    "radiomics": "they take minutes and are computed only when asked for (`lungrecovery analyze --radiomics`)",
}

# What not every time point has: the baseline is not registered, and a study of another program may hold no lesions.
_OPTIONAL = (
    *("jacobian", "change", "quality", "registration", "band_changes"),
    *("lesions", "lesion_fates", "lesion_classes", "parenchyma", "lobes", "severity", "radiomics"),
)

# Folder names that are taken, or that Windows refuses whatever their case.
_RESERVED = {BASELINE, FIGURES, DICOM, "patient", "con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in range(10)
}

RegionTable = dict[str, dict[str, Any]]


@dataclass
class TimePointResult:
    """One scan of the study: what was measured in it and, for a follow-up, how it compares with the baseline.

    The tables map a region's id to measures: `density` from the scan's own voxels, like `lesions`; `jacobian`, `change`
    and `lesion_classes` over the baseline's lung on the baseline's grid (follow-ups only); `scores` for both.
    `lesion_fates` lists what became of each lesion since the baseline. `parenchyma` tells of the enhanced image: the
    scan's baseline, noise, calibration and what was taken out between the dates. `lobes` says where they come from,
    what is visible of each fissure and why any is missing; `severity` are the points of the CT severity score where
    all five are known; `band_changes` the shares of the lung that went from one density band to another; `radiomics`
    the features by region and image (see `parenchyma.radiomics.measure`) where they were asked for. `files` maps a
    layer to its path relative to the study's folder. `reliable` is False where the registration failed its quality
    gate.
    """

    label: str
    folder: str
    baseline: bool
    days: float | None
    visit: int
    source: dict[str, Any]
    lungs_source: str
    density: RegionTable
    scores: RegionTable
    files: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    reliable: bool = True
    jacobian: RegionTable | None = None
    change: RegionTable | None = None
    lesions: RegionTable | None = None
    lesions_source: str = "segmented"
    lesion_fates: list[dict[str, Any]] | None = None
    lesion_classes: RegionTable | None = None
    parenchyma: dict[str, Any] | None = None
    lobes: dict[str, Any] | None = None
    severity: RegionTable | None = None
    band_changes: dict[str, dict[str, float]] | None = None
    radiomics: RegionTable | None = None
    quality: dict[str, Any] | None = None
    registration: dict[str, Any] | None = None

    def layer(self, study: Path, name: str) -> Path:
        """Where the file of a layer lies in the folder of the study; KeyError for a layer it does not have."""
        return Path(study) / self.files[name]


@dataclass
class StudyResult:
    """Everything `study.json` says, as Python values; see `study.schema.json` for every key."""

    settings: dict[str, Any]
    grid: dict[str, Any]
    regions: dict[str, str]
    region_codes: dict[str, list[str]]
    timepoints: list[TimePointResult]
    trajectory: dict[str, Any]
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=lambda: dict(ABSENT))
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: versions())
    notice: str = RESEARCH_USE_ONLY
    schema: str = SCHEMA

    @property
    def baseline(self) -> TimePointResult:
        """The time point that the others are compared with."""
        return self.timepoints[0]

    @property
    def followups(self) -> list[TimePointResult]:
        """The time points after the baseline, in order."""
        return self.timepoints[1:]

    @property
    def reliable(self) -> bool:
        """Whether every registration passed its quality gate."""
        return all(timepoint.reliable for timepoint in self.timepoints)


def standing_verdict(quality: dict[str, Any] | None, reliable: bool) -> str | None:
    """The verdict that counts on a registration: the reader's where the reader has spoken, else the quality check's."""
    if not quality:
        return None
    return ("pass" if reliable else "fail") if quality.get("reader") else quality["verdict"]


def versions() -> dict[str, str]:
    """The versions of this package and of what its numbers depend on; distributions that are absent are left out."""
    found = {"lungrecovery": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "SimpleITK", "scikit-image"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # Slicer's own SimpleITK has no metadata
            continue
    return found


def folder_name(label: str, taken: Iterable[str] = ()) -> str:
    """A folder name for a label: lower-case ASCII letters, digits and dashes, safe everywhere, not in `taken`."""
    ascii_label = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_label.lower()).strip("-")[:40].strip("-") or "visit"
    taken = set(taken) | _RESERVED
    name, number = slug, 2
    while name in taken:
        name, number = f"{slug}-{number}", number + 1
    return name


def plain(value: Any) -> Any:
    """A JSON value of plain Python types: NumPy values unwrapped, NaN and infinities as null, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{type(value).__name__} has no place in study.json")


@cache
def study_schema() -> dict[str, Any]:
    """The JSON schema of `study.json`."""
    return json.loads(package_files("LungRecoveryLib").joinpath("study.schema.json").read_text("utf-8"))


def _check(content: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError, the one that tells most, where content does not fit the schema."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(content))
    if error is not None:
        raise error


@cache
def _validator() -> Any:
    """The schema made ready once; its package is not needed to show a study that is in a scene already."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(study_schema())


def to_json(result: StudyResult) -> dict[str, Any]:
    """The content of `study.json`, checked against its schema; jsonschema.ValidationError where it does not fit."""
    content = plain(asdict(result))
    order = ("schema", "notice", "versions", "settings", "grid", "regions", "region_codes", "timepoints")
    content = {key: content[key] for key in order} | content
    for timepoint in content["timepoints"]:
        for key in _OPTIONAL:
            if timepoint[key] is None:
                del timepoint[key]
    _check(content)
    return content


def write_study(result: StudyResult, folder: Path) -> None:
    """Write `study.json` and the tables into a folder that exists."""
    folder = Path(folder)
    write_study_file(result, folder)
    tables = {SCORES_FILE: score_rows, REGIONS_FILE: region_rows, TRAJECTORY_FILE: trajectory_rows}
    if any(timepoint.radiomics for timepoint in result.timepoints):
        tables[RADIOMICS_FILE] = radiomics_rows
    for name, rows in tables.items():
        (folder / name).write_text(_csv(list(rows(result))), encoding="utf-8", newline="")


def write_study_file(result: StudyResult, folder: Path) -> None:
    """Write `study.json` alone, for instance when only the times have changed."""
    text = json.dumps(to_json(result), indent=1, ensure_ascii=False, allow_nan=False)
    (Path(folder) / STUDY_FILE).write_text(text + "\n", encoding="utf-8")


def read_study(folder: Path) -> StudyResult:
    """Read a study back from its folder.

    Raises BadInput where there is no `study.json` or it does not fit this version's schema.
    """
    from jsonschema import ValidationError

    path = Path(folder) / STUDY_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{folder} holds no {STUDY_FILE}: name the folder that `lungrecovery analyze` wrote") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}): analyse the scans again") from None
    try:
        _check(content)
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a study of this version ({error.json_path}: {error.message[:120]}): analyse the scans again"
        ) from None
    known = {f.name for f in fields(TimePointResult)}
    timepoints = [TimePointResult(**{k: v for k, v in t.items() if k in known}) for t in content.pop("timepoints")]
    return StudyResult(timepoints=timepoints, **content)


def score_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """The rows of scores.csv: one for each time point and region."""
    for timepoint in result.timepoints:
        for region, scores in timepoint.scores.items():
            yield _who(timepoint, region, result.regions) | {
                "jacobian": scores["jacobian"],
                "jacobian_normalized": scores["jacobian_normalized"],
                "tissue_recovery": scores["tissue_recovery"],
                "class": scores["class"],
                "reliable": timepoint.reliable,
                "explanation": scores["explanation"],
            }


def region_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """The rows of regions.csv: one for each time point, region and measure."""
    for timepoint in result.timepoints:
        for group in ("density", "lesions", "severity", "jacobian", "change", "lesion_classes"):
            for region, measures in (getattr(timepoint, group) or {}).items():
                for measure, value in _flat(measures):
                    yield _who(timepoint, region, result.regions) | {
                        "group": group,
                        "measure": measure,
                        "value": value,
                        "reliable": timepoint.reliable or group in ("density", "lesions", "severity"),
                    }


def radiomics_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """The rows of radiomics.csv: one for each time point, region, image and feature."""
    from LungRecoveryLib.parenchyma import radiomics  # who only reads a study needs no segmentation

    names = result.regions | {radiomics.LESIONS: "Lesions"}
    for timepoint in result.timepoints:
        for row in radiomics.rows_of(timepoint.radiomics or {}):
            yield _who(timepoint, row["region"], names) | row


def trajectory_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """The rows of trajectory.csv: the measured points of every series, then the points of its fitted curve."""
    axis = result.trajectory["axis"]
    for key, series in result.trajectory["series"].items():
        common = {"series": key, "name": series["name"], "unit": series["unit"], "region": series["region"]}
        common |= {"model": series["model"], "axis": axis}
        for point in series["points"]:
            value, error = point["value"], point["error"]
            measured = value is not None and error is not None
            yield common | {
                "kind": "point",
                "x": point["x"],
                "value": value,
                "low": value - 1.96 * error if measured else None,
                "high": value + 1.96 * error if measured else None,
                "reliable": point["reliable"],
            }
        for point in series.get("curve") or []:
            yield common | {
                "kind": "curve",
                "x": point["x"],
                "value": point["mid"],
                "low": point["low"],
                "high": point["high"],
                "reliable": all(p["reliable"] for p in series["points"]),
            }


def _who(timepoint: TimePointResult, region: str, names: dict[str, str]) -> dict[str, Any]:
    return {
        "visit": timepoint.visit,
        "label": timepoint.label,
        "days": timepoint.days,
        "region": region,
        "region_name": names.get(region, region),
    }


def _flat(measures: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Measures by name, tables within (the density bands) as ``table: entry``."""
    for name, value in measures.items():
        if isinstance(value, dict):
            yield from ((f"{name}: {entry}", item) for entry, item in value.items())
        else:
            yield name, value


def _csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV text with a header; numbers to six digits, undefined values empty."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: csv_cell(value) for key, value in row.items()})
    return out.getvalue()


def csv_cell(value: Any) -> str:
    """A value as the text of a table's cell; text that a spreadsheet would take for a formula gets an apostrophe."""
    value = plain(value)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
