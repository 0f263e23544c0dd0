"""The cohort's table: a row for every patient, on disk as soon as the patient is done."""

import csv
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.results import csv_cell

TABLE = "patients.csv"
COLUMNS = (
    "patient", "group", "folder", "status", "code", "message", "scans", "last", "days", "verdict", "volume_ml",
    "volume_change_percent", "abnormal_percent", "jacobian", "jacobian_normalized", "tissue_recovery", "class",
    "seconds", "peak_mb", "disk_mb",
)  # fmt: skip


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """The row of a patient's record: the last date's scores, and the volume against the baseline's."""
    timepoints = record["timepoints"]
    row = {name: record.get(name) for name in COLUMNS} | {"scans": len(timepoints) or None}
    if timepoints:
        first, last = timepoints[0], timepoints[-1]
        row |= {name: last[name] for name in COLUMNS if name in last}
        row["volume_change_percent"] = 100.0 * (last["volume_ml"] / first["volume_ml"] - 1.0)
    return row


class Table(AbstractContextManager):
    """The table while it grows; every row is on disk when `add` returns."""

    def __init__(self, folder: Path):
        self.path = Path(folder) / TABLE
        try:
            self._file = self.path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be written ({error.strerror}); give a writable --output") from error
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def add(self, record: dict[str, Any]) -> None:
        """Write the row of a patient."""
        self._writer.writerow({name: csv_cell(value) for name, value in row_of(record).items()})
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_table(folder: Path) -> list[dict[str, str]]:
    """The rows of a cohort's table, as text."""
    with (Path(folder) / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def counts(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many patients are done, unreliable and failed."""
    found = {"done": 0, "unreliable": 0, "failed": 0}
    for record in records:
        found[record["status"]] += 1
    return found
