"""The network that sees a rigid motion: it describes the tissue at every place of both scans, finds the places of one
scan in the other, and takes the motion nearest to what it found.

Fields are in voxels of the input's grid, motions take fixed voxel coordinates x, y, z to moving ones. Nothing in the
weights depends on the images' size.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadInput
from . import flow
from .prediction import Prediction

SLOPE = 0.1
# A description stands for a cell of so many voxels; cell k lies at voxel CELL k.
CELL = 2
# Images are (HU + 1000) / 1000: the window of soft tissue, -160 to 240 HU, in which organs differ.
_WINDOW = (0.84, 1.24)
# Darker cells are lung or air, which says nothing of where it is.
_TISSUE = 0.5
# So many cells of the fixed scan are looked for in the moving one, more say nothing new.
_MOST_CELLS, _MOST_IN_TRAINING = 500, 192
# How far from where they are cells are looked for in each pass, in cells, the last one again in further passes; in the
# first everywhere.
_REACH = (None, 6.0, 4.0)
# A place is the mean of the cells so near to the most alike one, weighted by likeness.
_NEAR = 1.5
_FIT_ROUNDS, _ROBUST_ROUNDS = 4, 5


class RigidNet(nn.Module):
    """Five 3D convolutions on both scans of a pair and a decoder of six degrees of freedom.

    The encoder gives every cell of a scan a description of its tissue. The decoder looks for the organ's cells of the
    fixed scan among those of the moving one and takes the rigid motion nearest to all finds, so that its determinant is
    1 whatever the weights. `passes`: how often this is done, the moving image moved anew each time. With `deformable`
    a second decoder with squeeze-and-excitation adds a diffeomorphism to what the rigid motion leaves.
    """

    def __init__(
        self, channels: list[int] | None = None, description: int = 32, passes: int = 3, deformable: bool = False
    ):
        super().__init__()
        channels = channels or [24, 40, 48, 48, 48]
        if len(channels) != 5 or passes < 1:
            raise BadInput("A rigid network has five convolutions and one pass or more.")
        if not channels[2] == channels[3] == channels[4]:
            raise BadInput("The last three convolutions of a rigid network have the same width.")
        a, b, c = channels[:3]
        self.fine = _convolution(2, a, stride=2)
        self.coarse = nn.Sequential(_convolution(a, b, stride=2), _convolution(b, c))
        self.wide = nn.ModuleList([_convolution(c, c, dilation=dilation) for dilation in (2, 4)])
        self.description = nn.Conv3d(a + c, description, 1)
        # The scale of likenesses, as a logarithm: 10 to begin with.
        self.sharpness = nn.Parameter(torch.tensor(2.3))
        self.passes = passes
        self.deformer = Deformer(2 * description) if deformable else None
        self.mixed_precision = False

    def set_mixed_precision(self, on: bool) -> None:
        """Whether the convolutions run in bf16; motions never do."""
        self.mixed_precision = on

    def forward(self, fixed, moving, fixed_mask, moving_mask=None, near: bool = False) -> Prediction:
        """The prediction with its `motion` (n, 4, 4); the fixed mask says what is looked for, the moving one nothing.

        In training there is one pass, whose descriptions are the prediction's; likewise for scans that lie `near` one
        another already, whose cells are not looked for everywhere.
        """
        shape = tuple(fixed.shape[2:])
        voxels = flow.voxel_coordinates(shape, device=fixed.device)
        motion = torch.eye(4, device=fixed.device).repeat(len(fixed), 1, 1)
        described = self.describe(fixed), self.describe(moving)
        wanted = wanted_cells(fixed, fixed_mask, _MOST_IN_TRAINING if self.training else _MOST_CELLS)
        theirs, stages = described[1], []
        for number in range(1 if self.training or near else self.passes):
            if number:
                theirs = self.describe(flow.warp(moving, moved(motion, voxels), padding="zeros"))
            reach = _REACH[-1 if near else min(number, len(_REACH) - 1)]
            motion = motion @ self._motion(described[0], theirs, wanted, reach)
            stages.append((moved(motion, voxels) - voxels, 1))
        displacement = stages[-1][0]
        inverse = moved(torch.linalg.inv(motion), voxels) - voxels
        velocity = None
        if self.deformer is not None:
            theirs = self.describe(flow.warp(moving, voxels + displacement, padding="zeros"))
            velocity = self.deformer(torch.cat([described[0], theirs], dim=1))
            bent, unbent = (_full(flow.exponentiate(v / CELL) * CELL, shape) for v in (velocity, -velocity))
            displacement = _moved_field(motion, voxels + bent) - voxels
            inverse = inverse + flow.warp(unbent, voxels + inverse)
            stages.append((displacement, 1))
        spacing = CELL if velocity is not None else 1
        return Prediction(
            displacement, inverse, velocity, spacing, stages=stages, motion=motion, descriptions=described
        )

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        """The descriptions (n, c, z, y, x) of an image's cells; their products are logarithms of likenesses."""
        low, high = _WINDOW
        soft = ((image - low) / (high - low)).clamp(0, 1)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.mixed_precision):
            fine = self.fine(torch.cat([image, soft], dim=1))
            features = self.coarse(fine)
            for convolution in self.wide:
                features = features + convolution(features)
            described = self.description(torch.cat([fine, _refined(features, fine.shape[2:])], dim=1))
        return F.normalize(described.float(), dim=1) * (self.sharpness / 2).exp()

    def _motion(self, ours, theirs, wanted: list[torch.Tensor], reach: float | None) -> torch.Tensor:
        """The motions (n, 4, 4) nearest to where the wanted cells lie in the moving image."""
        shape = tuple(ours.shape[2:])
        places = flow.voxel_coordinates(shape, device=ours.device).flatten(1).T
        motions = []
        for number, cells in enumerate(wanted):
            sought, among = ours[number].flatten(1).T[cells], theirs[number].flatten(1).T
            if reach is None:
                share = (sought @ among.T).softmax(1)
                where, there = _around(share.argmax(1), _NEAR, shape)
                share = share.gather(1, where) * there
            else:
                where, there = _around(cells, reach, shape)
                likeness = (among[where] @ sought[:, :, None])[:, :, 0]
                share = likeness.masked_fill(~there, -torch.inf).softmax(1)
                best = places[where.gather(1, share.argmax(1, keepdim=True))]
                share = share * ((places[where] - best).square().sum(2) <= _NEAR**2)
            sure = share.sum(1)
            found = (share[:, :, None] * places[where]).sum(1) / sure[:, None].clamp(min=1e-9)
            motions.append(_robust_motion(places[cells].T * CELL, found.T * CELL, sure))
        return torch.cat(motions)


