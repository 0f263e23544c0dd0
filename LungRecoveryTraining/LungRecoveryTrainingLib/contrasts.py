"""Contrast drawn at random from labels, so that a network learns shapes whatever the scanner (SynthMorph)."""

from dataclasses import dataclass

import torch

from .batches import Batch
from .draws import Draws, per_sample

# As registration scales a brain: see LungRecoveryLib.registration.prepare.prepare_brains.
_BRIGHTEST_SHARE, _HIGHEST = 0.995, 1.3
_LABELS = 256


@dataclass
class Contrasts:
    """Images painted anew from their labels, or from their masks where there are none.

    With `probability` both scans of a pair get a tone drawn from `tones` for each label and for what is inside the mask
    without label; around it they are 0. Each scan has its own tones, but for a share `alike` of pairs, which come from
    one scanner. A probability of 0 leaves the images as they are.
    """

    probability: float = 0.0
    tones: tuple[float, float] = (0.05, 1.0)
    alike: float = 0.0

    def paint(self, batch: Batch, draws: Draws) -> None:
        """Paint both scans of a batch of floats."""
        tones = draws.uniform(*self.tones, 2, _LABELS)
        alike = draws.chance(self.alike)[:, None]
        painted = per_sample(draws.chance(self.probability))
        own = (tones[:, 0], torch.where(alike, tones[:, 0], tones[:, 1]))
        for scan, of_label in zip(("fixed", "moving"), own, strict=True):
            mask = batch[f"{scan}_mask"]
            labels = batch.get(f"{scan}_labels", mask)
            image = of_label.gather(1, labels.flatten(1).long()).view_as(labels) * mask
            batch[scan] = torch.where(painted, image, batch[scan])


def scaled(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The image over its 99.5th percentile inside the mask, both (n, 1, z, y, x), as registration scales a brain."""
    inside = torch.where(mask.flatten(1) > 0, image.flatten(1), torch.nan)
    brightest = inside.nanquantile(_BRIGHTEST_SHARE, dim=1, interpolation="lower").nan_to_num(1.0)
    return (image / per_sample(brightest.clamp(min=1e-6))).clamp(max=_HIGHEST)
