"""Synthetic heads without skull: T1-like images of different people in one space, with labels."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from ..grids import to_image
from .frames import make_grid

LABELS = (
    "left_cortex", "right_cortex", "left_white", "right_white", "left_ventricle", "right_ventricle", "left_thalamus",
    "right_thalamus", "left_putamen", "right_putamen", "left_hippocampus", "right_hippocampus", "cerebellum",
    "brainstem",
)  # fmt: skip
# T1 intensities of the labels, between 0 and 1, and of the fluid around.
_INTENSITY = (0.46, 0.46, 0.72, 0.72, 0.16, 0.16, 0.56, 0.56, 0.54, 0.54, 0.48, 0.48, 0.52, 0.68)
_FLUID = 0.18
_SIZE_MM = (160.0, 192.0, 168.0)
# Structures by label: centre (|x|, y, z) and radii in shares of the brain's half-axes; y is towards the back.
_DEEP = (
    (5, (0.16, 0.05, 0.22), (0.09, 0.42, 0.16)),
    (7, (0.16, 0.10, 0.02), (0.12, 0.16, 0.13)),
    (9, (0.36, -0.12, 0.02), (0.11, 0.24, 0.16)),
    (11, (0.42, 0.18, -0.28), (0.10, 0.26, 0.10)),
)


@dataclass(eq=False)
class BrainScan:
    """`image` float32 (0 around the brain) and `labels` uint8 (LABELS from 1) on one grid."""

    image: sitk.Image
    labels: sitk.Image


def make_brains(
    seed: int, spacing_mm: float = 1.0, difference_mm: float = 6.0, noise: float = 0.02
) -> tuple[BrainScan, BrainScan]:
    """Two people's brains in one space: the same structures in other shapes (`difference_mm`: the largest standard
    deviation of the places along an axis), other folds of the cortex in part, other contrast and noise.

    The same seed and settings give the same brains.
    """
    rng = np.random.default_rng([seed, 77_121])
    size = tuple(round(mm / spacing_mm) for mm in _SIZE_MM)
    grid = make_grid(size, (spacing_mm,) * 3)
    folds = _noise(rng, grid.shape, 5.0 / spacing_mm)
    brains = []
    for _ in range(2):
        own = 0.85 * folds + 0.5 * _noise(rng, grid.shape, 5.0 / spacing_mm)
        bend = [_bend(rng, grid.shape, spacing_mm, difference_mm) for _ in range(3)]
        labels = _labels(grid.shape, own, bend)
        tones = np.array([_FLUID, *_INTENSITY]) * rng.uniform(0.92, 1.08, len(_INTENSITY) + 1)
        image = gaussian_filter(tones[np.maximum(labels, 0)], 0.4 / spacing_mm)
        image = np.where(labels >= 0, np.maximum(image + rng.normal(0, noise, grid.shape), 0.01), 0.0)
        shown = np.maximum(labels, 0).astype(np.uint8)
        brains.append(BrainScan(to_image(image.astype(np.float32), grid), to_image(shown, grid)))
    return brains[0], brains[1]


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, truncate=3.0)
    return noise / noise.std()


def _bend(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: float, largest_mm: float) -> np.ndarray:
    """A smooth displacement along one axis, in voxels (z, y, x): made on a coarse lattice."""
    coarse = tuple(max(4, round(n * spacing_mm / 16.0)) for n in shape)
    noise = _noise(rng, coarse, 1.0) * rng.uniform(0.5, 1.0) * largest_mm / spacing_mm
    where = np.meshgrid(*(np.linspace(0, c - 1, n) for c, n in zip(coarse, shape, strict=True)), indexing="ij")
    return map_coordinates(noise, where, order=3, mode="nearest")


def _labels(shape: tuple[int, ...], folds: np.ndarray, bend: list[np.ndarray]) -> np.ndarray:
    """Labels from 1, 0 for the fluid within the brain's hull, -1 around it."""
    half = [0.44 * n for n in shape]
    z, y, x = (
        (i - (n - 1) / 2 + b) / h for i, n, b, h in zip(np.indices(shape, np.float32), shape, bend, half, strict=True)
    )
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels = np.where(radius < 1.0, 0, -1)
    right = (x < 0).astype(int)  # LPS: the patient's right has lower x
    cerebrum = (radius < 0.95) & ~((z < -0.35) & (y > 0.15)) & (np.abs(x) > 0.02)
    # The border of white matter is folded, and fluid lies in the sulci.
    cortex = cerebrum & (radius + 0.05 * folds < 0.95)
    labels[cortex] = 1 + right[cortex]
    white = cerebrum & (radius + 0.09 * folds < 0.80)
    labels[white] = 3 + right[white]
    for label, centre, radii in _DEEP:
        inside = sum(((c - m) / r) ** 2 for c, m, r in zip((np.abs(x), y, z), centre, radii, strict=True)) < 1
        labels[inside] = label + right[inside]
    behind = (((x / 0.62) ** 2 + ((y - 0.50) / 0.38) ** 2 + ((z + 0.62) / 0.26) ** 2) < 1) & (radius < 0.97)
    labels[behind] = 13
    stem = ((x / 0.16) ** 2 + ((y - 0.12) / 0.16) ** 2 < 1) & (z < -0.22) & (radius < 0.98)
    labels[stem] = 14
    return labels
