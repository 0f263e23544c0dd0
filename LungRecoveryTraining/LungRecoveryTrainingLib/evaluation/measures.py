"""The measures of one pair, before registration and after it.

All distances are mm, all points and displacements LPS. A measure that the pair has nothing for (no landmarks, no
labels, no known displacement), or that means nothing before registration, is None.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from LungRecoveryLib import grids, images
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.evaluate import label_overlap, target_registration_error
from LungRecoveryLib.grids import Grid, grid_of
from LungRecoveryLib.recovery.jacobian import as_mask, common_mask
from LungRecoveryLib.recovery.quality import inverse_consistency, lung_overlap
from LungRecoveryLib.recovery.similarity import ssim_map
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.register import Registration

from ..datasets.samples import Scan

MEASURES = (
    "tre_mm", "tre_p95_mm", "tre_max_mm", "tre_snapped_mm", "field_mm", "field_p95_mm", "jacobian_error",
    "lung_dice", "lung_hd95_mm", "label_dice", "label_hd95_mm", "ssim", "sdlogj", "folds_percent",
    "inverse_mm", "inverse_p95_mm", "registration_s", "seconds", "memory_mb",
)  # fmt: skip
"""In the order of the tables. `field_mm`: mean distance from the known displacement over the lung; `jacobian_error`:
mean |J - known J| there; `sdlogj`: SD of ln J in the lung; `registration_s`: without segmentation and maps."""
HIGHER_IS_BETTER = frozenset({"lung_dice", "label_dice", "ssim"})

_LOWEST_JACOBIAN = 1e-9  # what ln J takes where the field folds
_MOST_POINTS = 200_000
_NOT_REGISTRATION = ("lungs", "maps")

Measures = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Truth:
    """A known displacement (3, z, y, x) in LPS mm on `grid`, `inside` the fixed lungs (z, y, x)."""

    displacement: np.ndarray
    grid: Grid
    inside: np.ndarray

    @staticmethod
    def read(path: Path, fixed: Scan) -> "Truth":
        """Read phi(p) - p, a vector image over the fixed scan. Raises BadInput."""
        image = images.read_image(path)
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
            raise BadInput(f"{path}: is no image of three-dimensional vectors; give phi(p) - p in LPS mm")
        inside = as_mask(grids.resample_mask(fixed.mask, grid_of(image)))
        if not inside.any():
            raise BadInput(f"{path}: does not lie over the baseline's lungs; give it on the baseline's grid")
        return Truth(grids.to_array(image, np.float32), grid_of(image), inside)

    def distances(self, displacement: np.ndarray | None = None, grid: Grid | None = None) -> np.ndarray:
        """How far a displacement (3, z, y, x) in LPS mm on `grid` is off at lung voxels, evenly taken: (n,).

        Without a displacement: how far the tissue has to move.
        """
        voxels, points = self._places(self.inside)
        known = self.displacement[:, *voxels].T
        return np.linalg.norm(known if displacement is None else known - _sampled(displacement, grid, points), axis=1)

    def jacobian_errors(self, jacobian: np.ndarray, grid: Grid) -> np.ndarray:
        """|J - known J| at voxels whose neighbours are all lung, evenly taken: what lies around slides along it."""
        voxels, points = self._places(ndimage.binary_erosion(self.inside))
        in_voxels = np.einsum("ij,jzyx->izyx", np.linalg.inv(self.grid.index_to_point), self.displacement)
        known = flow.jacobian_determinant(torch.from_numpy(in_voxels.astype(np.float32))).numpy()
        return np.abs(known[voxels] - _sampled(jacobian, grid, points))

    def _places(self, mask: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Up to `_MOST_POINTS` voxels of a mask as indices (z, y, x) and as points (n, 3)."""
        indices = np.argwhere(mask)
        indices = indices[:: max(1, len(indices) // _MOST_POINTS)]
        return tuple(indices.T), self.grid.points(indices[:, ::-1])


def _sampled(array: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """An array ([c,] z, y, x) on a grid at LPS points (n, 3), linear, the nearest voxel beyond its border: (n[, c])."""
    coordinates = grid.indices(points)[:, ::-1].T
    if array.ndim == 3:
        return ndimage.map_coordinates(array, coordinates, order=1, mode="nearest")
    return np.stack([ndimage.map_coordinates(c, coordinates, order=1, mode="nearest") for c in array], axis=1)


def before(fixed: Scan, moving: Scan, truth: Truth | None, grid: Grid) -> Measures:
    """The measures of a pair as it lies in the scanner, the similarity on `grid`."""
    lungs = grids.resample_mask(fixed.mask, grid)
    inside = as_mask(grids.resample_mask(_everywhere(moving.image), grid))
    laid = grids.resample(moving.image, grid)
    shared = _shared(fixed, moving, None, None if truth is None else truth.distances())
    return shared | _in_lungs(fixed, lungs, laid, grids.resample_mask(moving.mask, grid), inside)


def after(fixed: Scan, moving: Scan, truth: Truth | None, made: Registration) -> Measures:
    """The measures of a registration, without `memory_mb`."""
    inside = as_mask(made.inside)
    lung = common_mask(made.fixed_lungs, inside)
    inverse_mm, inverse_p95_mm = inverse_consistency(made.transform, made.inverse_transform, lung, made.jacobian)
    jacobian = sitk.GetArrayViewFromImage(made.jacobian)
    distances = None if truth is None else truth.distances(made.displacement_mm, made.grid)
    return {
        **_shared(fixed, moving, made.transform, distances),
        **_in_lungs(fixed, made.fixed_lungs, made.warped, made.warped_lungs, inside),
        "jacobian_error": None if truth is None else float(truth.jacobian_errors(jacobian, made.grid).mean()),
        "sdlogj": sd_log_jacobian(jacobian[lung]),
        "folds_percent": made.folding_percent,
        "inverse_mm": inverse_mm,
        "inverse_p95_mm": inverse_p95_mm,
        "registration_s": sum(s for stage, s in made.seconds.items() if stage not in _NOT_REGISTRATION),
        "seconds": sum(made.seconds.values()),
    }


def sd_log_jacobian(jacobian: np.ndarray) -> float | None:
    """The SD of ln J over the voxels of an array (n,), J held above 1e-9; None without any."""
    return float(np.log(np.maximum(jacobian, _LOWEST_JACOBIAN)).std(dtype=np.float64)) if jacobian.size else None


def _shared(fixed: Scan, moving: Scan, transform: sitk.Transform | None, distances: np.ndarray | None) -> Measures:
    """What landmarks and labels say of a transform (None: the identity), and the distances from the known truth."""
    measures: Measures = dict.fromkeys(MEASURES)
    if fixed.points is not None and moving.points is not None:
        errors = target_registration_error(transform, fixed.points, moving.points, moving.image)
        measures |= {f"tre_{name}_mm": errors[f"{name}_mm"] for name in ("p95", "max")}
        measures |= {"tre_mm": errors["mean_mm"], "tre_snapped_mm": errors["snapped"]["mean_mm"]}
    if fixed.labels is not None and moving.labels is not None:
        overlap = label_overlap(fixed.labels, moving.labels, transform)
        measures |= {"label_dice": overlap["mean_dice"], "label_hd95_mm": overlap["mean_hd95_mm"]}
    if distances is not None:
        measures |= {"field_mm": float(distances.mean()), "field_p95_mm": float(np.percentile(distances, 95))}
    return measures


def _in_lungs(fixed: Scan, lungs: sitk.Image, laid: sitk.Image, laid_lungs: sitk.Image, inside: np.ndarray) -> Measures:
    """Overlap and similarity of a moving scan and its lungs, laid on the grid of the fixed lungs."""
    common = common_mask(lungs, inside)
    dice, hd95 = lung_overlap(common, as_mask(laid_lungs) & inside, lungs)
    ssim = grids.to_array(ssim_map(grids.resample(fixed.image, lungs), laid, lungs, inside))[common]
    return {"lung_dice": dice, "lung_hd95_mm": hd95, "ssim": float(ssim.mean()) if ssim.size else None}


def _everywhere(scan: sitk.Image) -> sitk.Image:
    """A mask of a scan's whole field of view."""
    mask = sitk.Image(scan.GetSize(), sitk.sitkUInt8) + 1
    mask.CopyInformation(scan)
    return mask
