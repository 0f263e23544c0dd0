"""Refinement of a pair: the velocity field is optimised on the pair itself, coarse to fine."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from . import flow, losses
from .adam import Adam
from .align import matrix_and_offset
from .prepare import PreparedPair
from .velocity import SQUARINGS, Axis, Velocity, faded

# A level ends at this share of its rate, so that Adam's last steps do not stir the Jacobian.
LAST_RATE = 0.2
# Where tissue density changed by about this much (g/ml), a lesion came or went: the images there say little about
# motion, and their pull would be read as volume change.
DENSITY_CHANGE = 0.10
CHANGE_SCALE = 2
_CHANGE_RADIUS, _BORDER = 3, 1


@dataclass(frozen=True)
class Recipe:
    """How the images of an organ are refined.

    What a velocity field costs, times a level's smoothness: its `bending` energy and its `diffusion`. What the
    deformation costs, whatever the smoothness, where its Jacobian is below `_LEAST_JACOBIAN`: `folding`. The velocity
    fades to zero within `fade_mm` around the fixed image and is integrated by so many `squarings`. Adam looks a step
    `ahead` or does not.
    """

    bending: float
    diffusion: float
    folding: float
    fade_mm: float
    squarings: int
    ahead: bool = False


# Bending lets lungs expand freely and keeps the Jacobian calm, a little diffusion holds what the images leave open
# (measured on real and synthetic pairs against either alone). A step at full resolution is as dear as ten at half:
# looking ahead, eight come about as near to where many would end as twenty that do not.
LUNGS = Recipe(bending=2.0, diffusion=0.3, folding=0.0, fade_mm=36.0, squarings=SQUARINGS, ahead=True)
_LEAST_JACOBIAN = 0.4


@dataclass(frozen=True)
class Level:
    """One level: images averaged over `scale` voxels, control nodes `control` of those voxels apart, Adam's `steps`
    and first `rate` (voxels), `smoothness`: the weight of the velocity's regularity."""

    scale: int
    control: float
    steps: int
    rate: float
    smoothness: float


def refine(
    pair: PreparedPair,
    alignment: sitk.AffineTransform,
    levels: tuple[Level, ...],
    start: Velocity | None = None,
    progress=lambda fraction: None,
    recipe: Recipe = LUNGS,
) -> Velocity:
    """The velocity v (fixed-box voxels) that makes moving(A exp(v) p) like the fixed image, by Adam on squared LNCC.

    `alignment` is A (LPS mm); `start` a velocity to begin with, for instance a network's; `progress` is called with
    the fraction done after every step and may raise to cancel.
    """
    velocity = start
    if velocity is None and not levels:
        raise ValueError("refinement needs levels or a start")
    work = [level.steps / level.scale**3 for level in levels]
    for number, level in enumerate(levels):
        done, share = sum(work[:number]) / sum(work), work[number] / sum(work)
        velocity = _refine_level(
            pair, alignment, level, velocity, lambda f, done=done, share=share: progress(done + share * f), recipe
        )
    return velocity


def _refine_level(pair, alignment, level, start, progress, recipe) -> Velocity:
    fixed, moving, mask = pair.level(level.scale)
    spacing = float(level.control * level.scale)
    fade = recipe.fade_mm / pair.fixed_box.spacing[0]
    rest = Velocity.zeros(tuple(pair.fixed.shape), spacing, fade, fixed.device)
    initial = rest if start is None else start.moved_to(rest)
    coefficients = initial.coefficients.clone().requires_grad_(True)
    level_warp = LevelWarp(pair, alignment, level.scale, initial.axes, tuple(fixed.shape), recipe.squarings)
    if start is not None and pair.has_density and level.scale <= CHANGE_SCALE:
        mask = mask * _trust(pair, alignment, start, level.scale, tuple(fixed.shape))
    similarity = losses.Lncc(fixed, mask, epsilon=pair.noise_variance / level.scale**2)
    optimizer = Adam([coefficients], level.rate, recipe.ahead)
    for step in range(level.steps):
        optimizer.rate = level.rate * (1 - (1 - LAST_RATE) * step / level.steps)
        velocity = level_warp.velocity(coefficients)
        displacement = level_warp.displacement(velocity)
        coordinates = level_warp.coordinates_of(displacement)
        inside = pair.valid(coordinates.detach(), level.scale)
        loss = similarity(flow.warp(moving, coordinates), None if inside is None else mask * inside)
        loss = loss + level.smoothness * _roughness(velocity / spacing, recipe)
        if recipe.folding:
            loss = loss + recipe.folding * losses.squeezing(displacement / spacing, _LEAST_JACOBIAN)
        loss.backward()
        optimizer.step()
        progress((step + 1) / level.steps)
    return Velocity(coefficients.detach(), initial.axes)


