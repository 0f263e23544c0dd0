"""What a deformation makes of a pair: the follow-up laid on a grid, maps, and figures of merit."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from .. import grids
from ..grids import Grid
from . import flow, losses
from .prepare import HIGHEST_HU
from .velocity import Deformation

_SLAB = 16  # slices whose similarity is taken at once: they stay in the processor's cache
_RADIUS = 2  # of the windows of the similarity, voxels
_BOX_MARGIN_MM = 5.0


@dataclass(eq=False)
class Maps:
    """A deformation and the follow-up it lays on a grid, as arrays (z, y, x).

    `displacement` is phi(p) - p, LPS mm (3, z, y, x), `jacobian` det(grad phi), both float32; `warped` the follow-up
    in its own pixel type, `lungs` its labels; `inside`: where the follow-up really shows the voxel.
    """

    displacement: np.ndarray
    jacobian: np.ndarray
    warped: np.ndarray
    lungs: np.ndarray
    inside: np.ndarray


def make_maps(
    deformation: Deformation, grid: Grid, moving: sitk.Image, moving_lungs: sitk.Image, fixed_lung: np.ndarray
) -> Maps:
    """Lay the moving scan (HU) and its lungs (labels on any grid) on a grid with the axes of the deformation's box.

    HU are interpolated linearly, labels taken from the nearest voxel; outside the moving scan they are -1024 and 0.
    `fixed_lung` (bool (z, y, x) on the grid) says where it matters that the scan may hold padding.
    """
    device = deformation.velocity.coefficients.device
    scan = grids.averaged_down(moving, grid.spacing)
    places = [grids.grid_of(image) for image in (moving, scan, moving_lungs)]
    labels, fine = _tensor(moving_lungs, np.int16, device), _tensor(moving, np.float32, device)
    image = fine if scan is moving else _tensor(scan, np.float32, device)
    pixels = sitk.GetArrayViewFromImage(moving).dtype
    maps = Maps(
        np.empty((3, *grid.shape), np.float32),
        np.empty(grid.shape, np.float32),
        np.empty(grid.shape, pixels),
        np.empty(grid.shape, sitk.GetArrayViewFromImage(moving_lungs).dtype),
        np.empty(grid.shape, bool),
    )
    padded = np.empty(grid.shape, bool)
    for slab in deformation.slabs(grid):
        here = slice(slab.low, slab.high)
        index = {place: deformation.indices(slab, place) for place in set(places)}
        at_voxel, at_scan, at_lungs = (index[place] for place in places)
        within = _within(at_voxel, fine.shape)
        hu = torch.where(within, flow.warp(image, at_scan), grids.AIR_HU)
        maps.displacement[:, here] = deformation.displacement(slab).cpu().numpy()
        maps.jacobian[here] = slab.jacobian.cpu().numpy()
        maps.warped[here] = (hu.round() if np.issubdtype(pixels, np.integer) else hu).cpu().numpy()
        maps.lungs[here] = (_nearest(labels, at_lungs) * _within(at_lungs, labels.shape)).cpu().numpy()
        maps.inside[here] = within.cpu().numpy()
        padded[here] = (~within | (_nearest(fine, at_voxel) <= grids.AIR_HU)).cpu().numpy()
    leave_out_padding(maps.inside, padded, fixed_lung)
    return maps


def _tensor(image: sitk.Image, dtype: type, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(grids.to_array(image, dtype)).to(device)


def _within(index: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Which voxel indices x, y, z (3, z, y, x) lie within the voxels of an array of `shape` (z, y, x)."""
    x, y, z = ((i >= -0.5) & (i < n - 0.5) for i, n in zip(index, shape[::-1], strict=True))
    return x & y & z


