"""This project, as its users run it."""

import SimpleITK as sitk

from LungRecoveryLib.registration.register import register as register_pair
from methods.common import Pair


def register(
    pair: Pair, initial: sitk.AffineTransform | None, threads: int, preset: str = "standard"
) -> sitk.Transform:
    """Register a pair by one of the presets; it aligns the lungs itself, so `initial` is not used."""
    result = register_pair(
        pair.fixed, pair.moving, pair.fixed_lungs, pair.moving_lungs, preset=preset, device="cpu", threads=threads
    )
    return result.transform
