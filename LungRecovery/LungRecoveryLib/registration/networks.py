"""Networks that predict a deformation: VoxelMorph, VoxelMorph-Diff and the multi-level pyramid, in torch.

Every network takes a batch of pairs, ``network(fixed, moving, fixed_mask, moving_mask)``, each (n, 1, z, y, x) float32
on one isotropic grid of any size, and returns a :class:`Prediction` in voxels of that grid. The images are
(HU + 1000) / 1000 in the lungs and the ground's value elsewhere (any other linear scale does for other organs), the
masks 0/1. Nothing in the weights depends on the images' size: a network pads its input and crops its output.

Only the U-Net's convolutions may run in bf16 (`mixed_precision`); velocities, integration and warps stay in float32.

Sources: Balakrishnan et al., IEEE TMI 2019 (VoxelMorph); Dalca et al., Medical Image Analysis 2019 (VoxelMorph-Diff,
its probabilistic form and prior); Mok and Chung, MICCAI 2020 (levels that update one velocity).
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadInput
from . import flow
from .losses import box_sum
from .prediction import Prediction
from .rigid_network import RigidNet
from .segmenter import Segmenter
from .unet import UNet, padded_to

# A window's variance below this (squared units of the images, about (10 HU)^2) is noise, not structure.
_NOISE = 1e-4


class Head(nn.Module):
    """Features -> a field of three components, at rest before training; with `probabilistic` its log-variance too."""

    def __init__(self, width: int, probabilistic: bool):
        super().__init__()
        self.mean = nn.Conv3d(width, 3, 3, padding=1)
        nn.init.normal_(self.mean.weight, std=1e-4)
        nn.init.zeros_(self.mean.bias)
        self.log_variance = log_variance_layer(width) if probabilistic else None

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        features = features.float()
        return self.mean(features), None if self.log_variance is None else self.log_variance(features)


def log_variance_layer(width: int, initial: float = -4.0) -> nn.Conv3d:
    """Features -> three log-variances, about `initial` before training."""
    layer = nn.Conv3d(width, 3, 3, padding=1)
    nn.init.normal_(layer.weight, std=1e-4)
    nn.init.constant_(layer.bias, initial)
    return layer


class View(nn.Module):
    """A U-Net's look at a pair under a velocity, on images averaged over 2**`downsample` voxels -> features.

    The features lie at half of these images' resolution, `spacing` voxels apart, as the velocity does (int_downsize 2).
    The U-Net sees both images and masks, the moving ones warped by the velocity, the images normalised by local
    contrast, and the velocity itself; with `correlation` > 0 it also sees the local correlation of the two for every
    shift of up to so many voxels.
    """

    def __init__(
        self,
        downsample: int = 0,
        encoder: list[int] | None = None,
        decoder: list[int] | None = None,
        final: list[int] | None = None,
        correlation: int = 0,
        int_steps: int = 7,
    ):
        super().__init__()
        encoder = encoder or [16, 32, 32, 32]
        decoder = decoder or [32] * (len(encoder) - 2)
        if len(decoder) != len(encoder) - 2:
            raise BadInput("A level's decoder must have two entries fewer than its encoder: velocities are half size.")
        shifts = (2 * correlation + 1) ** 3 if correlation else 0
        self.unet = UNet(9, encoder, decoder, [32] if final is None else final, shifts)
        self.scale, self.correlation, self.int_steps = 2**downsample, correlation, int_steps
        self.spacing = 2 * self.scale
        self.mixed_precision = False

    def averaged(self, images: list[torch.Tensor], coarsened: int) -> list[torch.Tensor]:
        """The images, given `coarsened` times coarser than the network's own grid, averaged to this view's."""
        scale = self.scale // coarsened
        return [F.avg_pool3d(i, scale) if scale > 1 else i for i in images]

    def features(self, images: list[torch.Tensor], velocity: torch.Tensor, scale: int) -> torch.Tensor:
        """What the U-Net makes of averaged images (fixed, moving, fixed mask, moving mask) under a velocity.

        `velocity`: on the features' grid, in voxels `scale` times smaller than those of the images.
        """
        fixed, moving, fixed_mask, moving_mask = images
        if velocity.any():
            identity = flow.voxel_coordinates(tuple(fixed.shape[2:]), device=fixed.device)
            coordinates = identity + _upsampled(integrated(velocity, 2 * scale, self.int_steps), 2) / scale
            moving, moving_mask = flow.warp(torch.cat([moving, moving_mask], dim=1), coordinates).split(1, dim=1)
        sharp, sharp_moving = local_contrast(fixed), local_contrast(moving)
        seen = [fixed, moving, fixed_mask, moving_mask, sharp, sharp_moving, _upsampled(velocity, 2) / (4 * scale)]
        extra = correlations(sharp, sharp_moving, self.correlation) if self.correlation else None
        with torch.autocast(fixed.device.type, torch.bfloat16, enabled=self.mixed_precision):
            return self.unet(torch.cat(seen, dim=1), extra)


class Stage(View):
    """One VoxelMorph-Diff of a pyramid: an update of the velocity from one view of the pair.

    `passes`: how often the update is made with the same weights, the moving image warped anew each time.
    """

    def __init__(self, passes: int = 1, probabilistic: bool = False, **view):
        super().__init__(**view)
        self.head = Head(self.unet.width, probabilistic)
        self.passes = passes

    def forward(self, images: list[torch.Tensor], velocity: torch.Tensor | None, coarsened: int = 1):
        """The velocities after each pass and the last one's log-variance.

        `images`: fixed, moving, fixed mask, moving mask, their size a multiple of every level's `spacing`;
        `velocity` at this level's spacing, voxels of the pyramid's grid, or None at rest; `coarsened`: how many times
        coarser than the network's own grid the images are given.
        """
        scale, images = self.scale // coarsened, self.averaged(images, coarsened)
        if velocity is None:
            velocity = images[0].new_zeros(len(images[0]), 3, *(n // 2 for n in images[0].shape[2:]))
        velocities, log_variance = [], None
        for _ in range(self.passes):
            update, log_variance = self.head(self.features(images, velocity, scale))
            velocity = velocity + update * scale
            velocities.append(velocity)
        return velocities, log_variance


class Spread(View):
    """The log-variance of a velocity, from a view of the pair as that velocity leaves it: what is still apart shows."""

    def __init__(self, **view):
        super().__init__(**view)
        self.log_variance = log_variance_layer(self.unet.width)

    def forward(self, images: list[torch.Tensor], velocity: torch.Tensor, coarsened: int = 1) -> torch.Tensor:
        """As :class:`Stage`; on the velocity's grid, of voxels of the grid that the images are given on."""
        scale = self.scale // coarsened
        return self.log_variance(self.features(self.averaged(images, coarsened), velocity, scale).float())


