"""Sums of some of an image's voxels within a Gaussian window around every voxel: what local means are made of."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def sums_nearby(
    values: np.ndarray, where: np.ndarray, sigma: float | Sequence[float], truncate: float = 2.5
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of `values` (z, y, x) over the voxels `where` (z, y, x) bool, and their number, both weighted by a
    Gaussian of `sigma` voxels cut at `truncate` sigmas; float32. Voxels beyond the border are as those at it.

    Their ratio is the local mean (normalised convolution, Knutsson and Westin 1993), wherever the number is not 0.
    """
    total = ndimage.gaussian_filter(np.where(where, values, 0).astype(np.float32), sigma, truncate=truncate)
    return total, ndimage.gaussian_filter(where.astype(np.float32), sigma, truncate=truncate)
