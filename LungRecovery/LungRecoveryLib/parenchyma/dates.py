"""What differs between two dates of a patient beside the disease: baseline, kernel and breath, each taken out or not.

The lung is a dry sponge: its tissue keeps its mass while air comes and goes, so density x volume stays. A baseline
measured in a deeper breath is lower by that alone; what is left of the difference is the scan's own bias.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..grids import grid_of, to_image
from .noise import differences
from .scan import Parenchyma, ScanNumbers

_MOST_RATIO = 2.0  # of lung volumes between which the sponge holds
_UNEXPLAINED_HU = 30.0


@dataclass(frozen=True)
class BiasRemoval:
    """What is taken out between dates; each can be switched off."""

    baseline: bool = True
    kernel: bool = True
    inspiration: bool = True


@dataclass(frozen=True)
class Inspiration:
    """A follow-up's breath against the baseline's: `ratio` of lung volumes (follow-up / baseline); `expected_hu`, the
    follow-up's level had only air come or gone; `bias_hu`, its measured level minus that. `reason` says why the ratio
    is not used, where it is not."""

    ratio: float
    expected_hu: float
    bias_hu: float
    reason: str | None = None


def sponge_level(level_hu: float, ratio: float) -> float:
    """The HU of parenchyma after its volume has changed by `ratio`, its mass unchanged: (HU + 1000) / ratio - 1000."""
    return (level_hu + 1000.0) / ratio - 1000.0


def inspiration(baseline: ScanNumbers, followup: ScanNumbers) -> Inspiration:
    """How a follow-up's breath differs from the baseline's, from the measured lung volumes."""
    ratio = followup.volume_ml / baseline.volume_ml
    expected = sponge_level(baseline.baseline.level_hu, ratio)
    reason = None
    if baseline.cut or followup.cut:
        reason = "a field of view cuts the lungs, so their volumes do not tell the breath"
    elif not 1 / _MOST_RATIO <= ratio <= _MOST_RATIO:
        reason = f"the lung volumes differ by a factor of {max(ratio, 1 / ratio):.1f}, beyond what a breath explains"
    return Inspiration(ratio, expected, followup.baseline.level_hu - expected, reason)


def comparable(
    first: ScanNumbers, own: Parenchyma, breath: Inspiration, removal: BiasRemoval, lungs: sitk.Image
) -> sitk.Image:
    """A follow-up's enhanced image as it is compared with the first date's, int16 on the follow-up's grid.

    With the removal of inspiration the excess is scaled to the first date's breath: mass spread over `ratio` times the
    volume is 1 / ratio as dense. Without the removal of the baseline, HU above the FIRST date's level are kept: what
    the plain difference of the scans shows. `lungs` are the follow-up's.
    """
    values = sitk.GetArrayViewFromImage(own.excess).astype(np.float32)
    if not removal.baseline:
        shift = own.baseline.level_hu - first.baseline.level_hu
        values = np.where(sitk.GetArrayViewFromImage(lungs) != 0, values + shift, 0.0)
    if removal.inspiration and breath.reason is None:
        values = values * breath.ratio
    return to_image(np.clip(np.rint(values), *first.baseline.clip).astype(np.int16), grid_of(own.excess))


def summary(first: ScanNumbers, own: ScanNumbers, breath: Inspiration, removal: BiasRemoval, softened: bool) -> dict:
    """What was taken out of a follow-up, ready for JSON."""
    applied: Mapping[str, Any] = {
        "baseline": removal.baseline,
        "kernel": softened,
        "inspiration": removal.inspiration and breath.reason is None,
    }
    return {
        "applied": dict(applied),
        "baseline_shift_hu": own.baseline.level_hu - first.baseline.level_hu,
        "inspiration": asdict(breath),
    }


def warnings(first: ScanNumbers, own: ScanNumbers, breath: Inspiration, removal: BiasRemoval) -> list[str]:
    """What a reader must know of two dates' scans before comparing them, as sentences."""
    found = differences(first.noise, own.noise)
    if removal.inspiration and breath.reason is not None:
        found.append(f"the breath was not corrected for: {breath.reason}")
    elif abs(breath.bias_hu) > _UNEXPLAINED_HU:
        found.append(
            f"its healthy parenchyma is {abs(breath.bias_hu):.0f} HU {'denser' if breath.bias_hu > 0 else 'thinner'} "
            "than the breath explains: the scan's own bias, which the baseline takes out"
        )
    if first.calibration.contrast != own.calibration.contrast:
        found.append("contrast medium was given at one of the two dates only")
    return found
