"""The lobes of known lungs, cut along their fissures: where the fissures are visible, and only there.

The oblique fissure divides a lung into upper and lower, the right one's upper part once more by the horizontal
fissure. Each is found as a surface (:mod:`.fissures`) with the share of it that the CT shows. A fissure that is hardly
visible is not invented: the lobes that it would divide stay out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import crop_to_mask, grid_of, resample_mask, to_array, to_image, window
from ..progress import Progress, no_progress
from .fissures import Course, Sheet, find_sheet
from .sides import LEFT, RIGHT

LOBE_NAMES = {
    1: "right upper lobe",
    2: "right middle lobe",
    3: "right lower lobe",
    4: "left upper lobe",
    5: "left lower lobe",
}
RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER, LEFT_UPPER, LEFT_LOWER = LOBE_NAMES

FISSURE_NAMES = {
    "right_oblique": "right oblique fissure",
    "right_horizontal": "right horizontal fissure",
    "left_oblique": "left oblique fissure",
}
LEAST_VISIBLE = 0.30  # of a fissure, for its lobes to be told apart

_OBLIQUE = Course(normal=(0.0, -0.66, 0.75), below=0.45)
_HORIZONTAL = Course(normal=(0.0, -0.08, 1.0), below=0.33)
_MARGIN_MM = 8.0
_APART_MM = 4.0  # the horizontal fissure is looked for beyond the blur of the oblique one
_COARSEST_MM = 2.5  # voxels in which a plate and the lung on both sides of it are still told apart
_LEAST_ML = 50.0  # of the part of a lung that a fissure may divide


@dataclass(frozen=True)
class Lobes:
    """A label map of LOBE_NAMES on the scan's grid (uint8, 0 where the lobe is not known), and the `visible` share of
    every fissure that was looked for, by the keys of FISSURE_NAMES (none for lobes that came with the scan and in
    scans too coarse to show a fissure)."""

    labels: sitk.Image
    visible: Mapping[str, float] = field(default_factory=dict)

    @property
    def found(self) -> list[int]:
        """The labels of the lobes that are there."""
        return [int(label) for label in np.unique(sitk.GetArrayViewFromImage(self.labels)) if label]

    @property
    def complete(self) -> bool:
        """Whether all five lobes are there."""
        return len(self.found) == len(LOBE_NAMES)

    def missing(self) -> str | None:
        """Why lobes are missing, in words; None where none is."""
        if self.complete:
            return None
        unseen = [
            f"the {name} shows on {100 * self.visible[key]:.0f} % of its course"
            for key, name in FISSURE_NAMES.items()
            if self.visible.get(key, 1.0) < LEAST_VISIBLE
        ]
        if unseen:
            return f"{', '.join(unseen)} ({100 * LEAST_VISIBLE:.0f} % are needed)"
        if not self.visible and not self.found:
            return f"the scan's voxels are larger than {_COARSEST_MM:g} mm: too coarse to show a fissure"
        absent = [name for label, name in LOBE_NAMES.items() if label not in self.found]
        return f"the scan shows no {' and no '.join(absent)}"


def fitted_lobes(lobes: sitk.Image, lungs: sitk.Image) -> Lobes:
    """Known lobes (labels of LOBE_NAMES, any grid) in lungs (1 right, 2 left) that were drawn anew, on their grid.

    What the lungs have lost is lost; what they have gained belongs to the nearest lobe of its side.
    """
    given, grid = resample_mask(lobes, lungs), grid_of(lungs)
    # Within their box: the nearest voxels of a whole scan would fill the memory.
    box = window(grid, crop_to_mask((given != 0) | (lungs != 0), 0.0))
    labels, sides = to_array(given)[box], to_array(lungs)[box]
    result = np.zeros(grid.shape, np.uint8)
    fitted = result[box]
    for side, own in ((RIGHT, (RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER)), (LEFT, (LEFT_UPPER, LEFT_LOWER))):
        known = np.isin(labels, own)
        if known.any():
            nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
            fitted[sides == side] = labels[tuple(nearest)][sides == side]
    return Lobes(to_image(result, lungs))


def segment_lobes(ct: sitk.Image, lungs: sitk.Image, vessels: sitk.Image, progress: Progress = no_progress) -> Lobes:
    """Divide known lungs into the lobes whose fissures are visible.

    `ct` in HU; `lungs` (1 right, 2 left) and `vessels` (0/1, as :func:`.vessels.segment_vessels` finds them) on its
    grid. A fissure counts from LEAST_VISIBLE of its course on; between its visible parts the surface keeps to where
    vessels are few. Lobes that no visible fissure bounds are left 0.
    """
    grid, sides = grid_of(ct), sitk.GetArrayViewFromImage(lungs)
    labels = np.zeros(grid.shape, np.uint8)
    visible: dict[str, float] = {}
    if np.median(grid.spacing) > _COARSEST_MM:
        return Lobes(to_image(labels, grid))
    for step, side in enumerate((RIGHT, LEFT)):
        progress("lobes", step / 2)
        if np.count_nonzero(sides == side) * grid.voxel_ml < _LEAST_ML:
            continue
        box = crop_to_mask(to_image(sides == side, grid), _MARGIN_MM)
        start = ct.TransformPhysicalPointToIndex(box.origin)
        near = [sitk.RegionOfInterest(image, box.size, start) for image in (ct, lungs, vessels)]
        part = labels[window(grid, box)]
        lung = to_array(near[1]) == side
        part[lung] = (_right if side == RIGHT else _left)(near[0], lung, near[2], visible)[lung]
    progress("lobes", 1.0)
    return Lobes(to_image(labels, grid), visible)


def _left(ct: sitk.Image, lung: np.ndarray, vessels: sitk.Image, visible: dict[str, float]) -> np.ndarray:
    """The labels (z, y, x) of the left lung's lobes on the grid of `ct`; what is visible goes into `visible`."""
    oblique = _divide(ct, lung, vessels, _OBLIQUE, "left_oblique", visible)
    if oblique is None:
        return np.zeros(lung.shape, np.uint8)
    return np.where(oblique.above(grid_of(ct)) > 0, LEFT_UPPER, LEFT_LOWER).astype(np.uint8)


def _right(ct: sitk.Image, lung: np.ndarray, vessels: sitk.Image, visible: dict[str, float]) -> np.ndarray:
    """The labels (z, y, x) of the right lung's lobes, as for :func:`_left`."""
    oblique = _divide(ct, lung, vessels, _OBLIQUE, "right_oblique", visible)
    if oblique is None:
        return np.zeros(lung.shape, np.uint8)
    grid = grid_of(ct)
    height = oblique.above(grid)
    labels = np.where(height > 0, 0, RIGHT_LOWER).astype(np.uint8)
    upper = lung & (height > _APART_MM)
    if np.count_nonzero(upper) * grid.voxel_ml < _LEAST_ML:
        return labels
    horizontal = _divide(ct, upper, vessels, _HORIZONTAL, "right_horizontal", visible)
    if horizontal is not None:
        labels[height > 0] = np.where(horizontal.above(grid) > 0, RIGHT_UPPER, RIGHT_MIDDLE)[height > 0]
    return labels


def _divide(
    ct: sitk.Image, part: np.ndarray, vessels: sitk.Image, course: Course, name: str, visible: dict[str, float]
) -> Sheet | None:
    """The fissure that divides a part of a lung, None where too little of it is visible."""
    sheet = find_sheet(ct, to_image(part, grid_of(ct)), vessels, course)
    visible[name] = sheet.visible
    return sheet if sheet.visible >= LEAST_VISIBLE else None
