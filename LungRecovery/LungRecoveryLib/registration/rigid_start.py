"""The learned start of a rigid registration: what the rigid network sees between two scans of one body."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from .. import grids
from ..errors import BadInput
from ..grids import Grid
from .motion6 import matrix_4x4, nearest_rigid
from .rigid_network import RigidNet
from .rigid_scan import RigidScan
from .weights import load_weights

# As the network was trained: images are (HU + 1000) / 1000 within these limits, on this box of mm (x, y, z) about the
# organ, and the organ counts with this much around it.
_LIMITS = (0.0, 1.6)
_BOX_MM = (400.0, 320.0, 384.0)
_AROUND_MM = 12.0
# The moving scan is laid anew by what was found, since a turned body loses its corners in the box, and at last on
# smaller voxels, since what is found on large ones leans towards their centres.
_ROUNDS = (1.0, 1.0, 0.7)


def learned_start(
    scans: tuple[sitk.Image, sitk.Image],
    prepared: tuple[RigidScan, RigidScan],
    weights: str | Path,
) -> sitk.Euler3DTransform:
    """The rigid map from fixed to moving points (LPS mm) that a network predicts, beginning with the landmarks.

    `scans` are the fixed and the moving one in HU. Raises BadInput for weights of another kind of network.
    """
    trained = load_weights(weights)
    if not isinstance(trained.network, RigidNet):
        raise BadInput(f"The weights {str(weights)!r} are of no rigid network: give those of one, or none.")
    fixed, moving = prepared
    found = sitk.Euler3DTransform()
    found.SetTranslation((moving.landmark - fixed.landmark).tolist())
    finest = (min(_ROUNDS) * trained.spacing_mm,) * 3
    seen = [grids.averaged_down(sitk.Cast(scan, sitk.sitkFloat32), finest) for scan in scans]
    for number, scale in enumerate(_ROUNDS):
        grid = _box_about(fixed.landmark, scale * trained.spacing_mm)
        mask = torch.from_numpy(_organ(fixed, grid).astype(np.float32))[None, None]
        images = _seen(seen[0], grid), _seen(seen[1], grid, found)
        with torch.inference_mode():
            motion = trained.network(*images, mask, near=number > 0).motion[0].double().numpy()
        to_point = np.eye(4)
        to_point[:3, :3], to_point[:3, 3] = grid.index_to_point, grid.origin
        change = sitk.AffineTransform(3)
        matrix = matrix_4x4(found) @ to_point @ motion @ np.linalg.inv(to_point)
        change.SetMatrix(matrix[:3, :3].ravel().tolist())
        change.SetTranslation(matrix[:3, 3].tolist())
        # Rounding of single precision goes with the nearest rotation.
        found = nearest_rigid(change, fixed.centre())
    return found


def _box_about(landmark: np.ndarray, spacing_mm: float) -> Grid:
    size = tuple(round(mm / spacing_mm) for mm in _BOX_MM)
    corner = landmark - (np.array(size) - 1) / 2 * spacing_mm
    return Grid(size, (spacing_mm,) * 3, tuple(corner.tolist()), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def _organ(fixed: RigidScan, grid: Grid) -> np.ndarray:
    """Where the organ or the body is, with its surroundings, on a grid: (z, y, x) of 0 and 1."""
    organ = grids.to_image(fixed.organ.astype(np.uint8), fixed.grid)
    near = sitk.SignedMaurerDistanceMap(
        grids.resample_mask(organ, grid), insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    return (sitk.GetArrayViewFromImage(near) <= _AROUND_MM).astype(np.uint8)


def _seen(scan: sitk.Image, grid: Grid, transform: sitk.Transform | None = None) -> torch.Tensor:
    """A scan through a transform as the network sees it: (1, 1, z, y, x)."""
    hu = grids.to_array(grids.resample(scan, grid, transform), np.float32)
    return torch.from_numpy((hu + 1000.0) / 1000.0).clamp_(*_LIMITS)[None, None]