def integrated(velocity: torch.Tensor, spacing: int, steps: int) -> torch.Tensor:
    """exp(v) - id on the velocity's own grid, whose cells are `spacing` voxels wide, in voxels like the velocity."""
    return flow.exponentiate(velocity / spacing, steps) * spacing


def local_contrast(image: torch.Tensor, radius: int = 2) -> torch.Tensor:
    """(I - local mean) / local SD over windows of radius `radius`: blind to any local linear change of density."""
    count = box_sum(torch.ones_like(image[:1]), radius)
    mean = box_sum(image, radius) / count
    variance = (box_sum(image * image, radius) / count - mean * mean).clamp(min=0)
    return (image - mean) / (variance + _NOISE).sqrt()


def correlations(fixed: torch.Tensor, moving: torch.Tensor, reach: int) -> torch.Tensor:
    """Products of the fixed image and the moving one shifted by up to `reach` voxels along each axis, averaged.

    (n, 1, z, y, x) with even sizes -> (n, (2 reach + 1)^3, z/2, y/2, x/2): averages over windows of four voxels.
    """
    padded = F.pad(moving, [reach] * 6, mode="replicate")
    z, y, x = fixed.shape[2:]
    span = range(2 * reach + 1)
    products = [
        F.avg_pool3d(fixed * padded[:, :, k : k + z, j : j + y, i : i + x], 4, 2, 1)
        for k in span
        for j in span
        for i in span
    ]
    return torch.cat(products, dim=1)


