"""What is air inside the body and what is air, foam and cloth around it."""

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from .working import Working, ball, bounding_box, components

AIR_HU = -300.0  # darker than this: air or aerated lung, up to dense ground glass
_DENSE_HU = -250.0
_PURE_MARGIN = 45.0  # above the scan's level of pure air; even emphysematous lungs have a higher median
_OUTSIDE_SHARE = 0.3
_CONTINUED_SHARE = 0.5
_ENCLOSED_SHARE = 0.6
_BODY_SIDES = 1.75  # of four; a lung cut by two borders of a crop still has two
_BODY_SIDES_SMALL = 2.5
_SIDES_FOR_PURE_AIR = 2.0  # more, for the air between a broad back and the table below it
_CERTAIN_ML = 300.0
_SMALL_ML = 20.0
_MARKER_HU = -600.0
_MARKER_ML = 1.0
_GAS_ML = 0.2
_BUBBLE_ML = 20.0
_BUBBLE_MARGIN = 85.0
_LUNG_SHARE, _LUNG_BELOW_SHARE = 0.1, 0.2
_GAS, _LUNG = 1, 2


def air_in_body(work: Working) -> np.ndarray:
    """Air and aerated tissue that the body encloses, (z, y, x) bool: lungs, airways, gas of the bowel.

    The border of the scan does not count as open, because a crop may cut through the lung. What is refused: pure air
    that reaches the border of an axial slice; whatever lies open to that air, such as cloth; and what has body on
    too few sides, such as the foam of a table.
    """
    air = work.field & (work.hu < AIR_HU)
    outside = _outside_air(work, air)
    labels, sizes = components(air & ~outside)
    closed, sides = _enclosure(_body(work), outside)
    voxels = np.maximum(sizes, 1)
    closed_share = np.bincount(labels.ravel(), closed.ravel(), len(sizes)) / voxels
    mean_sides = np.bincount(labels.ravel(), sides.ravel(), len(sizes)) / voxels
    pure = np.bincount(labels.ravel(), (work.hu < work.pure_air_hu + _PURE_MARGIN).ravel(), len(sizes)) / voxels
    least = np.where(sizes * work.voxel_ml < _CERTAIN_ML, _BODY_SIDES_SMALL, _BODY_SIDES + _SIDES_FOR_PURE_AIR * pure)
    keep = (closed_share > _ENCLOSED_SHARE) & (mean_sides > least) & (sizes > 0)
    return keep[labels]


def _outside_air(work: Working, air: np.ndarray) -> np.ndarray:
    """The air around the body: open to the border of the field in its axial slice and, by its median, pure air.

    Judged slice by slice, because nose and trachea join the lungs to the air outside in space; but a piece that is
    pure in a few of its slices only is a lung which the border cuts. Foam of the table makes some slices of the air
    around it less than pure: see :func:`_continued`.
    """
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, sizes = components(air, in_plane)
    border = ~ndimage.binary_erosion(work.field, in_plane)
    border[:, 0] = border[:, -1] = border[:, :, 0] = border[:, :, -1] = True
    touches = np.zeros(len(sizes), bool)
    touches[np.unique(labels[border & air])] = True
    pure = np.bincount(labels.ravel(), (work.hu < work.pure_air_hu + _PURE_MARGIN).ravel(), len(sizes))
    outside = touches & (pure > 0.5 * sizes)
    outside[0] = False
    outside = outside[labels]
    pieces, voxels = components(air)
    share = np.bincount(pieces.ravel(), outside.ravel(), len(voxels)) / np.maximum(voxels, 1)
    outside &= (share > _OUTSIDE_SHARE)[pieces]
    return _continued(outside, np.where(touches[labels], labels, 0))


def _continued(outside: np.ndarray, open_pieces: np.ndarray) -> np.ndarray:
    """The air outside, (z, y, x) bool, with the pieces of each slice that are open to its border (labels, 0 for none)
    and continue the air outside of the slice before or after over most of their area."""
    result = outside.copy()
    for order in (range(1, len(result)), range(len(result) - 2, -1, -1)):
        for z in order:
            before = result[z - order.step]
            rest = np.where(result[z], 0, open_pieces[z])
            for piece in np.unique(rest[before & (rest > 0)]):
                area = rest == piece
                if np.count_nonzero(area & before) > _CONTINUED_SHARE * np.count_nonzero(area):
                    result[z] |= area
    return result


