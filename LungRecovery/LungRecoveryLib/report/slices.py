"""Slices as radiologists look at them: true axial, coronal and sagittal planes whatever axes the grid has.

A plane is a grid one voxel thick in patient space, so any volume (oblique, flipped, anisotropic) is laid on it by
resampling. Pictures follow the radiological convention: the patient's right on the left, anterior or head up; in the
sagittal plane anterior is on the left.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LungRecoveryLib.distances import distance_to
from LungRecoveryLib.grids import AIR_HU, Grid, grid_of, resample, resample_mask, to_array, with_spacing

# For each plane: the LPS axis and sense of a step to the right and of a step down in the picture, the LPS axis across,
# and the letters at the picture's left, right, top and bottom.
_LAYOUT = {
    "axial": ((0, 1), (1, 1), 2, "RLAP"),
    "coronal": ((0, 1), (2, -1), 1, "RLSI"),
    "sagittal": ((1, 1), (2, -1), 0, "APSI"),
}
PLANES = tuple(_LAYOUT)
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))  # towards + and - of each LPS axis


@dataclass(frozen=True)
class Plane:
    """One slice through patient space: where its pixels lie and what its sides are called."""

    name: str
    grid: Grid
    sides: str  # letters at the left, right, top and bottom of the picture
    position: str  # for instance "S 152.5 mm", along the axis across the plane

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height in mm."""
        return self.grid.size[0] * self.grid.spacing[0], self.grid.size[1] * self.grid.spacing[1]

    def cut(self, image: sitk.Image, outside: float = AIR_HU, transform: sitk.Transform | None = None) -> np.ndarray:
        """The picture (rows, columns), float32, of an image in this plane; `outside` where the image has nothing."""
        return to_array(resample(image, self.grid, transform, "linear", outside), np.float32)[0]

    def cut_mask(self, mask: sitk.Image, transform: sitk.Transform | None = None) -> np.ndarray:
        """The picture (rows, columns), bool, of a mask in this plane."""
        return to_array(resample_mask(mask, self.grid, transform))[0] != 0

    def pixel(self, point: np.ndarray) -> tuple[float, float]:
        """Column and row of an LPS point (3,) laid on this plane."""
        column, row, _ = self.grid.indices(np.asarray(point, float)[None])[0]
        return float(column), float(row)


def lung_box(lungs: sitk.Image, margin_mm: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """The corners (3,) and (3,), LPS mm, of the box along the patient's axes around a lung mask and a margin.

    Raises ValueError for an empty mask.
    """
    array = sitk.GetArrayViewFromImage(lungs) != 0
    edge = array & ~ndimage.binary_erosion(array) if array.size < 3e7 else array
    indices = np.argwhere(edge)[:, ::-1]
    if not len(indices):
        raise ValueError("the lung mask is empty")
    points = grid_of(lungs).points(indices)
    return points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm


def planes_through(point: np.ndarray, box: tuple[np.ndarray, np.ndarray], spacing_mm: float = 1.0) -> list[Plane]:
    """The axial, coronal and sagittal planes through an LPS point, each as large as the box around the lungs."""
    return [_plane(name, np.asarray(point, float), box, spacing_mm) for name in PLANES]


def _plane(name: str, point: np.ndarray, box: tuple[np.ndarray, np.ndarray], spacing: float) -> Plane:
    (column_axis, column_sense), (row_axis, row_sense), across, sides = _LAYOUT[name]
    low, high = box
    size = np.maximum(1, np.ceil((high - low) / spacing).astype(int))
    origin = point.copy()
    for axis, sense in ((column_axis, column_sense), (row_axis, row_sense)):
        half = (size[axis] - 1) / 2 * spacing
        origin[axis] = (low[axis] + high[axis]) / 2 - sense * half
    column, row = np.eye(3)[column_axis] * column_sense, np.eye(3)[row_axis] * row_sense
    axes = np.stack([column, row, np.cross(column, row)], axis=1)
    grid = Grid(
        (int(size[column_axis]), int(size[row_axis]), 1),
        (spacing,) * 3,
        tuple(float(v) for v in origin),
        tuple(float(v) for v in axes.ravel()),
    )
    return Plane(name, grid, sides, position(point, across))


def position(point: np.ndarray, axis: int) -> str:
    """Where an LPS point lies along an axis, in words: the letter of the side of the origin and the distance to it."""
    value = float(point[axis])
    return f"{_LETTERS[axis][value < 0]} {abs(value):.1f} mm"


def place_of_change(changes: list[sitk.Image], lungs: sitk.Image) -> np.ndarray:
    """The LPS point (3,) in the lung around which the changes (maps, 0 = none) are largest in size, summed.

    The maps are averaged over about a centimetre inside the lung, so that neither a single voxel nor the lung's rim
    decides, and vessels that are slightly off, which are denser on one side and less dense on the other, cancel out.
    Without any map: the place deepest in the lung.
    """
    grid = with_spacing(grid_of(lungs), (4.0,) * 3)
    mask = to_array(resample_mask(lungs, grid)) != 0
    if not mask.any():
        grid = grid_of(lungs)
        mask = to_array(lungs) != 0
    weight = ndimage.gaussian_filter(mask.astype(np.float32), 2.0, mode="constant")
    inner = mask & (weight > 0.8 * weight.max())
    if changes:
        score = np.zeros(grid.shape, np.float32)
        for change in changes:
            values = np.nan_to_num(to_array(resample(change, grid, outside=0.0), np.float32)) * mask
            score += np.abs(ndimage.gaussian_filter(values, 2.0, mode="constant")) / np.maximum(weight, 1e-6)
    else:
        score = distance_to(~mask)
    index = np.unravel_index(np.argmax(np.where(inner, score, -1)), score.shape)
    return grid.points(np.array(index[::-1], float)[None])[0]


def checkerboard(shape: tuple[int, int], square: int) -> np.ndarray:
    """A bool pattern (rows, columns) of squares with `square` pixels a side."""
    rows, columns = np.indices(shape)
    return (rows // square + columns // square) % 2 == 0
