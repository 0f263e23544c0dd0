"""ConvexAdam: self-similarity features, a coupled convex search for the start, Adam on the displacement field.

Written from the papers: Siebert, Hansen, Heinrich, Fast 3D registration with accurate optimisation and little learning
for Learn2Reg 2021; Heinrich, Papiez, Schnabel, Handels, Non-parametric discrete registration with convex optimisation,
WBIR 2014; Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities
(MIND-SSC), MICCAI 2013. Displacements are in voxels of an isotropic grid, channels (z, y, x), sampled at whole voxels.
"""

from itertools import combinations

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from LungRecoveryLib import grids
from methods.common import Pair, binary, windowed

MARGIN_MM = 15.0
SPACING_MM = (1.25, 2.0)
# On the real pair these settings leave 1.15 mm, the published defaults (pool 6, smoothness 1.25, distance 2) 1.26 mm.
CONVEX_POOL = 4
CONVEX_RADIUS = 5
CONVEX_WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
INVERSE_STEPS = 15
ADAM_POOL = 2
ADAM_STEPS = 80
ADAM_RATE = 1.0
ADAM_SMOOTHNESS = 0.3
MIND_DISTANCE = 1
MIND_RADIUS = 1


def register(pair: Pair, initial: sitk.AffineTransform, threads: int) -> sitk.Transform:
    """Register a pair on an isotropic grid around the fixed lungs, the moving image first laid there by `initial`."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    grid = _working_grid(pair)
    fixed = _features(pair.fixed, pair.fixed_lungs, grid, None)
    moving = _features(pair.moving, pair.moving_lungs, grid, initial)
    start = _convex(F.avg_pool3d(fixed, CONVEX_POOL), F.avg_pool3d(moving, CONVEX_POOL))
    field = _adam(fixed, moving, start * CONVEX_POOL)
    in_mm = torch.flip(field[0], (0,)).numpy() * grid.spacing[0]
    in_lps = np.einsum("ij,jzyx->izyx", grid.axes, in_mm)
    # The last of a composite is applied first: the field on the fixed image's points, then the affine part.
    return sitk.CompositeTransform([initial, grids.field_to_transform(in_lps, grid)])


def _working_grid(pair: Pair) -> grids.Grid:
    spacing = float(np.clip(min(pair.fixed.GetSpacing()), *SPACING_MM))
    return grids.isotropic_grid(grids.crop_to_mask(pair.fixed_lungs, MARGIN_MM), spacing)


def _features(image: sitk.Image, lungs: sitk.Image, grid: grids.Grid, transform: sitk.Transform | None) -> torch.Tensor:
    """MIND-SSC (1, 12, z, y, x) of a CT laid on the grid, zero outside its lungs."""
    laid = grids.to_array(grids.resample(windowed(image), grid, transform), np.float32)
    mask = grids.to_array(grids.resample_mask(binary(lungs), grid, transform), np.float32)
    features = mind_ssc(torch.from_numpy(laid)[None, None] / 500.0)
    return features * torch.from_numpy(mask)[None, None]


def mind_ssc(image: torch.Tensor) -> torch.Tensor:
    """The modality independent neighbourhood descriptor in its self-similarity context form, (1, 12, z, y, x).

    Its twelve channels compare the patches around pairs of the six neighbours that are not opposite each other.
    """
    offsets = [np.eye(3, dtype=int)[axis] * sign for axis in range(3) for sign in (-1, 1)]
    pairs = [(a, b) for a, b in combinations(offsets, 2) if np.sum((a - b) ** 2) == 2]
    padded = F.pad(image, (MIND_DISTANCE,) * 6, mode="replicate")
    size, kernel = image.shape[2:], 2 * MIND_RADIUS + 1

    def shifted(offset: np.ndarray) -> torch.Tensor:
        start = [MIND_DISTANCE * (1 + int(o)) for o in offset]
        return padded[:, :, *(slice(s, s + n) for s, n in zip(start, size, strict=True))]

    distances = []
    for a, b in pairs:
        squared = F.pad((shifted(a) - shifted(b)) ** 2, (MIND_RADIUS,) * 6, mode="replicate")
        distances.append(F.avg_pool3d(squared, kernel, 1))
    distance = torch.cat(distances, 1)
    distance = distance - distance.amin(1, keepdim=True)
    variance = distance.mean(1, keepdim=True)
    middle = variance.mean()
    return torch.exp(-distance / variance.clamp(0.001 * middle, 1000.0 * middle))


def _convex(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """The displacement field (1, 3, z, y, x), in voxels of the pooled features, made inverse-consistent."""
    forward = _coupled_convex(fixed, moving)
    backward = _coupled_convex(moving, fixed)
    for _ in range(INVERSE_STEPS):
        forward, backward = (
            0.5 * (forward - _sample(backward, forward)),
            0.5 * (backward - _sample(forward, backward)),
        )
    return forward


def _coupled_convex(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Search every displacement within a cube, then alternate smoothing and searching with a growing coupling."""
    steps = torch.arange(-CONVEX_RADIUS, CONVEX_RADIUS + 1)
    candidates = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    padded = F.pad(moving, (CONVEX_RADIUS,) * 6)
    size = fixed.shape[2:]
    cost = torch.empty(len(candidates), *size)
    for k, candidate in enumerate(candidates):
        start = (candidate + CONVEX_RADIUS).tolist()
        part = padded[:, :, *(slice(s, s + n) for s, n in zip(start, size, strict=True))]
        cost[k] = ((part - fixed) ** 2).sum(1)[0]
    candidates = candidates.float()
    field = _smooth(_pick(candidates, cost.argmin(0)), 2)
    for weight in CONVEX_WEIGHTS:
        best = torch.empty(size, dtype=torch.long)
        for z in range(size[0]):  # slice by slice: the whole coupling term would double the memory
            apart = ((candidates[:, :, None, None] - field[0, :, z][None]) ** 2).sum(1)
            best[z] = (cost[:, z] + weight * apart).argmin(0)
        field = _smooth(_pick(candidates, best), 2)
    return field


