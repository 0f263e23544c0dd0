"""A sample that shows all of the chest around the lungs, not the lungs alone: what the completion of lungs learns from.

Images are (HU + 1000) / 1000 from LOWEST to HIGHEST, each about its own lungs. No displacement is known; `truth` is
where it is known of both scans what is lung.
"""

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LungRecoveryLib import grids
from LungRecoveryLib.distances import distance_to
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid

LOWEST, HIGHEST = -0.024, 2.5
_DENSE = 0.7  # (HU + 1000) / 1000
_DOUBTFUL_MM = 12.0


def whole_arrays(
    scans: Mapping[str, tuple[sitk.Image, sitk.Image]], spacing_mm: float, size: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """The arrays of a sample from `fixed` and `moving` (CT in HU, lungs), `size` (z, y, x) voxels about the
    lungs; all of it counts."""
    sample: dict[str, np.ndarray] = {}
    for name, (image, lungs) in scans.items():
        grid = _about(lungs, spacing_mm, size)
        hu = grids.to_array(grids.resample(image, grid), np.float32)
        sample[name] = np.clip((hu[None] + 1000.0) / 1000.0, LOWEST, HIGHEST)
        share = grids.resample(sitk.Cast(lungs != 0, sitk.sitkFloat32), grid, outside=0.0)
        sample[f"{name}_mask"] = (grids.to_array(share)[None] > 0.5).astype(np.uint8)
    return sample | {"displacement": np.zeros((3, *size), np.float32), "truth": np.ones((1, *size), np.uint8)}


def real_arrays(
    scans: Mapping[str, tuple[sitk.Image, sitk.Image]], spacing_mm: float, size: tuple[int, int, int] | None
) -> dict[str, np.ndarray]:
    """The same of real chests, whose lungs a program or a person outlined.

    Nobody knows where dense lung ends in them: what lies near lung that is dense as outlined does not count, nor what a
    scan does not show. Raises BadInput without a size.
    """
    if size is None:
        raise BadInput("whole chests need a size in voxels; give data.size")
    sample = whole_arrays(scans, spacing_mm, size)
    for name, (image, lungs) in scans.items():
        dense = (sample[f"{name}_mask"][0] > 0) & (sample[name][0] > _DENSE)
        doubtful = distance_to(ndimage.binary_opening(dense)) * spacing_mm < _DOUBTFUL_MM
        everywhere = grids.to_image(np.ones(image.GetSize()[::-1], np.uint8), grids.grid_of(image))
        shown = grids.to_array(grids.resample_mask(everywhere, _about(lungs, spacing_mm, size))) > 0
        sample["truth"] &= (shown & ~doubtful)[None]
    return sample


def _about(lungs: sitk.Image, spacing_mm: float, size: tuple[int, int, int]) -> Grid:
    box = grids.crop_to_mask(lungs, 0.0)
    origin = box.centre - (np.array(size[::-1]) - 1) / 2 * spacing_mm
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return Grid(size[::-1], (spacing_mm,) * 3, tuple(origin.tolist()), axes)
