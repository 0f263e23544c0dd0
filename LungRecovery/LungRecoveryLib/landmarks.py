"""Read matching points of two scans: CSV, Slicer markups and DIR-Lab text files, all to LPS mm.

- CSV in LPS mm (RAS where the header names its columns r, a, s): six columns hold both scans, three columns hold one.
- Slicer markups, .mrk.json and .fcsv: one scan each, RAS or LPS as the file itself says.
- DIR-Lab text (.txt): one scan each, 1-based voxel (x, y, z) in the order in which DIR-Lab stores its images. The grid
  of the image places them; where no image is at hand, the published grid of the case that the file's name gives.
"""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid

_TO_LPS = {"LPS": np.array([1.0, 1.0, 1.0]), "RAS": np.array([-1.0, -1.0, 1.0])}
_FCSV_CODES = {"0": "RAS", "1": "LPS"}

# Sizes in voxels and spacings in mm as published with the images (Castillo et al., Phys. Med. Biol. 54, 2009).
_DIRLAB_4DCT = {
    1: ((256, 256, 94), (0.97, 0.97, 2.5)),
    2: ((256, 256, 112), (1.16, 1.16, 2.5)),
    3: ((256, 256, 104), (1.15, 1.15, 2.5)),
    4: ((256, 256, 99), (1.13, 1.13, 2.5)),
    5: ((256, 256, 106), (1.10, 1.10, 2.5)),
    6: ((512, 512, 128), (0.97, 0.97, 2.5)),
    7: ((512, 512, 136), (0.97, 0.97, 2.5)),
    8: ((512, 512, 128), (0.97, 0.97, 2.5)),
    9: ((512, 512, 128), (0.97, 0.97, 2.5)),
    10: ((512, 512, 120), (0.97, 0.97, 2.5)),
}
# Voxel (1, 1, 1) is the right anterior superior corner: x runs to the left, y to posterior, z to inferior.
_DIRLAB_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@dataclass(frozen=True)
class Points:
    """Points of one scan: `points` (N, 3) LPS mm, `labels` their names (empty where the file has none).

    `grid` is the voxel grid that the points were given on, None for points given in mm.
    """

    points: np.ndarray
    labels: tuple[str, ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True)
class LandmarkPairs:
    """Matching points (N, 3), LPS mm: row i of `fixed` (the baseline) is the same place as row i of `moving`.

    `moving_grid` is the voxel grid of the moving scan where the files themselves tell it, else None.
    """

    fixed: np.ndarray
    moving: np.ndarray
    moving_grid: Grid | None = None


def dirlab_grid(case: int) -> Grid:
    """The published grid of a DIR-Lab 4DCT case (1 to 10), its origin in the first voxel; KeyError for another."""
    size, spacing = _DIRLAB_4DCT[case]
    return Grid(size, spacing, (0.0, 0.0, 0.0), _DIRLAB_DIRECTION)


def read_landmarks(
    path: str | Path,
    moving_path: str | Path | None = None,
    fixed_grid: Grid | None = None,
    moving_grid: Grid | None = None,
) -> LandmarkPairs:
    """Matching points from one CSV with six columns, or from two files with one scan's points each.

    `path` holds the fixed scan's (the baseline's) points, `moving_path` the moving scan's. The grids are those of the
    two images and only matter for DIR-Lab text files. Two files match point by point in their order, or by name where
    both name every point, each once and alike. Raises BadInput for a file that cannot be used.
    """
    path = Path(path)
    if moving_path is None:
        return _read_pairs(path)
    moving_path = Path(moving_path)
    fixed, moving = read_points(path, fixed_grid), read_points(moving_path, moving_grid)
    if len(fixed.points) != len(moving.points):
        raise BadInput(
            f"{path.name} has {len(fixed.points)} points and {moving_path.name} {len(moving.points)}; "
            "give two files with the same points in the same order"
        )
    order = _matching_order(fixed.labels, moving.labels)
    return LandmarkPairs(fixed.points, moving.points[order], moving.grid)