def _pick(candidates: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return candidates[index].permute(3, 0, 1, 2)[None]


def _smooth(field: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        field = F.avg_pool3d(F.pad(field, (1,) * 6, mode="replicate"), 3, 1)
    return field


def _sample(values: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """`values` (1, c, z, y, x) at each voxel moved by `field` (1, 3, z, y, x) voxels, the border held."""
    size = torch.tensor(values.shape[2:], dtype=torch.float32)
    where = torch.stack(
        torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in values.shape[2:]], indexing="ij")
    )
    unit = 2.0 * (where[None] + field) / (size - 1).view(1, 3, 1, 1, 1) - 1.0
    points = unit.flip(1).permute(0, 2, 3, 4, 1)
    return F.grid_sample(values, points, mode="bilinear", padding_mode="border", align_corners=True)


def _resize(field: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return F.interpolate(field, size=size, mode="trilinear", align_corners=False)


def _adam(fixed: torch.Tensor, moving: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Refine a field, both in full-resolution voxels, by Adam on half-resolution features; at full resolution again."""
    size = fixed.shape[2:]
    fixed, moving = F.avg_pool3d(fixed, ADAM_POOL), F.avg_pool3d(moving, ADAM_POOL)
    parameters = (_resize(start, fixed.shape[2:]) / ADAM_POOL).requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=ADAM_RATE)
    for _ in range(ADAM_STEPS):
        optimiser.zero_grad()
        field = _smooth(parameters, 3)
        differences = (field.diff(dim=axis).square().mean() for axis in (2, 3, 4))
        data = (_sample(moving, field) - fixed).square().sum(1).mean()
        (data + ADAM_SMOOTHNESS * sum(differences)).backward()
        optimiser.step()
    with torch.no_grad():
        return _resize(_smooth(parameters, 3), size) * ADAM_POOL
