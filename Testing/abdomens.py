"""Small synthetic abdomens for tests, made once."""

from functools import cache

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.phantom.abdomen import AbdomenScan, make_abdomen
from LungRecoveryLib.registration.motion6 import matrix_4x4


@cache
def small_abdomen(
    seed: int = 5, rotation: tuple = (8.0, -6.0, 12.0), translation: tuple = (12.0, -9.0, 16.0), spacing: float = 4.0
) -> tuple[AbdomenScan, AbdomenScan]:
    """The venous scan and the moved arterial one, voxels of `spacing` mm."""
    size = tuple(round(mm / spacing) for mm in (348, 264, 270))
    return make_abdomen(seed, size, (spacing,) * 3, rotation, translation)


def mean_error_mm(found: sitk.Transform, true: sitk.Transform, mask: sitk.Image) -> float:
    """The mean distance between where two linear transforms take a mask's voxels."""
    index = np.argwhere(sitk.GetArrayViewFromImage(mask) != 0)[::7, ::-1]
    points = np.array([mask.TransformContinuousIndexToPhysicalPoint(i) for i in index.astype(float).tolist()])
    apart = matrix_4x4(found) - matrix_4x4(true)
    return float(np.linalg.norm(points @ apart[:3, :3].T + apart[:3, 3], axis=1).mean())
