"""The lungs in a chest CT: right and left, with vessels and lesions, without trachea and main bronchi.

The work is done on a 2 mm grid along the patient's axes; the surface is then drawn again on the scan's own voxels.
"""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import BadInput
from ..grids import Grid, grid_of, resample, resample_mask, to_array, to_image
from ..progress import Progress, no_progress
from .body import air_in_body, lung_air
from .fill import fill_lung
from .pleura import hidden_lung
from .scale import lowered, scale_offset
from .sides import LEFT, RIGHT, split_sides
from .surface import Coarse, redraw
from .trachea import central_airways
from .working import Working, components, mask_volume, working_volume

__all__ = ["LEFT", "METHODS", "RIGHT", "label_sides", "segment_lungs"]

METHODS = ("network", "classical")

_LEAST_ML = 50.0
_PIECE_SHARE = 0.03
_NO_LUNG = "no lung in the field of this scan: give a chest CT in Hounsfield units that shows at least one lung"


def segment_lungs(ct: sitk.Image, progress: Progress = no_progress, method: str = METHODS[0]) -> sitk.Image:
    """Segment the lungs of a chest CT, whole or cropped, on any grid.

    `ct` is a 3D image in HU. The result lies on its grid: uint8, 1 = right lung, 2 = left lung of the PATIENT (LPS:
    the right lung at smaller x, whatever the image's direction), 0 elsewhere. Vessels and dense lesions belong to the
    lung, trachea and main bronchi do not. `method` is one of METHODS: the network adds collapsed lobes and large
    masses to the classical lungs, see :mod:`.completion`. Raises BadInput when no lung is in the field, and for another
    method.
    """
    if method not in METHODS:
        raise BadInput(f"there is no segmentation method {method!r}: use one of {', '.join(METHODS)}")
    progress("lungs", 0.0)
    work = working_volume(ct)
    progress("lungs", 0.15)
    inner_air = air_in_body(work)
    candidates = lung_air(work, inner_air)
    if candidates.sum() * work.voxel_ml < _LEAST_ML:
        raise BadInput(_NO_LUNG)
    progress("lungs", 0.3)
    airway = central_airways(work, inner_air, candidates)
    air = _lung_pieces(work, inner_air & ~airway)
    if air.sum() * work.voxel_ml < _LEAST_ML:
        raise BadInput(_NO_LUNG)
    ct, work = _on_scale(ct, work, air, airway)
    sides = split_sides(work, air, airway)
    progress("lungs", 0.45)
    other = airway | (inner_air & ~air)
    likely = _likely_lung(work, air) if method == "network" else None
    lungs, seen = np.zeros(sides.shape, np.uint8), np.zeros(sides.shape, bool)
    for side in (RIGHT, LEFT):
        if (sides == side).any():
            lateral = -1 if side == RIGHT else 1
            forbidden = other | (sides == 3 - side)
            filled = fill_lung(work, sides == side, forbidden, lateral)
            seen |= filled
            filled = filled | hidden_lung(work, filled, airway, forbidden, lateral, likely)
            lungs[filled & (lungs == 0)] = side
        progress("lungs", 0.45 + 0.15 * side)
    if likely is not None:
        lungs = _with_dense_lung(work, lungs, air, seen, airway, other, likely)
    coarse = Coarse(work, lungs, air, other)
    return redraw(ct, coarse, lambda fraction: progress("lungs", 0.75 + 0.25 * fraction))


def _on_scale(ct: sitk.Image, work: Working, air: np.ndarray, airway: np.ndarray) -> tuple[sitk.Image, Working]:
    """A scan and its working volume with their scale put right; `air` and `airway` (z, y, x) bool of the latter."""
    offset = scale_offset(*(to_image(array, work.grid) for array in (work.hu, air, airway)))
    return lowered(ct, offset), replace(work, hu=work.hu - np.float32(round(offset)))


def _likely_lung(work: Working, air: np.ndarray) -> np.ndarray | None:
    from .completion import likely_lung  # torch is slow to import, and the classical method needs none

    return likely_lung(work, air)


def _with_dense_lung(
    work: Working,
    lungs: np.ndarray,
    air: np.ndarray,
    seen: np.ndarray,
    airway: np.ndarray,
    other: np.ndarray,
    likely: np.ndarray,
) -> np.ndarray:
    """The labels (z, y, x) with the dense lung that the network finds, which belongs to the nearest side, without what
    is doubtful; `seen` (z, y, x) bool are the lungs without what is hidden at their surface."""
    from .completion import dense_lung, doubtful

    added = dense_lung(work, air, seen, likely) & ~other
    if added.any():
        nearest = ndimage.distance_transform_edt(lungs == 0, return_distances=False, return_indices=True)
        lungs = np.where(added, lungs[tuple(nearest)], lungs)
    return np.where(doubtful(work, (lungs > 0) & ~seen, seen, airway, likely), 0, lungs)


def _lung_pieces(work: Working, air: np.ndarray) -> np.ndarray:
    """The lungs among the pieces of air in the body, without crumbs."""
    labels, sizes = components(lung_air(work, air))
    return (sizes >= _PIECE_SHARE * sizes.max(initial=0))[labels] & (labels > 0)


def label_sides(mask: sitk.Image, ct: sitk.Image | None = None) -> sitk.Image:
    """Name the sides of given lungs: uint8, 1 = right, 2 = left (LPS), on the mask's grid.

    `mask` is any label map whose non-zero voxels are lung: binary, already labelled by side, or by lobe. If it has
    exactly the labels 1 and 2 and these lie right and left of each other, it is returned as it is, otherwise the
    sides are found by geometry (swapped labels are so put right). `ct` (HU, any grid) helps to name a lone lung and
    to cut lungs that touch. Raises BadInput when the mask is empty or does not overlap the CT.
    """
    grid = grid_of(mask)
    labels = to_array(mask)
    inside = labels != 0
    if not inside.any():
        raise BadInput("the lung mask is empty: give a mask with non-zero voxels in the lungs")
    if set(np.unique(labels).tolist()) == {0, RIGHT, LEFT} and _sides_agree(labels, grid):
        return to_image(labels.astype(np.uint8), grid)
    work = working_volume(ct) if ct is not None else mask_volume(inside, grid)
    coarse = to_array(resample(sitk.Cast(to_image(inside, grid), sitk.sitkFloat32), work.grid, outside=0.0)) > 0.5
    if not coarse.any():
        raise BadInput("the lung mask does not overlap the scan: give a mask that was drawn on this scan")
    airway = None
    if ct is not None:  # the bronchi tell a lone lung's side best
        inner_air = air_in_body(work)
        airway = central_airways(work, inner_air, lung_air(work, inner_air))
    sides = split_sides(work, coarse, airway)
    nearest = ndimage.distance_transform_edt(sides == 0, return_distances=False, return_indices=True)
    everywhere = to_image(sides[tuple(nearest)], work.grid)
    return to_image(np.where(inside, to_array(resample_mask(everywhere, grid)), 0).astype(np.uint8), grid)


def _sides_agree(labels: np.ndarray, grid: Grid) -> bool:
    """Whether label 1 lies to the patient's right of label 2."""
    x = [grid.points(np.argwhere(labels == side).mean(axis=0)[None, ::-1])[0, 0] for side in (RIGHT, LEFT)]
    return bool(x[0] < x[1])
