"""The lattice on which a patient's anatomy is described, and distances to simple shapes on it.

Distances are below zero inside a shape. The lattice lies in the patient frame (LPS axes, mm).
"""

from itertools import pairwise

import numpy as np

from .build import Build
from .motion import Thorax, envelope_level

SPACING = 3.0
LOW = np.array([-180.0, -150.0, -210.0])
HIGH = np.array([180.0, 150.0, 210.0])

Point = tuple[float, float, float]


class Space:
    """The lattice with what several structures are described by; arrays are (z, y, x), lengths mm.

    `x`, `y`, `z` are the patient frame's coordinates, `xi` and `eta` the thorax's chart, `spine` the y of the front of
    the spine, `wall` the distance to the inner surface of the chest wall, `envelope` the same without the notch for the
    spine, and `under_dome` the distance to the diaphragm; below 0 inside the wall and below the diaphragm.
    """

    def __init__(self, build: Build):
        axes = [np.arange(LOW[i], HIGH[i] + SPACING / 2, SPACING, dtype=np.float32) for i in range(3)]
        z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        self.build, self.x, self.y, self.z = build, x, y, z
        heights = z[:, 0, 0].astype(np.float64)
        shape = (-1, 1, 1)
        self.spine = build.thorax.spine_front(heights).astype(np.float32).reshape(shape)
        half = build.thorax.half_axes(heights)
        self.a, self.b = (h.astype(np.float32).reshape(shape) for h in half)
        self.xi = x / self.a
        self.eta = (y - self.spine) / self.b + np.float32(Thorax.SPINE_ETA)
        self.wall = as_distance(build.thorax.wall_level(self.xi, self.eta))
        self.envelope = as_distance(envelope_level(self.xi, self.eta))
        self.dome = np.maximum(self._dome(-1), self._dome(+1))
        self.under_dome = as_distance(z - self.dome)

    def _dome(self, side: int) -> np.ndarray:
        """The height of the right (-1) or left (+1) half of the diaphragm."""
        build = self.build
        top = build.dome[0 if side < 0 else 1]
        q = ((self.x - side * 56.0) / 64.0) ** 2 + ((self.eta + 0.20) / 1.04) ** 2
        return (top - build.dome_drop * np.minimum(q, 1.8) ** 1.3 - 4.0 * self.eta).astype(np.float32)

    @property
    def front(self) -> np.ndarray:
        """From 0 at the back to 1 at the sternum."""
        return np.clip((1.0 - self.eta) / 2.0, 0.0, 1.0)

    def raised(self, z: float) -> float:
        """The height of a part of the mediastinum that lies at `z` in full inspiration."""
        return raised([(0.0, 0.0, z)], self.build.expired)[0][2]

    def ellipsoid(self, centre, radii) -> np.ndarray:
        """Approximate distance to an ellipsoid."""
        t = [(c - m) / r for c, m, r in zip((self.x, self.y, self.z), centre, radii, strict=True)]
        root = np.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
        steep = np.sqrt((t[0] / radii[0]) ** 2 + (t[1] / radii[1]) ** 2 + (t[2] / radii[2]) ** 2)
        return (root - 1.0) * root / np.maximum(steep, 1e-4)

    def tube(self, points, radius: float) -> np.ndarray:
        """Distance to a tube through points."""
        result = np.full(self.x.shape, 1e3, np.float32)
        for start, end in pairwise(points):
            start, end = np.array(start, float), np.array(end, float)
            reach = radius + 25.0
            low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
            low = np.maximum(np.floor((low - LOW) / SPACING).astype(int), 0)
            high = np.maximum(np.ceil((high - LOW) / SPACING).astype(int), 0)
            box = tuple(slice(low[i], high[i]) for i in (2, 1, 0))
            axis = end - start
            offset = [c[box] - start[i] for i, c in enumerate((self.x, self.y, self.z))]
            along = sum(offset[i] * axis[i] for i in range(3)) / float(axis @ axis)
            along = np.clip(along, 0, 1)
            distance = np.sqrt(sum((offset[i] - along * axis[i]) ** 2 for i in range(3)))
            result[box] = np.minimum(result[box], distance - radius)
        return result


def raised(points: list[Point], expired: float) -> list[Point]:
    """Points of the mediastinum where they lie when the diaphragm stands `expired` mm above full inspiration."""
    return [(x, y, z + 0.35 * expired * float(np.clip((110.0 - z) / 70.0, 0.0, 1.0))) for x, y, z in points]


def as_distance(level: np.ndarray) -> np.ndarray:
    """A first-order distance (mm) to the zero of a level function on the lattice: level / |gradient|."""
    gradient = np.gradient(level.astype(np.float32), np.float32(SPACING))
    steep = np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
    return (level / np.maximum(steep, 0.25 * float(np.median(steep)))).astype(np.float32)


def smooth_max(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The maximum of two distances with edges rounded over about `width` mm."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + 0.25 * width * width))


def smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The minimum of two distances with edges rounded over about `width` mm."""
    return -smooth_max(-a, -b, width)
