"""The network that sees a rigid motion: votes for displacements from the concatenated pair, one motion from the votes.

Fields are in voxels of the input's grid, motions take fixed voxel coordinates x, y, z to moving ones. Nothing in the
weights depends on the images' size.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadInput
from . import flow
from .prediction import Prediction

SLOPE = 0.2
# The convolutions' strides and dilations: cells of 4 voxels, each of which sees 63 voxels around.
_STRIDES, _DILATIONS = (2, 2, 1, 1, 1), (1, 1, 1, 2, 4)
_CELL = 4
# Votes are in units of this many voxels, so that the network's numbers are about 1.
_UNIT = 8.0
# Images are (HU + 1000) / 1000: the window of soft tissue, -160 to 240 HU, in which organs differ.
_WINDOW = (0.84, 1.24)
_FIT_ROUNDS = 4


class RigidNet(nn.Module):
    """Five 3D convolutions on the concatenated pair and a decoder of six degrees of freedom.

    The encoder's cells each vote for the displacement of their tissue, with a weight; the decoder takes the rigid
    motion nearest to all votes, by weighted squares, so that its determinant is 1 whatever the weights. `passes`: how
    often this is done with the same weights, the moving image moved anew each time. With `deformable` a second decoder
    with squeeze-and-excitation adds a diffeomorphism to what the rigid motion leaves.
    """

    def __init__(self, channels: list[int] | None = None, passes: int = 4, deformable: bool = False):
        super().__init__()
        channels = channels or [16, 32, 64, 64, 64]
        if len(channels) != len(_STRIDES) or passes < 1:
            raise BadInput("A rigid network has five convolutions and one pass or more.")
        inputs = [4, *channels[:-1]]
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(nn.Conv3d(a, b, 3, stride, dilation, dilation), nn.LeakyReLU(SLOPE))
                for a, b, stride, dilation in zip(inputs, channels, _STRIDES, _DILATIONS, strict=True)
            )
        )
        self.votes = nn.Conv3d(channels[-1], 4, 1)
        nn.init.normal_(self.votes.weight, std=1e-3)
        nn.init.zeros_(self.votes.bias)
        self.passes = passes
        self.deformer = Deformer(channels[-1]) if deformable else None
        self.mixed_precision = False

    def set_mixed_precision(self, on: bool) -> None:
        """Whether the convolutions run in bf16; motions never do."""
        self.mixed_precision = on

    def forward(self, fixed, moving, fixed_mask, moving_mask=None) -> Prediction:
        """The prediction with its `motion` (n, 4, 4); the fixed mask says where votes count, the moving one nothing."""
        shape = tuple(fixed.shape[2:])
        voxels = flow.voxel_coordinates(shape, device=fixed.device)
        motion = torch.eye(4, device=fixed.device).repeat(len(fixed), 1, 1)
        stages = []
        for _ in range(self.passes):
            features = self._features(fixed, flow.warp(moving, moved(motion.detach(), voxels)))
            motion = motion.detach() @ self._motion(features, fixed_mask)
            stages.append((moved(motion, voxels) - voxels, 1))
        displacement = stages[-1][0]
        inverse = moved(torch.linalg.inv(motion), voxels) - voxels
        velocity = None
        if self.deformer is not None:
            features = self._features(fixed, flow.warp(moving, voxels + displacement))
            velocity = self.deformer(features, tuple(-(-n // 2) for n in shape))
            bent, unbent = (_full(flow.exponentiate(v / 2) * 2, shape) for v in (velocity, -velocity))
            displacement = _moved_field(motion, voxels + bent) - voxels
            inverse = inverse + flow.warp(unbent, voxels + inverse)
            stages.append((displacement, 1))
        return Prediction(
            displacement, inverse, velocity, 2 if velocity is not None else 1, stages=stages, motion=motion
        )

    def _features(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        low, high = _WINDOW
        soft = [((image - low) / (high - low)).clamp(0, 1) for image in (fixed, moving)]
        with torch.autocast(fixed.device.type, torch.bfloat16, enabled=self.mixed_precision):
            features = self.encoder(torch.cat([fixed, moving, *soft], dim=1))
        return features.float()

    def _motion(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        votes = self.votes(features)
        displacement, weight = votes[:, :3] * _UNIT, votes[:, 3:]
        shape = tuple(features.shape[2:])
        inside = F.interpolate(mask.float(), shape, mode="trilinear", align_corners=False) > 0.25
        # Without any mask all cells vote.
        inside = inside | ~inside.flatten(1).any(1)[:, None, None, None, None]
        weight = weight.masked_fill(~inside, -1e4).flatten(2).softmax(-1)
        # A stride of two twice, each convolution centred on its first voxel: cell k lies at voxel 4 k.
        places = (flow.voxel_coordinates(shape, device=features.device) * _CELL).flatten(1)
        return nearest_motion(places, displacement.flatten(2), weight)


class Deformer(nn.Module):
    """Features of the encoder -> a velocity at half resolution, by convolutions with squeeze-and-excitation."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv3d(width, width, 3, padding=1) for _ in range(2))
        self.squeeze = nn.Sequential(
            nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid()
        )
        self.velocity = nn.Conv3d(width, 3, 3, padding=1)
        nn.init.normal_(self.velocity.weight, std=1e-4)
        nn.init.zeros_(self.velocity.bias)

    def forward(self, features: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
        """The velocity (n, 3, z, y, x) of `shape`, in voxels of the images."""
        features = F.leaky_relu(self.first(features), SLOPE)
        # Source: Hu, Shen and Sun, CVPR 2018.
        features = features * self.squeeze(features.mean((2, 3, 4)))[..., None, None, None]
        features = F.interpolate(features, shape, mode="trilinear", align_corners=False)
        return self.velocity(F.leaky_relu(self.second(features), SLOPE))


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


def _moved_field(motion: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nij,njzyx->nizyx", motion[:, :3, :3], points) + motion[:, :3, 3, None, None, None]


def _full(field: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    field = F.interpolate(field, scale_factor=2, mode="trilinear", align_corners=False)
    return field[:, :, : shape[0], : shape[1], : shape[2]]
