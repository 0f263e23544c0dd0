"""Small brains for tests: two people, the same labels in other shapes."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from LungRecoveryLib.grids import Grid, to_image

SHAPE = (52, 60, 48)
GRID = Grid(SHAPE[::-1], (3.0, 3.0, 3.0), (-70.0, -80.0, -60.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@dataclass
class Brain:
    """An image without skull, and its labels 1 to 8 (octants' cores) and 9 (the rest), on one grid."""

    image: sitk.Image
    labels: sitk.Image


@cache
def small_brains() -> tuple[Brain, Brain]:
    """Two brains of which the second is the first one bent by up to three voxels or so, with other noise."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.8) ** 2)
    octant = 1 + (x > 0) + 2 * (y > 0) + 4 * (z > 0)
    core = np.sqrt((np.abs(x) - 0.33) ** 2 + (np.abs(y) - 0.35) ** 2 + (np.abs(z) - 0.33) ** 2) < 0.22
    labels = np.where(radius < 1, np.where(core, octant, 9), 0)
    rng = np.random.default_rng(4)
    folds = gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    tissue = np.where(core, 0.9, 0.5) + 0.8 * folds / folds.std() * 0.12
    image = np.where(radius < 1, tissue, 0.0)
    bend = [2.0 * b / b.std() for b in (gaussian_filter(rng.standard_normal(SHAPE), 7.0) for _ in range(3))]
    where = [i + b for i, b in zip(np.indices(SHAPE), bend, strict=True)]
    brains = []
    for places in (np.indices(SHAPE), where):
        seen = map_coordinates(image, places, order=1)
        inside = map_coordinates((radius < 1).astype(float), places, order=1) > 0.5
        seen = np.where(inside, np.maximum(seen + rng.normal(0, 0.01, SHAPE), 0.01), 0.0)
        own = map_coordinates(labels, places, order=0)
        brains.append(Brain(to_image(seen.astype(np.float32), GRID), to_image(own.astype(np.uint8), GRID)))
    return brains[0], brains[1]