def mismatch(pair: PreparedPair, alignment: sitk.AffineTransform, velocity: Velocity, scale: int) -> float:
    """1 - mean squared LNCC in the lungs under A exp(v), on images averaged over `scale` voxels."""
    fixed, moving, mask = pair.level(scale)
    level_warp = LevelWarp(pair, alignment, scale, velocity.axes, tuple(fixed.shape))
    with torch.no_grad():
        coordinates = level_warp.coordinates(level_warp.velocity(velocity.coefficients))
        inside = pair.valid(coordinates, scale)
        return float(
            losses.Lncc(fixed, mask)(flow.warp(moving, coordinates), None if inside is None else mask * inside)
        )


def _trust(pair, alignment, velocity: Velocity, scale: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Weights (0 to 1) of a level's voxels: low where, motion so far taken out, tissue density has changed.

    The weight, 1 / (1 + (change / DENSITY_CHANGE)^4), is near 1 for what is smaller.
    """
    trust = 1 / (1 + (density_change(pair, alignment, velocity) / DENSITY_CHANGE) ** 4)
    if scale == CHANGE_SCALE:
        return trust
    return torch.nn.functional.interpolate(trust[None, None], shape, mode="nearest")[0, 0]


def density_change(pair: PreparedPair, alignment: sitk.AffineTransform, velocity: Velocity) -> torch.Tensor:
    """How tissue density (g/ml) changed beyond what A exp(v) explains, (z, y, x) at the scale CHANGE_SCALE.

    The change is J I_moving(phi) - I_fixed, both (HU + 1000) / 1000, averaged over about 20 mm inside the lungs, so
    that noise and vessels still apart by a few millimetres count for little. Its median over the lungs is left out:
    what all lung shares is calibration or blood, no lesion.
    """
    fixed, moving, mask = pair.level(CHANGE_SCALE)
    level_warp = LevelWarp(pair, alignment, CHANGE_SCALE, velocity.axes, tuple(fixed.shape))
    with torch.no_grad():
        nodes = level_warp.displacement(level_warp.velocity(velocity.coefficients))
        jacobian = flow.jacobian_determinant(nodes / level_warp.spacing)[None]
        jacobian = flow.expand(jacobian, level_warp.to_voxels)[0] * abs(
            float(np.linalg.det(matrix_and_offset(alignment)[0]))
        )
        warped = flow.warp(moving, level_warp.coordinates_of(nodes))
        # A pleura that is still a few millimetres off is no change of density: only voxels within the lung count.
        within = (losses.box_sum(mask, _BORDER) > (2 * _BORDER + 1) ** 3 - 0.5).float()
        inside = losses.box_sum(within, _CHANGE_RADIUS).clamp(min=1e-6)
        change = losses.box_sum((jacobian * warped - fixed) * within, _CHANGE_RADIUS) / inside
        return change - change[within > 0].median() if within.any() else change


def _roughness(velocity: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    return recipe.bending * losses.bending_energy(velocity) + recipe.diffusion * losses.diffusion(velocity)


class LevelWarp:
    """What does not change over a level's steps: interpolation weights and voxel positions."""

    def __init__(
        self, pair: PreparedPair, alignment, scale: int, axes: tuple[Axis, Axis, Axis], shape, squarings=SQUARINGS
    ):
        device = pair.fixed.device
        self.pair, self.scale, self.squarings = pair, scale, squarings
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
        return self.coordinates_of(self.displacement(velocity))

    def displacement(self, velocity: torch.Tensor) -> torch.Tensor:
        """exp(v) - id at the control nodes, (3, z, y, x) in voxels of the fixed box."""
        return flow.exponentiate(velocity / self.spacing, self.squarings, self.identity) * self.spacing

    def coordinates_of(self, displacement: torch.Tensor) -> torch.Tensor:
        """As :meth:`coordinates`, from the displacement at the control nodes."""
        fine = flow.expand(displacement, self.to_voxels)
        return self.affine_coordinates + torch.einsum("ij,jzyx->izyx", self.matrix, fine)

    def displacement_at_voxels(self, velocity: Velocity) -> torch.Tensor:
        """exp(v) - id at the level's voxels, (3, z, y, x) in voxels of the fixed box."""
        return flow.expand(self.displacement(self.velocity(velocity.coefficients)), self.to_voxels)


def similarity_of(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared LNCC (0 to 1) of two images (z, y, x) in HU over a mask."""
    images = [torch.from_numpy(((a.clip(-1024, 300) + 1000) / 1000).astype(np.float32)) for a in (fixed, warped)]
    weights = torch.from_numpy(mask.astype(np.float32))
    with torch.no_grad():
        return 1.0 - float(losses.Lncc(images[0], weights)(images[1]))
