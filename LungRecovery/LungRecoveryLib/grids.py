"""Every geometry convention of the project in one place.

- A volume is a `SimpleITK.Image`; its array is (z, y, x). Points and displacements are LPS millimetres, (x, y, z).
- A displacement field as an array is (3, z, y, x): the components are LPS x, y, z in mm, also on oblique grids.
- A transform takes a point of the fixed image (the baseline) to the moving image (the follow-up), as ITK resampling
  does: ``resample(moving, grid_of(fixed), transform)`` lays the moving image on the fixed one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

AIR_HU = -1024.0
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_WHOLE_NUMBERS = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkInt32)
_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline}


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie: size in voxels, spacing and origin in mm (LPS), direction cosines row by row.

    All tuples are in ITK's (x, y, z) order; `direction` has nine numbers whose columns are the axes.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (z, y, x) of an array on this grid."""
        return self.size[::-1]

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in millilitres."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) matrix whose columns are the unit vectors of the x, y and z index axes in LPS."""
        return np.array(self.direction).reshape(3, 3)

    @property
    def index_to_point(self) -> np.ndarray:
        """(3, 3) matrix taking a step in voxel indices (x, y, z) to LPS mm; add `origin` for a point."""
        return self.axes @ np.diag(self.spacing)

    def points(self, indices: np.ndarray) -> np.ndarray:
        """LPS mm points (N, 3) of continuous voxel indices (N, 3), both (x, y, z)."""
        return np.asarray(indices, float) @ self.index_to_point.T + np.array(self.origin)

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Continuous voxel indices (N, 3) of LPS mm points (N, 3), both (x, y, z)."""
        return (np.asarray(points, float) - np.array(self.origin)) @ np.linalg.inv(self.index_to_point).T

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Which LPS points (N, 3) lie within the voxels of this grid; (N,) bool."""
        index = self.indices(points)
        return np.all((index >= -0.5) & (index <= np.array(self.size) - 0.5), axis=1)

    @property
    def centre(self) -> np.ndarray:
        """The grid's centre, LPS mm (3,)."""
        return self.points((np.array(self.size) - 1)[None] / 2.0)[0]


def grid_of(image: sitk.Image) -> Grid:
    """The grid of a 3D image."""
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def grid_from_ras(matrix: np.ndarray, size: Iterable[int]) -> Grid:
    """The grid of so many voxels (x, y, z) whose indices a (4, 4) matrix takes to RAS mm."""
    lps = LPS_TO_RAS @ np.asarray(matrix, float)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    return Grid(
        tuple(map(int, size)), tuple(spacing.tolist()), tuple(lps[:3, 3].tolist()), tuple(direction.ravel().tolist())
    )


def same_grid(a: sitk.Image | Grid, b: sitk.Image | Grid, tolerance_mm: float = 1e-3) -> bool:
    """Whether two images (or grids) have their voxels in the same places, every corner within `tolerance_mm`."""
    a, b = (g if isinstance(g, Grid) else grid_of(g) for g in (a, b))
    if a.size != b.size:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.size])).reshape(3, -1).T
    return bool(np.abs(a.points(corners) - b.points(corners)).max() <= tolerance_mm)


def isotropic_grid(grid: Grid, spacing_mm: float) -> Grid:
    """The grid with cubic voxels of `spacing_mm` along the same axes that covers the same box."""
    return with_spacing(grid, (spacing_mm,) * 3)


