"""The manifest: which scans a data set has, what is known of each, and who is for training, validation and testing.

CSV or JSON, by the file's ending. CSV has one row a scan under the header `COLUMNS`; JSON is an object whose "rows" are
objects with these keys. Only subject, timepoint and image are needed. Paths are relative to the manifest's folder, or
absolute.

- `timepoint`: a number (days, breathing phase or index); the lowest of a subject is its baseline, the fixed scan.
- `mask`: the lungs (or brain), any non-zero label; `labels`: an integer label map.
- `landmarks`: points as :func:`LungRecoveryLib.landmarks.read_points` reads them; row i is the same point in all time
  points of a subject.
- `displacement`: the true phi(p) - p, LPS mm, from the baseline to this time point, a vector image on the baseline's
  grid.
- `split`: train, val or test; the whole subject belongs to one.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from io import StringIO
from itertools import combinations, permutations
from pathlib import Path

import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_write_json, atomic_write_text

SPLITS = ("train", "val", "test")
MODES = ("baseline", "all", "subjects", "alone")
SCHEMA = "lungrecovery-manifest-1"
_FILES = ("image", "mask", "labels", "landmarks", "displacement")
_NEEDED = ("subject", "timepoint", "image")


@dataclass(frozen=True)
class Row:
    """One scan of a subject; see the module's text for what the fields mean."""

    subject: str
    timepoint: float
    image: Path
    mask: Path | None = None
    labels: Path | None = None
    landmarks: Path | None = None
    displacement: Path | None = None
    split: str = "train"

    @property
    def name(self) -> str:
        """What messages call the row."""
        return f"subject {self.subject} at {self.timepoint:g}"

    @property
    def files(self) -> dict[str, Path]:
        """The files of the row by column, those it has."""
        found = {column: getattr(self, column) for column in _FILES}
        return {column: path for column, path in found.items() if path is not None}


COLUMNS = tuple(f.name for f in fields(Row))


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest and the file that holds them."""

    rows: tuple[Row, ...]
    path: Path

    def of(self, split: str) -> tuple[Row, ...]:
        """The rows of a split, by subject, then by time point. Raises BadInput for an unknown split."""
        _check_split(split, self.path.name)
        return tuple(sorted((r for r in self.rows if r.split == split), key=lambda r: (r.subject, r.timepoint)))

    def pairs(self, split: str, mode: str = "baseline") -> list[tuple[Row, Row]]:
        """The (fixed, moving) pairs of a split.

        Modes: ``baseline``, a subject's baseline with each of its later scans; ``all``, every two scans of a subject in
        both directions; ``subjects``, the baselines of every two subjects; ``alone``, each scan with itself. A pair
        whose fixed scan is not the moving one's own baseline loses the displacement, which is not true of it. Raises
        BadInput for an unknown split or mode.
        """
        if mode not in MODES:
            raise BadInput(f"there are no pairs of the mode {mode!r}; choose one of {', '.join(MODES)}")
        series: dict[str, list[Row]] = {}
        for row in self.of(split):
            series.setdefault(row.subject, []).append(row)
        if mode == "baseline":
            return [(scans[0], moving) for scans in series.values() for moving in scans[1:]]
        if mode == "subjects":
            return [(a, replace(b, displacement=None)) for a, b in combinations([s[0] for s in series.values()], 2)]
        if mode == "alone":
            return [(row, replace(row, displacement=None)) for scans in series.values() for row in scans]
        return [
            (fixed, moving if fixed is scans[0] else replace(moving, displacement=None))
            for scans in series.values()
            for fixed, moving in permutations(scans, 2)
        ]


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest and check that every file it names is there and begins as it should.

    Raises BadInput naming the row and the file for a file that is gone or unreadable, a column or split that is not
    known, a time point that is no number, a scan that stands there twice and a subject in two splits.
    """
    path = Path(path)
    rows = [_row(record, number, path) for number, record in enumerate(_records(path), 1)]
    if not rows:
        raise BadInput(f"{path}: names no scan; single slices (COVID-CT+) make none, else prepare the data set again")
    _check_subjects(rows, path.name)
    for number, row in enumerate(rows, 1):
        for column, file in row.files.items():
            _check_file(file, f"{path.name}, row {number} ({row.name}): its {column} {file}")
    return Manifest(tuple(rows), path)


