"""The patient's anatomy at the baseline: smooth distance maps of body, bones, organs and lungs.

Everything lives in the patient frame (LPS axes, mm, origin at the middle of the chest). Distances are below zero
inside a structure; they are kept on a coarse lattice, interpolated linearly, and turned into sharp borders where an
image is made.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import map_coordinates

from ..distances import distance_to
from .bones import bones
from .build import Build
from .chest import heart, lungs, trunks
from .lattice import LOW, SPACING, Space
from .soft import soft_tissue


@dataclass
class Anatomy:
    """Distance maps `data` (channels as in CHANNELS, z, y, x) on a lattice that starts at LOW with SPACING.

    `depth` (z, y, x) is the distance to the pleura inside the lungs, `coordinates` the lattice's x, y, z (z, y, x).
    """

    build: Build
    data: np.ndarray
    depth: np.ndarray
    coordinates: tuple[np.ndarray, np.ndarray, np.ndarray] = field(repr=False)

    CHANNELS = ("skin", "soft", "bone", "gas", "lung", "soft_hu")

    def channel(self, name: str) -> np.ndarray:
        """One map (z, y, x)."""
        return self.data[self.CHANNELS.index(name)]

    def at(self, lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Linear interpolation of a map (z, y, x) at points (N, 3)."""
        index = ((np.asarray(points) - LOW) / SPACING)[:, ::-1].T
        return map_coordinates(lattice, index, order=1, mode="nearest")


def build_anatomy(build: Build) -> Anatomy:
    """Lay the anatomy of a patient on the lattice."""
    space = Space(build)
    heart_distance, trunk_distance = heart(space), trunks(space)
    lung = lungs(space, heart_distance, trunk_distance)
    skin, soft, gas, soft_hu = soft_tissue(space, np.minimum(heart_distance, trunk_distance))
    data = np.stack([skin, soft, bones(space), gas, lung, soft_hu]).astype(np.float32)
    depth = distance_to(lung >= 0) * SPACING
    return Anatomy(build, data, depth, (space.x, space.y, space.z))
