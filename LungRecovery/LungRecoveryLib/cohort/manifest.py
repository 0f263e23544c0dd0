"""The list of patients: a CSV file with a row for every scan."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.results import folder_name

REQUIRED = ("patient", "path")
OPTIONAL = ("days", "label", "group", "lungs", "series", "landmarks")
_PATHS = ("path", "lungs", "landmarks")
_MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Patient:
    """One patient: the name that the table shows, the folder of the study, the group, and the job's time points."""

    name: str
    folder: str
    group: str
    timepoints: tuple[dict[str, Any], ...]


def read_manifest(path: Path) -> list[Patient]:
    """The patients of a manifest, in the order of their first rows; relative paths start at its folder.

    Columns: patient and path, then if wanted days, label, group, lungs, series, landmarks. A patient's rows are scans,
    the baseline first (or in the order of their days). Raises BadInput for a file that is no such table; what is wrong
    with a single patient shows when that one is analysed.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [row for row, _ in zip(reader, range(_MOST_ROWS), strict=False)]
    except FileNotFoundError:
        raise BadInput(f"{path}: does not exist; name a manifest in CSV") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as CSV in UTF-8 ({error}); write it again") from error
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in REQUIRED + OPTIONAL]
    if missing or unknown or len(set(columns)) < len(columns):
        wrong = f"has no column {missing[0]}" if missing else f"has a column {(unknown or columns)[0]} too many"
        raise BadInput(f"{path}: {wrong}; the columns are {', '.join(REQUIRED + OPTIONAL)}")
    by_name: dict[str, list[dict[str, Any]]] = {}
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        entry = _entry(row, path, number)
        name = entry.pop("patient")
        groups.setdefault(name, entry.pop("group", ""))
        by_name.setdefault(name, []).append(entry)
    if not by_name:
        raise BadInput(f"{path}: names no patients; give a row for every scan")
    patients, taken = [], set()
    for name, timepoints in by_name.items():
        folder = folder_name(name, taken)
        taken.add(folder)
        patients.append(Patient(name, folder, groups[name], tuple(timepoints)))
    return patients


def _entry(row: dict[str | None, Any], path: Path, number: int) -> dict[str, Any]:
    """A row as a time point of a job, with the patient and the group."""
    if None in row:
        raise BadInput(f"{path}: line {number} has more cells than the header; correct it")
    entry: dict[str, Any] = {key: value.strip() for key, value in row.items() if value and value.strip()}
    for name in REQUIRED:
        if name not in entry:
            raise BadInput(f"{path}: line {number} has no {name}; fill it in")
    if not entry["patient"].isprintable() or len(entry["patient"]) > 200:
        raise BadInput(f"{path}: line {number}: the patient's name is too long or cannot be printed; give another")
    if "days" in entry:
        try:
            entry["days"] = float(entry["days"])
        except ValueError:
            raise BadInput(f"{path}: line {number}: days {entry['days']} is no number; correct it") from None
    base = path.resolve().parent
    for name in _PATHS:
        if name in entry:
            entry[name] = str(base / entry[name])
    return entry