def read_points(path: str | Path, grid: Grid | None = None) -> Points:
    """The points of one scan from a CSV with three columns, Slicer markups or a DIR-Lab text file.

    `grid` is the grid of the scan's image; only DIR-Lab text files use it. Raises BadInput.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".json"):
        found = _read_markups_json(path)
    elif name.endswith(".fcsv"):
        found = _read_fcsv(path)
    elif name.endswith(".txt"):
        found = _read_dirlab(path, grid)
    else:
        numbers, to_lps = _read_csv(path)
        if numbers.shape[1] != 3:
            raise BadInput(
                f"{path.name} has {numbers.shape[1]} columns of numbers; one scan's landmarks need three, x, y, z in mm"
            )
        found = Points(numbers * to_lps)
    if not len(found.points):
        raise BadInput(f"{path.name} holds no landmark")
    if not np.isfinite(found.points).all():
        raise BadInput(f"{path.name} has a landmark that is not a finite number; correct or remove it")
    return found


def _read_pairs(path: Path) -> LandmarkPairs:
    if path.name.lower().endswith((".json", ".fcsv", ".txt")):
        raise BadInput(f"{path.name} holds the points of one scan only; give the other scan's file as well")
    numbers, to_lps = _read_csv(path)
    if numbers.shape[1] != 6:
        raise BadInput(
            f"{path.name} has {numbers.shape[1]} columns of numbers; landmark pairs need six "
            "(x, y, z of the baseline, then of the follow-up, in mm), or give one file per scan"
        )
    if not np.isfinite(numbers).all():
        raise BadInput(f"{path.name} has a landmark that is not a finite number; correct or remove it")
    return LandmarkPairs(numbers[:, :3] * to_lps, numbers[:, 3:] * to_lps)


def _matching_order(fixed: tuple[str, ...], moving: tuple[str, ...]) -> list[int] | slice:
    """Which moving point belongs to each fixed one: by name where the names are unique and the same, else in order."""
    named = bool(fixed) and len(set(fixed)) == len(fixed) and sorted(fixed) == sorted(moving)
    return [moving.index(label) for label in fixed] if named else slice(None)


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise BadInput(f"{path} does not exist; give the path of a landmark file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path.name} cannot be read as text; give a landmark file (CSV, markups or DIR-Lab)") from error


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The columns of numbers (N, 3 or 6 or whatever there is) and the signs that take x, y, z to LPS.

    A header row and a column of names are allowed; fields part at commas, semicolons (then with decimal commas), tabs.
    """
    text = _read_text(path)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise BadInput(f"{path.name} holds no landmark")
    delimiter = next((d for d in (";", "\t", ",") if d in lines[0]), None)
    if delimiter == ";":
        lines = [line.replace(",", ".") for line in lines]
    rows = list(csv.reader(lines, delimiter=delimiter)) if delimiter else [line.split() for line in lines]
    header = None if any(_is_number(field) for field in rows[0]) else [field.strip().lower() for field in rows.pop(0)]
    if not rows:
        raise BadInput(f"{path.name} holds no landmark")
    columns = [i for i, field in enumerate(rows[0]) if _is_number(field)]
    if header and len(columns) > 3:
        named = [i for i in columns if i < len(header) and re.search(r"(^|[^a-z])[xyzras]$", header[i])]
        columns = named or columns
    numbers = np.empty((len(rows), len(columns)))
    for r, row in enumerate(rows):
        try:
            numbers[r] = [float(row[i]) for i in columns]
        except (ValueError, IndexError) as error:
            raise BadInput(f"{path.name}: row {r + 1} of the landmarks is not complete or not a number") from error
    axes = [header[i][-1:] for i in columns if i < len(header)] if header else []
    return numbers, _TO_LPS["RAS" if axes[:3] == list("ras") else "LPS"]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_fcsv(path: Path) -> Points:
    """Slicer's older point list: a header in comment lines, RAS where it does not say otherwise."""
    system, columns, rows = "RAS", ["id", "x", "y", "z"], []
    for line in _read_text(path).splitlines():
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            if key.strip().lower() == "coordinatesystem":
                system = value.strip().upper()
            elif key.strip().lower() == "columns":
                columns = [column.strip().lower() for column in value.split(",")]
        elif line.strip():
            rows.append(next(csv.reader([line])))
    if not {"x", "y", "z"} <= set(columns):
        raise BadInput(f"{path.name} names no columns x, y and z; save the point list again in Slicer")
    where = [columns.index(axis) for axis in "xyz"]
    label = columns.index("label") if "label" in columns else None
    try:
        points = np.array([[float(row[i]) for i in where] for row in rows]).reshape(-1, 3)
    except (ValueError, IndexError) as error:
        raise BadInput(f"{path.name} has a row without three numbers; save the point list again in Slicer") from error
    labels = tuple(row[label] for row in rows) if label is not None and all(len(row) > label for row in rows) else ()
    return Points(points * _signs(_FCSV_CODES.get(system, system), path), labels)


