"""Augmentation of batches of samples on the device, with the truth kept.

A transform a draws the new fixed image, b the new moving image: fixed'(p) = fixed(a(p)), moving'(q) = moving(b(q)).
Where the tissue at p lay at a(p) + u(a(p)), it now lies at b^-1(a(p) + u(a(p))): that is the new true displacement.
Both sides share a = S . exp(s) (another body in another position); the moving side adds the difference a pair has after
affine alignment, b = S . exp(s) . D . exp(d). S and D are affine, s and d smooth velocities, so that every inverse is
known. Density in the moving image follows the difference alone (mass is kept): it is multiplied by (det D J(exp d))^m.
"""

import math
from dataclasses import dataclass, field

import torch

from LungRecoveryLib.registration import flow

from . import deformations, views
from .appearance import Scanner, compressed
from .batches import Batch, as_floats, drop_points, moved_points, restored
from .contrasts import Contrasts, scaled
from .deformations import Affine, Flow, Lattice
from .draws import Draws, per_sample
from .lesions import random_lesions, threshold

# Voxels between the nodes on which the inverse map is made.
_BACK_STEP = 2.0


@dataclass
class Augmentation:
    """What is varied, how often and how far; call it on a batch of samples.

    Lengths are voxels of the samples' grid, densities are (HU + 1000) / 1000. Each number is drawn for each sample
    evenly between minus and plus its limit, or between the two ends of a range. A probability of 0 leaves a step out.
    `elastic` (the body's shape), `motion` and `fine_motion` are the largest standard deviations of smooth random
    displacements with control points `elastic_spacing` and `fine_spacing` apart; a `scale` is the largest factor along
    any axis; `mass` is the exponent m. A cut takes up to `cut_share` of the lungs' height at either end, tilted by up
    to `cut_slope` in the moving scan. Lesions fill a part of the lungs drawn from `lesion_share`, in one of the scans.
    For brains set `ground`, `mass` (both ends) and the probabilities of lesions and one lung to 0; `contrasts` paints
    them anew from their labels.
    """

    # Both sides alike.
    affine_probability: float = 0.9
    rotation_degrees: float = 10.0
    scale: float = 1.25
    shear: float = 0.08
    translation: float = 6.0
    flip_x: float = 0.5
    flip_y: float = 0.2
    flip_z: float = 0.2
    elastic_probability: float = 0.6
    elastic: float = 3.0
    # The moving side against the fixed one.
    difference_probability: float = 0.8
    difference_rotation_degrees: float = 3.0
    difference_scale: float = 1.06
    difference_shear: float = 0.03
    difference_translation: float = 3.0
    difference_strength: tuple[float, float] = (1.0, 1.0)
    motion_probability: float = 0.6
    motion: float = 2.5
    elastic_spacing: float = 24.0
    fine_motion: float = 0.5
    fine_spacing: float = 12.0
    mass: tuple[float, float] = (0.5, 1.0)
    # What is seen.
    one_lung_probability: float = 0.1
    cut_probability: float = 0.1
    cut_share: float = 0.35
    cut_slope: float = 0.1
    field_probability: float = 0.0
    field_share: tuple[float, float] = (0.5, 1.1)
    lesion_probability: float = 0.3
    lesion_share: tuple[float, float] = (0.01, 0.4)
    # Each scan on its own.
    contrasts: Contrasts = field(default_factory=Contrasts)
    scanner: Scanner = field(default_factory=Scanner)
    # The value outside the lungs.
    ground: float = 1.0

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """A new batch with the same keys and shapes, floats as float32; `batch` (of samples) is left as it is.

        `generator` lives on the batch's device; its state alone decides what is drawn. Points that leave the grid or
        the field of view become NaN in both scans, `truth` ends there.
        """
        device = batch["fixed"].device
        with torch.autocast(device.type, enabled=False):
            draws = Draws(len(batch["fixed"]), device, generator)
            changed = as_floats(batch)
            if self.lesion_probability > 0:
                self._grow_lesions(changed, draws)
            if self.one_lung_probability > 0:
                self._drop_one_lung(changed, draws)
            self._deform(changed, draws)
            if self.cut_probability > 0:
                self._cut(changed, draws)
            if self.field_probability > 0:
                centre = deformations.grid_centre(changed["fixed"].shape[2:], device)
                box = lambda: views.random_box(draws, centre, self.field_probability, self.field_share)
                self._show(changed, box(), box())
            painted = self.contrasts.probability > 0
            if painted:
                self.contrasts.paint(changed, draws)
            for scan in ("fixed", "moving"):
                mask = changed[f"{scan}_mask"]
                changed[scan] = self.scanner(changed[scan], mask, draws)
                if painted:
                    changed[scan] = scaled(changed[scan], mask)
        return restored(batch, changed)

    def _grow_lesions(self, batch: Batch, draws: Draws) -> None:
        """Lesions in one of the two scans."""
        in_moving = per_sample(draws.chance(0.5))
        mask = torch.where(in_moving, batch["moving_mask"], batch["fixed_mask"])
        image = torch.where(in_moving, batch["moving"], batch["fixed"])
        level = threshold(draws.uniform(*self.lesion_share))
        ill = random_lesions(draws, mask).drawn(image, level)
        ill = torch.where((mask > 0) & per_sample(draws.chance(self.lesion_probability)), ill, image)
        batch["fixed"] = torch.where(in_moving, batch["fixed"], ill)
        batch["moving"] = torch.where(in_moving, ill, batch["moving"])

    def _drop_one_lung(self, batch: Batch, draws: Draws) -> None:
        """One lung is taken from both scans, where a gap between the lungs tells them apart in both."""
        side, chosen = draws.sign(0.5), draws.chance(self.one_lung_probability)
        planes = [views.plane_between_lungs(batch[f"{scan}_mask"]) for scan in ("fixed", "moving")]
        chosen = chosen & planes[0][1] & planes[1][1]
        self._show(batch, *(views.SideView(plane, side, chosen) for plane, _ in planes))

    def _cut(self, batch: Batch, draws: Draws) -> None:
        """Scans that end within the lungs, each on its own."""
        centre = deformations.grid_centre(batch["fixed"].shape[2:], draws.device)
        shown = [
            views.random_slab(draws, batch[f"{scan}_mask"], centre, self.cut_probability, self.cut_share, slope)
            # The samples lie in the fixed scan's axes: only the other scan's ends are tilted.
            for scan, slope in (("fixed", 0.0), ("moving", self.cut_slope))
        ]
        self._show(batch, *shown)

    def _show(self, batch: Batch, in_fixed, in_moving) -> None:
        """Keep only what each scan shows; `in_fixed` and `in_moving` tell of points (n, 3, ...) whether they are shown.

        The truth is kept where the tissue is shown in both.
        """
        positions = flow.voxel_coordinates(batch["fixed"].shape[2:], device=batch["fixed"].device)[None]
        for scan, shown in (("fixed", in_fixed(positions)), ("moving", in_moving(positions))):
            batch[scan] = torch.where(shown, batch[scan], self.ground)
            for key in (f"{scan}_mask", f"{scan}_labels"):
                if key in batch:
                    batch[key] = batch[key] * shown
        batch["truth"] = batch["truth"] * in_fixed(positions) * in_moving(positions + batch["displacement"])
        batch["displacement"] = batch["displacement"] * batch["truth"]
        if "fixed_points" in batch:
            drop_points(batch, in_fixed, in_moving)

    def _deform(self, batch: Batch, draws: Draws) -> None:
        shape = tuple(batch["fixed"].shape[2:])
        maps = self._draw_maps(shape, draws)
        mass = per_sample(draws.uniform(*self.mass))
        a = deformations.on_grid(maps.from_new_fixed, shape, draws.count, draws.device)
        b, density = deformations.on_grid(
            lambda points: torch.cat([maps.from_new_moving(points), maps.density(points) ** mass], dim=1),
            shape, draws.count, draws.device,
        ).split([3, 1], dim=1)  # fmt: skip
        self._sample_fixed(batch, a, maps)
        self._sample_moving(batch, b, density)
        for scan, coordinates in (("fixed", a), ("moving", b)):
            if f"{scan}_labels" in batch:
                batch[f"{scan}_labels"] = deformations.nearest_voxel(batch[f"{scan}_labels"], coordinates)
        if "fixed_points" in batch:
            batch["fixed_points"] = moved_points(batch["fixed_points"], maps.to_new_fixed)
            batch["moving_points"] = moved_points(batch["moving_points"], maps.to_new_moving)
            within = lambda points: deformations.inside_grid(points, shape)
            drop_points(batch, within, within)

    def _draw_maps(self, shape: tuple[int, int, int], draws: Draws) -> "_Maps":
        centre = deformations.grid_centre(shape, draws.device)
        body = deformations.random_affine(
            draws, centre, draws.chance(self.affine_probability).float(), self.rotation_degrees, self.scale, self.shear,
            self.translation, (self.flip_x, self.flip_y, self.flip_z),
        )  # fmt: skip
        strength = draws.chance(self.difference_probability).float()
        if self.difference_strength != (1.0, 1.0):
            strength = strength * draws.uniform(*(math.log(end) for end in self.difference_strength)).exp()
        difference = deformations.random_affine(
            draws, centre, strength, self.difference_rotation_degrees, self.difference_scale, self.difference_shear,
            self.difference_translation,
        )  # fmt: skip
        lattice = Lattice.over(shape, max(1.0, min(self.elastic_spacing, self.fine_spacing) / 4))
        bending = draws.uniform(0, self.elastic) * draws.chance(self.elastic_probability)
        moves = draws.chance(self.motion_probability)
        coarse, fine = draws.uniform(0, self.motion) * moves, draws.uniform(0, self.fine_motion) * moves
        velocity = per_sample(bending) * draws.smooth_noise(3, lattice.shape, self.elastic_spacing / lattice.step)
        bend = Flow.of(velocity, lattice)
        velocity = per_sample(coarse) * draws.smooth_noise(3, lattice.shape, self.elastic_spacing / lattice.step)
        velocity += per_sample(fine) * draws.smooth_noise(3, lattice.shape, self.fine_spacing / lattice.step)
        return _Maps(body, bend, difference, Flow.of(velocity, lattice))

    def _sample_fixed(self, batch: Batch, a: torch.Tensor, maps: "_Maps") -> None:
        """Draw the fixed image, its mask and the truth through a, and give the truth its new value."""
        shape = tuple(a.shape[2:])
        keys = ("displacement", "truth", "fixed_mask")
        stack = torch.cat([batch["fixed"] - self.ground, *(batch[key] for key in keys)], dim=1)
        image, displacement, truth, mask = flow.warp(stack, a, padding="zeros").split([1, 3, 1, 1], dim=1)
        batch["fixed"], batch["fixed_mask"] = image + self.ground, (mask > 0.5).float()
        # b^-1 is smooth: it is made on a lattice of the old grid and looked up where the tissue lies in the old moving
        # image.
        lattice = Lattice.over(shape, _BACK_STEP)
        nodes = lattice.positions(a.device).expand(len(a), -1, -1, -1, -1)
        old = a + displacement
        new = lattice.at(maps.to_new_moving(nodes), old)
        # Between a voxel whose displacement is known and one where it is not, it is not known.
        known = (truth > 0.999) & deformations.inside_grid(old, shape) & deformations.inside_grid(new, shape)
        batch["truth"] = known.float()
        batch["displacement"] = torch.where(known, new - flow.voxel_coordinates(shape, device=a.device), 0.0)

    def _sample_moving(self, batch: Batch, b: torch.Tensor, density: torch.Tensor) -> None:
        stack = torch.cat([batch["moving"] - self.ground, batch["moving_mask"]], dim=1)
        image, mask = flow.warp(stack, b, padding="zeros").split(1, dim=1)
        image, mask = image + self.ground, (mask > 0.5).float()
        batch["moving"] = torch.where(mask > 0, compressed(image, density), image)
        batch["moving_mask"] = mask


@dataclass(frozen=True)
class _Maps:
    """a = body . bend and b = a . difference . motion, with their inverses, on points (n, 3, z, y, x)."""

    body: Affine
    bend: Flow
    difference: Affine
    motion: Flow

    def from_new_fixed(self, points: torch.Tensor) -> torch.Tensor:
        """a"""
        return self.body(self.bend(points))

    def from_new_moving(self, points: torch.Tensor) -> torch.Tensor:
        """b"""
        return self.from_new_fixed(self.difference(self.motion(points)))

    def to_new_fixed(self, points: torch.Tensor) -> torch.Tensor:
        """The inverse of a."""
        return self.bend.inverse()(self.body.inverse()(points))

    def to_new_moving(self, points: torch.Tensor) -> torch.Tensor:
        """The inverse of b."""
        return self.motion.inverse()(self.difference.inverse()(self.to_new_fixed(points)))

    def density(self, points: torch.Tensor) -> torch.Tensor:
        """How much denser the difference alone makes tissue at points of the new moving image: (n, 1, z, y, x)."""
        return per_sample(self.difference.determinant()) * self.motion.jacobian(points)
