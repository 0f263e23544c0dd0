"""A pair of scans as refinement sees it: lungs on a neutral ground, on cropped isotropic grids, as a pyramid."""

from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from .. import grids
from ..grids import Grid
from .flow import voxel_coordinates

# Outside the lungs both images hold this value: ribs and diaphragm slide along the lung and must not pull at it, while
# the lung's own edge against a soft-tissue ground guides the alignment.
GROUND_HU = 0.0
HIGHEST_HU = 300.0
MARGIN_VOXELS = 6
# What noise alone adds to a chest CT's local variance: 20 HU, squared. Windows without structure say little then.
NOISE_VARIANCE = 0.02**2
_BRAIN_NOISE_VARIANCE = 0.01**2  # of the brain's brightest


@dataclass(eq=False)
class PreparedPair:
    """Two scans ready for registration.

    `fixed`, `moving`: (z, y, x) float32, (HU + 1000) / 1000 in the lungs and the ground's value elsewhere, on
    `fixed_box` and `moving_box` (isotropic crops around the lungs); `mask`: the fixed lungs on `fixed_box`, 0/1;
    `moving_limits`: lowest and highest voxel coordinates (x, y, z) of the moving SCAN on `moving_box` where its lungs
    are cut by the end of the scan, else None; `fixed_lungs`, `moving_lungs`: label images on the boxes;
    `has_density`: the images are densities, so that a change of them is a change of tissue; `noise_variance`: what
    noise adds to local variances at full resolution (it falls with the square of the scale). In a pair of brains
    they take the lungs' place.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    mask: torch.Tensor
    fixed_box: Grid
    moving_box: Grid
    fixed_lungs: sitk.Image
    moving_lungs: sitk.Image
    moving_limits: tuple[np.ndarray, np.ndarray] | None
    has_density: bool = True
    noise_variance: float = NOISE_VARIANCE
    _levels: dict = field(default_factory=dict, init=False, repr=False)
    _positions: dict = field(default_factory=dict, init=False, repr=False)

    def level(self, scale: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The fixed image, the moving image and the fixed mask, averaged over blocks of `scale`^3 voxels."""
        if scale not in self._levels:
            mask = (pool(self.mask, scale) > 0.5).float()
            self._levels[scale] = pool(self.fixed, scale), pool(self.moving, scale), mask
        return self._levels[scale]

    def positions(self, scale: int, shape: tuple[int, int, int]) -> torch.Tensor:
        """Where the voxels of a level lie on the fixed box, in its voxels x, y, z: (3, z, y, x)."""
        if (scale, shape) not in self._positions:
            voxels = voxel_coordinates(shape, device=self.fixed.device)
            self._positions[scale, shape] = voxels * scale + (scale - 1) / 2
        return self._positions[scale, shape]

    def moving_coordinates(self, positions: torch.Tensor, matrix, offset, scale: int) -> torch.Tensor:
        """Voxel coordinates on the moving level of fixed-box positions sent through p -> matrix p + offset (LPS mm).

        `matrix` and `offset` are arrays, or tensors, whose gradients are kept.
        """
        box_matrix, box_offset = (
            torch.as_tensor(part, dtype=torch.float32, device=positions.device)
            for part in self.moving_from_fixed(matrix, offset)
        )
        moved = torch.einsum("ij,jzyx->izyx", box_matrix, positions) + box_offset[:, None, None, None]
        return (moved - (scale - 1) / 2) / scale

    def moving_coordinates_about(self, positions, matrix, centre, moved_centre, scale: int) -> torch.Tensor:
        """As :meth:`moving_coordinates` for p -> matrix (p - centre) + moved_centre."""
        return self.moving_coordinates(positions, matrix, moved_centre - matrix @ centre, scale)

    def moving_from_fixed(self, matrix, offset):
        """The affine map p -> matrix p + offset (LPS mm) from fixed-box voxels to moving-box voxels, x, y, z: matrix
        (3, 3) and offset (3,), arrays or tensors as those given."""

        def alike(values: np.ndarray):
            return values if isinstance(matrix, np.ndarray) else torch.as_tensor(values).to(matrix)

        to_index = alike(np.linalg.inv(self.moving_box.index_to_point))
        from_origin = matrix @ alike(np.array(self.fixed_box.origin)) + offset - alike(np.array(self.moving_box.origin))
        return to_index @ matrix @ alike(self.fixed_box.index_to_point), to_index @ from_origin

    def valid(self, coordinates: torch.Tensor, scale: int) -> torch.Tensor | None:
        """Which moving-level coordinates (3, z, y, x) lie inside the moving scan; None where the scan ends nowhere
        near its lungs."""
        if self.moving_limits is None:
            return None
        low, high = self.moving_limits
        inside = torch.ones(coordinates.shape[1:], dtype=torch.bool, device=coordinates.device)
        for c, lo, hi in zip(coordinates, low, high, strict=True):
            inside &= (c >= (lo - (scale - 1) / 2) / scale) & (c <= (hi - (scale - 1) / 2) / scale)
        return inside.float()