def _read_markups_json(path: Path) -> Points:
    """Slicer's markups file with one list of control points; LPS where it does not say otherwise."""
    try:
        markups = json.loads(_read_text(path))["markups"]
        nodes = [node for node in markups if node.get("controlPoints")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path.name} is no Slicer markups file; save the point list as .mrk.json") from error
    if len(nodes) != 1:
        raise BadInput(f"{path.name} holds {len(nodes)} lists of points; save one point list per file")
    points, labels = [], []
    for point in nodes[0]["controlPoints"]:
        label = str(point.get("label", ""))
        if point.get("positionStatus", "defined") != "defined":
            raise BadInput(f"{path.name}: point {label or len(points) + 1} has not been placed; place or delete it")
        points.append(point.get("position"))
        labels.append(label)
    try:
        array = np.array(points, float).reshape(len(points), 3)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path.name} has a point without a position; save the point list again in Slicer") from error
    return Points(array * _signs(str(nodes[0].get("coordinateSystem", "LPS")).upper(), path), tuple(labels))


def _signs(system: str, path: Path) -> np.ndarray:
    if system not in _TO_LPS:
        raise BadInput(f"{path.name} gives its points in {system}; save them in LPS or RAS mm")
    return _TO_LPS[system]


def _read_dirlab(path: Path, grid: Grid | None) -> Points:
    """DIR-Lab's text: a row of three whole numbers a point, 1-based voxel (x, y, z)."""
    if grid is None:
        grid = _published_grid(path)
    rows = [line.replace(",", " ").split() for line in _read_text(path).splitlines() if line.strip()]
    try:
        voxels = np.array([[float(field) for field in row] for row in rows]).reshape(len(rows), 3)
    except ValueError as error:
        raise BadInput(f"{path.name} is no DIR-Lab landmark file: every row needs three voxel numbers") from error
    if (voxels != np.rint(voxels)).any():
        raise BadInput(f"{path.name} holds fractions, no voxel numbers; save points in mm as CSV with the ending .csv")
    if ((voxels < 1) | (voxels > np.array(grid.size))).any():
        size = " x ".join(str(n) for n in grid.size)
        raise BadInput(f"{path.name} has landmarks outside the image of {size} voxels; give the image they belong to")
    return Points(grid.points(voxels - 1.0), grid=grid)


def _published_grid(path: Path) -> Grid:
    _read_text(path)  # a file that is missing is to be told as missing, whatever its name
    found = re.search(r"case[ _-]?(\d+)", path.name, re.IGNORECASE)
    if not found or int(found.group(1)) not in _DIRLAB_4DCT:
        raise BadInput(f"{path.name} is in voxels and its name gives no DIR-Lab 4DCT case; give the images too")
    return dirlab_grid(int(found.group(1)))