def _nearest(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The voxels of an array (z, y, x) nearest to indices x, y, z (3, z, y, x), which are cut at its border."""
    depth, height, width = values.shape
    x, y, z = ((i + 0.5).clamp_(0, n - 1).int() for i, n in zip(index, (width, height, depth), strict=True))
    flat = (z * height + y) * width + x
    return values.reshape(-1).index_select(0, flat.reshape(-1)).reshape(flat.shape)


def leave_out_padding(inside: np.ndarray, padded: np.ndarray, lung: np.ndarray) -> None:
    """Take out of `inside`, in place, the padding of the moving scan around the lung and in it.

    `padded` are voxels of -1024 HU or less and those outside the scan. They are padding where they hang together with
    the border of the lung's box as a solid block: not a bulla, nor a chain of noise. All arrays (z, y, x).
    """
    if not (padded & lung & inside).any():
        return
    box = _box(lung)
    inside[box] &= ~reaches_border(padded[box])


def _box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The bounding box of a mask and two voxels around."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in found)


def reaches_border(mask: np.ndarray) -> np.ndarray:
    """The solid parts of a mask (after an opening, so no chains of noise) that touch the border of the array."""
    eroded = ndimage.minimum_filter(mask.astype(np.uint8), size=3, mode="nearest")
    solid = ndimage.maximum_filter(eroded, size=3, mode="nearest")
    labels, count = ndimage.label(solid)
    touching = np.zeros(count + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            touching[np.unique(labels.take(end, axis=axis))] = True
    touching[0] = False
    return touching[labels]


def similarities(
    fixed: sitk.Image, moving: sitk.Image, warped: np.ndarray, grid: Grid, lung: np.ndarray, device: torch.device
) -> tuple[float, float]:
    """Mean squared LNCC (0 to 1) over a lung, as the scans lie in the scanner and after registration.

    Scans in HU; `warped` the moving scan on `grid` and `lung` the voxels that count, both (z, y, x).
    """
    mask = grids.to_image(lung, grid)
    box = grids.crop_to_mask(mask, _BOX_MARGIN_MM)
    window = grids.window(grid, box)
    target, before = (_scaled(grids.to_array(grids.resample(scan, box)), device) for scan in (fixed, moving))
    after = _scaled(warped[window], device)
    centres = torch.from_numpy(lung[window].astype(np.float32)).to(device)
    total = torch.zeros(2, dtype=torch.float64)
    for low in range(0, box.shape[0], _SLAB):
        # Whole windows for the slab's centres: the slices around it lend their voxels and count nothing.
        part = slice(max(low - _RADIUS, 0), low + _SLAB + _RADIUS)
        own = torch.zeros_like(centres[part])
        own[low - part.start : low - part.start + _SLAB] = centres[low : low + _SLAB]
        lncc = losses.Lncc(target[part], own, _RADIUS)
        total += float(own.sum()) * torch.tensor([1 - float(lncc(image[part])) for image in (before, after)])
    first, second = (total / float(centres.sum())).tolist()
    return first, second


def _scaled(hu: np.ndarray, device: torch.device) -> torch.Tensor:
    """HU as refinement sees them: (HU + 1000) / 1000 within air and soft tissue."""
    hu = torch.from_numpy(np.ascontiguousarray(hu, np.float32)).to(device)
    return hu.clamp_(grids.AIR_HU, HIGHEST_HU).add_(1000).div_(1000)


def folding_percent(jacobian: np.ndarray) -> float:
    """The share of voxels with J <= 0, in percent; a J that is no number counts as a fold."""
    return float(100.0 * np.mean(~(jacobian > 0)))


def inverse_consistency(
    transform: sitk.Transform, inverse: sitk.Transform, grid: Grid, mask: np.ndarray, count: int = 3000
) -> np.ndarray:
    """|inverse(transform(p)) - p| in mm at up to about `count` evenly taken voxels of a mask (z, y, x)."""
    voxels = np.flatnonzero(mask)
    index = np.stack(np.unravel_index(voxels[:: max(1, len(voxels) // count)], mask.shape)[::-1], axis=1)
    points = grid.points(index)
    back = grids.transform_points(inverse, grids.transform_points(transform, points))
    return np.linalg.norm(back - points, axis=1)