def with_spacing(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """The grid along the same axes that covers the same box with voxels of `spacing` (x, y, z) mm."""
    extent = np.array(grid.size) * np.array(grid.spacing)
    size = np.maximum(1, np.ceil(extent / np.array(spacing) - 1e-6).astype(int))
    # The boxes share their centre, so neither side gains or loses more than half a voxel.
    origin = grid.centre - grid.axes @ ((size - 1) / 2.0 * np.array(spacing))
    return Grid(tuple(int(n) for n in size), tuple(float(s) for s in spacing), tuple(origin.tolist()), grid.direction)


def crop(grid: Grid, start: tuple[int, int, int], size: tuple[int, int, int]) -> Grid:
    """The part of a grid that starts at index `start` (x, y, z), which may lie outside, with `size` voxels."""
    origin = grid.points(np.array(start, float)[None])[0]
    return replace(grid, size=tuple(int(n) for n in size), origin=tuple(origin.tolist()))


def window(whole: Grid, part: Grid) -> tuple[slice, slice, slice]:
    """Where a crop of a grid lies in an array (z, y, x) on the whole."""
    start = np.rint(whole.indices(np.array(part.origin)[None])[0]).astype(int)
    return tuple(slice(a, a + n) for a, n in zip(start[::-1], part.shape, strict=True))


def crop_to_window(grid: Grid, window: tuple[slice, slice, slice]) -> Grid:
    """The part of a grid under the slices (z, y, x) of an array on it; the inverse of :func:`window`."""
    start, size = zip(*((s.start, s.stop - s.start) for s in window[::-1]), strict=True)
    return crop(grid, start, size)


def crop_to_mask(mask: sitk.Image, margin_mm: float) -> Grid:
    """The part of a mask's grid that holds its non-zero voxels and `margin_mm` around, cut at the grid's border.

    Raises ValueError for an empty mask.
    """
    array = sitk.GetArrayViewFromImage(mask) != 0
    if not array.any():
        raise ValueError("the mask is empty")
    grid = grid_of(mask)
    start, size = [], []
    for axis in range(3):  # x, y, z
        along = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
        margin = int(np.ceil(margin_mm / grid.spacing[axis]))
        low = max(int(along[0]) - margin, 0)
        high = min(int(along[-1]) + margin, grid.size[axis] - 1)
        start.append(low)
        size.append(high - low + 1)
    return crop(grid, tuple(start), tuple(size))


def to_array(image: sitk.Image, dtype=None) -> np.ndarray:
    """A copy of an image's voxels, (z, y, x), or (3, z, y, x) for a vector image."""
    array = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 3:
        array = np.moveaxis(array, -1, 0)
    return np.array(array, dtype=dtype, order="C")


def to_image(array: np.ndarray, grid: Grid | sitk.Image) -> sitk.Image:
    """An image on `grid` (or on an image's grid) from an array (z, y, x), or (3, z, y, x) for vectors in LPS mm."""
    grid = grid if isinstance(grid, Grid) else grid_of(grid)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim == 4:
        image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(array, 0, -1)), isVector=True)
    else:
        image = sitk.GetImageFromArray(array)
    if image.GetSize() != grid.size:
        raise ValueError(f"an array of shape {array.shape} does not fit a grid of size {grid.size}")
    return place(image, grid)


def place(image: sitk.Image, grid: Grid) -> sitk.Image:
    """Set an image's spacing, origin and direction to those of `grid`; returns the image."""
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def resample(
    image: sitk.Image,
    grid: Grid | sitk.Image,
    transform: sitk.Transform | None = None,
    interpolation: str = "linear",
    outside: float = AIR_HU,
) -> sitk.Image:
    """Lay an image on a grid, through a transform from the grid's points to the image's points when one is given.

    `interpolation` is linear, nearest (masks, labels) or bspline; voxels outside the image get `outside`. Linear
    interpolation onto a clearly coarser grid first averages whole blocks of voxels, so that nothing aliases. The pixel
    type stays: whole numbers are rounded, where ITK would cut them towards zero and shift every HU by half a unit.
    """
    grid = grid if isinstance(grid, Grid) else grid_of(grid)
    if interpolation == "linear":
        image = averaged_down(image, grid.spacing)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(_INTERPOLATORS[interpolation])
    resampler.SetDefaultPixelValue(float(outside))
    if transform is not None:
        resampler.SetTransform(transform)
    if interpolation == "nearest" or image.GetPixelID() not in _WHOLE_NUMBERS:
        return resampler.Execute(image)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.Cast(sitk.Round(resampler.Execute(image)), image.GetPixelID())


def averaged_down(image: sitk.Image, spacing: tuple[float, float, float]) -> sitk.Image:
    """The image averaged over blocks of voxels as far as they stay no larger than the finest of `spacing` (mm), which
    may be oblique; the image itself where it is no finer."""
    factors = [max(1, int(min(spacing) / s + 0.15)) for s in image.GetSpacing()]
    factors = [min(f, n) for f, n in zip(factors, image.GetSize(), strict=True)]
    return image if max(factors) == 1 else sitk.BinShrink(image, factors)


def resample_mask(mask: sitk.Image, grid: Grid | sitk.Image, transform: sitk.Transform | None = None) -> sitk.Image:
    """Lay a mask or label map on a grid by its nearest voxels; 0 outside."""
    return resample(mask, grid, transform, "nearest", 0)


def field_to_transform(field: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    """The transform p -> p + u(p) of a displacement field (3, z, y, x) in LPS mm; identity outside its grid."""
    image = sitk.Cast(to_image(field, grid), sitk.sitkVectorFloat64)
    return sitk.DisplacementFieldTransform(image)


def transform_to_field(transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """The displacement field T(p) - p, (3, z, y, x) in LPS mm, float32, that a transform has on a grid."""
    image = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat32, grid.size, grid.origin, grid.spacing, grid.direction
    )
    return to_array(image, np.float32)


def transform_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Where a transform takes LPS mm points (N, 3)."""
    return np.array([transform.TransformPoint(p) for p in np.asarray(points, float).tolist()]).reshape(-1, 3)


def sample(array: np.ndarray, grid: Grid, points: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Linear interpolation of an array (z, y, x) or (c, z, y, x) on `grid` at LPS points (N, 3): (N,) or (N, c)."""
    from scipy.ndimage import map_coordinates

    coordinates = grid.indices(points)[:, ::-1].T
    if array.ndim == 3:
        return map_coordinates(array, coordinates, order=1, mode="constant", cval=outside)
    return np.stack([map_coordinates(c, coordinates, order=1, mode="constant", cval=outside) for c in array], axis=1)
