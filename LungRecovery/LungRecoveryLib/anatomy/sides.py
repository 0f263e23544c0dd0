"""Which lung is the right one and which the left one, in the patient's frame."""

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from ..distances import distance_to
from .working import Working, ball, bounding_box, components

RIGHT = 1
LEFT = 2

_SECOND_LUNG_SHARE = 0.08  # a shrunken lung beside a healthy one
_BONE_HU = 180.0
_SOFT_HU = -250.0


def split_sides(work: Working, mask: np.ndarray, airway: np.ndarray | None = None) -> np.ndarray:
    """Labels (z, y, x) uint8 of the lungs in a mask: 1 the right one, 2 the left one.

    Lungs that touch (the anterior junction line is thinner than a voxel) are cut by a watershed along the brightest
    sheet between them. A lone lung is named by :func:`lone_side`. Small pieces go with the nearer lung.
    """
    labels = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return labels
    window = bounding_box(mask, 2)
    part = mask[window]
    cores = _cores(work, part)
    if len(cores) == 1:
        labels[mask] = lone_side(work, mask, airway)
        return labels
    markers = np.zeros(part.shape, np.int32)
    order = np.argsort([ndimage.center_of_mass(core)[2] for core in cores])
    for side, index in zip((RIGHT, LEFT), order, strict=True):
        markers[cores[index]] = side
    split = watershed(work.hu[window], markers, mask=part).astype(np.uint8)
    loose = part & (split == 0)
    if loose.any():
        nearest = ndimage.distance_transform_edt(split == 0, return_distances=False, return_indices=True)
        split[loose] = split[tuple(nearest)][loose]
    labels[window] = split
    return labels


def _cores(work: Working, mask: np.ndarray) -> list[np.ndarray]:
    """One core for each lung: the two largest pieces, found at the least erosion that makes two lungs of them."""
    depth = distance_to(~np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    for millimetres in (0, 2, 3, 4, 6, 8, 10, 12, 15, 18):
        labels, sizes = components(depth * work.spacing > millimetres)
        order = np.argsort(sizes)[::-1][:2]
        if len(sizes) < 3 or sizes[order[1]] < _SECOND_LUNG_SHARE * sizes[order[0]]:
            continue
        cores = [labels == label for label in order]
        if _beside(*cores):
            return cores
    return [mask]


def _beside(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pieces lie left and right of each other, as lungs do and lobes of one lung do not."""
    spans = []
    for piece in (first, second):
        columns = np.repeat(np.arange(piece.shape[2]), piece.sum(axis=(0, 1)))
        spans.append(np.percentile(columns, (10, 50, 90)))
    right, left = sorted(spans, key=lambda span: span[1])
    return bool(right[1] < left[0] and right[2] < left[1])


def lone_side(work: Working, mask: np.ndarray, airway: np.ndarray | None = None) -> int:
    """Which lung the only lung in the field is.

    The midline of the body is looked for by up to three signs, each of which votes for the side it lies on: the
    trachea and main bronchi; thick bone (vertebrae, sternum) at the lung's height; the soft tissue at the lung's
    height, most of which is mediastinum or the other half of the body, because the chest wall beside a lung is thin.
    The last one decides where the others disagree or are absent.
    """
    middle = _mean_x(mask)
    levels = np.flatnonzero(mask.any(axis=(1, 2)))
    low, high = np.percentile(np.repeat(levels, mask.sum(axis=(1, 2))[levels]), (10, 90)).astype(int)
    slab = slice(low, high + 1)
    votes = []
    if airway is not None and airway.any():
        votes.append(_mean_x(airway) - middle)
    bone = ndimage.binary_opening(work.field[slab] & (work.hu[slab] > _BONE_HU), ball(2))
    if bone.sum() * work.voxel_ml > 5.0:
        votes.append(_mean_x(bone) - middle)
    soft = work.field[slab] & (work.hu[slab] > _SOFT_HU) & ~mask[slab]
    votes.append(_mean_x(soft) - middle if soft.any() else 0.0)
    total = sum(np.sign(v) for v in votes if abs(v) * work.spacing > 3.0)
    decision = total if total != 0 else votes[-1]
    return RIGHT if decision >= 0 else LEFT


def _mean_x(mask: np.ndarray) -> float:
    columns = mask.sum(axis=(0, 1))
    return float((columns * np.arange(mask.shape[2])).sum() / max(columns.sum(), 1))
