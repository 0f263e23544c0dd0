"""How far voxels lie from a mask."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


def distance_to(mask: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """The distance from every voxel's middle to that of the nearest voxel of a mask (z, y, x) bool, (z, y, x) float32:
    0 in the mask, infinite everywhere where it is empty.

    `spacing` along (z, y, x) gives the unit. Exact (Maurer 2003), on all threads, several times faster than SciPy's.
    """
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(step) for step in spacing[::-1]])
    signed = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.maximum(sitk.GetArrayViewFromImage(signed), 0.0)
