"""Regions of the lungs: sides, thirds by height, ventral and dorsal halves, rind and core, all in the patient's frame.

The finest partition of all of them is one label map of "atoms" (:func:`lung_atoms`); every region is a union of atoms.
"""

import numpy as np
import SimpleITK as sitk

from ..errors import BadInput
from ..grids import Grid, grid_of, to_image
from .sides import LEFT, RIGHT
from .working import bounding_box

RIND_MM = 15.0

_SIDES = ("right", "left")
_THIRDS = ("upper", "middle", "lower")
_HALVES = ("ventral", "dorsal")
_SHELLS = ("rind", "core")

REGION_NAMES: dict[str, str] = {
    "lungs": "Both lungs",
    "right": "Right lung",
    "left": "Left lung",
    **{f"{side}_{third}": f"{side.capitalize()} {third} third" for side in _SIDES for third in _THIRDS},
    **{f"{side}_{half}": f"{side.capitalize()} {half} half" for side in _SIDES for half in _HALVES},
    "rind": f"Rind (within {RIND_MM:.0f} mm of the pleura)",
    "core": "Core",
}


def atom_code(side: int, third: int, dorsal: int, core: int) -> int:
    """The label of an atom: side 0 right, 1 left; third 0 upper, 1 middle, 2 lower; dorsal and core 0 or 1."""
    return 1 + side * 12 + third * 4 + dorsal * 2 + core


def atom_table() -> dict[int, list[str]]:
    """For every atom's label the ids of the regions that contain it."""
    table = {}
    for side, side_name in enumerate(_SIDES):
        for third, third_name in enumerate(_THIRDS):
            for half, half_name in enumerate(_HALVES):
                for shell, shell_name in enumerate(_SHELLS):
                    table[atom_code(side, third, half, shell)] = [
                        "lungs",
                        side_name,
                        f"{side_name}_{third_name}",
                        f"{side_name}_{half_name}",
                        shell_name,
                    ]
    return table


ATOM_REGIONS: dict[int, list[str]] = atom_table()


def lung_atoms(lungs: sitk.Image) -> sitk.Image:
    """Partition lungs into atoms, uint8 on the lungs' grid: 0 outside, else :func:`atom_code`.

    `lungs` has 1 for the right and 2 for the left lung. For each lung by itself, in the patient's frame on any grid:
    thirds of equal HEIGHT between the highest and lowest voxel centre along S; ventral and dorsal halves of equal
    VOLUME along the AP axis; the rind reaches RIND_MM from the lung's surface, distances in mm from its voxels'
    faces. The surface is that of the lung as a whole, its mediastinal side included, because the masks do not say
    where the pleura turns into the hilum; where the scan's border cuts the lung there is no surface. Raises BadInput
    when there is no lung.
    """
    grid = grid_of(lungs)
    labels = sitk.GetArrayViewFromImage(lungs)
    if not np.isin(labels, (RIGHT, LEFT)).any():
        raise BadInput("there is no lung in the lung mask: give a mask with 1 in the right and 2 in the left lung")
    atoms = np.zeros(labels.shape, np.uint8)
    for side, label in enumerate((RIGHT, LEFT)):
        mask = labels == label
        if mask.any():
            window = bounding_box(mask)
            part = mask[window]
            atoms[window][part] = _atoms_of_one(part, window, grid, side)
    return to_image(atoms, grid)


def _atoms_of_one(mask: np.ndarray, window: tuple[slice, ...], grid: Grid, side: int) -> np.ndarray:
    """The atom labels (N,) of the voxels of one lung, `mask` being its part of the grid within `window`."""
    height = _coordinate(mask, window, grid, 2)
    low, high = height.min(), height.max()
    third = np.where(height >= high - (high - low) / 3, 0, np.where(height >= low + (high - low) / 3, 1, 2))
    depth = _coordinate(mask, window, grid, 1)
    dorsal = depth > np.median(depth)
    core = _distance_to_surface(mask, window, grid)[mask] > RIND_MM
    return (1 + side * 12 + third * 4 + dorsal * 2 + core).astype(np.uint8)


def _coordinate(mask: np.ndarray, window: tuple[slice, ...], grid: Grid, axis: int) -> np.ndarray:
    """The LPS coordinate (0 x, 1 y, 2 z) in mm of every voxel in a mask, (N,) float32."""
    steps = grid.index_to_point[axis]
    x, y, z = (
        np.float32(step) * np.arange(s.start, s.stop, dtype=np.float32)
        for step, s in zip(steps, window[::-1], strict=True)
    )
    total = z[:, None, None] + y[None, :, None] + x[None, None, :]
    return total[mask]


def _distance_to_surface(mask: np.ndarray, window: tuple[slice, ...], grid: Grid) -> np.ndarray:
    """How deep, in mm, every voxel of a mask lies below its surface, (z, y, x) float32; 0 or less outside.

    The map counts from the boundary between inner and outer voxels; the border of the grid is no surface.
    """
    at_border = [(s.start == 0, s.stop == n) for s, n in zip(window, grid.shape, strict=True)]
    padded = np.pad(mask, [(0 if low else 1, 0 if high else 1) for low, high in at_border])
    image = to_image(padded.astype(np.uint8), Grid(padded.shape[::-1], grid.spacing, (0.0, 0.0, 0.0), grid.direction))
    distance = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    )
    keep = tuple(
        slice(0 if low else 1, n if high else n - 1) for (low, high), n in zip(at_border, padded.shape, strict=True)
    )
    return distance[keep]


def region_masks(atoms: sitk.Image) -> dict[str, np.ndarray]:
    """The mask (z, y, x) bool of every region of an atom map, in the order of REGION_NAMES; empty regions left out."""
    labels = sitk.GetArrayViewFromImage(atoms)
    masks = {}
    for region in REGION_NAMES:
        lookup = np.zeros(256, bool)
        lookup[[code for code, regions in ATOM_REGIONS.items() if region in regions]] = True
        mask = lookup[labels]
        if mask.any():
            masks[region] = mask
    return masks
