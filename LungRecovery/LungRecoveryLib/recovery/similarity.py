"""How alike the warped follow-up and the baseline are, locally and in the lung only."""

import numpy as np
import SimpleITK as sitk


def ssim_map(baseline: sitk.Image, warped: sitk.Image, lungs, inside: np.ndarray | None = None) -> sitk.Image:
    """Structural similarity in [-1, 1] at every lung voxel, float32, 0 outside; windows cut to the lung."""
    raise NotImplementedError


def lncc_map(baseline: sitk.Image, warped: sitk.Image, lungs, inside: np.ndarray | None = None) -> sitk.Image:
    """Squared local normalised cross-correlation in [0, 1] at every lung voxel, float32, 0 outside; windows cut to the lung."""
    raise NotImplementedError
