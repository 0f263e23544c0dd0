"""What became of every voxel's density: a response map in the manner of the parametric response map (Galban 2012).

The registration says which follow-up tissue corresponds to a baseline voxel. Its density is compared at the baseline's
volume (times the Jacobian, as if mass were kept), so that a deeper breath alone moves no voxel to another class.
Volumes, densities and scores of a scan never come from here but from that scan's own voxels.
"""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from .density import Band
from .jacobian import common_mask

EDGES_HU = np.arange(-1000.0, 101.0, 20.0)


def at_baseline_volume(warped: sitk.Image, jacobian: sitk.Image) -> np.ndarray:
    """HU (z, y, x) float32 of a follow-up laid on the baseline, at the baseline's volume: J (HU + 1000) - 1000."""
    hu, j = (sitk.GetArrayViewFromImage(image).astype(np.float32) for image in (warped, jacobian))
    return j * (np.maximum(hu, -1000.0) + 1000.0) - 1000.0


def band_changes(
    ct: sitk.Image,
    warped: sitk.Image,
    jacobian: sitk.Image,
    lungs: np.ndarray,
    bands: Sequence[Band],
    inside: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """The shares (percent of the lung) that went from each density band to each: {baseline band: {follow-up band}}.

    All on the baseline's grid; `lungs` bool (z, y, x), `inside` what both fields of view show. Voxels outside all bands
    count for the nearest one, so that everything adds up to 100; an empty dict where nothing is seen on both dates.
    """
    mask = common_mask(lungs, inside)
    if not mask.any():
        return {}
    ordered = sorted(bands, key=lambda band: band.low)
    limits = [band.low for band in ordered[1:]]
    before = np.searchsorted(limits, sitk.GetArrayViewFromImage(ct)[mask], side="right")
    after = np.searchsorted(limits, at_baseline_volume(warped, jacobian)[mask], side="right")
    counts = np.bincount(before * len(ordered) + after, minlength=len(ordered) ** 2).reshape(len(ordered), -1)
    shares = 100.0 * counts / counts.sum()
    return {
        band.name: {other.name: float(share) for other, share in zip(ordered, row, strict=True)}
        for band, row in zip(ordered, shares, strict=True)
    }


def joint_histogram(
    ct: sitk.Image, warped: sitk.Image, jacobian: sitk.Image, lungs: np.ndarray, inside: np.ndarray | None = None
) -> np.ndarray:
    """The shares (percent of the lung) of pairs of densities: rows the baseline's, columns the follow-up's.

    The bins lie between EDGES_HU, the outermost hold what is beyond them. The arguments are those of
    :func:`band_changes`.
    """
    mask = common_mask(lungs, inside)
    middles = 0.5 * (EDGES_HU[1:] + EDGES_HU[:-1])
    pair = [
        np.clip(values[mask], middles[0], middles[-1])
        for values in (sitk.GetArrayViewFromImage(ct), at_baseline_volume(warped, jacobian))
    ]
    counts = np.histogram2d(*pair, bins=(EDGES_HU, EDGES_HU))[0]
    return 100.0 * counts / max(counts.sum(), 1.0)
