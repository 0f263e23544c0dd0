"""Local volume change: the normalised Jacobian, statistics per region, anisotropy of the deformation.

J = det(grad phi) with phi from the baseline to the follow-up: J > 1, the tissue is larger in the follow-up.
"""

import numpy as np
import SimpleITK as sitk


def inside_follow_up(displacement: sitk.Image, followup: sitk.Image) -> np.ndarray:
    """Which voxels of the displacement's grid the follow-up scan really shows; bool (z, y, x)."""
    raise NotImplementedError


def normalised_jacobian(jacobian: sitk.Image, lungs: sitk.Image | np.ndarray, inside: np.ndarray | None = None) -> tuple[sitk.Image, float]:
    """The Jacobian divided by its mean over the baseline lung inside both fields of view, and that mean."""
    raise NotImplementedError


def volume_check(mean_j: float, volume_ratio: float, tolerance: float = 0.05) -> str | None:
    """A warning in words when the mean Jacobian and the ratio of the mask volumes disagree by more than `tolerance`."""
    raise NotImplementedError


def statistics(
    jacobian: sitk.Image,
    normalised: sitk.Image,
    displacement: sitk.Image,
    masks: dict[str, np.ndarray],
    inside: np.ndarray | None = None,
) -> dict[str, dict[str, float | int | None]]:
    """{region: {mean, sd, median, p05, p95, log_mean, log_sd, volume_change_percent, adi_mean, sri_mean, normalized_mean,
    normalized_sd, voxels, folded_voxels}}; a region without voxels inside both fields of view is left out."""
    raise NotImplementedError


def deformation_indices(displacement: sitk.Image, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ADI and SRI of a displacement field in a mask, float32 (z, y, x) each, NaN outside."""
    raise NotImplementedError
