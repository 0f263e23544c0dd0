"""Chests of plain shapes, drawn at random on the device: what a network must not know by heart.

Bodies, lungs, heart, diaphragm and bones are superellipsoids and planes of random size, place, bend and density, wider
than any patient's. They teach that lung without air is known by the shape of the lung around it, however the tissue
beside it looks.
"""

from dataclasses import dataclass

import torch

from LungRecoveryLib.registration import flow

from .draws import Draws, per_sample

_BEND = 10.0  # voxels between control points of the bend
_PATCH = 6.0  # and of patches of tissue
_AIR = 0.005  # (HU + 1000) / 1000


@dataclass(frozen=True)
class _Space:
    """Bent positions (n, 1, z, y, x) in mm along the patient's S, P and L directions, 0 in the middle."""

    z: torch.Tensor
    y: torch.Tensor
    x: torch.Tensor

    def ellipsoid(self, centre: list, radii: list, power: float | torch.Tensor = 2.0) -> torch.Tensor:
        """Below 1 in a superellipsoid: the sum of |offset / radius| ** power over the axes (z, y, x); a radius of None
        leaves an axis out."""
        total = 0.0
        for axis, middle, radius in zip((self.z, self.y, self.x), centre, radii, strict=True):
            if radius is not None:
                total = total + ((axis - _each(middle)).abs() / _each(radius)) ** _each(power)
        return total


def _each(number: float | torch.Tensor) -> float | torch.Tensor:
    return per_sample(number) if isinstance(number, torch.Tensor) else number


@torch.no_grad()
def plain_chests(draws: Draws, shape: tuple[int, int, int], spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, (HU + 1000) / 1000, and lungs, (n, 1, z, y, x) float32 each, on a grid of `spacing_mm`."""
    space = _space(draws, shape, spacing_mm)
    uniform, patch = draws.uniform, lambda: draws.smooth_noise(1, shape, _PATCH)
    width, depth, height = uniform(40, 70), uniform(65, 105), uniform(95, 150)
    gap, rim, power = uniform(6, 30), uniform(5, 30), uniform(2.0, 4.0)
    half = width * 2 + gap
    cage = space.ellipsoid([0, 0, 0], [None, depth + rim * 0.5, half + rim * 0.5], power)
    inner = space.ellipsoid([0, 0, 0], [None, depth + rim, half + rim], power) < 1
    fat = uniform(2, 35)
    body = space.ellipsoid([0, 0, 0], [None, depth + rim + fat, half + rim + fat], power) < 1

    heart = space.ellipsoid(
        [-uniform(0, 70), -uniform(0, 50), uniform(0, 40)], [uniform(30, 65), uniform(25, 55), uniform(25, 60)]
    )
    spine_at = depth * uniform(0.5, 1.0)
    spine = space.ellipsoid([0, spine_at, 0], [None, uniform(14, 28), uniform(14, 28)])
    aorta = space.ellipsoid([0, spine_at - 25, 18], [None, uniform(8, 15), uniform(8, 15)])
    cut = (heart < 1) | (spine < 1) | (aorta < 1)
    lung, below = torch.zeros_like(body), torch.zeros_like(body)
    for side in (-1, 1):
        middle = side * (width + gap)
        whole = space.ellipsoid([0, 0, middle], [height, depth, width], power) < 1
        across = (space.x - _each(middle)).square() + space.y.square()
        dome = _each(-height * uniform(0.2, 0.9)) - across / _each(uniform(120, 500))
        under = space.z < dome
        lung |= whole & ~under & ~cut & (space.x * side > 0)
        below |= under & (space.x * side > 0)

    image = torch.full_like(space.x, _AIR)
    image = torch.where(body, _each(uniform(0.87, 0.95)), image)
    image = torch.where(inner, _each(uniform(1.0, 1.08)), image)
    image = torch.where(inner & below, _each(uniform(1.0, 1.2)), image)
    image = torch.where(inner & (patch() > _each(uniform(0.5, 3.0))), _each(uniform(0.87, 0.95)), image)
    image = torch.where(inner & (heart < 1), _each(uniform(1.0, 1.25)), image)
    image = torch.where(aorta < 1, _each(uniform(1.02, 1.3)), image)
    bone = _each(uniform(1.15, 1.5))
    image = torch.where(spine < 1, bone, image)
    rib = (cage - 1).abs() < _each(uniform(0.02, 0.1))
    pitch = _each(uniform(20, 32))
    rib = rib & (torch.remainder(space.z + _each(uniform(0, 0.6)) * space.y, pitch) < pitch * _each(uniform(0.2, 0.5)))
    image = torch.where(rib & ~lung & per_sample(draws.chance(0.85)), bone, image)
    gas = space.ellipsoid([-height * 1.1, -20, 60], [uniform(10, 35), uniform(15, 40), uniform(15, 40)])
    image = torch.where((gas < 1) & below & per_sample(draws.chance(0.5)), _AIR, image)

    parenchyma = uniform(0.08, 0.25)
    inside = _each(parenchyma) + space.y * _each(uniform(0, 6e-4)) + 0.02 * patch()
    image = torch.where(lung, inside, image)
    image = torch.where(lung & _tubes(draws, shape), _each(uniform(1.0, 1.1)), image)
    for trunk in _trunks(space, gap, uniform):
        image = torch.where(trunk & ~lung, _AIR, image)
    return image, lung.float()


def _space(draws: Draws, shape: tuple[int, int, int], spacing_mm: float) -> _Space:
    positions = flow.voxel_coordinates(shape, device=draws.device)[None]
    middle = (torch.tensor(shape[::-1], device=draws.device) - 1).view(1, 3, 1, 1, 1) / 2
    bend = per_sample(draws.uniform(0, 10)) * draws.smooth_noise(3, shape, _BEND)
    x, y, z = ((positions - middle) * spacing_mm + bend).split(1, dim=1)
    return _Space(z, y, x)


def _tubes(draws: Draws, shape: tuple[int, int, int]) -> torch.Tensor:
    """Thin winding tubes, (n, 1, z, y, x) bool: where two smooth fields are both near 0."""
    one, other = draws.smooth_noise(2, shape, 5.0).split(1, dim=1)
    return one.square() + other.square() < per_sample(draws.uniform(0.0, 0.05))


def _trunks(space: _Space, gap: torch.Tensor, uniform) -> list[torch.Tensor]:
    """Trachea and main bronchi, (n, 1, z, y, x) bool each."""
    radius, carina, back = uniform(5, 10), uniform(0, 60), uniform(-10, 25)
    trachea = (space.ellipsoid([0, back, 0], [None, radius, radius]) < 1) & (space.z > _each(carina))
    trunks = [trachea]
    for side in (-1, 1):
        sideways = space.x * side
        slope = _each(carina) - sideways * _each(uniform(0.4, 1.0))
        off = ((space.z - slope).square() + (space.y - _each(back)).square()) / _each(radius * 0.8).square()
        trunks.append((off < 1) & (sideways > 0) & (sideways < _each(gap + 20)))
    return trunks