def _upsampled(values: torch.Tensor, factor: int) -> torch.Tensor:
    """Linear interpolation to cells `factor` times smaller; cell centres, as averaging over blocks leaves them."""
    if factor == 1:
        return values
    return F.interpolate(values, scale_factor=factor, mode="trilinear", align_corners=False)


class Pyramid(nn.Module):
    """Multi-level VoxelMorph-Diff: level k works on the moving image that the levels before it warped.

    All levels update one stationary velocity, so the result is a diffeomorphism whose inverse is exp(-v). `levels`:
    settings of each :class:`Stage`, coarse to fine, for instance ``{"downsample": 2}`` for a level that halves its
    images twice before and doubles its field twice after; one level alone is a plain VoxelMorph-Diff.
    With `probabilistic` the last level predicts the velocity's mean and log-variance; with `spread`, the settings of a
    :class:`View` that averages as much as the last level, a U-Net of its own tells the log-variance of the result.
    """

    def __init__(self, levels: list[dict], probabilistic: bool = False, int_steps: int = 7, spread: dict | None = None):
        super().__init__()
        if not levels:
            raise BadInput("A pyramid needs at least one level.")
        last = len(levels) - 1
        self.levels = nn.ModuleList(
            Stage(**level, probabilistic=probabilistic and spread is None and k == last, int_steps=int_steps)
            for k, level in enumerate(levels)
        )
        self.spread = None if spread is None else Spread(**spread, int_steps=int_steps)
        scales = [level.scale for level in self.levels]
        if scales != sorted(scales, reverse=True):
            raise BadInput("A pyramid's levels must go from coarse to fine.")
        if self.spread is not None and (not probabilistic or self.spread.scale != scales[-1]):
            raise BadInput("A pyramid's spread needs `probabilistic` and the downsampling of the last level.")
        self.multiple = max(level.spacing for level in self.levels)

    def set_mixed_precision(self, on: bool) -> None:
        """Whether the U-Nets' convolutions run in bf16; everything else never does."""
        for view in (*self.levels, *filter(None, [self.spread])):
            view.mixed_precision = on

    def forward(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        fixed_mask: torch.Tensor,
        moving_mask: torch.Tensor,
        levels: int | None = None,
        coarsened: int = 1,
    ) -> Prediction:
        """The prediction of the first `levels` levels, by default of all.

        Training may give images on a grid `coarsened` times coarser than the network's own, which is as good for
        levels that work no finer and costs a fraction.
        """
        shape = tuple(fixed.shape[2:])
        multiple = self.multiple // coarsened
        # Even at every level, and no smaller than the windows that correlate images.
        even = [max(n + -n % multiple, 2 * multiple) for n in shape]
        images = [padded_to(image, even) for image in (fixed, moving, fixed_mask, moving_mask)]
        velocity, stages = None, []
        for level in self.levels[:levels]:
            spacing = level.spacing // coarsened
            if velocity is not None:
                velocity = _upsampled(velocity, stages[-1][1] // spacing)
            velocities, log_variance = level(images, velocity, coarsened)
            velocity = velocities[-1]
            stages += [(v, spacing) for v in velocities]
        if self.spread is not None and len(stages) == sum(level.passes for level in self.levels):
            log_variance = self.spread(images, velocity.detach(), coarsened)
        return Prediction(
            displacement=self.integrated(velocity, spacing, shape),
            inverse_displacement=self.integrated(-velocity, spacing, shape),
            velocity=velocity,
            spacing=spacing,
            log_variance=log_variance,
            stages=stages,
        )

    def integrated(self, velocity: torch.Tensor, spacing: int, shape: tuple[int, int, int]) -> torch.Tensor:
        """exp(v) - id of a velocity of any level at the voxels of a grid of `shape`: (n, 3, z, y, x)."""
        return _full(integrated(velocity, spacing, self.levels[-1].int_steps), spacing, shape)

    def sample(self, prediction: Prediction, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Displacements exp(v) - id of `count` velocities drawn from a probabilistic prediction: (count, n, 3, ...).

        They lie on the velocity's own grid, in voxels of the network's.
        """
        if prediction.log_variance is None:
            raise BadInput("This network is deterministic and has no uncertainty: use probabilistic weights.")
        deviation = (0.5 * prediction.log_variance).exp()
        draws = []
        for _ in range(count):
            noise = torch.randn(deviation.shape, generator=generator, device=deviation.device)
            velocity = prediction.velocity + deviation * noise
            draws.append(integrated(velocity, prediction.spacing, self.levels[-1].int_steps))
        return torch.stack(draws)


def _full(values: torch.Tensor, factor: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return _upsampled(values, factor)[:, :, : shape[0], : shape[1], : shape[2]]


class VoxelMorph(nn.Module):
    """The original VoxelMorph: a U-Net whose output is the displacement itself, without an inverse."""

    def __init__(
        self, encoder: list[int] | None = None, decoder: list[int] | None = None, final: list[int] | None = None
    ):
        super().__init__()
        encoder = encoder or [16, 32, 32, 32, 32]
        decoder = decoder or [32] * (len(encoder) - 1)
        self.unet = UNet(2, encoder, decoder, [32, 16, 16] if final is None else final)
        if len(decoder) != len(encoder) - 1:
            raise BadInput("VoxelMorph's decoder must have one entry fewer than its encoder: it works at full size.")
        self.head = Head(self.unet.width, probabilistic=False)
        self.mixed_precision = False

    def set_mixed_precision(self, on: bool) -> None:
        """Whether the convolutions run in bf16."""
        self.mixed_precision = on

    def forward(self, fixed, moving, fixed_mask=None, moving_mask=None) -> Prediction:
        """The masks are accepted like every network's and not used."""
        with torch.autocast(fixed.device.type, torch.bfloat16, enabled=self.mixed_precision):
            features = self.unet(torch.cat([fixed, moving], dim=1))
        return Prediction(self.head(features)[0])


def voxelmorph_diff(probabilistic: bool = False, int_steps: int = 7, **level) -> Pyramid:
    """VoxelMorph-Diff: one level, velocity at half resolution, scaling and squaring, its inverse for free."""
    return Pyramid([level], probabilistic, int_steps)


ARCHITECTURES = {
    "voxelmorph": VoxelMorph,
    "voxelmorph_diff": voxelmorph_diff,
    "pyramid": Pyramid,
    "rigid": RigidNet,
    "segmenter": Segmenter,
}


def build_network(architecture: dict) -> nn.Module:
    """A network from plain settings: ``{"name": one of ARCHITECTURES, ...its arguments}``.

    Raises BadInput for an unknown name or argument.
    """
    settings = dict(architecture)
    name = settings.pop("name", None)
    if name not in ARCHITECTURES:
        raise BadInput(f"There is no network {name!r}: use one of {', '.join(ARCHITECTURES)}.")
    try:
        return ARCHITECTURES[name](**settings)
    except TypeError as error:
        raise BadInput(
            f"The network {name!r} does not take these settings ({error}): check its architecture."
        ) from error


def graph_laplacian(velocity: torch.Tensor) -> torch.Tensor:
    """v^T L v of every field: the squared differences of neighbouring nodes, summed: (n,)."""
    return sum(torch.diff(velocity, dim=axis).square().sum((1, 2, 3, 4)) for axis in (-3, -2, -1))


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor, precision: float = 10.0) -> torch.Tensor:
    """KL of N(mean, variance) from the prior N(0, L^-1 / precision) of smooth velocities, per node, up to a constant.

    L is the graph Laplacian of the grid (n, 3, z, y, x), six neighbours. Source: Dalca et al. 2019, equation 11.
    """
    degree = _degree(mean.shape[2:], mean.device)
    trace = (precision * degree * log_variance.exp() - log_variance).mean()
    return 0.5 * (trace + precision * graph_laplacian(mean).sum() / mean.numel())


def _degree(shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """How many neighbours a node has: (z, y, x)."""
    ones = torch.ones(tuple(shape), device=device)
    padded = F.pad(ones, [1] * 6)
    return sum(padded.narrow(axis, start, shape[axis])[_inner(axis)] for axis in range(3) for start in (0, 2))


def _inner(axis: int) -> tuple[slice, ...]:
    return tuple(slice(None) if k == axis else slice(1, -1) for k in range(3))
