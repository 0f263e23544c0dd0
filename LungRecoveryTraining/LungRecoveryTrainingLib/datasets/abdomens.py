"""Pairs of contrast phases of synthetic abdomens as samples, for the rigid network.

To train on, the phases lie alike: what moves them apart is drawn anew for every batch by the augmentation, with known
truth. To validate on, they lie apart by a motion of their own. Images are (HU + 1000) / 1000; the masks are the liver
with its surroundings, or the body, since a user may have no mask.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from LungRecoveryLib import grids
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.phantom.abdomen import AbdomenScan, make_abdomen
from LungRecoveryLib.registration.motion6 import matrix_4x4

from .cache import expand
from .processes import in_processes
from .samples import TEXTS, Sample

# The share of pairs whose mask is the whole body, and how far (mm) around the liver the mask of the others reaches.
_WHOLE_BODY, _AROUND_MM = 0.3, 12.0
_LOWEST, _HIGHEST = 0.0, 1.6
# What is drawn of a body, x, y, z: as much as the augmentation can turn into the field.
_EXTENT_MM = (400.0, 300.0, 384.0)
# Scans are drawn in voxels so many times finer and averaged, as real ones are that come on a coarse grid.
_FINER = 2
# The longest motion of pairs that lie apart.
_DEGREES, _SHIFT_MM = 30.0, 50.0


def abdomen_samples(
    seeds: Iterable[int], spacing_mm: float, size: tuple[int, int, int], workers: int = 0, apart: bool = False
) -> Iterator[Sample]:
    """One sample for each seed, in their order; `size` (z, y, x) voxels of `spacing_mm` about the liver.

    `apart`: the phases lie apart by a random rotation and translation, which is the sample's displacement. The same
    seeds and settings give the same samples, whatever the workers.
    """
    for sample in in_processes(partial(_packed, spacing_mm, tuple(size), apart), seeds, workers):
        yield expand({k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()})


def _packed(spacing_mm: float, size: tuple[int, int, int], apart: bool, seed: int) -> dict:
    """A sample as arrays, which pass between processes without shared memory."""
    finer_mm = spacing_mm / _FINER
    extent = [int(np.ceil(mm / finer_mm)) for mm in _EXTENT_MM]
    rng = np.random.default_rng([seed, 9_204])
    motion = _random_motion(rng) if apart else ()
    scans = make_abdomen(seed, tuple(extent), (finer_mm,) * 3, *motion, noise_hu=6.0)
    fixed, moving = scans if rng.random() < 0.5 else scans[::-1]
    grid = _about_liver(fixed, spacing_mm, size)
    whole = rng.random() < _WHOLE_BODY
    masks = [_mask(scan, grid, whole) for scan in (fixed, moving)]
    images = [_image(scan.ct, grid) for scan in (fixed, moving)]
    return {
        "fixed": images[0].astype(np.float16),
        "moving": images[1].astype(np.float16),
        "fixed_mask": masks[0],
        "moving_mask": masks[1],
        "displacement": _displacement(fixed, moving, grid).astype(np.float16),
        "truth": masks[0],
        "subject": f"abdomen-{seed}",
        "pair": f"abdomen-{seed}:{fixed.phase}-{moving.phase}",
    }


def _random_motion(rng: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Degrees about, and mm along, x, y and z: of any direction, and of any length up to the longest."""
    drawn = []
    for longest in (_DEGREES, _SHIFT_MM):
        direction = rng.standard_normal(3)
        drawn.append(tuple((direction / np.linalg.norm(direction) * rng.uniform(0, longest)).tolist()))
    return drawn[0], drawn[1]


def _displacement(fixed: AbdomenScan, moving: AbdomenScan, grid: Grid) -> np.ndarray:
    """Where the tissue of a grid's voxels lies in the moving scan, less the voxels: (3, z, y, x) in voxels."""
    matrix = matrix_4x4(moving.from_body) @ np.linalg.inv(matrix_4x4(fixed.from_body))
    points = grid.points(np.indices(grid.shape).reshape(3, -1)[::-1].T)
    change = points @ (matrix[:3, :3] - np.eye(3)).T + matrix[:3, 3]
    return change.T.reshape(3, *grid.shape) / grid.spacing[0]


def _about_liver(scan: AbdomenScan, spacing_mm: float, size: tuple[int, int, int]) -> Grid:
    box = grids.crop_to_mask(scan.liver, 0.0)
    return Grid(
        size[::-1],
        (spacing_mm,) * 3,
        tuple((box.centre - (np.array(size[::-1]) - 1) / 2 * spacing_mm).tolist()),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )


def _image(ct: sitk.Image, grid: Grid) -> np.ndarray:
    hu = grids.to_array(grids.resample(ct, grid), np.float32)
    return np.clip((hu[None] + 1000.0) / 1000.0, _LOWEST, _HIGHEST)


def _mask(scan: AbdomenScan, grid: Grid, whole: bool) -> np.ndarray:
    if whole:
        inside = _image(scan.ct, grid)[0] > 0.5
    else:
        liver = grids.to_array(grids.resample_mask(scan.liver, grid)) != 0
        inside = ndimage.distance_transform_edt(~liver) * grid.spacing[0] <= _AROUND_MM
    return inside[None].astype(np.uint8)
