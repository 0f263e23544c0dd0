"""What vessels and airways have in common: curvature across a tube, and the parenchyma that it runs through."""

import numpy as np
from scipy import ndimage

_PARENCHYMA_SPREAD_HU = 120.0  # healthy lung is not denser than the scan's median by more
_PARENCHYMA_HU = (-750.0, -500.0)
_NEARBY_MM = 7.0


def parenchyma(hu: np.ndarray, inside: np.ndarray, spacing: float) -> np.ndarray:
    """The mean HU of the healthy lung within about a centimetre, also beyond the lung's surface and in lesions.

    `hu` (z, y, x) on cubic voxels of `spacing` mm, `inside` (z, y, x) bool the lungs, of which some voxel must be one.
    """
    typical = float(np.median(hu[inside]))
    aerated = inside & (hu < np.clip(typical + _PARENCHYMA_SPREAD_HU, *_PARENCHYMA_HU))
    sigma = _NEARBY_MM / spacing
    weight = ndimage.gaussian_filter(aerated.astype(np.float32), sigma, truncate=2.5) + 1e-3
    total = ndimage.gaussian_filter(np.where(aerated, hu, 0).astype(np.float32), sigma, truncate=2.5)
    return (total + 1e-3 * min(typical, _PARENCHYMA_HU[1])) / weight


def curvatures(image: np.ndarray, at: np.ndarray, scale: float, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues l1 and l2 (|l1| <= |l2| <= |l3|) of the scale-normalised Hessian at flat indices `at`, in HU.

    `image` (z, y, x) on cubic voxels of `spacing` mm, `scale` the standard deviation in mm of the Gaussian it is
    smoothed with; `at` must not touch the array's border. A tube of contrast A and matching width gives l2 = -A / 4.
    """
    smooth = ndimage.gaussian_filter(image, scale / spacing, truncate=3.0).ravel()
    strides = np.array(image.strides) // image.itemsize
    here = smooth[at]
    hessian = np.empty((at.size, 3, 3), np.float32)
    for i, a in enumerate(strides):
        hessian[:, i, i] = smooth[at + a] + smooth[at - a] - 2 * here
        for j, b in enumerate(strides[:i]):
            mixed = smooth[at + a + b] + smooth[at - a - b] - smooth[at + a - b] - smooth[at - a + b]
            hessian[:, i, j] = hessian[:, j, i] = mixed / 4
    values = np.linalg.eigvalsh(hessian) * (scale / spacing) ** 2
    order = np.argsort(np.abs(values), axis=1)
    l1, l2, _ = np.take_along_axis(values, order, axis=1).T
    return l1, l2


def without_border(mask: np.ndarray) -> np.ndarray:
    """The mask without the outermost voxels of the array, where no curvature can be taken."""
    result = np.zeros_like(mask)
    result[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
    return result
