"""Ground glass and consolidation drawn into the lungs of a batch, at one or several stages of their growth."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .draws import Draws, per_sample

# Over this range of the level (which has unit variance in the lungs) tissue turns from healthy to ill.
_BORDER = 0.5


@dataclass(frozen=True)
class Lesions:
    """Where lesions lie, and how dense they are.

    `level` (n, 1, z, y, x) is a smooth random field of mean 0 and deviation 1 in the lungs: tissue above a threshold is
    ill, so a higher threshold is an earlier or a later stage of the same lesions. `glass` and `dense` (n,) are the
    densities (HU + 1000) / 1000 of ground glass and of consolidation, which begins `core` (n,) above the threshold.
    """

    level: torch.Tensor
    glass: torch.Tensor
    dense: torch.Tensor
    core: torch.Tensor

    def drawn(self, image: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """An image (n, 1, z, y, x) with the lesions above a threshold (n,); infinity draws none.

        Only density is added: vessels in ground glass stay.
        """
        above = self.level - per_sample(threshold)
        glass = _share(above)
        image = torch.maximum(image, image + glass * (per_sample(self.glass) - image))
        core = _share(above - per_sample(self.core))
        return torch.maximum(image, image + core * (per_sample(self.dense) - image))


def _share(above: torch.Tensor) -> torch.Tensor:
    """The share (0 to 1) to which tissue is ill, of its level above a threshold."""
    t = (above / _BORDER + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)


def random_lesions(draws: Draws, mask: torch.Tensor) -> Lesions:
    """Blobs of 20 to 60 mm at 3 mm voxels, ragged, rather under the pleura; `mask` (n, 1, z, y, x) float, the lungs."""
    shape = mask.shape[2:]
    ragged = per_sample(draws.uniform(0.2, 0.6))
    level = draws.smooth_noise(1, shape, 10.0) + ragged * draws.smooth_noise(1, shape, 4.0)
    level = level - per_sample(draws.uniform(0, 2.5)) * _depth(mask)
    volume = mask.sum((1, 2, 3, 4)).clamp(min=1)
    level = level - per_sample((level * mask).sum((1, 2, 3, 4)) / volume)
    level = level / per_sample(((level * mask).square().sum((1, 2, 3, 4)) / volume).sqrt().clamp(min=1e-3))
    return Lesions(level, draws.uniform(0.35, 0.6), draws.uniform(0.85, 1.05), draws.uniform(0.3, 1.5))


def _depth(mask: torch.Tensor) -> torch.Tensor:
    """0 far outside the lungs to 1 some four voxels below their surface: the share of lung in windows of 12 voxels."""
    blocks = [min(4, n) for n in mask.shape[2:]]
    coarse = F.avg_pool3d(mask, blocks, ceil_mode=True, count_include_pad=False)
    coarse = F.avg_pool3d(F.pad(coarse, [1] * 6), 3, stride=1)
    return F.interpolate(coarse, mask.shape[2:], mode="trilinear", align_corners=False)


def threshold(share: torch.Tensor) -> torch.Tensor:
    """The threshold (n,) above which about a share (n,) of the lungs lies; infinite for a share of 0."""
    return math.sqrt(2) * torch.erfinv(1 - 2 * share)
