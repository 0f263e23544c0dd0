"""Training pairs as tensors on the network's grid.

A sample is a dict, without a batch axis:

- `fixed`, `moving` float32 (1, z, y, x): (HU + 1000) / 1000 in the lungs and 1.0 around them; of brains the intensity
  over its 99.5th percentile and 0 around.
- `fixed_mask`, `moving_mask` uint8 (1, z, y, x): lungs or brain.
- `displacement` float32 (3, z, y, x): the true u(p), components x, y, z in voxels of this grid: the aligned moving scan
  shows at p + u(p) the tissue that the fixed scan shows at p; zeros where it is not known.
- `truth` uint8 (1, z, y, x): where the displacement is known and counts.
- `fixed_labels`, `moving_labels` uint8 (1, z, y, x) where the rows have labels.
- `fixed_points`, `moving_points` float32 (K, 3), x, y, z in voxels of this grid, NaN for a row without a point, where
  the rows have landmarks.
- `subject`, `pair`: text.

The grid has cubic voxels along the fixed scan's axes and covers the fixed lungs; the moving scan lies on it through the
affine alignment of the lungs, as when the network is used.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from LungRecoveryLib import grids, images
from LungRecoveryLib.anatomy.lungs import segment_lungs
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.image_files import single_volume
from LungRecoveryLib.landmarks import read_points
from LungRecoveryLib.registration.align import affine, align_lungs
from LungRecoveryLib.registration.predict import network_inputs
from LungRecoveryLib.registration.prepare import MARGIN_VOXELS, PreparedPair, prepare
from LungRecoveryLib.timepoints import about

from .manifest import Row
from .surroundings import real_arrays

ANATOMIES = ("lungs", "whole_chest", "brain")
GROUND = {"lungs": 1.0, "brain": 0.0}
TEXTS = ("subject", "pair")
# About the spacing (mm) that registration works on: the network's grid averages whole blocks of its voxels.
WORKING_MM = 1.5

Sample = dict[str, torch.Tensor | str]
Map = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From fixed points (N, 3) to the moving points (N, 3) of the same tissue, LPS mm, and which are known (N,)."""


@dataclass(eq=False)
class Scan:
    """A scan in memory: `image` (HU, or any intensity of a brain), `mask` and `labels` on any grid, `points` (K, 3)."""

    image: sitk.Image
    mask: sitk.Image
    labels: sitk.Image | None = None
    points: np.ndarray | None = None


@dataclass(eq=False)
class _Inputs:
    """Fixed and aligned moving images and masks, tensors (1, z, y, x) on `grid`."""

    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_mask: torch.Tensor
    moving_mask: torch.Tensor
    grid: Grid


def make_sample(
    fixed: Row,
    moving: Row,
    spacing_mm: float = 3.0,
    size: tuple[int, int, int] | None = None,
    align: bool = True,
    anatomy: str = "lungs",
) -> Sample:
    """Read a pair of rows and make its sample.

    `size` (z, y, x) pads and crops about the lungs' centre, None keeps the lungs' box. Without `align` the scans lie as
    their files say. `anatomy` is ``lungs`` (CT in HU; lungs are segmented where a row has no mask), ``whole_chest``
    (the same with all around the lungs, see `surroundings`) or ``brain`` (any intensity; the mask or the labels of each
    row are needed). `moving.displacement` must be true from `fixed`. Raises BadInput naming the row and the file.
    """
    scans = [_named(row, read_row, row, anatomy) for row in (fixed, moving)]
    if anatomy == "whole_chest":
        shown = dict(zip(("fixed", "moving"), scans, strict=True))
        for name, scan in shown.items():
            _check_lungs(scan.mask, name)
        arrays = real_arrays({name: (scan.image, scan.mask) for name, scan in shown.items()}, spacing_mm, size)
        sample = {key: torch.from_numpy(array) for key, array in arrays.items()}
        return sample | {"subject": fixed.subject, "pair": pair_name(fixed, moving)}
    known = None if moving.displacement is None else _named(moving, _displacement_map, moving, scans[0])
    sample = sample_of(*scans, known, spacing_mm, size, align, anatomy)
    return sample | {"subject": fixed.subject, "pair": pair_name(fixed, moving)}


