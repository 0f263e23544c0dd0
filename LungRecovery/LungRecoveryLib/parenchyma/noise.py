"""Noise and kernel of a scan, estimated from its own voxels: how strong the noise is and how far it reaches.

Quantum noise is white before the reconstruction kernel, so its texture afterwards is the kernel's: the correlation of
neighbouring voxels tells a soft kernel (smooth, long grain) from a sharp one, whatever the header says.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import crop_to_mask, grid_of, to_image, window
from ..nearby import sums_nearby

_TISSUE_HU = (-20.0, 110.0)
_BODY_MM = 15.0  # around the lungs that is looked at
_TREND_MM = 8.0
_EDGE_MM = 2.0
_FLAT_HU = 12.0  # a smoothed step between neighbours beyond which there is an edge
_SLICES = 24
_LEAST_VOXELS = 1500
_CUT = 4.0
_SHORTEST = 0.29  # of a voxel: below this correlation length neighbours are as good as independent

SHARPER = 1.35  # ratio of correlation lengths, and
NOISIER = 1.6  # of noise SDs, beyond which two scans are said to differ
_LEAST_MM = 0.12


@dataclass(frozen=True)
class Noise:
    """`sd_hu` of the noise in soft tissue; `correlation_mm`, the SD of the Gaussian that would give white noise the
    same in-plane texture: small for a sharp kernel, large for a soft one."""

    sd_hu: float
    correlation_mm: float


def estimate_noise(ct: sitk.Image, lungs: sitk.Image) -> Noise | None:
    """Noise and kernel of a scan in HU around its lungs (label map, same grid); None without soft tissue to tell.

    Read from flat soft tissue, slice by slice, after its slow trend is taken off.
    """
    grid = grid_of(ct)
    box = crop_to_mask(lungs, _BODY_MM)
    part = sitk.GetArrayViewFromImage(ct)[window(grid, box)]
    planes = part[:: max(1, len(part) // _SLICES)]
    sigma = [_TREND_MM / grid.spacing[1], _TREND_MM / grid.spacing[0]]
    products, squares, values = [0.0, 0.0], [0.0, 0.0], []
    for plane in planes:
        plane = plane.astype(np.float32)
        flat, residual = _flat_tissue(plane, sigma)
        if np.count_nonzero(flat) < 20:
            continue
        values.append(residual[flat])
        sd = 1.4826 * np.median(np.abs(values[-1])) + 1e-3
        residual = np.clip(residual, -_CUT * sd, _CUT * sd)
        for axis in (0, 1):
            first, second = (np.moveaxis(a, axis, 0) for a in (residual, flat))
            both = second[1:] & second[:-1]
            products[axis] += float((first[1:] * first[:-1])[both].sum())
            squares[axis] += float((0.5 * (first[1:] ** 2 + first[:-1] ** 2))[both].sum())
    if sum(v.size for v in values) < _LEAST_VOXELS:
        return None
    sd = 1.4826 * float(np.median(np.abs(np.concatenate(values))))
    lengths = [
        _correlation_mm(p / q if q > 0 else 0.0, grid.spacing[1 - axis])
        for axis, (p, q) in enumerate(zip(products, squares, strict=True))
    ]
    return Noise(sd, float(np.mean(lengths)))


def _flat_tissue(plane: np.ndarray, sigma: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Where a slice (y, x) shows nothing but soft tissue, bool, and its values without their slow trend."""
    smooth = ndimage.gaussian_filter(plane, [_EDGE_MM / _TREND_MM * s for s in sigma])
    tissue = (smooth > _TISSUE_HU[0]) & (smooth < _TISSUE_HU[1])
    steps = np.maximum(*(np.abs(np.gradient(smooth, axis=axis)) for axis in (0, 1)))
    tissue &= steps < _FLAT_HU
    flat = ndimage.binary_erosion(tissue, iterations=2)
    total, weight = sums_nearby(plane, tissue, sigma, truncate=4.0)
    return flat, plane - total / np.maximum(weight, 1e-3)


def _correlation_mm(neighbours: float, spacing: float) -> float:
    """The SD in mm of the Gaussian after which white noise in neighbours correlates so much: exp(-d^2 / 4 sigma^2)."""
    least = _SHORTEST * spacing
    if neighbours <= np.exp(-1.0 / (4 * _SHORTEST**2)):
        return least
    return max(least, spacing / (2.0 * np.sqrt(-np.log(min(neighbours, 0.999)))))


def differences(baseline: Noise | None, followup: Noise | None) -> list[str]:
    """How two scans' noise and kernels differ, as sentences; empty where they match or are not known."""
    if baseline is None or followup is None:
        return []
    found = []
    lengths = baseline.correlation_mm, followup.correlation_mm
    if max(lengths) > SHARPER * min(lengths) and max(lengths) - min(lengths) > _LEAST_MM:
        kind = "sharper" if lengths[1] < lengths[0] else "softer"
        found.append(
            f"its kernel is {kind} than the baseline's (noise correlated over {lengths[1]:.2f} mm, there "
            f"{lengths[0]:.2f} mm): compare fine structure and radiomics with care"
        )
    sds = baseline.sd_hu, followup.sd_hu
    if max(sds) > NOISIER * min(sds) and max(sds) - min(sds) > 5.0:
        found.append(f"its noise is {sds[1]:.0f} HU where the baseline's is {sds[0]:.0f} HU")
    return found


def softened(ct: sitk.Image, own: Noise, wanted: Noise) -> sitk.Image:
    """A scan smoothed in-plane as far as its kernel is sharper than the wanted one, int16; else the scan itself."""
    extra = wanted.correlation_mm**2 - own.correlation_mm**2
    if extra <= _LEAST_MM**2:
        return ct
    sigma = float(np.sqrt(extra))
    x, y, _ = ct.GetSpacing()
    array = sitk.GetArrayViewFromImage(ct)
    result = np.empty(array.shape, np.int16)
    for plane, source in zip(result, array, strict=True):
        plane[...] = np.rint(ndimage.gaussian_filter(source.astype(np.float32), [sigma / y, sigma / x]))
    return to_image(result, grid_of(ct))
