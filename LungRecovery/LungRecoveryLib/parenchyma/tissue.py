"""The parenchyma of a scan on a working grid: what is lung, what is tube, how far away both end."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..distances import distance_to
from ..errors import BadInput
from ..grids import (
    AIR_HU,
    Grid,
    crop_to_mask,
    grid_of,
    resample,
    resample_mask,
    to_array,
    to_image,
    window,
    with_spacing,
)
from ..nearby import sums_nearby

WORKING_MM = 1.5  # finer scans are averaged to this: their noise is larger and lesions are not smaller
_MARGIN_MM = 8.0
_BRIGHTEST_HU = 300  # contrast medium and metal, cut so that they do not shine into the lung around
_TUBE_SHARE = 0.1  # of an averaged voxel that makes it a tube's


@dataclass(frozen=True)
class Tissue:
    """A scan around its lungs, every array (z, y, x) on `grid`.

    `hu` float32; `lungs` uint8 labels (1 right, 2 left); `tubes` bool, airways and vessels; `from_tubes` and `depth`
    float32, the distances in mm to the nearest tube and to the lung's surface (the array's border is no surface).
    """

    grid: Grid
    hu: np.ndarray
    lungs: np.ndarray
    tubes: np.ndarray
    from_tubes: np.ndarray
    depth: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """The lungs, (z, y, x) bool."""
        return self.lungs > 0

    def sigma(self, mm: float) -> list[float]:
        """A standard deviation in mm in voxels along (z, y, x)."""
        return [mm / s for s in self.grid.spacing[::-1]]


def tissue_of(ct: sitk.Image, lungs: sitk.Image, tubes: sitk.Image | np.ndarray | None) -> Tissue:
    """The parenchyma of a scan on a grid of WORKING_MM (of its own voxels along axes where these are larger).

    `ct` in HU, `lungs` a label map and `tubes` a mask of airways and vessels (None: not known) on its grid. Raises
    BadInput where there is no lung.
    """
    if not sitk.GetArrayViewFromImage(lungs).any():
        raise BadInput("there is no lung in the lung mask: give a mask with 1 in the right and 2 in the left lung")
    box = crop_to_mask(lungs, _MARGIN_MM)
    grid = working_grid(box)
    cut = window(grid_of(ct), box)
    native = np.clip(sitk.GetArrayViewFromImage(ct)[cut], AIR_HU, _BRIGHTEST_HU).astype(np.int16)
    hu = to_array(resample(to_image(native, box), grid), np.float32)
    labels = to_array(resample_mask(to_image(sitk.GetArrayViewFromImage(lungs)[cut].astype(np.uint8), box), grid))
    pipes = np.zeros(grid.shape, bool)
    if tubes is not None:
        mask = (tubes if isinstance(tubes, np.ndarray) else sitk.GetArrayViewFromImage(tubes))[cut] != 0
        share = resample(to_image(mask.astype(np.float32), box), grid, outside=0.0)
        pipes = to_array(share) > (_TUBE_SHARE if grid != box else 0.5)
    return Tissue(
        grid,
        hu,
        labels,
        pipes,
        distance_mm(~pipes, grid),
        distance_mm(labels > 0, grid),
    )


def working_grid(grid: Grid) -> Grid:
    """The grid with voxels of WORKING_MM along the axes on which it is clearly finer."""
    spacing = tuple(s if s > 0.8 * WORKING_MM else WORKING_MM for s in grid.spacing)
    return grid if spacing == grid.spacing else with_spacing(grid, spacing)


def distance_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """How far in mm a mask's voxels lie from the face of the nearest voxel outside, (z, y, x) float32; 0 outside."""
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    centres = distance_to(~mask, grid.spacing[::-1])
    return np.maximum(centres - 0.5 * np.median(grid.spacing), 0.0).astype(np.float32)


def smoothed(values: np.ndarray, known: np.ndarray, sigma: list[float]) -> np.ndarray:
    """The Gaussian mean of the known voxels around every voxel (normalised convolution), (z, y, x) float32.

    `sigma` in voxels along (z, y, x). NaN where nothing known is near.
    """
    total, weight = sums_nearby(values, known, sigma, truncate=3.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 1e-3, total / weight, np.nan).astype(np.float32)


def along_patient(grid: Grid, mask: np.ndarray, axis: int) -> np.ndarray:
    """The LPS coordinate (0 x, 1 y, 2 z) in mm of the voxels of a mask (z, y, x), (N,) float32."""
    index = np.nonzero(mask)[::-1]
    steps = grid.index_to_point[axis]
    place = sum(np.float32(step) * i.astype(np.float32) for step, i in zip(steps, index, strict=True))
    return place + np.float32(grid.origin[axis])


def plane_along(grid: Grid, axis: int) -> np.ndarray:
    """The LPS coordinate (0 x, 1 y, 2 z) in mm of every voxel, as a broadcastable sum (z, y, x) float32."""
    x, y, z = (
        np.float32(step) * np.arange(n, dtype=np.float32)
        for step, n in zip(grid.index_to_point[axis], grid.size, strict=True)
    )
    return z[:, None, None] + y[None, :, None] + x[None, None, :] + np.float32(grid.origin[axis])
