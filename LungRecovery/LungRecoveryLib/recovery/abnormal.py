"""Abnormal lung: the lesions of the parenchyma without the blood in the vessels that run through them."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.lesions import segment_lesions
from ..grids import to_image
from .jacobian import as_mask

ABNORMAL_LOW = -700.0
ABNORMAL_HIGH = 200.0

_BLOOD_HU = 40.0
_DENSE_HU = -300.0
_NEARBY_VOXELS = 7


def abnormal_mask(
    ct: sitk.Image,
    lungs: sitk.Image | np.ndarray,
    vessels: sitk.Image | np.ndarray | None,
    lesions: sitk.Image | np.ndarray | None = None,
) -> np.ndarray:
    """The abnormal lung of a scan: its lesions without the vessels' lumen; bool (z, y, x) on the ct's grid.

    `ct` in HU; `lungs`, `vessels` (None: no vessel is known) and `lesions` on its grid, as images or arrays (z, y, x),
    any value but 0 counting. Without `lesions` they are found by :func:`..anatomy.lesions.segment_lesions`.
    """
    whole = as_mask(lungs)
    tubes = None if vessels is None else as_mask(vessels) & whole
    if lesions is None:
        lesions = segment_lesions(ct, to_image(whole, ct), None, None if tubes is None else to_image(tubes, ct))
    found = as_mask(lesions) & whole
    if tubes is not None and found.any():
        found &= ~_lumen(sitk.GetArrayViewFromImage(ct), found, tubes)
    return found


def _lumen(hu: np.ndarray, lesion: np.ndarray, tubes: np.ndarray) -> np.ndarray:
    """The vessels' voxels in lesions that are brighter than halfway from the lesion around to blood, (z, y, x) bool.

    A mask of vessels reaches into the lung around, which is to be counted. Dense lesions give no contrast: there the
    whole mask is taken as vessel.
    """
    box = ndimage.find_objects(lesion.astype(np.uint8))[0]
    lumen = np.zeros_like(lesion)
    pure = lesion[box] & ~tubes[box]
    weight = ndimage.uniform_filter(pure.astype(np.float32), _NEARBY_VOXELS)
    total = ndimage.uniform_filter(np.where(pure, hu[box], 0).astype(np.float32), _NEARBY_VOXELS)
    around = np.where(weight > 0.02, total / np.maximum(weight, 0.02), _DENSE_HU)
    lumen[box] = tubes[box] & (hu[box] > 0.5 * (np.minimum(around, _DENSE_HU) + _BLOOD_HU))
    return lumen
