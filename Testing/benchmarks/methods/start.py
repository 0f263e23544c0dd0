"""No registration: where the methods begin."""

import SimpleITK as sitk

from methods.common import Pair


def register(pair: Pair, initial: sitk.AffineTransform | None, threads: int, aligned: bool = True) -> sitk.Transform:
    """The initial alignment of the lungs that every peer gets, or the identity."""
    return initial if aligned else sitk.Transform(3, sitk.sitkIdentity)
