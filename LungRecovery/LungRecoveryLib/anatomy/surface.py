"""The lungs' surface, drawn again on the scan's own voxels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..distances import distance_to
from ..grids import AIR_HU, Grid, crop, grid_of, resample, resample_mask, to_array, to_image
from ..nearby import sums_nearby
from .working import Working, ball, bounding_box, dilate

_BAND_MM = 2.0  # how far the native surface may lie from the coarse one
_TISSUE_HU = (-110.0, 60.0)  # between fat and muscle
_SOFT_HU = (-200.0, 180.0)
_FREE = 2.0  # voxels from the surface: free of its blur
_LUNG_SIGMA_MM, _TISSUE_SIGMA_MM = 8.0, 5.0
_THRESHOLDS = (-500.0, -200.0)
_FILLED_MM = 6.0  # around what was filled in, lesions' edges hide the surface, too
_SLAB_VOXELS = 12_000_000


@dataclass(frozen=True)
class Coarse:
    """Lungs on the working grid: `lungs` labels, `air` their aerated part, `other` air that is no lung."""

    work: Working
    lungs: np.ndarray
    air: np.ndarray
    other: np.ndarray


def redraw(ct: sitk.Image, coarse: Coarse, tell: Callable[[float], None]) -> sitk.Image:
    """The labels of `coarse` on the grid of `ct`, with the surface where the CT itself crosses half its step.

    Between lung and tissue the surface lies at the middle between the lung's own HU nearby and tissue. Where a lesion
    or vessel was filled in, and close to it, the CT shows no surface and the coarse one stands. Worked off in slabs
    of axial slices of the scan, so that memory stays small.
    """
    grid = grid_of(ct)
    maps = _maps(coarse)
    result = np.zeros(grid.shape, np.uint8)
    window = _native_window(coarse, grid)
    rows, columns = window[1], window[2]
    thickness = max(1, int(_SLAB_VOXELS / ((rows.stop - rows.start) * (columns.stop - columns.start))))
    for start in range(window[0].start, window[0].stop, thickness):
        stop = min(start + thickness, window[0].stop)
        first = (columns.start, rows.start, start)
        size = (columns.stop - columns.start, rows.stop - rows.start, stop - start)
        hu = sitk.RegionOfInterest(ct, size, first)
        result[start:stop, rows, columns] = _slab(hu, crop(grid, first, size), maps)
        tell((stop - window[0].start) / (window[0].stop - window[0].start))
    return to_image(result, grid)


def _slab(hu: sitk.Image, part: Grid, maps: dict[str, sitk.Image]) -> np.ndarray:
    depth = to_array(resample(maps["depth"], part, outside=-100.0))
    if depth.max() <= -_BAND_MM:
        return np.zeros(part.shape, np.uint8)
    near = depth > -_BAND_MM
    threshold = to_array(resample(maps["threshold"], part, outside=-400.0))
    kept = to_array(resample(maps["filled"], part, outside=0.0)) > 0.5
    other = to_array(resample(maps["other"], part, outside=0.0)) > 0.5
    values = to_array(hu)
    # Padding inside the image is as dark as air; beyond the field's border, where maps fade, it is none.
    other |= (values <= AIR_HU) & (to_array(resample(maps["field"], part, outside=0.0)) < 0.99)
    aerated = (values < threshold) & ~other
    inside = near & (aerated | (depth > _BAND_MM) | (kept & (depth > 0)))
    return np.where(inside, to_array(resample_mask(maps["label"], part)), 0).astype(np.uint8)


def _maps(coarse: Coarse) -> dict[str, sitk.Image]:
    """What the slabs need: signed depth in mm, local threshold in HU, filled parts, other air, nearest labels."""
    work, lungs = coarse.work, coarse.lungs > 0
    window = bounding_box(lungs, 4)
    lungs, air, other = lungs[window], coarse.air[window] & lungs[window], coarse.other[window]
    start = tuple(s.start for s in window)[::-1]
    grid = crop(work.grid, start, lungs.shape[::-1])
    outward, nearest = ndimage.distance_transform_edt(~lungs, return_indices=True)
    depth = np.where(lungs, distance_to(~np.pad(lungs, 1, mode="edge"))[1:-1, 1:-1, 1:-1] - 0.5, 0.5 - outward)
    filled = ndimage.binary_opening(lungs & ~air, ball(1))
    filled = dilate(filled, _FILLED_MM / work.spacing) & lungs
    maps = {
        "depth": (depth * work.spacing).astype(np.float32),
        "threshold": _threshold(work.hu[window], air, outward, work.spacing),
        "filled": filled.astype(np.float32),
        "field": ndimage.binary_erosion(work.field[window], iterations=2, border_value=1).astype(np.float32),
        "other": other.astype(np.float32),
        "label": coarse.lungs[window][tuple(nearest)],
    }
    return {name: to_image(array, grid) for name, array in maps.items()}


def _threshold(hu: np.ndarray, air: np.ndarray, outward: np.ndarray, spacing: float) -> np.ndarray:
    """Halfway between the mean HU of the aerated lung nearby and that of the soft tissue nearby, (z, y, x) float32.

    `outward` is how many voxels outside the lungs a voxel lies.
    """
    lung = _level(hu, ndimage.binary_erosion(air, ball(1)), _LUNG_SIGMA_MM / spacing, -800.0)
    soft = (outward >= _FREE) & (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1])
    tissue = _level(hu, soft, _TISSUE_SIGMA_MM / spacing, 30.0).clip(*_TISSUE_HU)
    return np.clip((lung + tissue) / 2, *_THRESHOLDS).astype(np.float32)


def _level(hu: np.ndarray, of: np.ndarray, sigma: float, default: float) -> np.ndarray:
    """The mean HU of the voxels `of` (z, y, x) bool within a Gaussian window, their median far from all of them."""
    typical = float(np.median(hu[of])) if of.any() else default
    total, weight = sums_nearby(hu, of, sigma, truncate=3.0)
    return (total + 1e-6 * typical) / (weight + 1e-6)


def _native_window(coarse: Coarse, grid: Grid) -> tuple[slice, slice, slice]:
    """The box (z, y, x) of the scan's voxels that may belong to the lungs."""
    points = np.argwhere(coarse.lungs > 0)
    box = np.array([points.min(axis=0) - 2, points.max(axis=0) + 2])
    corners = np.array(np.meshgrid(*box.T)).reshape(3, -1).T[:, ::-1]
    index = grid.indices(coarse.work.grid.points(corners))[:, ::-1]
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, None)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, grid.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
