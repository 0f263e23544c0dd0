"""Refinement of a pair: the velocity field is optimised on the pair itself, coarse to fine."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from . import flow, losses
from .align import matrix_and_offset
from .prepare import PreparedPair
from .velocity import Axis, Velocity, faded

FADE_MM = 36.0
# Regularity of the velocity, times a level's smoothness: bending lets lungs expand freely and keeps the Jacobian calm,
# a little diffusion holds what the images leave open (measured on real and synthetic pairs against either alone).
BENDING, DIFFUSION = 2.0, 0.3
# A level ends at this share of its rate, so that Adam's last steps do not stir the Jacobian.
LAST_RATE = 0.2


@dataclass(frozen=True)
class Level:
    """One level: images averaged over `scale` voxels, control nodes `control` of those voxels apart, Adam's `steps`
    and first `rate` (voxels), `smoothness`: the weight of the velocity's regularity."""

    scale: int
    control: int
    steps: int
    rate: float
    smoothness: float


def refine(
    pair: PreparedPair,
    alignment: sitk.AffineTransform,
    levels: tuple[Level, ...],
    start: Velocity | None = None,
    progress=lambda fraction: None,
) -> Velocity:
    """The velocity v (fixed-box voxels) that makes moving(A exp(v) p) like the fixed image, by Adam on squared LNCC.

    `alignment` is A (LPS mm); `start` a velocity to begin with, for instance a network's; `progress` is called with
    the fraction done after every step and may raise to cancel.
    """
    velocity = start
    work = [level.steps / level.scale**3 for level in levels]
    for number, level in enumerate(levels):
        done, share = sum(work[:number]) / sum(work), work[number] / sum(work)
        velocity = _refine_level(
            pair, alignment, level, velocity, lambda f, done=done, share=share: progress(done + share * f)
        )
    return velocity


def _refine_level(pair, alignment, level, start, progress) -> Velocity:
    fixed, moving, mask = pair.level(level.scale)
    spacing = float(level.control * level.scale)
    fade = FADE_MM / pair.fixed_box.spacing[0]
    rest = Velocity.zeros(tuple(pair.fixed.shape), spacing, fade, fixed.device)
    initial = rest if start is None else start.moved_to(rest)
    coefficients = initial.coefficients.clone().requires_grad_(True)
    warp_level = _LevelWarp(pair, alignment, level.scale, initial.axes, tuple(fixed.shape))
    similarity = losses.Lncc(fixed, mask)
    optimizer = torch.optim.Adam([coefficients], lr=level.rate)
    for step in range(level.steps):
        optimizer.param_groups[0]["lr"] = level.rate * (1 - (1 - LAST_RATE) * step / level.steps)
        velocity = warp_level.velocity(coefficients)
        coordinates = warp_level.coordinates(velocity)
        inside = pair.valid(coordinates.detach(), level.scale)
        loss = similarity(flow.warp(moving, coordinates), None if inside is None else mask * inside)
        loss = loss + level.smoothness * _roughness(velocity / spacing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / level.steps)
    return Velocity(coefficients.detach(), initial.axes)


def _roughness(velocity: torch.Tensor) -> torch.Tensor:
    return BENDING * losses.bending_energy(velocity) + DIFFUSION * losses.diffusion(velocity)


class _LevelWarp:
    """What does not change over a level's steps: interpolation weights and voxel positions."""

    def __init__(self, pair: PreparedPair, alignment, scale: int, axes: tuple[Axis, Axis, Axis], shape):
        device = pair.fixed.device
        self.pair, self.scale = pair, scale
        self.spacing = axes[0].spacing
        self.to_nodes = [
            flow.spline_matrix(torch.arange(a.count, dtype=torch.float32, device=device), a.count) for a in axes
        ]
        positions = [torch.arange(n, dtype=torch.float32, device=device) * scale + (scale - 1) / 2 for n in shape]
        self.to_voxels = [flow.cubic_matrix(a.nodes(p), a.count) for a, p in zip(axes, positions, strict=True)]
        self.identity = flow.voxel_coordinates(tuple(a.count for a in axes), device=device)
        matrix, offset = matrix_and_offset(alignment)
        box_matrix, _ = pair.moving_from_fixed(matrix, offset)
        self.matrix = torch.as_tensor(box_matrix / scale, dtype=torch.float32, device=device)
        self.affine_coordinates = pair.moving_coordinates(pair.positions(scale, shape), matrix, offset, scale)

    def velocity(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The velocity at the control nodes, (3, z, y, x) in voxels of the fixed box."""
        return flow.expand(faded(coefficients), self.to_nodes)

    def coordinates(self, velocity: torch.Tensor) -> torch.Tensor:
        """Where the level's voxels go, in voxels of the moving level: (3, z, y, x)."""
        displacement = flow.exponentiate(velocity / self.spacing, 6, self.identity) * self.spacing
        fine = flow.expand(displacement, self.to_voxels)
        return self.affine_coordinates + torch.einsum("ij,jzyx->izyx", self.matrix, fine)


def similarity_of(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared LNCC (0 to 1) of two images (z, y, x) in HU over a mask."""
    images = [torch.from_numpy(((a.clip(-1024, 300) + 1000) / 1000).astype(np.float32)) for a in (fixed, warped)]
    weights = torch.from_numpy(mask.astype(np.float32))
    with torch.no_grad():
        return 1.0 - float(losses.Lncc(images[0], weights)(images[1]))
