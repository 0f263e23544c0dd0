"""How a scanner and its reconstruction change an image: slice thickness, noise, kernel, contrast, bias.

Images are (n, 1, z, y, x) float32; parameters are (n,), one for each sample.
"""

from dataclasses import dataclass

import torch

from .draws import Draws, per_sample

_SOFT_TISSUE = 1.05


@dataclass
class Scanner:
    """What differs from scan to scan, how often and how far.

    Lengths are voxels, values (HU + 1000) / 1000. A number is drawn for each sample evenly between minus and plus its
    limit, a factor between its inverse and itself, a range between its ends. `slices`: thickness, 1..3. `kernel`: see
    :func:`blurred`. `noise`: the highest standard deviation. `bias`: deviation of a smooth relative error of gain with
    control points `bias_spacing` apart. `limits`: the lowest and highest value there is. A probability of 0 leaves a
    step out.
    """

    slices_probability: float = 0.3
    slices: tuple[float, float] = (1.0, 2.5)
    noise_probability: float = 0.7
    noise: float = 0.04
    kernel_probability: float = 0.5
    kernel: tuple[float, float] = (-0.08, 0.15)
    tone_probability: float = 0.7
    gamma: float = 1.2
    gain: float = 1.1
    offset: float = 0.04
    bias: float = 0.05
    bias_spacing: float = 40.0
    limits: tuple[float, float] = (-0.024, 1.3)

    def __call__(self, image: torch.Tensor, mask: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Another scan of the same: an image changed inside its mask (both (n, 1, z, y, x)) and as it is around it."""
        changed = image
        if self.slices_probability > 0:
            width = torch.where(draws.chance(self.slices_probability), draws.uniform(*self.slices), 1.0)
            changed = thicker_slices(changed, width)
        if self.noise_probability > 0:
            changed = noisy(changed, draws.uniform(0, self.noise) * draws.chance(self.noise_probability), draws)
        if self.kernel_probability > 0:
            changed = blurred(changed, draws.uniform(*self.kernel) * draws.chance(self.kernel_probability))
        if self.tone_probability > 0:
            changed = self._toned(changed, draws)
        return torch.where(mask > 0, changed.clamp(*self.limits), image)

    def _toned(self, image: torch.Tensor, draws: Draws) -> torch.Tensor:
        chosen = draws.chance(self.tone_probability).float()
        gamma, gain = (limit ** (draws.uniform(-1, 1) * chosen) for limit in (self.gamma, self.gain))
        offset = draws.uniform(-self.offset, self.offset) * chosen
        bias = None
        if self.bias > 0:
            amount = per_sample(draws.uniform(0, self.bias) * chosen)
            bias = amount * draws.smooth_noise(1, tuple(image.shape[2:]), self.bias_spacing)
        return toned(image, gamma, gain, offset, bias)


def compressed(density: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Tissue whose density (HU + 1000) / 1000 is multiplied by `factor`, at most to that of soft tissue: what holds no
    air cannot be compressed."""
    return torch.minimum(density * factor, density.clamp(min=_SOFT_TISSUE))


def thicker_slices(image: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """The image averaged along z over a box of `width` voxels, 1..3."""
    return _three_taps(image, (width - 1) / (2 * width), axis=2)


def blurred(image: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """The image smoothed along every axis by the kernel (side, 1 - 2 side, side); below 0 it is sharpened.

    The kernel's standard deviation is sqrt(2 side) voxels; `side` is at most 0.25.
    """
    for axis in (2, 3, 4):
        image = _three_taps(image, side, axis)
    return image


def _three_taps(image: torch.Tensor, side: torch.Tensor, axis: int) -> torch.Tensor:
    """Weights (side, 1 - 2 side, side) along an axis, the border repeated."""
    side, last = per_sample(side), image.shape[axis] - 1
    result = image * (1 - 2 * side)
    # Each voxel's neighbour below, then above; the first and the last voxel are neighbours of themselves.
    for to, source in ((1, 0), (0, 1)):
        result.narrow(axis, to, last).addcmul_(side, image.narrow(axis, source, last))
    for end in (0, last):
        result.narrow(axis, end, 1).addcmul_(side, image.narrow(axis, end, 1))
    return result


def noisy(image: torch.Tensor, deviation: torch.Tensor, draws: Draws) -> torch.Tensor:
    """The image with white noise of a standard deviation."""
    return torch.addcmul(image, per_sample(deviation), draws.normal(*image.shape[1:]))


def toned(
    image: torch.Tensor, gamma: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """gain (1 + bias) image^gamma + offset, values below 0 taken as 0; `bias` is a field like the image, or None."""
    curved = image.clamp(min=0) ** per_sample(gamma)
    factor = per_sample(gain) if bias is None else per_sample(gain) * (1 + bias)
    return torch.addcmul(per_sample(offset), factor, curved)
