"""Synthetic follow-ups on the device: one scan of each sample becomes a pair whose deformation is known.

The tissue at p of the scan goes to phi(p) = D(exp(v)(p)), where v is a breath (motion along the body that grows towards
the diaphragm) and smooth random motion, and D takes away the affine part of exp(v), as alignment would, and adds what
alignment errs by. The follow-up shows at q what the scan shows at phi^-1(q) = exp(-v)(D^-1 q), its density multiplied
by (J of phi^-1)^m: mass is kept. Lesions grow or resolve between the two, and each is scanned on its own.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch

from LungRecoveryLib.registration import flow

from . import deformations, views
from .appearance import Scanner, compressed
from .batches import Batch, as_floats, drop_points, moved_points, restored
from .deformations import Affine, Flow, Lattice
from .draws import Draws, per_sample
from .lesions import random_lesions, threshold

# What differs between two scans of one patient on one scanner: augmentation changes each of them again.
_LITTLE = {"slices": (1.0, 2.0), "noise": 0.02, "kernel": (-0.05, 0.1), "gamma": 1.0, "gain": 1.03, "offset": 0.02}


@dataclass
class Synthesis:
    """How synthetic follow-ups differ from the scan they are made of; a number is drawn evenly for each sample.

    `spacing_mm` is the voxel of the samples' grid. `breathing_mm`: about the breath's largest motion in the lungs that
    is left after affine alignment, `steepest` the largest change of its velocity from voxel to voxel. `random_mm`:
    standard deviation of the random motion, with control points `random_spacing_mm` apart, `fine_mm` and
    `fine_spacing_mm` of a finer one. Alignment leaves the share `affine_left` of the motion's affine part and errs by
    rotation, scale, shear and translation; where the pair is not `aligned` yet it has taken nothing, and these are how
    the patient lies. `inflation`: the volume's factor by the part of the breath that alignment took away, which shows
    in the density alone; `mass`: the exponent m. `lesion_share`: the ill share of the lungs, drawn for each of the two
    scans; each is without lesions with the probability `healed`.
    """

    spacing_mm: float = 3.0
    breathing_probability: float = 0.8
    breathing_mm: float = 35.0
    steepest: float = 0.6
    random_probability: float = 0.7
    random_mm: float = 7.0
    random_spacing_mm: float = 75.0
    fine_mm: float = 1.5
    fine_spacing_mm: float = 36.0
    aligned: bool = True
    affine_left: tuple[float, float] = (0.0, 0.3)
    rotation_degrees: float = 2.0
    scale: float = 1.05
    shear: float = 0.02
    translation_mm: float = 6.0
    inflation: float = 1.5
    mass: tuple[float, float] = (0.6, 1.0)
    lesion_probability: float = 0.6
    lesion_share: tuple[float, float] = (0.01, 0.35)
    healed: float = 0.3
    scanner: Scanner = field(default_factory=lambda: Scanner(**_LITTLE))
    ground: float = 1.0


@torch.no_grad()
def synthetic_pair(
    batch: Batch, settings: Synthesis, generator: torch.Generator | None = None, share: float = 1.0
) -> Batch:
    """A new batch in which each sample is, with the probability `share`, its fixed scan with a synthetic follow-up.

    `batch` (of samples; it stays as it is) needs `fixed` and `fixed_mask` at least; moving images, masks, displacement
    and truth are there afterwards in any case, labels and points where the fixed scan has them. The truth is known all
    over the fixed mask as far as the follow-up's grid shows the tissue. `generator` lives on the batch's device.
    """
    device = batch["fixed"].device
    with torch.autocast(device.type, enabled=False):
        draws = Draws(len(batch["fixed"]), device, generator)
        source = as_floats(batch)
        pair = _pair(source, settings, draws)
        if share < 1:
            chosen = draws.chance(share)
            for key, value in pair.items():
                pair[key] = torch.where(chosen.reshape(-1, *[1] * (value.ndim - 1)), value, source[key])
    types = {"moving": torch.float32, "displacement": torch.float32, "moving_points": torch.float32}
    return restored({key: torch.empty(0, dtype=types.get(key, torch.uint8)) for key in pair} | batch, pair)


def _pair(source: Batch, settings: Synthesis, draws: Draws) -> Batch:
    mask = source["fixed_mask"]
    shape, device = tuple(mask.shape[2:]), draws.device
    phi = random_motion(mask, settings, draws)
    back = lambda points: torch.cat([phi.back(points), phi.jacobian_of_back(points)], dim=1)
    origins, density = deformations.on_grid(back, shape, draws.count, device).split([3, 1], dim=1)
    before, after = _two_stages(source["fixed"], mask, settings, draws)
    drawn = flow.warp(torch.cat([after - settings.ground, mask], dim=1), origins, padding="zeros")
    pair = {"fixed_mask": mask, "moving_mask": (drawn[:, 1:] > 0.5).float()}
    after = drawn[:, :1] + settings.ground
    inflation = settings.inflation ** draws.uniform(-1, 1)
    density = (density / per_sample(inflation)) ** per_sample(draws.uniform(*settings.mass))
    after = torch.where(pair["moving_mask"] > 0, compressed(after, density), after)
    pair["fixed"] = settings.scanner(before, mask, draws)
    pair["moving"] = settings.scanner(after, pair["moving_mask"], draws)
    targets = deformations.on_grid(phi, shape, draws.count, device)
    known = (mask > 0) & deformations.inside_grid(targets, shape)
    pair["truth"] = known.float()
    pair["displacement"] = torch.where(known, targets - flow.voxel_coordinates(shape, device=device), 0.0)
    if "fixed_labels" in source:
        pair["fixed_labels"] = source["fixed_labels"]
        pair["moving_labels"] = deformations.nearest_voxel(source["fixed_labels"], origins)
    if "fixed_points" in source:
        pair["fixed_points"] = source["fixed_points"]
        pair["moving_points"] = moved_points(source["fixed_points"], phi)
        within = lambda points: deformations.inside_grid(points, shape)
        drop_points(pair, within, within)
    return pair


def _two_stages(
    image: torch.Tensor, mask: torch.Tensor, settings: Synthesis, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan with the lesions of its own date and with those of the follow-up, still in place."""
    if settings.lesion_probability == 0:
        return image, image
    lesions = random_lesions(draws, mask)
    ill = draws.chance(settings.lesion_probability)
    stages = []
    for _ in range(2):
        share = draws.uniform(*settings.lesion_share) * (ill & ~draws.chance(settings.healed))
        stages.append(torch.where(mask > 0, lesions.drawn(image, threshold(share)), image))
    return stages[0], stages[1]


