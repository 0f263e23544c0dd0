"""A scan as rigid registration sees it: values between 0 and 1 on cubic voxels, as a pyramid, with what was imaged."""

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from .. import grids
from ..distances import distance_to
from ..errors import BadInput
from ..grids import Grid
from .measure import reaches_border
from .prepare import pool

# Levels are blurred by this many of their voxels, so that linear interpolation does not see noise as structure.
_BLUR = 0.7
# The values of interest, as percentiles: metal and gas do not take all the bins.
_PERCENTILES = (1.0, 99.0)
# Points lie in the organ and this far around it, since an organ is known by its edges.
_MARGIN_MM = 6.0
_BLOCK = 3
# Voxels around the fixed region that its blurred and averaged levels need.
_BOX_MARGIN = 12


@dataclass(eq=False)
class RigidScan:
    """`image` (z, y, x) float32 in 0 to 1 and `imaged` (z, y, x) 0/1 (not padding) on `grid`; `organ` (z, y, x) bool,
    the organ or the body, and `region`, the same with its surroundings, where the image was taken. `landmark` (LPS mm,
    (3,)) is about the same place in both scans: the middle of the organ where both have a mask, else of the body."""

    image: torch.Tensor
    imaged: torch.Tensor
    organ: np.ndarray
    region: np.ndarray
    grid: Grid
    landmark: np.ndarray
    _levels: dict = field(default_factory=dict, init=False, repr=False)

    def level(self, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The image and what of it was imaged, (z, y, x), averaged over blocks of `scale`^3 voxels and blurred."""
        if scale not in self._levels:
            imaged = (pool(self.imaged, scale) > 0.99).float()
            blurred = ndimage.gaussian_filter(pool(self.image, scale).numpy(), _BLUR, mode="nearest", truncate=3.0)
            self._levels[scale] = torch.from_numpy(blurred), imaged
        return self._levels[scale]

    def to_index(self, scale: int) -> np.ndarray:
        """The 4x4 matrix from LPS points to voxel indices x, y, z of a level."""
        back = np.linalg.inv(self.grid.index_to_point)
        matrix = np.eye(4)
        matrix[:3, :3] = back / scale
        matrix[:3, 3] = (-back @ np.array(self.grid.origin) - (scale - 1) / 2) / scale
        return matrix

    def centre(self) -> np.ndarray:
        """The middle of the region, LPS mm (3,)."""
        return _middle(self.region, self.grid)

    def points(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` points (n, 3) LPS mm scattered over the region, anywhere within its voxels."""
        voxels = np.argwhere(self.region)[:, ::-1]
        chosen = voxels[rng.integers(len(voxels), size=count)]
        return self.grid.points(chosen + rng.uniform(-0.5, 0.5, chosen.shape))


def rigid_scans(
    scans: tuple[sitk.Image, sitk.Image], organs: tuple[sitk.Image | None, sitk.Image | None], spacing_mm: float
) -> tuple[RigidScan, RigidScan]:
    """Prepare a fixed and a moving scan of like intensities, 0 and 1 being the same value in both.

    An organ is a mask (non-zero) on any grid; without one the body counts. The fixed scan is cut to its region. Raises
    BadInput for a scan without anything in it.
    """
    parts = [_read(*given, spacing_mm) for given in zip(scans, organs, strict=True)]
    for (_, _, _, region, *_), name in zip(parts, ("fixed", "moving"), strict=True):
        if not region.any():
            raise BadInput(f"the {name} scan shows nothing to register: give a mask that holds the organ")
    # Edges lie where they are only if neither side is cut off: the organs' surroundings count, too.
    limits = [np.percentile(values[region], _PERCENTILES) for values, _, _, region, *_ in parts]
    low, high = min(pair[0] for pair in limits), max(pair[1] for pair in limits)
    made = []
    for number, (values, imaged, organ, region, body, grid) in enumerate(parts):
        landmark = body if None in organs else organ
        box = _box(region, _BOX_MARGIN) if number == 0 else (slice(None),) * 3
        image = np.clip((values[box] - low) / max(high - low, 1e-6), 0.0, 1.0).astype(np.float32)
        seen = torch.from_numpy(imaged[box].astype(np.float32))
        start = tuple(s.start or 0 for s in box[::-1])
        here = grids.crop(grid, start, image.shape[::-1])
        made.append(RigidScan(torch.from_numpy(image), seen, organ[box], region[box], here, _middle(landmark, grid)))
    return made[0], made[1]


def _read(scan: sitk.Image, organ: sitk.Image | None, spacing_mm: float):
    """Values, what was imaged, the organ or the body, the same with its surroundings, and the body, all (z, y, x) on
    cubic voxels, and their grid."""
    grid = grids.isotropic_grid(grids.grid_of(scan), spacing_mm)
    lowest = float(sitk.GetArrayViewFromImage(scan).min())
    values = grids.to_array(grids.resample(sitk.Cast(scan, sitk.sitkFloat32), grid, outside=lowest))
    # Nearest voxels: padding keeps its very value.
    padding = grids.to_array(grids.resample(scan, grid, interpolation="nearest", outside=lowest)) <= lowest
    imaged = _imaged(padding)
    body = ndimage.binary_opening(values > _background(values[imaged]), iterations=2) & imaged
    inside = body if organ is None else grids.to_array(grids.resample_mask(organ, grid)) != 0
    return values, imaged, inside, _grown(inside, _MARGIN_MM / spacing_mm) & imaged, body, grid


def _middle(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """The middle of a mask (z, y, x), LPS mm (3,)."""
    profiles = [np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis})) for axis in (2, 1, 0)]
    return grid.points(np.array([[np.average(np.arange(len(p)), weights=p) for p in profiles]]))[0]


def _box(region: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The box around a region and so many voxels more, within the array."""
    found = ndimage.find_objects(region.astype(np.uint8))[0]
    sizes = region.shape
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(found, sizes, strict=True))


def _background(values: np.ndarray) -> float:
    """The value that parts the body from what surrounds it."""
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values[:: max(1, values.size // 200_000)]))


def _grown(region: np.ndarray, voxels: float) -> np.ndarray:
    """A region and all within so many voxels of it."""
    if not region.any():
        return region
    box = _box(region, int(voxels) + 2)
    grown = region.copy()
    grown[box] = distance_to(region[box]) <= voxels
    return grown


def _imaged(padding: np.ndarray) -> np.ndarray:
    """What is no padding; padding is solid and hangs together with the border, as far as blocks of voxels show."""
    short = [(0, -n % _BLOCK) for n in padding.shape]
    blocks = np.pad(padding, short, mode="edge")
    z, y, x = (n // _BLOCK for n in blocks.shape)
    outside = reaches_border(blocks.reshape(z, _BLOCK, y, _BLOCK, x, _BLOCK).all(axis=(1, 3, 5)))
    for axis in range(3):
        outside = outside.repeat(_BLOCK, axis)
    return ~outside[tuple(slice(n) for n in padding.shape)]
