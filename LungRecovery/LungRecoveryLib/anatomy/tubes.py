"""What vessels and airways have in common: curvature across a tube, and the parenchyma that it runs through."""

import numpy as np
from scipy import ndimage

from ..distances import distance_to
from ..grids import Grid
from ..nearby import sums_nearby

_PARENCHYMA_SPREAD_HU = 120.0  # healthy lung is not denser than the scan's median by more
_PARENCHYMA_HU = (-750.0, -500.0)
_NEARBY_MM = 7.0
_LEAST_PURE, _AROUND_MM, _REGROWN_MM = 0.5, 9.0, 4.5  # share of a lesion's surroundings that is no tube
_SPLIT_ABOVE_MM, _SPLIT = 1.5, 0.7  # coarse voxels are split a little: thin tubes run between them


def tube_spacing(grid: Grid, finest_mm: float) -> float:
    """The edge in mm of the cubic voxels on which the tubes of a scan on `grid` are looked for."""
    own = float(np.median(grid.spacing))
    return max(finest_mm, min(own, max(_SPLIT_ABOVE_MM, _SPLIT * own)))


def parenchyma(hu: np.ndarray, inside: np.ndarray, spacing: float) -> np.ndarray:
    """The mean HU of the healthy lung within about a centimetre, also beyond the lung's surface and in lesions.

    `hu` (z, y, x) on cubic voxels of `spacing` mm, `inside` (z, y, x) bool the lungs, of which some voxel must be one.
    """
    typical = float(np.median(hu[inside]))
    aerated = inside & (hu < np.clip(typical + _PARENCHYMA_SPREAD_HU, *_PARENCHYMA_HU))
    sigma = _NEARBY_MM / spacing
    total, weight = sums_nearby(hu, aerated, sigma)
    return (total + 1e-3 * min(typical, _PARENCHYMA_HU[1])) / (weight + 1e-3)


def curvatures(image: np.ndarray, at: np.ndarray, scale: float, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues l1 and l2 (|l1| <= |l2| <= |l3|) of the scale-normalised Hessian at flat indices `at`, in HU.

    `image` (z, y, x) on cubic voxels of `spacing` mm, `scale` the standard deviation in mm of the Gaussian it is
    smoothed with; `at` must not touch the array's border. A tube of contrast A and matching width gives l2 = -A / 4.
    """
    smooth = ndimage.gaussian_filter(image, scale / spacing, truncate=3.0).ravel()
    strides = np.array(image.strides) // image.itemsize
    here = smooth[at]
    second = [smooth[at + a] + smooth[at - a] - 2 * here for a in strides]
    mixed = [
        (smooth[at + a + b] + smooth[at - a - b] - smooth[at + a - b] - smooth[at - a + b]) / 4
        for a, b in zip(strides, np.roll(strides, -1), strict=True)
    ]
    values = eigenvalues(np.array(second, np.float64), np.array(mixed, np.float64)) * (scale / spacing) ** 2
    order = np.argsort(np.abs(values), axis=0)
    l1, l2, _ = np.take_along_axis(values, order, axis=0).astype(np.float32)
    return l1, l2


def eigenvalues(diagonal: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """The eigenvalues, (3, N) falling, of N symmetric 3 x 3 matrices (Smith 1961, in closed form).

    `diagonal` (3, N) float64 holds the entries 00, 11 and 22, `beside` (3, N) the entries 01, 12 and 20.
    """
    mean = diagonal.mean(axis=0)
    centred = diagonal - mean
    spread = np.sqrt((np.sum(centred**2, axis=0) + 2 * np.sum(beside**2, axis=0)) / 6)
    d, (a, b, c) = centred, beside
    determinant = d[0] * (d[1] * d[2] - b * b) - a * (a * d[2] - b * c) + c * (a * b - d[1] * c)
    cosine = np.divide(determinant, 2 * spread**3, out=np.zeros_like(mean), where=spread > 0)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0)) / 3
    return mean + 2 * spread * np.cos(angle + 2 * np.pi / 3 * np.array([[0], [-1], [1]]))


def without_bundles(mask: np.ndarray, pure: np.ndarray, grid: Grid) -> np.ndarray:
    """A mask of lesions without what lies between the vessels and bronchi of a hilum, whose blur makes lung look denser
    there; `mask` and `pure`, which is neither tube nor beside one, (z, y, x) bool on `grid`.

    Tubes and their borders take most of such a bundle, but little more than a third of a lesion around them.
    """
    share, weight = sums_nearby(pure.astype(np.float32), mask, [_AROUND_MM / s for s in grid.spacing[::-1]])
    lesion = mask & (share > _LEAST_PURE * weight)
    if not lesion.any():
        return lesion
    return mask & (distance_to(lesion, grid.spacing[::-1]) <= _REGROWN_MM)


def without_border(mask: np.ndarray) -> np.ndarray:
    """The mask without the outermost voxels of the array, where no curvature can be taken."""
    result = np.zeros_like(mask)
    result[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
    return result
