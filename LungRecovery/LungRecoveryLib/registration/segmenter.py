"""A network that says of every voxel how likely it belongs to a structure."""

import torch
from torch import nn

from .unet import UNet


class Segmenter(nn.Module):
    """A U-Net with one output: images (n, `channels`, z, y, x) -> logits (n, z, y, x) of any size.

    `encoder`, `decoder` and `final` are those of :class:`.unet.UNet`; the decoder leads up to the input's resolution.
    """

    def __init__(self, channels: int, encoder: list[int], decoder: list[int], final: list[int]):
        super().__init__()
        self.unet = UNet(channels, encoder, decoder, final)
        self.head = nn.Conv3d(self.unet.width, 1, 1)
        self.to(memory_format=torch.channels_last_3d)  # for few channels three fifths of the time on CPUs

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits of an image."""
        return self.head(self.unet(image.contiguous(memory_format=torch.channels_last_3d)))[:, 0]

    def set_mixed_precision(self, enabled: bool) -> None:
        """Nothing: this network is small, it stays in float32."""
