"""How alike the warped follow-up and the baseline are, locally and in the lung only.

Both maps use cubic windows of (2 radius + 1)^3 voxels, cut to the lung: sums run over the window's lung voxels only, so
that ribs, diaphragm and whatever else slides along the pleura do not enter. HU are clipped to -1000..+200, the range of
air to soft tissue, so that metal or contrast medium does not decide the figure.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import to_array, to_image
from .jacobian import common_mask

RADIUS = 3  # voxels: 10.5 mm wide windows on the 1.5 mm working grid
HU_RANGE = (-1000.0, 200.0)
NOISE_HU = 10.0  # a window whose SD is far below this carries no structure to correlate
_K1, _K2 = 0.01, 0.03  # the constants of Wang et al. 2004


def ssim_map(
    baseline: sitk.Image,
    warped: sitk.Image,
    lungs: sitk.Image | np.ndarray,
    inside: np.ndarray | None = None,
    radius: int = RADIUS,
) -> sitk.Image:
    """Structural similarity (Wang et al. 2004) at every lung voxel: float32, -1 to 1 (identical), 0 outside.

    Uniform windows of `radius` voxels cut to the lung, data range 1200 HU (-1000..+200). All on one grid; voxels
    outside `inside` (bool (z, y, x), where both scans have data) are left out like those outside the lung.
    """
    lung = common_mask(lungs, inside)
    mean_b, mean_w, var_b, var_w, cov = _local_moments(baseline, warped, lung, radius)
    span = HU_RANGE[1] - HU_RANGE[0]
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    brightness = (2 * mean_b * mean_w + c1) / (mean_b**2 + mean_w**2 + c1)
    return _in_lung(brightness * (2 * cov + c2) / (var_b + var_w + c2), lung, baseline)


def lncc_map(
    baseline: sitk.Image,
    warped: sitk.Image,
    lungs: sitk.Image | np.ndarray,
    inside: np.ndarray | None = None,
    radius: int = RADIUS,
) -> sitk.Image:
    """Squared local normalised cross-correlation at every lung voxel: float32, 0 to 1 (a linear relation), 0 outside.

    cov^2 / (var var) over uniform windows of `radius` voxels cut to the lung, `NOISE_HU` squared added to each variance
    so that windows without structure count as unlike. The other parameters as for `ssim_map`.
    """
    lung = common_mask(lungs, inside)
    _, _, var_b, var_w, cov = _local_moments(baseline, warped, lung, radius)
    floor = NOISE_HU**2
    return _in_lung(cov**2 / ((var_b + floor) * (var_w + floor)), lung, baseline)


def _local_moments(
    baseline: sitk.Image, warped: sitk.Image, lung: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, variances and covariance over the lung voxels of the window around each voxel of the lung's box.

    The means are HU above the range's lower end; all five are arrays of the lung voxels only, (n,).
    """
    box = _box(lung, radius)
    mask = lung[box].astype(np.float32)
    # Centred on the lung's mean first: float32 sums of squares of HU near -850 would lose the variance.
    b, w = (np.clip(to_array(image, np.float32)[box], *HU_RANGE) for image in (baseline, warped))
    here = lung[box]
    centre = float(b[here].mean(dtype=np.float64)) if here.any() else 0.0
    b, w = ((image - centre) * mask for image in (b, w))
    count = np.maximum(_window_mean(mask, radius)[here], 1e-6)

    def local(values: np.ndarray) -> np.ndarray:
        return _window_mean(values, radius)[here].astype(np.float64) / count

    mean_b, mean_w = local(b), local(w)
    var_b = np.maximum(local(b * b) - mean_b**2, 0.0)
    var_w = np.maximum(local(w * w) - mean_w**2, 0.0)
    limit = np.sqrt(var_b * var_w)  # Cauchy-Schwarz holds in float32 too
    cov = np.clip(local(b * w) - mean_b * mean_w, -limit, limit)
    shift = centre - HU_RANGE[0]
    return mean_b + shift, mean_w + shift, var_b, var_w, cov


def _window_mean(values: np.ndarray, radius: int) -> np.ndarray:
    return ndimage.uniform_filter(values, 2 * radius + 1, mode="constant")


def _box(lung: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The lung's bounding box with a margin in voxels, cut at the array's border."""
    found = ndimage.find_objects(lung.astype(np.uint8))
    if not found:
        return tuple(slice(0, 0) for _ in range(3))
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(found[0], lung.shape, strict=True)
    )


def _in_lung(values: np.ndarray, lung: np.ndarray, grid: sitk.Image) -> sitk.Image:
    result = np.zeros(lung.shape, np.float32)
    result[lung] = values
    return to_image(result, grid)
