"""Vessels and dense lesions that belong to a lung though they are not aerated."""

import numpy as np
from scipy import ndimage

from .working import Working, bounding_box, close, components

_CLOSING_MM = 9.0
_RING_CM2 = 20.0


def fill_lung(work: Working, air: np.ndarray, forbidden: np.ndarray) -> np.ndarray:
    """The lung whose aerated part is `air`: the same with vessels and dense lesions, (z, y, x) bool.

    Three steps, none of which can enter the heart, the liver or the chest wall far: a closing by a ball that is
    smaller than those; what is ringed by lung in at least two of the three planes (the dome of the diaphragm is in
    the axial one, a hilum in the sagittal one); and what is enclosed by lung in space.
    """
    window = bounding_box(air, int(np.ceil(_CLOSING_MM / work.spacing)) + 3)
    part = air[window]
    allowed = work.field[window] & ~forbidden[window]
    filled = close(part, _CLOSING_MM / work.spacing) & (allowed | part)
    filled = _fill_rings(filled, work.spacing) & (allowed | part)
    filled = ndimage.binary_fill_holes(filled) & (allowed | part)
    labels, sizes = components(filled)
    result = np.zeros(air.shape, bool)
    result[window] = (sizes * work.voxel_ml > 1.0)[labels]
    return result


def _fill_rings(mask: np.ndarray, spacing: float) -> np.ndarray:
    """Fill what lung rings in at least two of the three planes, up to a limit of area in each."""
    rings = np.zeros(mask.shape, np.uint8)
    for axis in range(3):
        in_slice = ndimage.generate_binary_structure(3, 1)
        in_slice[(slice(None),) * axis + (0,)] = False
        in_slice[(slice(None),) * axis + (2,)] = False
        labels, sizes = components(~mask, in_slice)
        small = sizes * spacing**2 <= _RING_CM2 * 100
        for other in {0, 1, 2} - {axis}:
            for end in (0, -1):
                small[np.unique(np.take(labels, end, other))] = False
        small[0] = False
        rings += small[labels]
    return mask | (rings >= 2)
