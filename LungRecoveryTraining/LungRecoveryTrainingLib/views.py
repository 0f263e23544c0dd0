"""What of the body a scan shows: both lungs or one of them, whole or cut where the scan ends.

Masks are (n, 1, z, y, x), points (n, 3, ...) in voxels x, y, z.
"""

from dataclasses import dataclass

import torch

from .draws import Draws

# The lungs are told apart where a sagittal plane between them holds less than this share of what each lung's does.
_VALLEY = 0.35


def extent(mask: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last voxel of masks along an axis (2 z, 3 y, 4 x), both (n,) float32.

    An empty mask gives the axis' end and its start, in this order.
    """
    others = [a for a in (1, 2, 3, 4) if a != axis]
    held = mask.amax(others) > 0
    numbers = torch.arange(mask.shape[axis], device=mask.device, dtype=torch.float32).expand(held.shape)
    first = torch.where(held, numbers, mask.shape[axis] - 1).amin(1)
    return first, torch.where(held, numbers, 0).amax(1)


def _spread(numbers: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Numbers (n,) with as many axes as points (n, 3, ...)."""
    return numbers.reshape(-1, *[1] * (points.ndim - 1))


@dataclass(frozen=True)
class SideView:
    """Where `chosen` (n,), only what lies beyond x = plane (n,) in the direction of `side` (n,), 1 or -1."""

    plane: torch.Tensor
    side: torch.Tensor
    chosen: torch.Tensor

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Which points (n, 3, ...) are shown: (n, 1, ...) bool."""
        beyond = (points[:, :1] - _spread(self.plane, points)) * _spread(self.side, points) > 0
        return beyond | ~_spread(self.chosen, points)


@dataclass(frozen=True)
class SlabView:
    """A scan that shows low <= z + slope_x (x - centre) + slope_y (y - centre) <= high; all (n,)."""

    low: torch.Tensor
    high: torch.Tensor
    slopes: torch.Tensor
    centre: torch.Tensor

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Which points (n, 3, ...) the scan shows: (n, 1, ...) bool."""
        height = points[:, 2:3] - _spread((self.slopes * self.centre[:2]).sum(1), points)
        for axis in (0, 1):
            height = height + _spread(self.slopes[:, axis], points) * points[:, axis : axis + 1]
        return (height >= _spread(self.low, points)) & (height <= _spread(self.high, points))


def random_slab(
    draws: Draws, mask: torch.Tensor, centre: torch.Tensor, probability: float, share: float, slope: float
) -> SlabView:
    """A view that with a probability misses up to a share of the lungs' height at each end of z, on its own.

    `slope` is the largest tilt of the ends, in voxels of z for a voxel of x or y.
    """
    first, last = extent(mask, axis=2)
    missing = draws.uniform(0, share, 2) * draws.chance(probability, 2) * (last - first)[:, None]
    everything = 2.0 * sum(mask.shape[2:])
    # An end that is not cut lies beyond the grid, whatever the tilt.
    low = torch.where(missing[:, 0] > 0, first + missing[:, 0], -everything)
    high = torch.where(missing[:, 1] > 0, last - missing[:, 1], everything)
    return SlabView(low, high, draws.uniform(-slope, slope, 2), centre)


@dataclass(frozen=True)
class BoxView:
    """A scan that shows low <= (x, y, z) <= high; both (n, 3)."""

    low: torch.Tensor
    high: torch.Tensor

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Which points (n, 3, ...) the scan shows: (n, 1, ...) bool."""
        low, high = (edge.reshape(*edge.shape, *[1] * (points.ndim - 2)) for edge in (self.low, self.high))
        return ((points >= low) & (points <= high)).all(1, keepdim=True)


def random_box(draws: Draws, centre: torch.Tensor, probability: float, share: tuple[float, float]) -> BoxView:
    """A view that with a probability ends, at each side, at a share of the way from the centre to the grid's side.

    The share is drawn from `share` for each of the six sides; above 1 nothing is missing there.
    """
    ends = draws.uniform(*share, 2, 3)
    # A whole scan ends far beyond the grid.
    ends = torch.where(draws.chance(probability)[:, None, None], ends, 1e3) * (centre + 0.5)
    return BoxView(centre - ends[:, 0], centre + ends[:, 1])


def plane_between_lungs(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sagittal plane x (n,) between the lungs, and whether there is one (n,) bool.

    It is the emptiest plane of the middle third or so. Where the lungs touch, slivers of one stay with the other.
    """
    profile = mask.float().sum((1, 2, 3))
    first, last = extent(mask, axis=4)
    numbers = torch.arange(profile.shape[1], device=mask.device, dtype=torch.float32)
    share = (numbers - first[:, None]) / (last - first).clamp(min=1)[:, None]
    middle = (share > 0.3) & (share < 0.7)
    valley, plane = torch.where(middle, profile, torch.inf).min(1)
    left = torch.where(numbers < plane[:, None], profile, 0).amax(1)
    right = torch.where(numbers > plane[:, None], profile, 0).amax(1)
    return plane.float(), valley < _VALLEY * torch.minimum(left, right)
