"""Lung alignment before refinement: centres and extents of the lung masks, then rigid and affine optimisation.

An alignment is a `SimpleITK.AffineTransform` from fixed to moving points, LPS mm.
"""

import numpy as np
import SimpleITK as sitk
import torch

from .. import grids
from . import flow, losses
from .adam import Adam
from .prepare import PreparedPair

_STEPS = 25
_SCALE = 6
_RATE = 0.02

Extent = tuple[np.ndarray, np.ndarray]


def align_lungs(pair: PreparedPair, progress=lambda fraction: None) -> sitk.AffineTransform:
    """Align the lungs of a prepared pair by an affine transform, fixed to moving, LPS mm.

    The starts (lung extents, lung centres, tops of the lungs, the scanner's own frame) are compared by the similarity
    they reach; the best is optimised with six, then with twelve parameters on images averaged over `_SCALE` voxels.
    """
    extent = _lung_extent(pair.fixed_lungs)
    starts = _starts(extent, _lung_extent(pair.moving_lungs))
    fixed, moving, mask = pair.level(_SCALE)
    similarity = losses.Lncc(fixed, mask)

    def loss_of(transform: sitk.AffineTransform) -> float:
        with torch.no_grad():
            return float(similarity(_warped(pair, transform, moving, fixed.shape)))

    best = min(starts, key=loss_of)
    for stage, parameters in enumerate((6, 12)):
        tell = lambda f, s=stage: progress((s + f) / 2)
        candidate = _optimise(pair, extent, best, parameters, similarity, moving, tell)
        # Optimisation never makes an alignment worse than its start.
        best = min(best, candidate, key=loss_of)
    return best


def _starts(fixed: Extent, moving: Extent) -> list[sitk.AffineTransform]:
    """Affine transforms to start from, extents first: it wins where all are equally similar."""
    (low_f, high_f), (low_m, high_m) = fixed, moving
    centre_f, centre_m = (low_f + high_f) / 2, (low_m + high_m) / 2
    scale = np.clip((high_m - low_m) / (high_f - low_f), 0.5, 2.0)
    tops = centre_m - centre_f
    tops[2] = high_m[2] - high_f[2]
    return [
        affine(np.diag(scale), centre_f, centre_m - centre_f),
        affine(np.eye(3), centre_f, centre_m - centre_f),
        affine(np.eye(3), centre_f, tops),
        affine(np.eye(3), centre_f, np.zeros(3)),
    ]


def affine(matrix: np.ndarray, centre: np.ndarray, translation: np.ndarray) -> sitk.AffineTransform:
    """The transform p -> matrix (p - centre) + centre + translation, LPS mm."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.asarray(matrix, float).ravel().tolist())
    transform.SetCenter(np.asarray(centre, float).tolist())
    transform.SetTranslation(np.asarray(translation, float).tolist())
    return transform


def matrix_and_offset(transform: sitk.AffineTransform) -> tuple[np.ndarray, np.ndarray]:
    """M (3, 3) and t (3,) with T(p) = M p + t."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    return matrix, np.array(transform.TransformPoint((0.0, 0.0, 0.0)))


def _lung_extent(lungs: sitk.Image) -> Extent:
    """Lowest and highest LPS coordinates (3,) of a mask, its outermost 0.1 % of voxels left out."""
    points = grids.grid_of(lungs).points(np.argwhere(sitk.GetArrayViewFromImage(lungs) != 0)[:, ::-1])
    low, high = np.percentile(points, (0.1, 99.9), axis=0)
    return low, high


def _warped(pair: PreparedPair, transform: sitk.AffineTransform, moving: torch.Tensor, shape) -> torch.Tensor:
    matrix, offset = matrix_and_offset(transform)
    return flow.warp(moving, pair.moving_coordinates(pair.positions(_SCALE, shape), matrix, offset, _SCALE))


def _optimise(pair, extent: Extent, start, parameters, similarity, moving, progress) -> sitk.AffineTransform:
    """Adam on rotation and translation (6) or on all twelve numbers of the affine, about the fixed lungs' centre."""
    low, high = extent
    centre = (low + high) / 2
    radius = float(np.linalg.norm(high - low)) / 4
    start_matrix, start_offset = matrix_and_offset(start)
    device = moving.device
    start_m = torch.tensor(start_matrix, dtype=torch.float32, device=device)
    # Rotation (and strain) in units in which a step moves the lungs' edge as far as a step of translation does.
    linear = torch.zeros(3 if parameters == 6 else 9, device=device, requires_grad=True)
    shift = torch.zeros(3, device=device, requires_grad=True)
    optimizer = Adam([linear, shift], _RATE)
    index = pair.positions(_SCALE, similarity.fixed.shape)
    anchor = torch.tensor(start_matrix @ centre + start_offset, dtype=torch.float32, device=device)
    pivot = torch.tensor(centre, dtype=torch.float32, device=device)
    for step in range(_STEPS):
        matrix = start_m @ torch.linalg.matrix_exp(generator(linear))
        # T(p) = matrix (p - centre) + start(centre) + radius * shift
        coordinates = pair.moving_coordinates_about(index, matrix, pivot, anchor + radius * shift, _SCALE)
        loss = similarity(flow.warp(moving, coordinates))
        loss.backward()
        optimizer.step()
        progress((step + 1) / _STEPS)
    with torch.no_grad():
        matrix = (start_m @ torch.linalg.matrix_exp(generator(linear))).cpu().numpy().astype(float)
        moved = start_matrix @ centre + start_offset + radius * shift.cpu().numpy()
    return affine(matrix, centre, moved - centre)


def generator(linear: torch.Tensor) -> torch.Tensor:
    """The matrix whose exponential is the rotation (3 numbers) or the linear map (9 numbers)."""
    if linear.numel() == 9:
        return linear.reshape(3, 3)
    x, y, z = linear
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
