"""The part of a scan that an organ's examination is about: from the organ's topmost slice so far down."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .. import grids
from ..errors import BadInput

DEFAULT_MM = 200.0


@dataclass(frozen=True, eq=False)
class OrganPart:
    """What lies between the organ's topmost slice and `wanted_mm` below it.

    `mask`: the organ there, 0/1 on the scan's grid; `slices` and `mm`: how much of the scan it is, which is less than
    wanted where the scan ends before (`short`).
    """

    mask: sitk.Image
    slices: int
    mm: float
    wanted_mm: float

    @property
    def short(self) -> bool:
        """Whether the scan ends before the wanted height."""
        return self.mm < self.wanted_mm - 0.5

    def described(self) -> str:
        """For the log."""
        less = f" of the {self.wanted_mm:g} mm asked for: the scan ends there" if self.short else ""
        return f"{self.slices} slices, {self.mm:.1f} mm from the top of the organ down{less}"


def organ_part(organ: sitk.Image, height_mm: float | None = DEFAULT_MM, slices: int | None = None) -> OrganPart:
    """The part of an organ (mask, non-zero, on its scan's grid) from its topmost slice down `height_mm`, or `slices`.

    Slices are those across the index axis that runs up the patient, however oblique. Raises BadInput for an empty mask
    and for a height of nothing.
    """
    grid = grids.grid_of(organ)
    axis = int(np.argmax(np.abs(grid.axes[2])))
    thickness = grid.spacing[axis]
    wanted_mm = slices * thickness if slices is not None else float(height_mm or 0.0)
    if wanted_mm <= 0:
        raise BadInput("a part of an organ needs a height above 0: give more millimetres or slices")
    array = sitk.GetArrayFromImage(organ) != 0
    held = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
    if not len(held):
        raise BadInput("the mask is empty: give one that holds the organ")
    count = slices if slices is not None else max(1, round(wanted_mm / thickness))
    if grid.axes[2, axis] > 0:  # higher indices are higher up
        top = int(held[-1])
        first, last = max(top - count + 1, 0), top + 1
    else:
        top = int(held[0])
        first, last = top, min(top + count, grid.size[axis])
    keep = np.zeros(grid.size[axis], bool)
    keep[first:last] = True
    shape = [1, 1, 1]
    shape[2 - axis] = -1
    part = grids.to_image(array & keep.reshape(shape), grid)
    return OrganPart(part, last - first, (last - first) * thickness, wanted_mm)