def write_manifest(rows: Iterable[Row], path: str | Path) -> Manifest:
    """Write rows to a .csv or .json file, paths relative to its folder where they lie in it; returns the manifest.

    Raises BadInput for rows that contradict each other and where the file cannot be written.
    """
    path, rows = Path(path), tuple(rows)
    _check_subjects(rows, path.name)
    for row in rows:
        _check_split(row.split, f"{path.name}, {row.name}")
    folder = path.parent.resolve()
    records = [_record(row, folder) for row in rows]
    if is_json(path):
        atomic_write_json(path, {"schema": SCHEMA, "rows": records})
    else:
        text = StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        atomic_write_text(path, text.getvalue())
    return Manifest(rows, path)


def is_json(path: Path) -> bool:
    """Whether a manifest's name is that of JSON, not CSV. Raises BadInput for any other ending."""
    if path.suffix.lower() not in (".csv", ".json"):
        raise BadInput(f"{path}: a manifest is CSV or JSON; give a name that ends in .csv or .json")
    return path.suffix.lower() == ".json"


def _records(path: Path) -> list[Mapping[str, object]]:
    """The rows as they stand in the file."""
    as_json = is_json(path)
    if not path.is_file():
        raise BadInput(f"{path}: does not exist; make the manifest with `lungrecovery-train prepare`")
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text)["rows"] if as_json else list(csv.DictReader(StringIO(text)))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as a manifest; prepare the data set again") from error
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise BadInput(f"{path}: its rows are no list of objects; prepare the data set again")
    return content


def _row(record: Mapping[str, object], number: int, path: Path) -> Row:
    where = f"{path.name}, row {number}"
    unknown = [str(key) for key in record if key not in COLUMNS]
    if unknown:
        what = "more fields than the header" if None in record else f"no known column: {', '.join(unknown)}"
        raise BadInput(f"{where}: has {what}; the columns are {', '.join(COLUMNS)}")
    values = {key: str(value).strip() for key, value in record.items() if value is not None and str(value).strip()}
    missing = [column for column in _NEEDED if column not in values]
    if missing:
        raise BadInput(f"{where}: has no {' and no '.join(missing)}; fill it in")
    try:
        timepoint = float(values["timepoint"])
    except ValueError as error:
        raise BadInput(f"{where}: its timepoint {values['timepoint']!r} is no number; give days or an index") from error
    _check_split(values.get("split", "train"), where)
    files = {column: path.parent / values[column] for column in _FILES if column in values}
    return Row(values["subject"], timepoint, split=values.get("split", "train"), **files)


def _record(row: Row, folder: Path) -> dict[str, object]:
    record: dict[str, object] = {"subject": row.subject, "timepoint": row.timepoint, "split": row.split}
    for column in _FILES:
        record[column] = _relative(row.files[column], folder) if column in row.files else ""
    return {column: record[column] for column in COLUMNS}


def _relative(path: Path, folder: Path) -> str:
    resolved = path.resolve()
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else str(resolved)


def _check_split(split: str, where: str) -> None:
    if split not in SPLITS:
        raise BadInput(f"{where}: there is no split {split!r}; choose one of {', '.join(SPLITS)}")


def _check_subjects(rows: Sequence[Row], name: str) -> None:
    seen: set[tuple[str, float]] = set()
    splits: dict[str, str] = {}
    for row in rows:
        if (row.subject, row.timepoint) in seen:
            raise BadInput(f"{name}: {row.name} stands there twice; give each scan its own time point")
        seen.add((row.subject, row.timepoint))
        if splits.setdefault(row.subject, row.split) != row.split:
            raise BadInput(f"{name}: subject {row.subject} is in two splits; a patient belongs to one only")


def _check_file(path: Path, what: str) -> None:
    """Raise BadInput unless a file is there and, where it is an image, its header can be read."""
    if not path.exists():
        raise BadInput(f"{what} is gone; restore it or prepare the data set again")
    if path.is_dir():
        if not any(path.iterdir()):
            raise BadInput(f"{what} is an empty folder; restore the series")
        return
    if path.suffix.lower() in (".csv", ".txt", ".json", ".fcsv"):
        if not path.stat().st_size:
            raise BadInput(f"{what} is empty; restore it")
        return
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInput(f"{what} cannot be read as an image; restore it or leave the row out") from error
