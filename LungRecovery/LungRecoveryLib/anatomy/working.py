"""The patient-aligned working volume on which anatomy is found, and morphology in millimetres on it.

Every rule about anatomy ("the right lung lies at smaller x", "the table lies dorsally") is written once, for an array
(z, y, x) whose axes run along the patient's S, P and L directions, whatever the direction cosines of the scan.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..distances import distance_to
from ..grids import AIR_HU, Grid, crop_to_window, grid_of, resample, resample_mask, to_array, to_image

WORK_MM = 2.0
_SMOOTH_MM = 1.2
_DARK_HU = -300.0
_PURE_AIR_MOST_HU = -965.0


@dataclass(frozen=True)
class Working:
    """A scan on a cubic grid along the patient's axes.

    `hu` (z, y, x) float32 is lightly smoothed; `field` (z, y, x) bool says where the scan has measured anything:
    neither beyond its borders nor in the padding around a reconstructed circle. `pure_air_hu` is the HU of pure air in
    this scan: near -1000, but calibrations differ by tens of HU.
    """

    grid: Grid
    hu: np.ndarray
    field: np.ndarray
    pure_air_hu: float

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in millilitres."""
        return self.grid.voxel_ml

    def part(self, window: tuple[slice, ...]) -> "Working":
        """The part within slices (z, y, x)."""
        return replace(self, grid=crop_to_window(self.grid, window), hu=self.hu[window], field=self.field[window])

    @property
    def spacing(self) -> float:
        """The edge of a voxel in mm."""
        return self.grid.spacing[0]


def patient_grid(grid: Grid, spacing_mm: float) -> Grid:
    """The cubic grid along the patient's axes (identity direction, LPS) that covers the box of a grid."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.size])).reshape(3, -1).T
    points = grid.points(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-6).astype(int))
    origin = (low + high) / 2 - (size - 1) / 2 * spacing_mm
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return Grid(tuple(int(n) for n in size), (spacing_mm,) * 3, tuple(origin.tolist()), identity)


def working_volume(ct: sitk.Image, spacing_mm: float = WORK_MM) -> Working:
    """Lay a CT (HU, any grid) on the patient-aligned working grid; see :class:`Working`."""
    grid = patient_grid(grid_of(ct), spacing_mm)
    clamped = sitk.Clamp(ct, ct.GetPixelID(), AIR_HU, 3071.0)
    raw = to_array(resample(clamped, grid), np.float32)
    ones = sitk.Image(ct.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(ct)
    inside = to_array(resample_mask(ones, grid)) != 0
    raw, padding = _without_padding(ct, grid, raw, inside)
    field = inside & ~padding
    hu = ndimage.gaussian_filter(raw, _SMOOTH_MM / spacing_mm, mode="nearest")
    # The padding must not darken the tissue beside it: what was smoothed across the border is put back.
    rim = field & ndimage.binary_dilation(~field, iterations=2)
    hu[rim] = raw[rim]
    dark = hu[field & (hu < _DARK_HU)]
    pure_air = min(float(np.percentile(dark, 5)) if dark.size else -1000.0, _PURE_AIR_MOST_HU)
    return Working(grid, hu, field, pure_air)


def mask_volume(mask: np.ndarray, grid: Grid, spacing_mm: float = WORK_MM) -> Working:
    """A working volume for a mask without its CT: -850 HU in the mask, 30 HU around it."""
    return working_volume(to_image(np.where(mask, -850, 30).astype(np.int16), grid), spacing_mm)


def _without_padding(ct: sitk.Image, grid: Grid, raw: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values without the share of padding in them, and where the padding is, (z, y, x) bool.

    Padding is the constant filling (at or below -1024 HU) around a reconstructed circle or a crop. Interpolated with
    tissue it would look like lung, and such a rim would join lung and table along the border. Air inside a body is as
    dark where the scale is too low, but reaches no side of the field.
    """
    share = to_array(resample(sitk.Cast(ct <= AIR_HU, sitk.sitkUInt8) * 250, grid, outside=0.0), np.float32) / 250.0
    constant = inside & ndimage.binary_opening((share > 0.99) | ~inside, ball(2))
    constant = ndimage.binary_propagation(constant & _at_sides(inside), mask=constant)
    near = ndimage.binary_dilation(constant, ball(2)) & inside
    padding = near & (share > 0.5)
    rim = near & ~padding & (share > 0)
    raw = raw.copy()
    raw[rim] = (raw[rim] - AIR_HU * share[rim]) / (1.0 - share[rim])
    return raw, padding


def _at_sides(inside: np.ndarray) -> np.ndarray:
    """The voxels at the lateral, ventral and dorsal borders of the scan `inside` (z, y, x) bool, not at its ends."""
    outside = np.pad(~inside, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    in_plane = ndimage.generate_binary_structure(2, 1)[None]
    return ndimage.binary_dilation(outside, in_plane)[:, 1:-1, 1:-1] & inside


def ball(radius: int) -> np.ndarray:
    """A ball of `radius` voxels as a structuring element."""
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return x * x + y * y + z * z <= radius * radius


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Dilation by a ball of `radius` voxels (any size, by distances); nothing lies outside the array."""
    result = mask.copy()
    if mask.any():
        window = bounding_box(mask, int(np.ceil(radius)) + 1)
        result[window] = distance_to(mask[window]) <= radius
    return result


def erode(mask: np.ndarray, radius: float) -> np.ndarray:
    """Erosion by a ball of `radius` voxels (any size, by distances); the array's border does not erode."""
    if mask.all():
        return mask.copy()
    return distance_to(~mask) > radius


def close(mask: np.ndarray, radius: float) -> np.ndarray:
    """Closing by a ball of `radius` voxels, as if the mask ended at the array's border; contains the mask."""
    if not mask.any():
        return mask.copy()
    window = bounding_box(mask)
    pad = int(np.ceil(radius)) + 2
    padded = np.pad(mask[window], pad)
    closed = erode(dilate(padded, radius), radius)
    result = mask.copy()
    result[window] |= closed[(slice(pad, -pad),) * 3]
    return result


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The slices of the smallest box around a non-empty mask, widened by `margin` voxels within the array."""
    window = ndimage.find_objects(mask.astype(np.uint8), max_label=1)[0]
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(window, mask.shape, strict=True)
    )


def components(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Connected components: labels (z, y, x) int32 and the number of voxels of each, by label (0 for background)."""
    labels, _ = ndimage.label(mask, structure)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels, sizes
