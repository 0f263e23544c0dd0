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
_PATCH, _TUBES = 6.0, 5.0  # of patches of tissue, and of the vessels' course
_SULCUS = 90.0  # mm, at most, that the lung reaches further down at the chest wall than a little way from it
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


@dataclass(frozen=True)
class _Places:
    """Where things lie, (n, 1, z, y, x) bool each; `cage` (float) is 1 on the surface that the ribs follow."""

    body: torch.Tensor
    inner: torch.Tensor
    cage: torch.Tensor
    heart: torch.Tensor
    spine: torch.Tensor
    aorta: torch.Tensor
    lung: torch.Tensor
    below: torch.Tensor
    gas: torch.Tensor
    trunks: torch.Tensor


def _each(number: float | torch.Tensor) -> float | torch.Tensor:
    """A number for all samples as it is, one for each of them ready to meet images."""
    return per_sample(number) if isinstance(number, torch.Tensor) else number


@torch.no_grad()
def plain_chests(draws: Draws, shape: tuple[int, int, int], spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, (HU + 1000) / 1000, and lungs, (n, 1, z, y, x) float32 each, on a grid of `spacing_mm` along the
    patient's S, P and L directions."""
    space = _space(draws, shape, spacing_mm)
    places = _places(space, draws)
    image = torch.where(places.lung, _parenchyma(space, draws), _tissues(space, places, draws))
    return torch.where(places.trunks & ~places.lung, _AIR, image), places.lung.float()


def _places(space: _Space, draws: Draws) -> _Places:
    uniform = draws.uniform
    width, depth, height = uniform(40, 70), uniform(65, 105), uniform(95, 150)
    gap, rim, fat, power = uniform(6, 30), uniform(5, 30), uniform(2, 35), uniform(2.0, 4.0)
    half = width * 2 + gap
    trunk = lambda more: space.ellipsoid([0, 0, 0], [None, depth + more, half + more], power)
    heart = space.ellipsoid(
        [-uniform(0, 70), -uniform(0, 50), uniform(0, 40)], [uniform(30, 65), uniform(25, 55), uniform(25, 60)]
    )
    spine_at = depth * uniform(0.5, 1.0)
    spine = space.ellipsoid([0, spine_at, 0], [None, uniform(14, 28), uniform(14, 28)])
    aorta = space.ellipsoid([0, spine_at - 25, 18], [None, uniform(8, 15), uniform(8, 15)])
    cut = (heart < 1) | (spine < 1) | (aorta < 1)
    lung, below = torch.zeros_like(cut), torch.zeros_like(cut)
    # Both sides are alike, as in patients, but for some of the height of the domes and of the depth of the sulci.
    top, bow, sulcus, narrow = -height * uniform(0.2, 0.9), uniform(120, 500), uniform(0, _SULCUS), uniform(6, 25)
    for side in (-1, 1):
        middle = side * (width + gap)
        whole = space.ellipsoid([0, 0, middle], [height, depth, width], power)
        across = (space.x - per_sample(middle)).square() + space.y.square()
        dome = per_sample(top + uniform(-15, 15)) - across / per_sample(bow)
        wall = (1 - whole.clamp(max=1) ** per_sample(1 / power)) * per_sample(width)  # about how far (mm) it is
        dome = dome - per_sample(sulcus * uniform(0.8, 1.2)) * (-wall / per_sample(narrow)).exp()
        under, own = space.z < dome, space.x * side > 0
        lung |= (whole < 1) & ~under & ~cut & own
        below |= under & own
    gas = space.ellipsoid([-height * 1.1, -20, 60], [uniform(10, 35), uniform(15, 40), uniform(15, 40)])
    return _Places(
        trunk(rim + fat) < 1,
        trunk(rim) < 1,
        trunk(rim * 0.5),
        heart < 1,
        spine < 1,
        aorta < 1,
        lung,
        below,
        (gas < 1) & below & per_sample(draws.chance(0.5)),
        _trunks(space, gap, draws),
    )


def _tissues(space: _Space, places: _Places, draws: Draws) -> torch.Tensor:
    """What lies around the lungs: fat, muscle, organs below, patches of fat, heart, aorta, bones, gas."""
    density = lambda low, high: per_sample(draws.uniform(low, high))
    fatty = draws.smooth_noise(1, space.x.shape[2:], _PATCH) > density(0.5, 3.0)
    bone = density(1.15, 1.5)
    rib = (places.cage - 1).abs() < density(0.02, 0.1)
    pitch = density(20, 32)  # mm
    rib &= torch.remainder(space.z + density(0, 0.6) * space.y, pitch) < pitch * density(0.2, 0.5)
    image = torch.full_like(places.cage, _AIR)
    for where, value in (
        (places.body, density(0.87, 0.95)),
        (places.inner, density(1.0, 1.08)),
        (places.inner & places.below, density(1.0, 1.2)),
        (places.inner & fatty, density(0.87, 0.95)),
        (places.inner & places.heart, density(1.0, 1.25)),
        (places.aorta, density(1.02, 1.3)),
        (places.spine, bone),
        (rib & per_sample(draws.chance(0.85)), bone),
        (places.gas, torch.full_like(bone, _AIR)),
    ):
        image = torch.where(where, value, image)
    return image


def _parenchyma(space: _Space, draws: Draws) -> torch.Tensor:
    """Lung, denser dorsally, with thin winding tubes where two smooth fields are both near 0."""
    shape = space.x.shape[2:]
    rise = space.y * per_sample(draws.uniform(0, 6e-4))
    lung = per_sample(draws.uniform(0.08, 0.25)) + rise + 0.02 * draws.smooth_noise(1, shape, _PATCH)
    one, other = draws.smooth_noise(2, shape, _TUBES).split(1, dim=1)
    tubes = one.square() + other.square() < per_sample(draws.uniform(0.0, 0.05))
    return torch.where(tubes, per_sample(draws.uniform(1.0, 1.1)), lung)


def _space(draws: Draws, shape: tuple[int, int, int], spacing_mm: float) -> _Space:
    positions = flow.voxel_coordinates(shape, device=draws.device)[None]
    middle = (torch.tensor(shape[::-1], device=draws.device) - 1).view(1, 3, 1, 1, 1) / 2
    bend = per_sample(draws.uniform(0, 10)) * draws.smooth_noise(3, shape, _BEND)
    x, y, z = ((positions - middle) * spacing_mm + bend).split(1, dim=1)
    return _Space(z, y, x)


def _trunks(space: _Space, gap: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Trachea and main bronchi, (n, 1, z, y, x) bool."""
    radius, carina, back = draws.uniform(5, 10), draws.uniform(0, 60), draws.uniform(-10, 25)
    trunks = (space.ellipsoid([0, back, 0], [None, radius, radius]) < 1) & (space.z > per_sample(carina))
    for side in (-1, 1):
        sideways = space.x * side
        slope = per_sample(carina) - sideways * per_sample(draws.uniform(0.4, 1.0))
        off = ((space.z - slope).square() + (space.y - per_sample(back)).square()) / per_sample(radius * 0.8).square()
        trunks |= (off < 1) & (sideways > 0) & (sideways < per_sample(gap + 20))
    return trunks
