"""COVID-19 lesions: where ground glass, consolidation and reticulation lie, and how they change over the dates.

Each kind is a smooth scalar field over the baseline anatomy, its *level*: large in a lesion's core, falling towards
its irregular border. A stage is a threshold on that field: raising it shrinks and finally clears the lesions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

# Density (HU + 1000, at the baseline's inflation) that fully developed lesions have.
GROUND_GLASS_DENSITY = 440.0
CONSOLIDATION_DENSITY = 985.0
RETICULATION_DENSITY = 380.0
SEPTUM_DENSITY = 640.0

NAMES = ("ground glass", "consolidation", "reticulation")


@dataclass(frozen=True)
class Stage:
    """How far the disease is at a visit: thresholds on the three levels; a high threshold means no lesion."""

    ground_glass: float
    consolidation: float
    reticulation: float

    NONE = 9.0


def correlated_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise with unit variance and a correlation length of `sigma` voxels, periodic; float32."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3.0)
    return noise / noise.std()


def grow_lesions(
    rng: np.random.Generator,
    coordinates: tuple[np.ndarray, np.ndarray, np.ndarray],
    depth: np.ndarray,
    spacing_mm: float,
    count: int,
) -> np.ndarray:
    """The levels (3, z, y, x) float32 of ground glass, consolidation and reticulation.

    `coordinates` are the patient frame's x, y, z of the voxels (mm), `depth` the distance to the pleura inside the
    lungs (mm, 0 outside). The lesions prefer the periphery, the back and the base.
    """
    x, y, z = coordinates
    inside = depth > 0
    places = np.flatnonzero(inside)
    px, py, pz, pd = (a.ravel()[places] for a in (x, y, z, depth))
    weight = np.exp(-pd / 9.0) * np.exp(py / 38.0) * np.exp(-(pz + 20.0) / 75.0)
    weight = np.cumsum(weight, dtype=np.float64)
    chosen = np.searchsorted(weight, rng.uniform(0, weight[-1], count))
    levels = np.full((3, *depth.shape), -4.0, np.float32)
    for number, place in enumerate(chosen):
        centre = np.array([px[place], py[place], pz[place]])
        radii = rng.uniform(12, 30) * rng.uniform(0.75, 1.3, 3)
        dense = number % 3 == 0
        box = tuple(
            slice(*np.searchsorted(axis, (centre[i] - 2.2 * radii[i], centre[i] + 2.2 * radii[i])))
            for i, axis in ((2, z[:, 0, 0]), (1, y[0, :, 0]), (0, x[0, 0, :]))
        )
        bx, by, bz = (a[box] for a in (x, y, z))
        distance = np.sqrt(
            ((bx - centre[0]) / radii[0]) ** 2 + ((by - centre[1]) / radii[1]) ** 2 + ((bz - centre[2]) / radii[2]) ** 2
        )
        # A border under the pleura is kept, one towards the hilum fades: the lesions are subpleural.
        level = 1.0 - distance + rng.uniform(-0.15, 0.25) - np.maximum(depth[box] - 22.0, 0) / 25.0
        levels[0][box] = np.maximum(levels[0][box], level)
        if dense:
            levels[1][box] = np.maximum(levels[1][box], level - 0.62 + rng.uniform(-0.15, 0.15))
        if number % 3 == 1:
            levels[2][box] = np.maximum(levels[2][box], level + 0.05 - np.maximum(depth[box] - 14.0, 0) / 12.0)
    coarse = correlated_noise(rng, depth.shape, 9.0 / spacing_mm)
    fine = correlated_noise(rng, depth.shape, 4.0 / spacing_mm)
    for kind, (slow, quick) in enumerate(((0.30, 0.16), (0.20, 0.24), (0.18, 0.10))):
        levels[kind] += slow * coarse + quick * fine
    return levels


def coverage(level: np.ndarray, threshold: float, softness: float) -> np.ndarray:
    """The degree (0 to 1) to which tissue at a level is diseased at a threshold."""
    t = np.clip((level - threshold) / softness + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def lesion_shares(levels: np.ndarray, stage: Stage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shares (0 to 1) of ground glass, consolidation and reticulation of tissue with the levels (3, ...)."""
    return (
        coverage(levels[0], stage.ground_glass, 0.60),
        coverage(levels[1], stage.consolidation, 0.45),
        coverage(levels[2], stage.reticulation, 0.40),
    )


def diseased_density(density: np.ndarray, shares, septa: np.ndarray | float = 0.0) -> np.ndarray:
    """The density (HU + 1000) of lung tissue of normal `density` with lesions; `septa` (0 to 1) are thickened lines."""
    glass, dense, lines = shares
    result = density + lines * (RETICULATION_DENSITY + septa * (SEPTUM_DENSITY - RETICULATION_DENSITY) - density)
    result = np.maximum(result, density + glass * (GROUND_GLASS_DENSITY - density))
    return result + dense * (CONSOLIDATION_DENSITY - result)
