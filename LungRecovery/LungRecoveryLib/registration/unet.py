"""The U-Net that every network here is made of."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import BadInput

SLOPE = 0.2


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
