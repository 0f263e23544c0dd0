"""Whole synthetic chests with their lungs, two visits of each patient, for the network that completes lungs.

Unlike the pairs for registration the images show all of the chest, (HU + 1000) / 1000 from LOWEST to HIGHEST, and lie
as the scanner made them. `truth` is the lungs of the fixed scan; no displacement is known.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch

from LungRecoveryLib import grids
from LungRecoveryLib.grids import Grid

from .cache import expand
from .chests import PhantomSettings, patient_scans
from .processes import in_processes
from .samples import TEXTS, Sample

LOWEST, HIGHEST = -0.024, 2.5


def whole_chest_samples(
    seeds: Iterable[int], spacing_mm: float, size: tuple[int, int, int], settings: PhantomSettings, workers: int = 0
) -> Iterator[Sample]:
    """One sample for each seed, in their order: `size` (z, y, x) voxels of `spacing_mm` about the lungs.

    The same arguments give the same samples, whatever the workers. Of `settings` all but crops and masks counts.
    """
    whole = replace(settings, visits=1, one_lung=0.0, rough_masks=0.0, cropped=0.0)
    for sample in in_processes(partial(_packed, spacing_mm, tuple(size), whole), seeds, workers):
        yield expand({k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()})


def _packed(spacing_mm: float, size: tuple[int, int, int], settings: PhantomSettings, seed: int) -> dict:
    """A sample as arrays, which pass between processes without shared memory."""
    kind, scans = patient_scans(seed, settings)
    sample = {"subject": f"chest-{seed}", "pair": f"chest-{seed}:{kind}"}
    for name, scan in zip(("fixed", "moving"), scans, strict=True):
        grid = _about(scan.lungs, spacing_mm, size)
        hu = grids.to_array(grids.resample(scan.image, grid), np.float32)
        sample[name] = np.clip((hu[None] + 1000.0) / 1000.0, LOWEST, HIGHEST).astype(np.float16)
        share = grids.resample(sitk.Cast(scan.lungs != 0, sitk.sitkFloat32), grid, outside=0.0)
        sample[f"{name}_mask"] = (grids.to_array(share)[None] > 0.5).astype(np.uint8)
    still = np.zeros((3, *size), np.float16)
    return sample | {"displacement": still, "truth": sample["fixed_mask"]}


def _about(lungs: sitk.Image, spacing_mm: float, size: tuple[int, int, int]) -> Grid:
    box = grids.crop_to_mask(lungs, 0.0)
    origin = box.centre - (np.array(size[::-1]) - 1) / 2 * spacing_mm
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return Grid(size[::-1], (spacing_mm,) * 3, tuple(origin.tolist()), axes)
