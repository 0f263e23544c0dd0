"""The grids that a phantom is scanned on, and the true motion on them.

The PATIENT frame has LPS axes and mm, with its origin at the middle of the chest, which lies at the grid's centre.
"""

from collections.abc import Iterator

import numpy as np

from ..grids import Grid
from .motion import Coordinates, Motion

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def make_grid(size, spacing, direction=IDENTITY, centre=(0.0, 0.0, 0.0)) -> Grid:
    """The grid of `size` voxels whose middle lies at `centre` (LPS mm)."""
    axes = np.array(direction, float).reshape(3, 3)
    origin = np.array(centre, float) - axes @ ((np.array(size) - 1) / 2.0 * np.array(spacing))
    return Grid(
        tuple(int(n) for n in size),
        tuple(float(s) for s in spacing),
        tuple(origin.tolist()),
        tuple(float(d) for d in axes.ravel()),
    )


def true_displacement(motion: Motion, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The exact displacement (3, z, y, x) in LPS mm and its Jacobian (z, y, x), float32, on the baseline's grid."""
    displacement = np.empty((3, *grid.shape), np.float32)
    jacobian = np.empty(grid.shape, np.float32)
    for k, coordinates in slabs(grid):
        moved, determinant = motion.forward_coordinates(coordinates)
        for i in range(3):
            displacement[i, k] = moved[i] - coordinates[i]
        jacobian[k] = determinant
    return displacement, jacobian


def slabs(grid: Grid, dtype=np.float64) -> Iterator[tuple[int, Coordinates]]:
    """For each slice of a grid its index and the patient-frame coordinates (x, y, z) of its voxels, (y, x) each."""
    step = grid.index_to_point
    base = np.array(grid.origin) - grid.centre
    i = np.arange(grid.size[0])[None, :]
    j = np.arange(grid.size[1])[:, None]
    for k in range(grid.size[2]):
        yield k, tuple((base[c] + step[c, 0] * i + step[c, 1] * j + step[c, 2] * k).astype(dtype) for c in range(3))