def pair_name(fixed: Row, moving: Row) -> str:
    """What names a pair: "subject:fixed-moving", with both subjects where they differ."""
    if fixed.subject == moving.subject:
        return f"{fixed.subject}:{fixed.timepoint:g}-{moving.timepoint:g}"
    return f"{fixed.subject}:{fixed.timepoint:g}-{moving.subject}:{moving.timepoint:g}"


def read_row(row: Row, anatomy: str = "lungs") -> Scan:
    """The scan of a row with its mask, labels and landmarks. Raises BadInput."""
    if anatomy not in ANATOMIES:
        raise BadInput(f"there is no anatomy {anatomy!r}; choose one of {', '.join(ANATOMIES)}")
    if anatomy == "brain":
        image = sitk.Cast(single_volume(images.read_image(row.image), str(row.image)), sitk.sitkFloat32)
    else:
        image = images.read_scan(row.image).image
    labels = None if row.labels is None else read_labels(row.labels, image)
    if row.mask is not None:
        mask = images.read_mask(row.mask, image)
    elif anatomy != "brain":
        mask = segment_lungs(image)
    elif labels is not None:
        mask = labels
    else:
        raise BadInput(f"{row.image}: a brain needs its mask or its labels; name them in the manifest")
    points = None if row.landmarks is None else read_points(row.landmarks, grids.grid_of(image)).points
    return Scan(image, mask, labels, points)


def read_labels(path, reference: sitk.Image) -> sitk.Image:
    """A label map as uint8 on the grid of `reference`. Raises BadInput where its values are not 0, 1, ... 255."""
    labels = single_volume(images.read_image(path), str(path))
    array = sitk.GetArrayViewFromImage(labels)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise BadInput(f"{path}: its labels are no whole numbers; give a label map with 0, 1, 2, ...")
    if array.min() < 0 or array.max() > 255:
        raise BadInput(f"{path}: has labels from {array.min():g} to {array.max():g}; renumber them into 0 to 255")
    return grids.resample_mask(sitk.Cast(labels, sitk.sitkUInt8), reference)


def sample_of(
    fixed: Scan,
    moving: Scan,
    known: Map | None = None,
    spacing_mm: float = 3.0,
    size: tuple[int, int, int] | None = None,
    align: bool = True,
    anatomy: str = "lungs",
    align_mm: float = WORKING_MM,
) -> Sample:
    """The sample of two scans in memory (without `subject` and `pair`); see :func:`make_sample`.

    `known` is the true map from fixed to moving points where it is known. `align_mm` is the spacing (mm) at which the
    lungs are aligned; at 2.5 that takes a third of the time and leaves the landmarks 1 to 4 % further apart.
    """
    if anatomy == "brain":
        alignment = affine(np.eye(3), np.zeros(3), np.zeros(3))
        inputs = _brain_inputs(fixed, moving, spacing_mm)
    else:
        _check_lungs(fixed.mask, "fixed")
        _check_lungs(moving.mask, "moving")
        alignment = _alignment(fixed, moving, align_mm) if align else affine(np.eye(3), np.zeros(3), np.zeros(3))
        inputs = network_inputs(_prepared(fixed, moving, _working(spacing_mm)), alignment, spacing_mm)
    sample: Sample = {
        "fixed": inputs.fixed.float(),
        "moving": inputs.moving.float(),
        "fixed_mask": (inputs.fixed_mask > 0.5).to(torch.uint8),
        "moving_mask": (inputs.moving_mask > 0.5).to(torch.uint8),
    }
    back = alignment.GetInverse()
    sample |= _truth(sample["fixed_mask"], inputs.grid, back, known)
    sample |= _labels(fixed, moving, inputs.grid, alignment)
    sample |= _points(fixed, moving, inputs.grid, back)
    return sample if size is None else fit_to(sample, size, GROUND[anatomy])