@dataclass(frozen=True)
class Motion:
    """phi = affine . exp(v) and its inverse, on points (n, 3, z, y, x) in voxels x, y, z."""

    affine: Affine
    motion: Flow

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Where the tissue at points of the scan lies in the follow-up."""
        return self.affine(self.motion(points))

    def back(self, points: torch.Tensor) -> torch.Tensor:
        """Where the tissue at points of the follow-up lies in the scan."""
        return self._motion_back(self._affine_back(points))

    def jacobian_of_back(self, points: torch.Tensor) -> torch.Tensor:
        """The Jacobian determinant of the inverse at points of the follow-up: (n, 1, z, y, x)."""
        shrinking = per_sample(self._affine_back.determinant())
        return self._motion_back.jacobian(self._affine_back(points)) * shrinking

    @cached_property
    def _affine_back(self) -> Affine:
        return self.affine.inverse()

    @cached_property
    def _motion_back(self) -> Flow:
        return self.motion.inverse()


def random_motion(mask: torch.Tensor, settings: Synthesis, draws: Draws, step: float | None = None) -> Motion:
    """A motion for each lung mask (n, 1, z, y, x), float. `step` is the spacing of the nodes it is integrated on, in
    voxels: a quarter of the finest motion's control points where none is given."""
    shape, voxel = tuple(mask.shape[2:]), settings.spacing_mm
    fine, coarse = settings.fine_spacing_mm / voxel, settings.random_spacing_mm / voxel
    lattice = Lattice.over(shape, step or max(1.0, fine / 4))
    velocity = torch.zeros(draws.count, 3, *lattice.shape, device=draws.device)
    if settings.breathing_probability > 0:
        velocity = velocity + _breath(mask, lattice, settings, draws)
    if settings.random_probability > 0:
        chosen = draws.chance(settings.random_probability)
        for deviation, spacing in ((settings.random_mm, coarse), (settings.fine_mm, fine)):
            amount = draws.uniform(0, deviation / voxel) * chosen
            velocity += per_sample(amount) * draws.smooth_noise(3, lattice.shape, spacing / lattice.step)
    motion = Flow.of(velocity, lattice)
    centre = deformations.grid_centre(shape, draws.device)
    error = deformations.random_affine(
        draws, centre, torch.ones_like(velocity[:, 0, 0, 0, 0]), settings.rotation_degrees, settings.scale,
        settings.shear, settings.translation_mm / voxel,
    )  # fmt: skip
    if not settings.aligned:
        return Motion(error, motion)
    found = Affine.nearest(motion.forward, *_on_lattice(mask, lattice), centre)
    removed = found.partly(1 - draws.uniform(*settings.affine_left))
    return Motion(removed.inverse().then(error), motion)


