"""Vessels and dense lesions that belong to a lung though they are not aerated."""

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from .working import Working, ball, bounding_box, close, components, dilate

_CLOSING_MM = 9.0
_RING_CM2 = 20.0
_BAY_MM = 45.0
_BAY_ML = 0.5
_MOUTH_MM = 8.0
_BONE_HU = 200.0
_SLICE_CM2 = 15.0
_MEDIAL, _ANTERIOR = 0.25, 0.5  # how far a mouth's normal may point medially, and must point sideways if ventral
_MOUTH_SHARE = 0.8


def fill_lung(work: Working, air: np.ndarray, forbidden: np.ndarray, lateral: int) -> np.ndarray:
    """The lung whose aerated part is `air`: the same with vessels and dense lesions, (z, y, x) bool.

    `forbidden` (z, y, x) bool is what cannot be this lung, `lateral` the direction of x away from the body's middle
    (-1 for the right lung, 1 for the left one). Four steps, none of which can go far into heart, liver or chest wall:
    a closing by a ball that is smaller than those; what is ringed by lung in at least two of the three planes (the
    dome of the diaphragm is in the axial one, a hilum in the sagittal one); what is enclosed by lung in space; and
    bays of the convex costal surface (consolidation along the chest wall). What these leave out is left to
    :mod:`.pleura`.
    """
    window = bounding_box(air, int(np.ceil(_CLOSING_MM / work.spacing)) + 3)
    part = air[window]
    allowed = work.field[window] & ~forbidden[window]
    filled = close(part, _CLOSING_MM / work.spacing) & (allowed | part)
    filled = _fill_rings(filled, work.spacing) & (allowed | part)
    filled = ndimage.binary_fill_holes(filled) & (allowed | part)
    filled |= _costal_bays(work.hu[window], filled, lateral, work.spacing) & allowed
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


def _costal_bays(hu: np.ndarray, lung: np.ndarray, lateral: int, spacing: float) -> np.ndarray:
    """Dense tissue in bays of the lung's costal surface, (z, y, x) bool.

    The costal surface of a lung is convex in axial slices, so that a bay in it is lung without air. A bay counts when
    its mouth on the convex hull looks laterally or dorsally, not at heart, spine or diaphragm, and when a large ball
    closes it.
    """
    closed = close(lung, _BAY_MM / spacing) & ~lung & (hu < _BONE_HU)
    bays = np.zeros(lung.shape, bool)
    for level in np.flatnonzero(closed.any(axis=(1, 2))):
        bays[level] = _bays_of_slice(lung[level], lateral, spacing) & (hu[level] < _BONE_HU)
    deep = ndimage.binary_opening(bays & closed, ball(2))
    # The ball dips into a wide mouth: what it leaves out beside a deep bay, up to the hull, belongs to it.
    bays &= dilate(deep, _MOUTH_MM / spacing)
    labels, sizes = components(bays)
    return (sizes * spacing**3 / 1000 >= _BAY_ML)[labels]


def _bays_of_slice(lung: np.ndarray, lateral: int, spacing: float) -> np.ndarray:
    """The bays (y, x) bool of one axial slice whose mouth looks laterally or dorsally."""
    if lung.sum() * spacing**2 < _SLICE_CM2 * 100:
        return np.zeros(lung.shape, bool)
    hull = convex_hull_image(lung)
    labels, sizes = components(hull & ~lung)
    mouth = hull & ~ndimage.binary_erosion(hull) & (labels > 0)
    outward = np.stack(np.gradient(ndimage.gaussian_filter(-hull.astype(np.float32), 2.0)))
    length = np.maximum(np.linalg.norm(outward, axis=0), 1e-6)
    dorsal, sideways = outward[0] / length, outward[1] / length * lateral
    good = mouth & (sideways > -_MEDIAL) & ((dorsal > 0) | (sideways > _ANTERIOR))
    mouths = np.bincount(labels.ravel(), mouth.ravel(), len(sizes))
    share = np.bincount(labels.ravel(), good.ravel(), len(sizes)) / np.maximum(mouths, 1)
    return ((share > _MOUTH_SHARE) & (sizes > 0))[labels]