def prepare(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_lungs: sitk.Image,
    moving_lungs: sitk.Image,
    spacing_mm: float,
    device: torch.device,
) -> PreparedPair:
    """Crop both scans (HU) to their lungs (non-zero labels), with cubic voxels of `spacing_mm` along their own axes."""
    fixed_side = _lungs_on_ground(fixed, fixed_lungs, spacing_mm)
    return _joined(fixed_side, _lungs_on_ground(moving, moving_lungs, spacing_mm), moving, device)


def prepare_brains(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_brain: sitk.Image,
    moving_brain: sitk.Image,
    spacing_mm: float,
    device: torch.device,
) -> PreparedPair:
    """Crop two images of any intensities to their brains (non-zero), with cubic voxels of `spacing_mm`.

    Intensities are divided by the brain's 99.5th percentile; around the brain they are 0.
    """
    fixed_side = _brain_on_ground(fixed, fixed_brain, spacing_mm)
    moving_side = _brain_on_ground(moving, moving_brain, spacing_mm)
    pair = _joined(fixed_side, moving_side, moving, device)
    return replace(pair, has_density=False, noise_variance=_BRAIN_NOISE_VARIANCE)


def _joined(
    fixed_side: tuple[Grid, sitk.Image, np.ndarray],
    moving_side: tuple[Grid, sitk.Image, np.ndarray],
    moving: sitk.Image,
    device: torch.device,
) -> PreparedPair:
    """The pair of two sides, each a box with its labels and its image on it; `moving` is the whole moving scan."""
    fixed_box, fixed_labels, fixed_image = fixed_side
    moving_box, moving_labels, moving_image = moving_side
    return PreparedPair(
        fixed=torch.from_numpy(fixed_image).to(device),
        moving=torch.from_numpy(moving_image).to(device),
        mask=torch.from_numpy(grids.to_array(fixed_labels, np.float32)).clamp_(max=1).to(device),
        fixed_box=fixed_box,
        moving_box=moving_box,
        fixed_lungs=fixed_labels,
        moving_lungs=moving_labels,
        moving_limits=_limits(moving, moving_labels),
    )


def _brain_on_ground(image: sitk.Image, brain: sitk.Image, spacing_mm: float) -> tuple[Grid, sitk.Image, np.ndarray]:
    box = grids.isotropic_grid(grids.crop_to_mask(brain, MARGIN_VOXELS * spacing_mm), spacing_mm)
    labels = grids.resample_mask(brain, box)
    values = grids.to_array(grids.resample(sitk.Cast(image, sitk.sitkFloat32), box, outside=0.0), np.float32)
    inside = sitk.GetArrayViewFromImage(labels) != 0
    low, high = np.percentile(values[inside], (0.1, 99.5))
    values = np.clip((values - min(low, 0.0)) / max(high - min(low, 0.0), 1e-6), 0.0, 1.3)
    return box, labels, np.where(inside, values, 0.0).astype(np.float32)


def _lungs_on_ground(scan: sitk.Image, lungs: sitk.Image, spacing_mm: float) -> tuple[Grid, sitk.Image, np.ndarray]:
    box = grids.crop_to_mask(lungs, MARGIN_VOXELS * spacing_mm)
    box = grids.isotropic_grid(box, spacing_mm)
    labels = grids.resample_mask(lungs, box)
    hu = grids.to_array(grids.resample(scan, box), np.float32)
    inside = sitk.GetArrayViewFromImage(labels) != 0
    hu = np.where(inside, np.clip(hu, grids.AIR_HU, HIGHEST_HU), GROUND_HU)
    return box, labels, ((hu + 1000.0) / 1000.0).astype(np.float32)


def _limits(scan: sitk.Image, lungs: sitk.Image) -> tuple[np.ndarray, np.ndarray] | None:
    """The scan's first and last voxel centres in voxels of the lungs' box, if the lungs reach within 3 mm of an end."""
    box, scan_grid = grids.grid_of(lungs), grids.grid_of(scan)
    ends = box.indices(scan_grid.points(np.array([[0, 0, 0], np.array(scan_grid.size) - 1])))
    low, high = ends.min(axis=0), ends.max(axis=0)
    inside = sitk.GetArrayViewFromImage(lungs) != 0
    along = [np.flatnonzero(inside.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]  # x, y, z
    first, last = (np.array([where[end] for where in along]) for end in (0, -1))
    reach = 3.0 / np.array(box.spacing)
    touches = (first <= low + reach).any() or (last >= high - reach).any()
    return (low, high) if touches else None


def pool(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Averages over blocks of `scale`^3 voxels of an image (z, y, x); what does not fill a block is dropped."""
    if scale == 1:
        return image
    return F.avg_pool3d(image[None, None], scale)[0, 0]
