"""A plain folder of CTs: a folder for each patient with a scan for each date, or scans alone."""

import re
from datetime import date
from pathlib import Path

from LungRecoveryLib.dicom_headers import looks_like_dicom
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.images import read_scan
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, is_image, stem, with_masks
from .manifest import Row
from .splits import split_by_patient

_MASK = re.compile(r"(.+?)[-_ .](?:lung|lungs|mask|lungmask|lung_mask)$", re.IGNORECASE)
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?!\d)")
_NUMBER = re.compile(r"(\d+)(?!.*\d)")
_DOWNLOAD = (
    "put CTs there as ROOT/PATIENT/SCAN: a SCAN is a file (.nii.gz, .nrrd, .mha) or a folder of DICOM, a mask of its "
    "lungs beside it is called SCAN-lungs.nii.gz; scans right in ROOT are of a patient each"
)


def collect(
    root: Path,
    output: Path,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    masks: bool = True,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """One row for each scan; scans are read, so that one which is no CT in HU is named.

    A patient's time points are the days between the acquisition dates of DICOM, or those in the scans' names
    (2021-03-05, 20210305), where all have one, else the last numbers in the names (day-030), else their order. `masks`
    segments the lungs into `output`.
    """
    patients = _patients(root)
    if not patients:
        raise BadInput(f"{root}: holds no scan; {_DOWNLOAD}")
    splits = split_by_patient(patients, val, test, seed)
    rows: list[Row] = []
    for number, (patient, scans) in enumerate(sorted(patients.items()), 1):
        names, dates = [stem(scan) for scan in scans], [_acquired(scan) for scan in scans]
        for scan, timepoint in zip(scans, timepoints(names, dates), strict=True):
            rows.append(Row(patient, timepoint, scan, _mask_of(scan), split=splits[patient]))
        progress("scans", number / len(patients), patient)
    return with_masks(rows, output, workers, progress) if masks else rows


def timepoints(names: list[str], acquired: list[date | None]) -> list[float]:
    """The time points of a patient's scans by their acquisition dates and names; see :func:`collect`."""
    if len(names) == 1:
        return [0.0]
    dates = acquired if None not in acquired else [_date(name) for name in names]
    if None not in dates and len(set(dates)) == len(dates):
        return [float((day - min(dates)).days) for day in dates]
    numbers = [_NUMBER.search(name) for name in names]
    values = [float(found[1]) for found in numbers if found]
    if len(values) == len(names) == len(set(values)):
        return values
    return [float(i) for i in range(len(names))]


def _patients(root: Path) -> dict[str, list[Path]]:
    """The scans of each patient, in the order of their names."""
    patients: dict[str, list[Path]] = {}
    for place in sorted(root.iterdir()):
        if place.name.startswith(".") or place.name == "masks":
            continue
        if place.is_dir() and not _is_series(place):
            scans = [scan for scan in sorted(place.iterdir()) if _is_scan(scan)]
            if scans:
                patients[place.name] = scans
        elif _is_scan(place):
            patients.setdefault(stem(place), []).append(place)
    return patients


def _is_scan(path: Path) -> bool:
    if path.is_dir():
        return _is_series(path)
    return is_image(path) and not _MASK.match(stem(path)) and path.suffix.lower() != ".img"


def _is_series(folder: Path) -> bool:
    """Whether a folder holds DICOM slices."""
    first = next((path for path in sorted(folder.iterdir()) if path.is_file()), None)
    return first is not None and looks_like_dicom(first)


def _mask_of(scan: Path) -> Path | None:
    """The mask beside a scan, by its name."""
    for path in sorted(scan.parent.iterdir()):
        found = _MASK.match(stem(path)) if is_image(path) else None
        if found and found[1] == stem(scan):
            return path
    return None


def _acquired(scan: Path) -> date | None:
    """The date of a scan where it is DICOM; the scan is read whole, so that one which is no CT in HU is named."""
    return read_scan(scan).date


def _date(name: str) -> date | None:
    found = _DATE.search(name)
    try:
        return date(*(int(part) for part in found.groups())) if found else None
    except ValueError:
        return None


LAYOUT = Layout("folder", "A plain folder of CTs", _DOWNLOAD, collect)
