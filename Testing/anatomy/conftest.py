"""An analytic chest on any grid: every structure is an inequality in LPS mm, so the truth is exact everywhere."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from LungRecoveryLib.grids import Grid, to_image

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Chest:
    """A made CT with its true lungs (1 right, 2 left) on the same grid."""

    ct: sitk.Image
    lungs: sitk.Image


def lps(grid: Grid) -> np.ndarray:
    """The LPS points of a grid's voxels, (3, z, y, x)."""
    indices = np.indices(grid.shape)[::-1].reshape(3, -1).T
    return grid.points(indices).T.reshape(3, *grid.shape)


def ellipsoid(points, centre, radii) -> np.ndarray:
    """Inside an ellipsoid along the patient's axes."""
    return sum(((p - c) / r) ** 2 for p, c, r in zip(points, centre, radii, strict=True)) <= 1


def tube(points, start, end, radius) -> np.ndarray:
    """Within `radius` of the segment from `start` to `end`."""
    start, end = np.array(start, float), np.array(end, float)
    along = end - start
    relative = points - start[:, None, None, None]
    share = np.clip(np.tensordot(along, relative, 1) / (along @ along), 0, 1)
    return np.linalg.norm(relative - along[:, None, None, None] * share, axis=0) <= radius


def chest_grid(
    spacing=(3.0, 3.0, 3.0), direction=IDENTITY, centre=(0.0, 0.0, 0.0), extent=(360.0, 280.0, 300.0)
) -> Grid:
    """A grid of `extent` mm along its own axes around `centre`."""
    size = tuple(round(e / s) for e, s in zip(extent, spacing, strict=True))
    axes = np.array(direction).reshape(3, 3)
    origin = np.array(centre) - axes @ ((np.array(size) - 1) / 2 * np.array(spacing))
    return Grid(size, tuple(spacing), tuple(origin.tolist()), tuple(direction))


def make_chest(
    grid: Grid, middle=(0.0, 0.0, 0.0), noise=20.0, airways=True, sides=(1, 2), touching=False, extras=None
) -> Chest:
    """A chest whose middle lies at the LPS point `middle`.

    `sides` are the aerated lungs, `touching` leaves a 2 mm septum of -650 HU between them in front, `extras` is a
    list of (inside(points), HU, lung side or 0) that are painted last.
    """
    points = lps(grid) - np.array(middle, float)[:, None, None, None]
    x, y, z = points
    hu = np.full(grid.shape, -1000.0)
    hu[(np.abs(y - 118) < 12) & (np.abs(x) < 170)] = -930.0  # the foam of the table,
    hu[(np.abs(np.abs(y - 118) - 12) < 2) & (np.abs(x) < 170)] = -100.0  # its shell
    hu[(x / 155) ** 2 + (y / 102) ** 2 <= 1] = 40.0
    hu[(x / 155) ** 2 + (y / 102) ** 2 > 1] = np.where(hu > 0, -1000.0, hu)[(x / 155) ** 2 + (y / 102) ** 2 > 1]
    lungs = np.zeros(grid.shape, np.uint8)
    reach = 66.0 if touching else 56.0
    right = ellipsoid(points, (-70, 5, 5), (reach, 78, 120)) & (x < -1)
    left = ellipsoid(points, (70, 5, 5), (reach, 78, 120)) & (x > 1)
    heart = ellipsoid(points, (18, -25, -45), (45, 45, 55))
    liver = ellipsoid(points, (-60, 0, -150), (95, 95, 85)) | ellipsoid(points, (70, 0, -160), (80, 90, 80))
    for side, lung in ((1, right), (2, left)):
        if side in sides:
            lungs[lung & ~heart & ~liver & ~(ellipsoid(points, (0, 75, 0), (26, 26, 500)))] = side
    hu[lungs > 0] = -850.0 + 0.4 * (y[lungs > 0])  # gravity
    if touching:
        hu[(np.abs(x) <= 1) & (y < -5) & (y > -60) & (z > 10) & (z < 80)] = -650.0
    hu[ellipsoid(points, (0, 75, 0), (18, 18, 500))] = 350.0  # spine
    hu[ellipsoid(points, (75, -20, -128), (32, 32, 22))] = -1000.0  # gas in the stomach
    if airways:
        for end in ((-45, 5, 5), (45, 5, 0)):
            hu[tube(points, (0, 5, 30), end, 8)] = 40.0
        trachea = tube(points, (0, 5, 30), (0, 0, 400), 9)
        for end in ((-40, 5, 7), (40, 5, 2)):
            trachea |= tube(points, (0, 5, 30), end, 6)
        hu[trachea] = -990.0
    for inside, value, side in extras or []:
        where = inside(points)
        hu[where] = value
        lungs[where] = side
    sigma = [0.8 / s for s in grid.spacing[::-1]]
    hu = ndimage.gaussian_filter(hu, sigma) + np.random.default_rng(0).normal(0, noise, grid.shape)
    return Chest(to_image(np.clip(np.round(hu), -1024, 3071).astype(np.int16), grid), to_image(lungs, grid))


@pytest.fixture(scope="session")
def chest() -> Callable[..., Chest]:
    """:func:`make_chest`."""
    return make_chest


@pytest.fixture(scope="session")
def on_grid() -> Callable[..., Grid]:
    """:func:`chest_grid`."""
    return chest_grid


@pytest.fixture(scope="session")
def shapes() -> dict[str, Callable]:
    """Building blocks: lps(grid), ellipsoid(points, centre, radii), tube(points, start, end, radius)."""
    return {"lps": lps, "ellipsoid": ellipsoid, "tube": tube}