def _body(work: Working) -> np.ndarray:
    """Soft tissue and bone in thick pieces: no table, no cloth."""
    dense = work.field & (work.hu > _DENSE_HU)
    thick = ndimage.binary_opening(dense, ball(2))
    labels, sizes = components(thick)
    if not sizes.any():
        return thick
    return (sizes >= 0.05 * sizes.max())[labels]


def _enclosure(body: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the four axis-parallel rays of every voxel meet within its axial slice.

    Returns whether each of them meets the body or at least never the air outside (bool), and how many of them meet
    the body (uint8).
    """
    closed = np.ones(body.shape, bool)
    sides = np.zeros(body.shape, np.uint8)
    for axis in (1, 2):
        for step in (1, -1):
            order = (slice(None),) * axis + (slice(None, None, step),)
            meets_body = np.logical_or.accumulate(body[order], axis=axis)[order]
            meets_air = np.logical_or.accumulate(outside[order], axis=axis)[order]
            closed &= meets_body | ~meets_air
            sides += meets_body
    return closed, sides


def lung_air(work: Working, air: np.ndarray) -> np.ndarray:
    """The parts of the air in the body that can be lung, (z, y, x) bool: large, and not as empty as gas.

    Lung and gas in stomach or bowel, with little more than the diaphragm between them, run together at AIR_HU: they
    are told apart as pieces at _MARKER_HU without their narrow necks, which a watershed then lets grow again. A piece
    of pure air is a cyst or a bronchus when lung lies caudal of it, and gas otherwise.
    """
    result = np.zeros(air.shape, bool)
    if air.any():
        window = bounding_box(air, 2)
        result[window] = _lung_air(work.part(window), air[window])
    return result


def _lung_air(work: Working, air: np.ndarray) -> np.ndarray:
    """:func:`lung_air` within the box that holds the air."""
    labels, sizes = components(ndimage.binary_opening(air & (work.hu < _MARKER_HU), ball(1)))
    empty = _empty_pieces(work, labels, sizes)
    large = (sizes * work.voxel_ml >= _MARKER_ML) | (sizes == sizes.max(initial=0))
    kind = np.where(sizes == 0, 0, np.where(empty, _GAS, np.where(large, _LUNG, 0))).astype(np.int32)
    if not (kind == _LUNG).any():
        return np.zeros(air.shape, bool)
    lung = ((kind == _LUNG) & (sizes > _LUNG_SHARE * sizes.max()))[labels]  # no bowel that is less than empty
    lung_below = np.zeros(air.shape, bool)
    lung_below[1:] = np.logical_or.accumulate(lung, axis=0)[:-1]
    share_below = np.bincount(labels.ravel(), lung_below.ravel(), len(sizes)) / np.maximum(sizes, 1)
    kind[(kind == _GAS) & (share_below > _LUNG_BELOW_SHARE)] = _LUNG
    lung = watershed(work.hu, kind[labels], mask=air) == _LUNG
    labels, sizes = components(lung)
    return (sizes * work.voxel_ml >= _SMALL_ML)[labels]


def _empty_pieces(work: Working, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which of the labelled pieces hold pure air, (labels,) bool: most of the inside of a piece, or the middle of a
    bubble, most of which is blurred."""
    level = work.pure_air_hu
    inner = np.where(ndimage.binary_erosion(labels > 0, ball(1)), labels, 0)
    empty = np.zeros(len(sizes), bool)
    boxes = ndimage.find_objects(labels)
    for label in np.flatnonzero(sizes * work.voxel_ml >= _GAS_ML):
        box = boxes[label - 1]
        values = work.hu[box][inner[box] == label]
        if values.size == 0:
            values = work.hu[box][labels[box] == label]
        bubble = sizes[label] * work.voxel_ml < _BUBBLE_ML and np.percentile(values, 10) <= level + _BUBBLE_MARGIN
        empty[label] = bubble or np.median(values) <= level + _PURE_MARGIN
    return empty