class Deformer(nn.Module):
    """Descriptions of both scans -> a velocity at their resolution, by convolutions with squeeze-and-excitation."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv3d(width, width, 3, padding=1) for _ in range(2))
        self.squeeze = nn.Sequential(
            nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid()
        )
        self.velocity = nn.Conv3d(width, 3, 3, padding=1)
        nn.init.normal_(self.velocity.weight, std=1e-4)
        nn.init.zeros_(self.velocity.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The velocity (n, 3, z, y, x), in voxels of the images."""
        features = F.leaky_relu(self.first(features), SLOPE)
        # Source: Hu, Shen and Sun, CVPR 2018.
        features = features * self.squeeze(features.mean((2, 3, 4)))[..., None, None, None]
        return self.velocity(F.leaky_relu(self.second(features), SLOPE))


def matching_loss(descriptions: tuple[torch.Tensor, torch.Tensor], displacement, known) -> torch.Tensor:
    """How surely cells of the fixed scan would be found where their tissue lies in the moving one: the cross entropy of
    the likenesses with all cells of the moving scan, the right ones being those about the true place.

    `displacement` (n, 3, z, y, x) in voxels is true where `known` (n, 1, z, y, x) is above 0. Source: dense contrastive
    learning, as van den Oord et al., 2018, with all places of the other scan for negatives.
    """
    ours, theirs = descriptions
    places = flow.voxel_coordinates(tuple(ours.shape[2:]), device=ours.device).flatten(1)
    cells = (slice(None), slice(None), *(slice(None, None, CELL) for _ in range(3)))
    true, known = displacement[cells].flatten(2) / CELL, known[cells].flatten(1) > 0
    total, pairs = ours.new_zeros(()), 0
    for number in range(len(ours)):
        chosen = _evenly(known[number].nonzero()[:, 0], _MOST_IN_TRAINING)
        if not len(chosen):
            continue
        goals = places[:, chosen] + true[number][:, chosen]
        # As wide as the cells whose mean a place is.
        right = torch.softmax(-0.75 * torch.cdist(goals.T, places.T).square(), dim=1)
        likeness = ours[number].flatten(1)[:, chosen].T @ theirs[number].flatten(1)
        total, pairs = total - (right * likeness.log_softmax(1)).sum(1).mean(), pairs + 1
    return total / max(1, pairs)


