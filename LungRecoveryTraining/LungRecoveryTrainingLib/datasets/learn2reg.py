"""Data sets in the layout of Learn2Reg: NAME_dataset.json with imagesTr, masksTr, keypointsTr, labelsTr."""

import json
import re
from pathlib import Path

import numpy as np

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_file
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, check_present, header, stem, with_masks
from .manifest import Row

_DOWNLOAD = (
    "download a task of Learn2Reg (NLST, LungCT, ThoraxCBCT, OASIS, ...) from https://learn2reg.grand-challenge.org/"
    "datasets/ under that task's licence and unpack it, so that ROOT holds NAME_dataset.json beside imagesTr/, "
    "masksTr/, keypointsTr/ or labelsTr/"
)
# The key in an image's entry, the folder whose files bear the image's name, and the manifest's column.
_BESIDE = (
    ("mask", "masks", ".nii.gz", "mask"),
    ("label", "labels", ".nii.gz", "labels"),
    ("keypoints", "keypoints", ".csv", "landmarks"),
)


def collect(
    root: Path,
    output: Path,
    keypoints: bool = True,
    masks: bool = True,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """One row for each image of the dataset JSON: NAME_0012_0001 is time point 1 of the subject NAME_0012.

    A subject's fixed image is its baseline (time point -1 where it is not the first). Subjects of `registration_val`
    are for validation, images of `test` for testing, the rest for training. Keypoints (0-based voxels, x, y, z) are
    written as LPS mm into `output`/landmarks; `masks` segments the lungs of CTs that come without.
    """
    content = _content(root)
    images = _images(content)
    check_present(root, list(images), _DOWNLOAD)
    _check_count(content, images, root)
    held_out = {_identity(pair["fixed"])[0] for pair in _pairs(content, "registration_val")}
    fixed = _fixed_times(content)
    rows = []
    for number, (name, (part, entry)) in enumerate(images.items(), 1):
        subject, timepoint = _identity(name)
        grid = header(root / name)
        _check_shape(content, grid, root / name)
        split = "test" if part == "test" else "val" if subject in held_out else "train"
        files = _beside(root, name, entry)
        points = files.pop("landmarks", None)
        if points is not None and keypoints:
            files["landmarks"] = _in_mm(points, grid, output / "landmarks")
        if fixed.get(subject, 0.0) == timepoint > 0:
            timepoint = -1.0  # before all others, as the baseline of a manifest is
        rows.append(Row(subject, timepoint, root / name, split=split, **files))
        progress("headers", number / len(images), name)
    _check_points(rows)
    return with_masks(rows, output, workers, progress) if masks and _is_ct(content) else rows


def _content(root: Path) -> dict:
    """The dataset JSON, the one file *_dataset.json (or dataset.json) in the folder."""
    found = sorted([*root.glob("*_dataset.json"), *root.glob("dataset.json")])
    if len(found) != 1:
        raise BadInput(f"{root}: has {len(found)} files *_dataset.json and needs one; {_DOWNLOAD}")
    try:
        content = json.loads(found[0].read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{found[0]}: is no JSON; {_DOWNLOAD}") from error
    if not isinstance(content, dict) or not content.get("training"):
        raise BadInput(f"{found[0]}: lists no training image; {_DOWNLOAD}")
    return content


def _images(content: dict) -> dict[str, tuple[str, dict]]:
    """Each image's path below the root, with the part of the JSON that lists it and its entry."""
    images: dict[str, tuple[str, dict]] = {}
    for part in ("training", "test"):
        for entry in content.get(part) or ():
            entry = {"image": entry} if isinstance(entry, str) else entry
            if not isinstance(entry, dict) or "image" not in entry:
                raise BadInput(f"an entry of {part!r} in the dataset JSON names no image; {_DOWNLOAD}")
            images[entry["image"].removeprefix("./")] = (part, entry)
    return images


def _pairs(content: dict, key: str) -> list[dict[str, str]]:
    pairs = content.get(key) or []
    if not all(isinstance(pair, dict) and set(pair) >= {"fixed", "moving"} for pair in pairs):
        raise BadInput(f"{key!r} in the dataset JSON is no list of fixed and moving images; {_DOWNLOAD}")
    return [{which: pair[which].removeprefix("./") for which in ("fixed", "moving")} for pair in pairs]


def _fixed_times(content: dict) -> dict[str, float]:
    """The time point of the fixed image of each subject that is paired with itself."""
    times: dict[str, float] = {}
    for pair in (*_pairs(content, "training_paired_images"), *_pairs(content, "registration_val")):
        (subject, timepoint), (other, _) = _identity(pair["fixed"]), _identity(pair["moving"])
        if subject == other and times.setdefault(subject, timepoint) != timepoint:
            raise BadInput(f"the dataset JSON has two fixed images for {subject}; only one can be its baseline")
    return times


def _identity(name: str) -> tuple[str, float]:
    """The subject and the time point of an image's name."""
    found = re.fullmatch(r"(.+)_(\d{4})", stem(Path(name)))
    if not found:
        raise BadInput(f"{name}: is not named NAME_0001_0000 as Learn2Reg names images; {_DOWNLOAD}")
    return found[1], float(found[2])


def _is_ct(content: dict) -> bool:
    """Whether all images are CTs by the JSON's word (CT, FBCT, CBCT)."""
    modality = content.get("modality", {"0": "CT"})
    values = modality.values() if isinstance(modality, dict) else [modality]
    return all("CT" in str(value).upper() for value in values)


def _check_count(content: dict, images: dict, root: Path) -> None:
    listed = sum(part == "training" for part, _ in images.values())
    said = content.get("numTraining", listed)
    said = sum(said.values()) if isinstance(said, dict) else said
    if said != listed:
        raise BadInput(f"{root}: the dataset JSON promises {said} training images and lists {listed}; {_DOWNLOAD}")


def _check_shape(content: dict, grid: Grid, path: Path) -> None:
    shapes = content.get("tensorImageShape")
    shapes = list(shapes.values()) if isinstance(shapes, dict) else [shapes] if shapes else []
    if shapes and list(grid.size) not in [list(shape) for shape in shapes]:
        raise BadInput(f"{path}: has {grid.size} voxels, which the dataset JSON does not say; {_DOWNLOAD}")


def _beside(root: Path, name: str, entry: dict) -> dict[str, Path]:
    """The mask, labels and keypoints of an image: those its entry names, else those that bear its name."""
    files = {}
    folder, file = Path(name).parent.name, Path(name)
    for key, kind, ending, column in _BESIDE:
        named = entry.get(key)
        # Some tasks give their keypoints the images' ending in the JSON.
        place = Path(named).with_name(stem(Path(named)) + ending) if named else None
        path = root / (place or f"{folder.replace('images', kind)}/{stem(file)}{ending}")
        if path.is_file():
            files[column] = path
        elif named:
            raise BadInput(f"{path}: is named by the dataset JSON and missing; {_DOWNLOAD}")
    return files


def _in_mm(path: Path, grid: Grid, folder: Path) -> Path:
    """Keypoints in 0-based voxels as a CSV of LPS mm."""
    try:
        voxels = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise BadInput(f"{path}: holds no rows of three voxel numbers; {_DOWNLOAD}") from error
    if voxels.shape[1] != 3 or ((voxels < -0.5) | (voxels > np.array(grid.size) - 0.5)).any():
        raise BadInput(f"{path}: its keypoints do not lie in their image of {grid.size} voxels; {_DOWNLOAD}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    with atomic_file(target) as unfinished:
        np.savetxt(unfinished, grid.points(voxels), "%.4f", ",", header="x,y,z", comments="")
    return target


def _check_points(rows: list[Row]) -> None:
    """Keypoints of a subject's images correspond row by row."""
    counts: dict[str, set[int]] = {}
    for row in rows:
        if row.landmarks is not None:
            counts.setdefault(row.subject, set()).add(len(row.landmarks.read_text(encoding="utf-8").splitlines()) - 1)
    odd = [subject for subject, found in counts.items() if len(found) > 1]
    if odd:
        raise BadInput(f"the images of {odd[0]} have different numbers of keypoints; {_DOWNLOAD}")


LAYOUT = Layout("learn2reg", "Learn2Reg: any task in the challenge's layout", _DOWNLOAD, collect)