def fit_to(sample: Mapping, size: tuple[int, int, int], ground: float = 1.0) -> Sample:
    """The sample padded and cropped to `size` (z, y, x) about the centre of the fixed mask's box.

    Images are padded with `ground`, everything else with 0; points move along.
    """
    start = _start(sample["fixed_mask"][0], size)
    fitted: Sample = {}
    for key, value in sample.items():
        if key in TEXTS:
            fitted[key] = value
        elif key.endswith("_points"):
            fitted[key] = value - torch.tensor(start[::-1], dtype=value.dtype)
        else:
            fitted[key] = _window(value, start, size, ground if key in ("fixed", "moving") else 0.0)
    return fitted


def stack(samples: Iterable[Mapping]) -> dict[str, torch.Tensor]:
    """Samples of one size as a batch: tensors with a batch axis in front; texts are left out.

    Lists of points of different lengths are filled up with NaN. Raises BadInput where the sizes differ or only some of
    the samples have labels or points.
    """
    samples = list(samples)
    keys = [key for key in samples[0] if key not in TEXTS]
    for sample in samples:
        if {key for key in sample if key not in TEXTS} != set(keys):
            raise BadInput("some samples have labels or landmarks and some have none; make them from one data set")
        if sample["fixed"].shape != samples[0]["fixed"].shape:
            raise BadInput("the samples differ in size; give a size to fit all of them to")
    lists = {key: [sample[key] for sample in samples] for key in keys}
    return {key: torch.stack(fill_up(v) if key.endswith("_points") else v) for key, v in lists.items()}


def fill_up(points: list[torch.Tensor]) -> list[torch.Tensor]:
    """Lists of points (K, 3) filled up with NaN to the longest."""
    longest = max(len(p) for p in points)
    return [torch.nn.functional.pad(p, (0, 0, 0, longest - len(p)), value=float("nan")) for p in points]


def _named(row: Row, function, *arguments):
    with about(row.name):
        return function(*arguments)


def _working(spacing_mm: float) -> float:
    """The spacing near WORKING_MM of which `spacing_mm` is a whole multiple."""
    return spacing_mm / max(1, round(spacing_mm / WORKING_MM))


def _prepared(fixed: Scan, moving: Scan, spacing_mm: float) -> PreparedPair:
    return prepare(fixed.image, moving.image, fixed.mask, moving.mask, spacing_mm, torch.device("cpu"))


def _alignment(fixed: Scan, moving: Scan, spacing_mm: float) -> sitk.AffineTransform:
    return align_lungs(_prepared(fixed, moving, spacing_mm))


def _check_lungs(mask: sitk.Image, which: str) -> None:
    if not (sitk.GetArrayViewFromImage(mask) != 0).any():
        raise BadInput(f"the {which} scan's mask is empty; give one that marks the lungs")


def _start(mask: torch.Tensor, size: tuple[int, int, int]) -> list[int]:
    """The index (z, y, x) at which a window of `size` centred on a mask (z, y, x) begins; it may lie outside."""
    start = []
    for axis, wanted in enumerate(size):
        along = mask.bool().any(dim=tuple(a for a in range(3) if a != axis)).nonzero().flatten()
        middle = (along[0] + along[-1]).item() / 2 if len(along) else (mask.shape[axis] - 1) / 2
        start.append(round(middle - (wanted - 1) / 2))
    return start


def _window(image: torch.Tensor, start: list[int], size: tuple[int, int, int], value: float) -> torch.Tensor:
    window = torch.full((image.shape[0], *size), value, dtype=image.dtype)
    source, target = [slice(None)], [slice(None)]
    for first, wanted, there in zip(start, size, image.shape[1:], strict=True):
        low, high = max(first, 0), min(first + wanted, there)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - first, max(high, low) - first))
    window[tuple(target)] = image[tuple(source)]
    return window


