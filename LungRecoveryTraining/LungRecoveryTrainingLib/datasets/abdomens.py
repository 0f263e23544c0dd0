"""Pairs of contrast phases of synthetic abdomens as samples, for the rigid network.

The phases lie alike: what moves them apart is drawn anew for every batch by the augmentation, with known truth. Images
are (HU + 1000) / 1000; the masks are the liver with its surroundings, or the body, since a user may have no mask.
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

from .cache import expand
from .processes import in_processes
from .samples import TEXTS, Sample

# The share of pairs whose mask is the whole body, and how far (mm) around the liver the mask of the others reaches.
_WHOLE_BODY, _AROUND_MM = 0.3, 12.0
_LOWEST, _HIGHEST = 0.0, 1.6


def abdomen_samples(
    seeds: Iterable[int], spacing_mm: float, size: tuple[int, int, int], workers: int = 0
) -> Iterator[Sample]:
    """One sample for each seed, in their order; `size` (z, y, x) voxels of `spacing_mm` about the liver.

    The same seeds, spacing and size give the same samples, whatever the workers.
    """
    for sample in in_processes(partial(_packed, spacing_mm, tuple(size)), seeds, workers):
        yield expand({k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()})


def _packed(spacing_mm: float, size: tuple[int, int, int], seed: int) -> dict:
    """A sample as arrays, which pass between processes without shared memory."""
    extent = [int(np.ceil(mm / spacing_mm)) for mm in (348.0, 264.0, 320.0)]
    scans = make_abdomen(seed, tuple(extent), (spacing_mm,) * 3, noise_hu=6.0)
    rng = np.random.default_rng([seed, 9_204])
    fixed, moving = scans if rng.random() < 0.5 else scans[::-1]
    grid = _about_liver(fixed, spacing_mm, size)
    mask = _mask(fixed, grid, whole=rng.random() < _WHOLE_BODY)
    images = [_image(scan.ct, grid) for scan in (fixed, moving)]
    still = np.zeros((3, *size), np.float16)
    return {
        "fixed": images[0].astype(np.float16),
        "moving": images[1].astype(np.float16),
        "fixed_mask": mask,
        "moving_mask": mask,
        "displacement": still,
        "truth": mask,
        "subject": f"abdomen-{seed}",
        "pair": f"abdomen-{seed}:{fixed.phase}-{moving.phase}",
    }


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
