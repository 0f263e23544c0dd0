"""Networks that predict a deformation: VoxelMorph, VoxelMorph-Diff and the multi-level pyramid, in torch.

Every network takes a batch of pairs, ``network(fixed, moving, fixed_mask, moving_mask)``, each (n, 1, z, y, x) float32
on one isotropic grid of any size, and returns a :class:`Prediction` in voxels of that grid. The images are
(HU + 1000) / 1000 in the lungs and the ground's value elsewhere (any other linear scale does for other organs), the
masks 0/1. Nothing in the weights depends on the images' size: a network pads its input and crops its output.

Only the U-Net's convolutions may run in bf16 (`mixed_precision`); velocities, integration and warps stay in float32.

Sources: Balakrishnan et al., IEEE TMI 2019 (VoxelMorph); Dalca et al., Medical Image Analysis 2019 (VoxelMorph-Diff,
its probabilistic form and prior); Mok and Chung, MICCAI 2020 (levels that update one velocity).
"""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadInput
from . import flow
from .losses import box_sum

SLOPE = 0.2
# A window's variance below this (squared units of the images, about (10 HU)^2) is noise, not structure.
_NOISE = 1e-4


@dataclass
class Prediction:
    """What a network makes of a batch of pairs; fields in voxels of the input grid, components x, y, z.

    `displacement` (n, 3, z, y, x): phi(p) - p. `inverse_displacement`: that of the inverse, None for a network that has
    no inverse. `velocity` (n, 3, z', y', x') at cell centres `spacing` voxels wide, None likewise. `log_variance`: of
    the velocity, on its grid, None for a deterministic network. `stages`: every velocity on the way, coarse to fine,
    the last one included, each with its spacing, for supervision at every stage.
    """

    displacement: torch.Tensor
    inverse_displacement: torch.Tensor | None = None
    velocity: torch.Tensor | None = None
    spacing: int = 1
    log_variance: torch.Tensor | None = None
    stages: list[tuple[torch.Tensor, int]] = field(default_factory=list)


