"""Trachea and main bronchi: the airways that lie outside the lungs."""

import numpy as np
from scipy import ndimage

from .working import Working, ball, bounding_box, components, dilate

_TUBE_HU = -700.0  # the lumen of a trachea with its partial volume rim
_LUMEN_HU = -880.0  # the middle of the lumen: nothing but air
_AREA_MM2 = (25.0, 1000.0)
_LENGTH_MM = 16.0
_BRONCHUS_ML = 1.0
_TREE_ML = 160.0  # a trachea with bronchi has 40-120 ml


def central_airways(work: Working, air: np.ndarray, lung_air: np.ndarray) -> np.ndarray:
    """Trachea and main bronchi with their walls, (z, y, x) bool; empty where the scan shows none.

    `air` (z, y, x) bool is all air inside the body, `lung_air` the part of it that holds the lungs (and may still
    hold the airways): a trachea reaches into the upper half of its height, as no loop of bowel does.

    The trachea is the longest run of axial slices that show a small round patch of pure air apart from the lungs; its
    tree grows by rising thresholds until it would leak into the lungs (Mori 1996, "explosion control"); an opening
    then leaves tubes of 6 mm and more.
    """
    result = np.zeros(air.shape, bool)
    if lung_air.any():
        window = bounding_box(air, 3)
        result[window] = _central_airways(work.part(window), air[window], lung_air[window])
    return result


def _central_airways(work: Working, air: np.ndarray, lung_air: np.ndarray) -> np.ndarray:
    """:func:`central_airways` within the box that holds the air."""
    seed = _trachea(work, air, lung_air)
    if seed is None:
        return np.zeros(air.shape, bool)
    tree = _grow(work, air, seed)
    # Edge padding: a trachea which the border of a crop cuts in half is no thinner for that.
    padded = np.pad(tree, 2, mode="edge")
    wide = ndimage.binary_opening(padded, ball(1))[2:-2, 2:-2, 2:-2] | seed
    # A main bronchus may hang on the trachea by a neck that the opening cuts: large pieces of the tree stay.
    labels, sizes = components(wide)
    wide = (sizes * work.voxel_ml >= _BRONCHUS_ML)[labels] | seed
    return dilate(wide, 1.5) & work.field


def _names(labels: np.ndarray) -> np.ndarray:
    """The distinct labels other than 0."""
    found = np.unique(labels)
    return found[found > 0]


def _trachea(work: Working, air: np.ndarray, lung_air: np.ndarray) -> np.ndarray | None:
    """The patches of the longest vertical tube of pure air, (z, y, x) bool, or None."""
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, sizes = components(air & (work.hu < _TUBE_HU), in_plane)
    area = sizes * work.spacing**2
    index = np.arange(len(sizes))
    boxes = ndimage.find_objects(labels)
    darkest = ndimage.minimum(work.hu, labels, index)
    darkest[0] = 0
    fits = (area >= _AREA_MM2[0]) & (area <= _AREA_MM2[1]) & (darkest < _LUMEN_HU)
    for label in np.flatnonzero(fits):
        _, rows, columns = boxes[label - 1]
        height, width = rows.stop - rows.start, columns.stop - columns.start
        fits[label] = max(height, width) <= 3.0 * min(height, width) and sizes[label] >= 0.45 * height * width
    tubes, lengths = components(fits[labels])
    levels = np.flatnonzero(lung_air.any(axis=(1, 2)))
    middle = (levels[0] + levels[-1]) / 2
    pieces, _ = components(air)
    lung_pieces = _names(pieces[lung_air])
    rim = ~ndimage.binary_erosion(work.field, in_plane)
    best, best_length = None, 0.0
    for tube, box in enumerate(ndimage.find_objects(tubes), start=1):
        if box is None or lengths[tube] * work.voxel_ml < 1.0:
            continue
        length = (box[0].stop - box[0].start) * work.spacing
        part = tubes[box] == tube
        # Pure air in its middle tells a trachea from the tip of a lung.
        purity = float(np.percentile(work.hu[box][part], 25))
        if length < _LENGTH_MM or purity > _LUMEN_HU or box[0].stop <= middle:
            continue
        # At the border of the field only what joins the lungs is a trachea cut by it, the rest is air from outside.
        if rim[box][part].any() and not np.isin(pieces[box][part], lung_pieces).any():
            continue
        if length > best_length:
            best, best_length = tube, length
    return None if best is None else tubes == best


def _grow(work: Working, air: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The tree of air that hangs on the trachea, grown by steps of 10 HU until one more would leak into a lung."""
    start = work.pure_air_hu + 30.0
    core = seed & (work.hu <= max(start, np.percentile(work.hu[seed], 25)))
    tree, volume = seed, None
    for threshold in np.arange(float(work.hu[core].max()) + 1.0, -640.0, 10.0):
        labels, _ = components(air & (work.hu < threshold))
        grown = np.isin(labels, _names(labels[core])) | seed
        millilitres = grown.sum() * work.voxel_ml
        if millilitres > _TREE_ML or (volume is not None and millilitres > volume + max(10.0, 0.2 * volume)):
            break
        tree, volume = grown, millilitres
    return tree
