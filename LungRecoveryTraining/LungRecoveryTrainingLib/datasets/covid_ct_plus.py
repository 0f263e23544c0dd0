"""COVID-CT+: CT slices of COVID-19 patients as single pictures, used for density histograms ONLY.

Single slices have no third dimension and no voxel size, so they cannot be registered and make no pairs: the manifest
of this data set is empty. What it is good for is how dense lungs with COVID-19 are, which synthetic lesions are judged
by.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_write_json
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, listed
from .manifest import Row
from .processes import in_processes

SCHEMA = "lungrecovery-density-histograms-1"
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm")
EDGES = np.arange(-1050.0, 151.0, 25.0)
LEAST_SLICES = 10
# Lung in a slice: what is aerated and enclosed by the body, and what it encloses itself.
_AERATED_HU, _LEAST_PIXELS_SHARE = -400.0, 0.01
_DOWNLOAD = (
    "get the slices of COVID-CT+ from its authors, on their terms, and put them as ROOT/CLASS/PATIENT/*.png (.jpg, "
    ".tif or .dcm), with a folder for each class (COVID, pneumonia, normal) and in it one for each patient"
)


def collect(
    root: Path,
    output: Path,
    window: tuple[float, float] = (-1350.0, 150.0),
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """Write `output`/density_histograms.json and give NO rows: single slices are used for density histograms only.

    Each class has the number of its patients, slices and lung pixels and the share of these in steps of 25 HU.
    `window` is the HU that black and white of 8-bit pictures stand for (level -600, width 1500 unless told); 16-bit
    pictures and DICOM are read as HU. Raises BadInput for a class without slices or patients with fewer than ten.
    """
    low, high = window
    if not low < high:
        raise BadInput(f"a window from {low:g} to {high:g} HU is empty; give the HU of black, then of white")
    classes = _classes(root)
    tasks = [(name, patient, slices, (low, high)) for name, found in classes.items() for patient, slices in found]
    histograms = {name: _empty(len(found)) for name, found in classes.items()}
    for number, (name, slices, pixels, counts) in enumerate(in_processes(_patient, tasks, workers), 1):
        histogram = histograms[name]
        histogram["slices"] += slices
        histogram["pixels"] += pixels
        histogram["counts"] = histogram["counts"] + counts
        progress("slices", number / len(tasks), name)
    dark = [name for name, histogram in histograms.items() if not histogram["pixels"]]
    if dark:
        raise BadInput(f"{root}: no lung is seen in the slices of {listed(dark)}; give the window they were made with")
    content = {
        "schema": SCHEMA,
        "use": "density histograms only: single slices cannot be registered",
        "window_hu": [low, high],
        "edges_hu": EDGES.tolist(),
        "classes": {name: _plain(histogram) for name, histogram in histograms.items()},
    }
    atomic_write_json(output / "density_histograms.json", content)
    return []


def _classes(root: Path) -> dict[str, list[tuple[str, list[Path]]]]:
    """The patients of each class with their slices."""
    classes = {folder.name: list(_patients(folder)) for folder in sorted(root.iterdir()) if folder.is_dir()}
    if not classes:
        raise BadInput(f"{root}: has no folder of a class; {_DOWNLOAD}")
    for name, patients in classes.items():
        if not patients:
            raise BadInput(f"{root / name}: has no folder of a patient with slices; {_DOWNLOAD}")
    short = [patient for found in classes.values() for patient, slices in found if len(slices) < LEAST_SLICES]
    if short:
        raise BadInput(f"{root}: fewer than {LEAST_SLICES} slices of {listed(short)}; download them again")
    return classes


def _patients(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        slices = sorted(path for path in place.rglob("*") if path.suffix.lower() in PICTURES)
        if slices:
            yield place.name, slices


def _patient(task: tuple[str, str, list[Path], tuple[float, float]]) -> tuple[str, int, int, np.ndarray]:
    """The class, number of slices and of lung pixels, and the counts in the histogram of one patient."""
    name, _, slices, window = task
    counts = np.zeros(len(EDGES) - 1, np.int64)
    for path in slices:
        hu = read_slice(path, window)
        counts += np.histogram(hu[lung_of(hu)], EDGES)[0]
    return name, len(slices), int(counts.sum()), counts


def read_slice(path: Path, window: tuple[float, float]) -> np.ndarray:
    """A slice in HU, (y, x) float32; 8-bit grey values are spread over `window`. Raises BadInput."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path}: cannot be read as a picture; download it again") from error
    if image.GetNumberOfComponentsPerPixel() > 1:  # grey stored as colours
        image = sitk.VectorIndexSelectionCast(image, 0)
    array = sitk.GetArrayFromImage(image)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or min(array.shape) < 64:
        raise BadInput(f"{path}: is no slice, its shape is {array.shape}; download it again")
    low, high = window
    return (low + array / 255.0 * (high - low) if array.dtype == np.uint8 else array).astype(np.float32)


def lung_of(hu: np.ndarray) -> np.ndarray:
    """The lungs in a slice (y, x) in HU: air inside the body, closed and filled; bool."""
    aerated = hu < _AERATED_HU
    labels, count = ndimage.label(aerated)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = sizes >= _LEAST_PIXELS_SHARE * hu.size
    kept[0] = False
    kept[border] = False
    inside = ndimage.binary_closing(np.pad(kept[labels], 6), iterations=5)[6:-6, 6:-6]
    return ndimage.binary_fill_holes(inside)


def _empty(patients: int) -> dict:
    return {"patients": patients, "slices": 0, "pixels": 0, "counts": np.zeros(len(EDGES) - 1, np.int64)}


def _plain(histogram: dict) -> dict:
    shares = histogram.pop("counts") / histogram["pixels"]
    return histogram | {"shares": [round(float(share), 6) for share in shares]}


LAYOUT = Layout("covid-ct-plus", "COVID-CT+: single slices, for density histograms only", _DOWNLOAD, collect)