def nearest_motion(places: torch.Tensor, displacement: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The rigid motions (n, 4, 4) nearest, by weighted squares, to displacements (n, 3, k) of places (3, k).

    `weight` (n, 1, k) adds up to 1. Gauss and Newton's method on rotation vectors, in float64: as exact as a singular
    value decomposition and with a gradient everywhere.
    """
    places, displacement, weight = places.double(), displacement.double(), weight.double()
    targets = places + displacement
    centre, goal = (places * weight).sum(-1, keepdim=True), (targets * weight).sum(-1, keepdim=True)
    start, target = places - centre, targets - goal
    identity = torch.eye(3, dtype=torch.float64, device=places.device)
    rotation = identity.repeat(len(displacement), 1, 1)
    for _ in range(_FIT_ROUNDS):
        now = rotation @ start
        # |now + w x now - target|^2 is least where (|now|^2 I - now now^T) w = now x target, summed with weights.
        torque = (torch.linalg.cross(now, target, dim=1) * weight).sum(-1)
        spread = (now * weight) @ now.mT
        inertia = spread.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] * identity - spread
        turn = torch.linalg.solve(inertia + 1e-3 * identity, torque)
        rotation = torch.linalg.matrix_exp(skew(turn)) @ rotation
    motion = torch.eye(4, dtype=torch.float64, device=places.device).repeat(len(rotation), 1, 1)
    motion[:, :3, :3] = rotation
    motion[:, :3, 3:] = goal - rotation @ centre
    return motion.float()


def skew(vectors: torch.Tensor) -> torch.Tensor:
    """The matrices (n, 3, 3) that take the cross product with vectors (n, 3)."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).unflatten(1, (3, 3))


def moved(motion: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    """Where motions (n, 4, 4) take voxel coordinates (3, z, y, x): (n, 3, z, y, x)."""
    return torch.einsum("nij,jzyx->nizyx", motion[:, :3, :3], voxels) + motion[:, :3, 3, None, None, None]


def _convolution(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, dilation, dilation),
        nn.InstanceNorm3d(outputs, affine=True),
        nn.LeakyReLU(SLOPE),
    )


def _refined(features: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Features of every second cell on all cells of `shape`, which begin at the same one."""
    features = F.interpolate(features, [2 * n - 1 for n in features.shape[2:]], mode="trilinear", align_corners=True)
    missing = [edge for n, m in zip(shape[::-1], features.shape[:1:-1], strict=True) for edge in (0, n - m)]
    return F.pad(features, missing, mode="replicate")


def wanted_cells(fixed: torch.Tensor, mask: torch.Tensor, most: int) -> list[torch.Tensor]:
    """The numbers of the cells of each fixed scan that are looked for: tissue inside the mask, or all tissue."""
    cells = (slice(None), 0, *(slice(None, None, CELL) for _ in range(3)))
    tissue = (fixed[cells] > _TISSUE).flatten(1)
    inside = (F.max_pool3d(mask.float(), 3, 1, 1)[cells] > 0).flatten(1) & tissue
    # What is neither organ nor tissue anywhere (a scan of noise) is looked for wherever it is.
    chosen = [next(cells for cells in (i, t, t | True) if cells.any()) for i, t in zip(inside, tissue, strict=True)]
    return [_evenly(cells.nonzero()[:, 0], most) for cells in chosen]


def _around(cells: torch.Tensor, radius: float, shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers (k, m) of the cells of a grid of `shape` (z, y, x) within a radius of each of `cells` (k,), and
    whether these are on the grid, bool (k, m); the numbers of those that are not mean nothing."""
    steps = torch.arange(-int(radius), int(radius) + 1, device=cells.device)
    ball = torch.cartesian_prod(steps, steps, steps)
    ball = ball[ball.square().sum(1) <= radius**2]
    size = torch.tensor(shape, device=cells.device)
    index = torch.stack(torch.unravel_index(cells, shape), dim=1)[:, None] + ball
    there = ((index >= 0) & (index < size)).all(2)
    z, y, x = index.clamp(torch.zeros_like(size), size - 1).unbind(2)
    return (z * shape[1] + y) * shape[2] + x, there


def _evenly(numbers: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many of numbers, evenly spread."""
    if len(numbers) <= most:
        return numbers
    return numbers[torch.linspace(0, len(numbers) - 1, most, device=numbers.device).round().long()]


def _robust_motion(places: torch.Tensor, found: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """The motion (1, 4, 4) nearest to where places (3, k) were found, (3, k), the surer ones (k,) first; what does not
    go with the others hardly counts."""
    weight = sure
    for _ in range(_ROBUST_ROUNDS):
        share = (weight / weight.sum().clamp(min=1e-9))[None, None]
        motion = nearest_motion(places, (found - places)[None], share)
        with torch.no_grad():
            rest = (motion[0, :3, :3] @ places + motion[0, :3, 3:] - found).square().sum(0).sqrt()
            scale = max(1.0, 1.5 * float(rest.median()))
        weight = sure / (1 + (rest / scale) ** 2) ** 2
    return motion


def _moved_field(motion: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nij,njzyx->nizyx", motion[:, :3, :3], points) + motion[:, :3, 3, None, None, None]


def _full(field: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    field = F.interpolate(field, scale_factor=CELL, mode="trilinear", align_corners=False)
    return field[:, :, : shape[0], : shape[1], : shape[2]]