class UNet(nn.Module):
    """A 3D U-Net with skips, convolutions by twos in size, without normalisation: (n, c, z, y, x) -> features.

    `encoder`: channels of each resolution, finest first; `decoder`: channels on the way up, one entry per resolution,
    as many as lead up to the output; `final`: channels of further convolutions there. The output lies
    ``2 ** (len(encoder) - 1 - len(decoder))`` times coarser than the input (sizes rounded up). `extra`: channels that
    join at half resolution. Any size: the input is padded by its border values, the output cropped.
    """

    def __init__(self, channels: int, encoder: list[int], decoder: list[int], final: list[int], extra: int = 0):
        super().__init__()
        if not 1 <= len(decoder) <= len(encoder) - 1:
            raise BadInput("A U-Net's decoder must have from one entry to one fewer than its encoder.")
        if extra and len(encoder) < 3:
            raise BadInput("A U-Net that takes extra channels at half resolution needs three resolutions or more.")
        self.stem = _convolution(channels, encoder[0])
        inputs = [encoder[0], encoder[1] + extra, *encoder[2:-1]] if len(encoder) > 2 else [encoder[0]]
        self.down = nn.ModuleList(_convolution(a, b, stride=2) for a, b in zip(inputs, encoder[1:], strict=True))
        self.bottom = _convolution(encoder[-1], encoder[-1])
        skips = [encoder[0], encoder[1] + extra, *encoder[2:]]
        width, up = encoder[-1], []
        for skip, out in zip(skips[-2::-1], decoder, strict=False):
            up.append(_convolution(width + skip, out))
            width = out
        self.up = nn.ModuleList(up)
        ends = [width, *final]
        self.final = nn.Sequential(*(_convolution(a, b) for a, b in pairwise(ends)))
        self.width = ends[-1]
        self.multiple = 2 ** (len(encoder) - 1)
        self.coarser = 2 ** (len(encoder) - 1 - len(decoder))

    def forward(self, image: torch.Tensor, extra: torch.Tensor | None = None) -> torch.Tensor:
        sizes = [-(-n // self.coarser) for n in image.shape[2:]]
        image = padded_to(image, [n + -n % self.multiple for n in image.shape[2:]])
        if extra is not None:
            extra = padded_to(extra, [n // 2 for n in image.shape[2:]])
        features = [self.stem(image)]
        for number, down in enumerate(self.down, start=1):
            finer = down(features[-1])
            if number == 1 and extra is not None:
                finer = torch.cat([finer, extra.to(finer.dtype)], dim=1)
            features.append(finer)
        out = self.bottom(features.pop())
        for up in self.up:
            out = F.interpolate(out, scale_factor=2, mode="nearest")
            out = up(torch.cat([out, features.pop()], dim=1))
        return self.final(out)[:, :, : sizes[0], : sizes[1], : sizes[2]]


def padded_to(image: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """The image (n, c, z, y, x) with its last voxels repeated at the far ends up to a shape (z, y, x)."""
    missing = [side for n, old in zip(shape[::-1], image.shape[:1:-1], strict=True) for side in (0, n - old)]
    return F.pad(image, missing, mode="replicate") if any(missing) else image


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(channels, out, 3, stride, 1), nn.LeakyReLU(SLOPE))


class Head(nn.Module):
    """Features -> a field of three components, at rest before training; with `probabilistic` its log-variance too."""

    def __init__(self, width: int, probabilistic: bool, log_variance: float = -4.0):
        super().__init__()
        self.mean = nn.Conv3d(width, 3, 3, padding=1)
        nn.init.normal_(self.mean.weight, std=1e-4)
        nn.init.zeros_(self.mean.bias)
        self.log_variance = nn.Conv3d(width, 3, 3, padding=1) if probabilistic else None
        if probabilistic:
            nn.init.normal_(self.log_variance.weight, std=1e-4)
            nn.init.constant_(self.log_variance.bias, log_variance)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        features = features.float()
        return self.mean(features), None if self.log_variance is None else self.log_variance(features)


class Stage(nn.Module):
    """One VoxelMorph-Diff of a pyramid: an update of the velocity from images averaged over 2**`downsample` voxels.

    The velocity lies at half of these images' resolution (int_downsize 2). The U-Net sees both images and masks, the
    moving ones warped by the velocity so far, the images normalised by local contrast, and the velocity itself;
    with `correlation` > 0 it also sees the local correlation of the two for every shift of up to so many voxels.
    `passes`: how often the update is made with the same weights, the moving image warped anew each time.
    """

    def __init__(
        self,
        downsample: int = 0,
        encoder: list[int] | None = None,
        decoder: list[int] | None = None,
        final: list[int] | None = None,
        passes: int = 1,
        correlation: int = 0,
        probabilistic: bool = False,
        int_steps: int = 7,
    ):
        super().__init__()
        encoder = encoder or [16, 32, 32, 32]
        decoder = decoder or [32] * (len(encoder) - 2)
        if len(decoder) != len(encoder) - 2:
            raise BadInput("A level's decoder must have two entries fewer than its encoder: velocities are half size.")
        shifts = (2 * correlation + 1) ** 3 if correlation else 0
        self.unet = UNet(9, encoder, decoder, [32] if final is None else final, shifts)
        self.head = Head(self.unet.width, probabilistic)
        self.scale, self.passes, self.correlation, self.int_steps = 2**downsample, passes, correlation, int_steps
        self.spacing = 2 * self.scale
        self.mixed_precision = False

    def forward(self, images: list[torch.Tensor], velocity: torch.Tensor | None, coarsened: int = 1):
        """The velocities after each pass and the last one's log-variance.

        `images`: fixed, moving, fixed mask, moving mask, their size a multiple of every level's `spacing`;
        `velocity` at this level's spacing, voxels of the pyramid's grid, or None at rest; `coarsened`: how many times
        coarser than the network's own grid the images are given.
        """
        scale = self.scale // coarsened
        fixed, moving, fixed_mask, moving_mask = (F.avg_pool3d(i, scale) if scale > 1 else i for i in images)
        if velocity is None:
            velocity = fixed.new_zeros(len(fixed), 3, *(n // 2 for n in fixed.shape[2:]))
        identity = flow.voxel_coordinates(tuple(fixed.shape[2:]), device=fixed.device)
        sharp = local_contrast(fixed)
        velocities, log_variance = [], None
        for number in range(self.passes):
            warped, warped_mask = moving, moving_mask
            if velocities or number or velocity.any():
                coordinates = identity + _upsampled(integrated(velocity, 2 * scale, self.int_steps), 2) / scale
                warped, warped_mask = flow.warp(torch.cat([moving, moving_mask], dim=1), coordinates).split(1, dim=1)
            sharp_warped = local_contrast(warped)
            seen = [fixed, warped, fixed_mask, warped_mask, sharp, sharp_warped]
            inputs = torch.cat([*seen, _upsampled(velocity, 2) / (4 * scale)], dim=1)
            extra = correlations(sharp, sharp_warped, self.correlation) if self.correlation else None
            with torch.autocast(fixed.device.type, torch.bfloat16, enabled=self.mixed_precision):
                features = self.unet(inputs, extra)
            update, log_variance = self.head(features)
            velocity = velocity + update * scale
            velocities.append(velocity)
        return velocities, log_variance


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
    With `probabilistic` the last level predicts the velocity's mean and log-variance.
    """

    def __init__(self, levels: list[dict], probabilistic: bool = False, int_steps: int = 7):
        super().__init__()
        if not levels:
            raise BadInput("A pyramid needs at least one level.")
        last = len(levels) - 1
        self.levels = nn.ModuleList(
            Stage(**level, probabilistic=probabilistic and k == last, int_steps=int_steps)
            for k, level in enumerate(levels)
        )
        scales = [level.scale for level in self.levels]
        if scales != sorted(scales, reverse=True):
            raise BadInput("A pyramid's levels must go from coarse to fine.")
        self.multiple = max(level.spacing for level in self.levels)

    def set_mixed_precision(self, on: bool) -> None:
        """Whether the U-Nets' convolutions run in bf16; everything else never does."""
        for level in self.levels:
            level.mixed_precision = on

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


ARCHITECTURES = {"voxelmorph": VoxelMorph, "voxelmorph_diff": voxelmorph_diff, "pyramid": Pyramid}


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
