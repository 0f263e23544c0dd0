"""Regions of the lungs: sides, thirds by height, ventral and dorsal halves, rind and core, all in the patient's frame,
and lobes where they are known.

The finest partition of all of them is one label map of "atoms" (:func:`lung_atoms`); every region is a union of atoms.
"""

from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..distances import distance_to
from ..errors import BadInput
from ..grids import Grid, crop, grid_of, resample_mask, same_grid, to_array, to_image
from .lobes import LOBE_NAMES, Lobes
from .sides import LEFT, RIGHT
from .working import bounding_box

RIND_MM = 15.0
_DEPTH_MM = 1.4

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

# By the labels of `lobes.LOBE_NAMES`. Which of them a study has depends on the fissures that its scans show.
LOBE_REGIONS: dict[int, str] = {
    1: "right_lobe_upper",
    2: "right_lobe_middle",
    3: "right_lobe_lower",
    4: "left_lobe_upper",
    5: "left_lobe_lower",
}
ALL_REGION_NAMES: dict[str, str] = REGION_NAMES | {
    region: LOBE_NAMES[label].capitalize() for label, region in LOBE_REGIONS.items()
}
_PLAIN_ATOMS = 24


def atom_code(side: int, third: int, dorsal: int, core: int, lobe: int = 0) -> int:
    """The label of an atom: side 0 right, 1 left; third 0 upper, 1 middle, 2 lower; dorsal and core 0 or 1; lobe 0 not
    known, else 1 upper, 2 middle, 3 lower."""
    return 1 + side * 12 + third * 4 + dorsal * 2 + core + _PLAIN_ATOMS * lobe


def atom_table() -> dict[int, list[str]]:
    """For every atom's label the ids of the regions that contain it."""
    table = {}
    for lobe, lobe_name in enumerate((None, *_THIRDS)):
        for side, third, half, shell in np.ndindex(2, 3, 2, 2):
            name = _SIDES[side]
            regions = ["lungs", name, f"{name}_{_THIRDS[third]}", f"{name}_{_HALVES[half]}", _SHELLS[shell]]
            own = f"{name}_lobe_{lobe_name}"
            if lobe_name is None or own in ALL_REGION_NAMES:
                table[atom_code(side, third, half, shell, lobe)] = regions + ([own] if lobe_name else [])
    return table


ATOM_REGIONS: dict[int, list[str]] = atom_table()


def lung_atoms(lungs: sitk.Image, lobes: sitk.Image | None = None) -> sitk.Image:
    """Partition lungs into atoms, uint8 on the lungs' grid: 0 outside, else :func:`atom_code`.

    `lungs` has 1 for the right and 2 for the left lung, `lobes` the labels of LOBE_REGIONS on any grid (0 where the
    lobe is not known; a lobe's voxels in the other lung do not count). For each lung by itself, in the patient's
    frame on any grid: thirds of equal HEIGHT between the lung's highest and lowest voxel faces along S; ventral and
    dorsal halves of equal VOLUME along the AP axis; the rind reaches RIND_MM from the lung's surface, distances in mm
    from its voxels' faces. That surface is that of the lung as a whole, its mediastinal side included, because the
    masks do not say where the pleura turns into the hilum; where the scan's border cuts the lung there is no surface.
    Raises BadInput when there is no lung.
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
    if lobes is not None:
        laid = lobes if same_grid(lobes, grid) else resample_mask(lobes, grid)
        atoms += _PLAIN_ATOMS * _rank_of(sitk.GetArrayViewFromImage(laid), labels)
    return to_image(atoms, grid)


def _rank_of(lobes: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """The rank of each voxel's lobe (0 not known, 1 upper, 2 middle, 3 lower), (z, y, x) uint8."""
    ranks = np.zeros((3, 256), np.uint8)
    for label, region in LOBE_REGIONS.items():
        side, _, third = region.split("_")
        ranks[RIGHT if side == "right" else LEFT, label] = 1 + _THIRDS.index(third)
    return ranks[np.minimum(lungs, 2), lobes]


