"""How a scanner sees the patient: aperture, reconstruction kernel, slice thickness and quantum noise."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from ..grids import AIR_HU, Grid


@dataclass(frozen=True)
class Scanner:
    """A protocol: `blur_mm` (SD of the in-plane kernel), `sharpen` (edge enhancement), slice thickness, noise SD."""

    kernel: str = "soft"
    blur_mm: float = 0.60
    sharpen: float = 0.0
    slice_mm: float = 1.0
    noise_hu: float = 10.0


SOFT = Scanner()
SHARP = Scanner("sharp", blur_mm=0.45, sharpen=0.5, slice_mm=1.0, noise_hu=28.0)


def acquire(hu: np.ndarray, grid: Grid, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """The scan (z, y, x) int16 of an ideal image `hu` (z, y, x) float32 on `grid`."""
    noise = _kernel(rng.standard_normal(hu.shape, dtype=np.float32), grid, scanner)
    noise = gaussian_filter1d(noise, 0.6, axis=0, mode="nearest", truncate=2.0)
    noise *= scanner.noise_hu / max(float(noise[:: max(1, hu.shape[0] // 16)].std()), 1e-6)
    # Photon starvation: more noise where the body is dense, less in air.
    seen = _kernel(hu.copy(), grid, scanner)
    noise *= np.clip(0.75 + (seen + 800.0) * 0.0004, 0.6, 1.15)
    seen += noise
    return np.clip(np.rint(seen), AIR_HU, 3071).astype(np.int16)


def _kernel(image: np.ndarray, grid: Grid, scanner: Scanner) -> np.ndarray:
    for axis, spacing in ((2, grid.spacing[0]), (1, grid.spacing[1])):
        sigma = scanner.blur_mm / spacing
        if sigma > 0.15:
            image = gaussian_filter1d(image, sigma, axis=axis, mode="nearest", truncate=3.0)
    if scanner.sharpen:
        for axis, spacing in ((2, grid.spacing[0]), (1, grid.spacing[1])):
            soft = gaussian_filter1d(image, 0.9 / spacing, axis=axis, mode="nearest", truncate=3.0)
            image = image + scanner.sharpen * (image - soft)
    slices = scanner.slice_mm / grid.spacing[2]
    if slices > 1.5:  # thicker than the slices' distance: neighbouring slices overlap
        image = uniform_filter1d(image, round(slices), axis=0, mode="nearest")
    return image
