"""BIMCV-COVID19+: chest CTs of COVID-19 patients of the Valencian region, many with several examinations."""

import csv
import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, header, listed, with_masks
from .manifest import Row
from .splits import split_by_patient

PATTERN = "sub-*/ses-*/mod-rx/*_ct.nii.gz"
# What is shorter or thicker is a localiser, a fragment or a reconstruction for the spine.
LEAST_MM, THICKEST_MM = 150.0, 5.5
_STUDY_DATE = "00080020"
_DOWNLOAD = (
    "download BIMCV-COVID19+ (iterations 1 and 2, for research, after accepting its terms) from "
    "https://bimcv.cipf.es/bimcv-projects/bimcv-covid19/ or its mirror https://osf.io/nh7g8/, and unpack the archives "
    "bimcv_covid19_posi_subjects_*.tgz into ROOT, so that ROOT/sub-S*/ses-E*/mod-rx/ holds the scans (*_ct.nii.gz with "
    "their .json)"
)


def collect(
    root: Path,
    output: Path,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    dates: bool = True,
    longitudinal: bool = False,
    masks: bool = True,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """One row for each examination (session) with a chest CT: of its series the one with the thinnest slices.

    The time point is the days since the patient's first examination, from StudyDate in the .json beside the scan or
    from the patient's *_sessions.tsv; with `dates` False it is the examination's number in the order of its name.
    `longitudinal` keeps only patients with two examinations or more. `masks` segments the lungs into `output`.
    """
    scans = _scans(root, progress)
    if not scans:
        raise BadInput(f"{root}: has no chest CT as {PATTERN}; {_DOWNLOAD}")
    sessions: dict[str, dict[str, Path]] = {}
    for path in scans:
        sessions.setdefault(path.parts[-4], {})[path.parts[-3]] = path
    if longitudinal:
        sessions = {subject: found for subject, found in sessions.items() if len(found) > 1}
        if not sessions:
            raise BadInput(f"{root}: nobody has two examinations with a chest CT; download more of the archives")
    splits = split_by_patient(sessions, val, test, seed)
    rows = []
    for subject, found in sorted(sessions.items()):
        counted = {name: number for number, name in enumerate(sorted(found))}
        days = _days(root / subject, found) if dates and len(found) > 1 else counted
        rows += [Row(subject, float(days[name]), found[name], split=splits[subject]) for name in sorted(found)]
    return with_masks(rows, output, workers, progress) if masks else rows


def _scans(root: Path, progress: Progress) -> list[Path]:
    """For each session the chest CT with the thinnest slices, the longer one of equals."""
    best: dict[Path, tuple[tuple[float, float], Path]] = {}
    paths = sorted(root.glob(PATTERN))
    for number, path in enumerate(paths, 1):
        progress("headers", number / len(paths), path.name)
        try:
            grid = header(path)
        except BadInput:
            if path.stat().st_size > 1_000_000:  # smaller ones are localisers and single pictures
                raise
            continue
        spacing, extent = max(grid.spacing), grid.size[2] * grid.spacing[2]
        if extent < LEAST_MM or spacing > THICKEST_MM:
            continue
        rank = (spacing, -extent)
        session = path.parents[1]
        if session not in best or rank < best[session][0]:
            best[session] = (rank, path)
    return [path for _, path in best.values()]


def _days(folder: Path, sessions: dict[str, Path]) -> dict[str, int]:
    """The days since the first examination, by session. Raises BadInput where a date is missing or stands twice."""
    listed_dates = dict(_session_dates(folder))
    when = {name: _study_date(path) or listed_dates.get(name) for name, path in sessions.items()}
    unknown = [name for name, day in when.items() if day is None]
    if unknown:
        raise BadInput(
            f"{folder}: the date of {listed(unknown)} stands neither in its .json nor in a *_sessions.tsv; get the "
            "metadata (bimcv_covid19_posi_head), or give dates=False to count the examinations instead"
        )
    first = min(when.values())
    days = {name: (day - first).days for name, day in when.items()}
    if len(set(days.values())) < len(days):
        raise BadInput(f"{folder}: two of its examinations are of one day; take one of them out, or give dates=False")
    return days


def _study_date(path: Path) -> date | None:
    """StudyDate of the DICOM tags in the .json beside a scan."""
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    if not sidecar.is_file():
        return None
    try:
        tags = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{sidecar}: is no JSON; download it again") from error
    value = tags.get(_STUDY_DATE, tags.get("StudyDate", ""))
    value = value.get("Value", [""]) if isinstance(value, dict) else value
    return _date(str(value[0] if isinstance(value, list) and value else value))


def _session_dates(folder: Path) -> Iterator[tuple[str, date]]:
    """(session, date) of the rows of a patient's *_sessions.tsv that have a date."""
    for path in folder.glob("*_sessions.tsv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                dates = [_date(value) for key, value in row.items() if key and "date" in key.lower() and value]
                session = (row.get("session_id") or "").strip()
                if session and dates and dates[0]:
                    yield session if session.startswith("ses-") else f"ses-{session}", dates[0]


def _date(text: str) -> date | None:
    for pattern in ("%Y%m%d", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(text.strip(), pattern).date()
        except ValueError:
            continue
    return None


LAYOUT = Layout("bimcv", "BIMCV-COVID19+: CT examinations of COVID-19 patients", _DOWNLOAD, collect)
