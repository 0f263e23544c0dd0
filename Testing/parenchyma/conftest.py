"""A made chest whose parenchyma is known exactly: a gradient of gravity, tubes, lesions, then a scanner."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from LungRecoveryLib.grids import Grid, to_image

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
LEVEL, SLOPE = -850.0, 0.4
SPACING = 2.0


@dataclass
class Chest:
    """The ideal image `hu` (z, y, x) and label maps of what is in it, all on `grid`."""

    grid: Grid
    hu: np.ndarray
    lungs: np.ndarray
    airways: np.ndarray
    vessels: np.ndarray
    y: np.ndarray
    lesions: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def tubes(self) -> np.ndarray:
        return (self.airways > 0) | (self.vessels > 0)

    def image(self, name: str) -> sitk.Image:
        """A label map as an image."""
        return to_image(getattr(self, name).astype(np.uint8), self.grid)

    def scan(self, add=0.0, offset=0.0, noise=25.0, kernel_mm=0.8, seed=1) -> sitk.Image:
        """A scan: `add` HU (an array or 0) in the parenchyma, then kernel, noise of an SD in HU, and offset."""
        ideal = self.hu + np.where(self.tubes, 0.0, add)
        sigma = [kernel_mm / s for s in self.grid.spacing[:2]]
        sigma = [0.0, sigma[1], sigma[0]]
        grain = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(ideal.shape), sigma)
        values = ndimage.gaussian_filter(ideal, sigma) + grain * (noise / grain.std()) + offset
        return to_image(np.clip(np.rint(values), -1024, 3071).astype(np.int16), self.grid)


def make_chest(spacing=(SPACING,) * 3, direction=IDENTITY, centre=(0.0, 0.0, 0.0), slope=SLOPE, seed=0) -> Chest:
    """Two lungs of 1.4 l in all around a mediastinum with a trachea, vessels in all directions, and no lesion yet."""
    extent = np.array([240.0, 170.0, 130.0])
    size = np.rint(extent / np.array(spacing)).astype(int)
    axes = np.array(direction).reshape(3, 3)
    origin = np.array(centre) - axes @ ((size - 1) / 2 * np.array(spacing))
    grid = Grid(tuple(int(n) for n in size), tuple(spacing), tuple(origin.tolist()), tuple(direction))
    indices = np.indices(grid.shape)[::-1].reshape(3, -1).T
    x, y, z = (grid.points(indices) - np.array(centre)).T.reshape(3, *grid.shape)
    hu = np.where((x / 112) ** 2 + (y / 80) ** 2 <= 1, 45.0, -1000.0)
    lungs = np.zeros(grid.shape, np.uint8)
    for side, middle in ((1, -58.0), (2, 58.0)):
        lungs[((x - middle) / 40) ** 2 + (y / 62) ** 2 + (z / 58) ** 2 <= 1] = side
    hu[lungs > 0] = LEVEL + slope * y[lungs > 0]
    rng = np.random.default_rng(seed)
    vessels = np.zeros(grid.shape, bool)
    for _ in range(60):
        along = rng.normal(size=3)
        along /= np.linalg.norm(along)
        start = np.array([rng.choice((-58.0, 58.0)), 0.0, 0.0]) + rng.uniform(-45, 45, 3)
        px, py, pz = x - start[0], y - start[1], z - start[2]
        t = px * along[0] + py * along[1] + pz * along[2]
        squared = px**2 + py**2 + pz**2 - t**2
        vessels |= squared <= rng.uniform(1.2, 3.0) ** 2
    vessels &= lungs > 0
    hu[vessels] = 40.0
    trachea = (x**2 + (y + 10) ** 2 <= 81) & (z > -20)
    hu[trachea] = -998.0
    return Chest(grid, hu, lungs, trachea.astype(np.uint8), vessels, y)


def balls(chest: Chest, places: list[tuple[float, float, float]], radius: float) -> np.ndarray:
    """The parenchyma within `radius` mm of places (x, y, z) mm from the chest's middle, (z, y, x) bool."""
    indices = np.indices(chest.grid.shape)[::-1].reshape(3, -1).T
    points = chest.grid.points(indices) - chest.grid.centre
    near = np.zeros(len(points), bool)
    for place in places:
        near |= np.linalg.norm(points - np.array(place), axis=1) <= radius
    return near.reshape(chest.grid.shape) & (chest.lungs > 0)


@pytest.fixture(scope="session")
def chest_of() -> Callable[..., Chest]:
    """:func:`make_chest`."""
    return make_chest


@pytest.fixture(scope="session")
def chest() -> Chest:
    """The chest on a plain grid."""
    return make_chest()


@pytest.fixture(scope="session")
def balls_in() -> Callable[..., np.ndarray]:
    """:func:`balls`."""
    return balls