def _atoms_of_one(mask: np.ndarray, window: tuple[slice, ...], grid: Grid, side: int) -> np.ndarray:
    """The atom labels (N,) of the voxels of one lung, `mask` being its part of the grid within `window`."""
    height = _coordinate(mask, window, grid, 2)
    half = float(np.abs(grid.index_to_point[2]).sum()) / 2  # of a voxel along S
    low, high = float(height.min()) - half, float(height.max()) + half
    third = np.where(height > high - (high - low) / 3, 0, np.where(height > low + (high - low) / 3, 1, 2))
    depth = _coordinate(mask, window, grid, 1)
    dorsal = depth > np.median(depth)
    # A margin of background, where the grid has any, so that the lung's own surface lies within the array.
    wide = tuple(slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(window, grid.shape, strict=True))
    margin = [(w.start - v.start, v.stop - w.stop) for v, w in zip(wide, window, strict=True)]
    deep = _depth(np.pad(mask, margin), grid)[
        tuple(slice(low, n + low) for (low, _), n in zip(margin, mask.shape, strict=True))
    ]
    core = deep[mask] > RIND_MM
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


def _depth(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """How deep in mm the voxel centres of a mask lie below its surface, (z, y, x) float32, meaningful inside.

    The surface runs halfway between the centres of the outermost voxels inside and their neighbours outside; the
    array's border is no surface. Finer voxels than _DEPTH_MM are averaged first, because distance is smooth.
    """
    factors = [max(1, round(_DEPTH_MM / s)) for s in grid.spacing]
    if max(factors) == 1:
        return _depth_of(mask, grid.spacing)
    image = to_image(mask.astype(np.float32), crop(grid, (0, 0, 0), mask.shape[::-1]))
    padding = [-n % f for n, f in zip(image.GetSize(), factors, strict=True)]
    coarse = sitk.BinShrink(sitk.ZeroFluxNeumannPad(image, [0, 0, 0], padding), factors)
    depth = _depth_of(sitk.GetArrayViewFromImage(coarse) > 0.5, coarse.GetSpacing())
    # A voxel beyond the outermost coarse centres takes the nearest one's depth: the border is no surface.
    depth = sitk.ZeroFluxNeumannPad(to_image(depth, grid_of(coarse)), [1, 1, 1], [1, 1, 1])
    return to_array(sitk.Resample(depth, image, sitk.Transform(), sitk.sitkLinear))


def _depth_of(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The depth of a mask's voxels from two distance maps: to the nearest outside and the outermost inside."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf if mask.all() else 0.0, np.float32)
    sampling = spacing[::-1]
    to_outside = distance_to(~mask, sampling)
    outermost = mask & ~ndimage.binary_erosion(mask, border_value=1)
    to_outermost = distance_to(outermost, sampling)
    return ((to_outside + to_outermost) / 2).astype(np.float32)


def region_masks(atoms: sitk.Image) -> dict[str, np.ndarray]:
    """The mask (z, y, x) bool of every region of an atom map, in the order of ALL_REGION_NAMES; empty regions left
    out."""
    labels = sitk.GetArrayViewFromImage(atoms)
    masks = {}
    for region in ALL_REGION_NAMES:
        lookup = np.zeros(256, bool)
        lookup[[code for code, regions in ATOM_REGIONS.items() if region in regions]] = True
        mask = lookup[labels]
        if mask.any():
            masks[region] = mask
    return masks


def about_lobes(lobes: Lobes) -> dict[str, Any]:
    """What is to be told of a scan's lobes: {source, found (regions), visible (of each fissure), missing (why)}."""
    return {
        "source": "segmented" if lobes.visible or not lobes.found else "given",
        "found": [LOBE_REGIONS[label] for label in lobes.found],
        "visible": dict(lobes.visible),
        "missing": lobes.missing(),
    }