def _on_lattice(mask: torch.Tensor, lattice: Lattice) -> tuple[torch.Tensor, torch.Tensor]:
    """The lattice's positions (n, 3, z, y, x) and the mask there (n, 1, z, y, x)."""
    positions = lattice.positions(mask.device).expand(len(mask), -1, -1, -1, -1)
    return positions, flow.warp(mask, positions, padding="zeros")


def _breath(mask: torch.Tensor, lattice: Lattice, settings: Synthesis, draws: Draws) -> torch.Tensor:
    """The velocity (n, 3, z, y, x) of breathing in voxels, on the lattice's nodes.

    Along z it grows from the apex to the base with a power of the distance, unevenly from side to side and from front
    to back; across, the lungs widen or narrow.
    """
    positions, inside = _on_lattice(mask, lattice)
    x, y, depth, base = _in_lungs(mask, positions, inside)
    uneven = 1 + 0.4 * draws.smooth_noise(1, lattice.shape, 0.4 * max(lattice.shape))
    uneven = (
        uneven + per_sample(draws.uniform(-0.3, 0.3)) * torch.tanh(3 * x) + per_sample(draws.uniform(-0.4, 0.4)) * y
    )
    along = depth.clamp(max=1.3) ** per_sample(draws.uniform(1.3, 4.0)) * uneven
    across = per_sample(draws.uniform(-0.25, 0.25)) * x, per_sample(draws.uniform(-0.35, 0.35)) * y
    velocity = torch.cat([across[0] * depth, across[1] * depth, along * base], dim=1)
    if settings.aligned:
        centre = deformations.grid_centre(mask.shape[2:], draws.device)
        velocity = velocity - (Affine.nearest(velocity, positions, inside, centre)(positions) - positions)
    largest = (velocity.square().sum(1, keepdim=True).sqrt() * inside).amax((1, 2, 3, 4)).clamp(min=1e-3)
    changes = flow.gradient(velocity).abs().amax((1, 2)) / lattice.step
    steepest = (changes * inside[:, 0]).amax((1, 2, 3)).clamp(min=1e-3)
    amount = draws.uniform(-1, 1) * draws.chance(settings.breathing_probability)
    wanted = amount * settings.breathing_mm / settings.spacing_mm / largest
    return per_sample(wanted.clamp(-settings.steepest / steepest, settings.steepest / steepest)) * velocity


def _in_lungs(
    mask: torch.Tensor, positions: torch.Tensor, inside: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where positions (n, 3, z, y, x) lie in the lungs: x and y (n, 1, z, y, x) from -1 to 1 over the lungs' box, the
    depth from 0 at the apex to 1 at the base, and the direction (n, 1, 1, 1, 1) of the base along z, 1 or -1.

    The base is the end of z to which the lungs' centre of mass is nearer: scans may be stored head or feet first.
    """
    bounds = [views.extent(mask, axis) for axis in (4, 3, 2)]
    x, y, z = (
        (2 * positions[:, i : i + 1] - per_sample(first + last)) / per_sample((last - first).clamp(min=1))
        for i, (first, last) in enumerate(bounds)
    )
    base = per_sample(torch.where((z * inside).sum((1, 2, 3, 4)) > 0, 1.0, -1.0))
    return x, y, (1 + z * base).clamp(min=0) / 2, base