def _brain_inputs(fixed: Scan, moving: Scan, spacing_mm: float) -> _Inputs:
    grid = grids.isotropic_grid(grids.crop_to_mask(fixed.mask, MARGIN_VOXELS * spacing_mm), spacing_mm)
    values = []
    for scan in (fixed, moving):
        mask = grids.to_array(grids.resample_mask(scan.mask, grid)) != 0
        image = grids.to_array(grids.resample(scan.image, grid, outside=0.0), np.float32)
        if not mask.any() or not (highest := float(np.percentile(image[mask], 99.5))) > 0:
            raise BadInput("a brain's mask lies outside its image or on zeros; give the mask drawn on that image")
        values.append(
            (torch.from_numpy(np.where(mask, image / highest, 0.0)).float()[None], torch.from_numpy(mask)[None])
        )
    return _Inputs(values[0][0], values[1][0], values[0][1].float(), values[1][1].float(), grid)


def _truth(mask: torch.Tensor, grid: Grid, back: sitk.Transform, known: Map | None) -> Sample:
    """u(p) = A^-1(phi(p)) - p in voxels of the grid, inside the fixed mask where phi is known."""
    displacement = np.zeros((3, *grid.shape), np.float32)
    truth = np.zeros(grid.shape, np.uint8)
    if known is not None:
        voxels = np.argwhere(mask[0].numpy())
        moved, found = known(grid.points(voxels[:, ::-1]))
        voxels, moved = voxels[found], moved[found]
        where = tuple(voxels.T)
        displacement[:, *where] = (grid.indices(_apply(back, moved)) - voxels[:, ::-1]).T
        truth[where] = 1
    return {"displacement": torch.from_numpy(displacement), "truth": torch.from_numpy(truth)[None]}


def _apply(transform: sitk.AffineTransform, points: np.ndarray) -> np.ndarray:
    """An affine transform of many points (N, 3) at once."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    return points @ matrix.T + np.array(transform.TransformPoint((0.0, 0.0, 0.0)))


def _displacement_map(row: Row, fixed: Scan) -> Map:
    """The map of a row's displacement image, interpolated between voxels of the fixed mask only: what slides along the
    pleura moves differently."""
    image = images.read_image(row.displacement)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise BadInput(f"{row.displacement}: is no image of three-dimensional vectors; give phi(p) - p in LPS mm")
    grid, field = grids.grid_of(image), grids.to_array(image, np.float32)
    if not np.isfinite(field).all():
        raise BadInput(f"{row.displacement}: has voxels that are not finite; make it again")
    inside = grids.to_array(grids.resample_mask(fixed.mask, grid)) != 0
    if not inside.any():
        raise BadInput(f"{row.displacement}: does not lie over the baseline's mask; give it on the baseline's grid")
    weighted = np.concatenate([field * inside, inside[None]]).astype(np.float32)

    def known(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = grids.sample(weighted, grid, points)
        found = values[:, 3] > 0.25
        return points + values[:, :3] / np.maximum(values[:, 3:], 0.25), found

    return known


def _labels(fixed: Scan, moving: Scan, grid: Grid, alignment: sitk.Transform) -> Sample:
    if fixed.labels is None or moving.labels is None:
        return {}
    laid = [grids.resample_mask(fixed.labels, grid), grids.resample_mask(moving.labels, grid, alignment)]
    names = ("fixed_labels", "moving_labels")
    return {n: torch.from_numpy(grids.to_array(image, np.uint8))[None] for n, image in zip(names, laid, strict=True)}


def _points(fixed: Scan, moving: Scan, grid: Grid, back: sitk.Transform) -> Sample:
    if fixed.points is None or moving.points is None:
        return {}
    if len(fixed.points) != len(moving.points):
        raise BadInput(
            f"the fixed scan has {len(fixed.points)} landmarks and the moving one {len(moving.points)}; "
            "give the same points in the same order"
        )
    fixed_points = torch.from_numpy(grid.indices(fixed.points)).float()
    moving_points = torch.from_numpy(grid.indices(_apply(back, moving.points))).float()
    return {"fixed_points": fixed_points, "moving_points": moving_points}
