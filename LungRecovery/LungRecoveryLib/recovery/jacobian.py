"""Local volume change: the normalised Jacobian, statistics per region, anisotropy of the deformation.

J = det(grad phi) in physical space, with phi from the baseline to the follow-up and the affine part included: J > 1,
the tissue is larger in the follow-up. Voxels with J <= 0 are folds: they count in the mean and the percentiles, are
left out where a logarithm or a stretch has no meaning, and are counted.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import SimpleITK as sitk

from ..errors import BadInput
from ..grids import grid_of, to_array, to_image

_CHUNK = 1 << 18  # voxels whose 3x3 gradients are in memory at once
_ISOTROPIC = 1e-5  # stretches this close together (relative) are equal: float32 displacements carry no more


def as_mask(mask: sitk.Image | np.ndarray) -> np.ndarray:
    """A mask or label map, given as an image or an array, as a bool array (z, y, x)."""
    array = sitk.GetArrayViewFromImage(mask) if isinstance(mask, sitk.Image) else mask
    return np.asarray(array) != 0


def common_mask(lungs: sitk.Image | np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """The lung inside both fields of view: the mask, cut to `inside` when that is given."""
    return as_mask(lungs) if inside is None else as_mask(lungs) & inside


def normalised_jacobian(
    jacobian: sitk.Image, lungs: sitk.Image | np.ndarray, inside: np.ndarray | None = None
) -> tuple[sitk.Image, float]:
    """The Jacobian divided by its mean over the baseline lung inside both fields of view, and that mean.

    It removes the global volume change, whether breath or recovery, and nothing else. `lungs` (image or (z, y, x)) and
    `inside` (bool) lie on the Jacobian's grid. Raises BadInput when no lung lies inside both fields of view or the mean
    is not positive.
    """
    array = to_array(jacobian, np.float32)
    values = array[common_mask(lungs, inside)]
    if values.size == 0:
        raise BadInput("No lung lies inside both fields of view: give scans that show the same lung.")
    mean = float(values.mean(dtype=np.float64))
    if not mean > 0:
        raise BadInput(f"The mean Jacobian over the lung is {mean:.3g}: the registration is unusable.")
    return to_image((array / np.float32(mean)).astype(np.float32), jacobian), mean


def volume_check(mean_j: float, volume_ratio: float, tolerance: float = 0.05) -> str | None:
    """A warning in words when the mean Jacobian and the ratio of the mask volumes disagree by more than `tolerance`.

    Both say how much larger the lung is in the follow-up; the ratio of the masks only checks the Jacobian.
    """
    disagreement = abs(mean_j / volume_ratio - 1.0)
    if disagreement <= tolerance:
        return None
    return (
        f"The mean Jacobian ({mean_j:.2f}) and the ratio of the lung masks' volumes ({volume_ratio:.2f}) disagree by "
        f"{100 * disagreement:.0f} %: check the lung masks and the registration."
    )


def statistics(
    jacobian: sitk.Image,
    normalised: sitk.Image,
    displacement: sitk.Image,
    masks: Mapping[str, np.ndarray],
    inside: np.ndarray | None = None,
) -> dict[str, dict[str, float | int | None]]:
    """Volume change and its anisotropy per region of the baseline.

    Parameters: the Jacobian and the normalised Jacobian, the displacement phi(p) - p in LPS mm, all on one grid; bool
    masks (z, y, x) by region; `inside`, the voxels inside both fields of view.

    Returns {region: {mean, sd, median, p05, p95, log_mean, log_sd, volume_change_percent (100 (mean - 1)), adi_mean,
    sri_mean, normalized_mean, normalized_sd, voxels, folded_voxels}}. The logarithmic ones, ADI and SRI leave out the
    folded voxels (J <= 0) and are None where nothing remains. A region without a voxel inside both fields of view is
    left out.
    """
    j, n = (to_array(image, np.float32) for image in (jacobian, normalised))
    cut = {name: mask if inside is None else mask & inside for name, mask in masks.items()}
    cut = {name: mask for name, mask in cut.items() if mask.any()}
    if not cut:
        return {}
    everywhere = np.logical_or.reduce(list(cut.values()))
    adi, sri = deformation_indices(displacement, everywhere & (j > 0))
    return {name: _region_statistics(j[mask], n[mask], adi[mask], sri[mask]) for name, mask in cut.items()}


def _region_statistics(j: np.ndarray, n: np.ndarray, adi: np.ndarray, sri: np.ndarray) -> dict[str, float | int | None]:
    j, n = j.astype(np.float64), n.astype(np.float64)
    whole = j > 0
    log = np.log(j[whole])
    p05, median, p95 = np.percentile(j, (5, 50, 95))
    return {
        "mean": float(j.mean()),
        "sd": float(j.std()),
        "median": float(median),
        "p05": float(p05),
        "p95": float(p95),
        "log_mean": _mean(log),
        "log_sd": float(log.std()) if log.size else None,
        "volume_change_percent": float(100.0 * (j.mean() - 1.0)),
        "adi_mean": _mean(adi[np.isfinite(adi)]),
        "sri_mean": _mean(sri[np.isfinite(sri)]),
        "normalized_mean": float(n.mean()),
        "normalized_sd": float(n.std()),
        "voxels": int(j.size),
        "folded_voxels": int(j.size - np.count_nonzero(whole)),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if values.size else None


def deformation_indices(displacement: sitk.Image, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anisotropic deformation index and slab-rod index in a mask; float32 (z, y, x) each, NaN outside the mask.

    With the stretches l1 >= l2 >= l3, the singular values of grad phi in physical space (Amelon 2011):
    ADI = sqrt(((l1 - l2) / l2)^2 + ((l2 - l3) / l3)^2), 0 for an isotropic deformation;
    SRI = (2 / pi) atan(l3 (l1 - l2) / (l2 (l2 - l3))), 0 (slab) where l1 = l2, 1 (rod) where l2 = l3.
    A collapsed voxel (l3 = 0) has no ADI and stays NaN.
    """
    adi, sri = (np.full(mask.shape, np.nan, np.float32) for _ in range(2))
    for where, gradient in _deformation_gradients(displacement, mask):
        l1, l2, l3 = _stretches(gradient)
        with np.errstate(divide="ignore", invalid="ignore"):
            shape = np.hypot((l1 - l2) / l2, (l2 - l3) / l3)
        shape[~np.isfinite(shape)] = np.nan
        rod = 2 / np.pi * np.arctan2(l3 * (l1 - l2), l2 * (l2 - l3))
        rod[l1 - l2 <= _ISOTROPIC * l1] = 0.0
        rod[np.isnan(shape)] = np.nan
        adi[where], sri[where] = shape, rod
    return adi, sri


def _deformation_gradients(displacement: sitk.Image, mask: np.ndarray) -> Iterator[tuple[tuple, np.ndarray]]:
    """Voxels of the mask in chunks: their (z, y, x) indices and grad phi there (n, 3, 3) in physical space, float64.

    Central differences inside the grid, one-sided ones at its border, taken in the mask only to save memory.
    """
    grid = grid_of(displacement)
    field = np.moveaxis(sitk.GetArrayViewFromImage(displacement), -1, 0)
    to_index = np.linalg.inv(grid.index_to_point)
    voxels = np.flatnonzero(mask)
    for start in range(0, voxels.size, _CHUNK):
        where = np.unravel_index(voxels[start : start + _CHUNK], mask.shape)
        by_index = np.zeros((where[0].size, 3, 3))  # component, index axis (x, y, z)
        for axis in range(3):
            count = mask.shape[2 - axis]
            if count == 1:
                continue
            after, before = list(where), list(where)
            after[2 - axis] = np.minimum(where[2 - axis] + 1, count - 1)
            before[2 - axis] = np.maximum(where[2 - axis] - 1, 0)
            step = (after[2 - axis] - before[2 - axis])[None]
            difference = field[(slice(None), *after)].astype(np.float64) - field[(slice(None), *before)]
            by_index[:, :, axis] = (difference / step).T
        yield where, by_index @ to_index + np.eye(3)


def _stretches(gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular values l1 >= l2 >= l3 of matrices (n, 3, 3), from the closed form of the eigenvalues of F^T F."""
    c = np.einsum("nki,nkj->nij", gradient, gradient)
    q = np.trace(c, axis1=1, axis2=2) / 3.0
    b = c - q[:, None, None] * np.eye(3)
    p = np.sqrt(np.einsum("nij,nij->n", b, b) / 6.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(np.nan_to_num(np.linalg.det(b / p[:, None, None]) / 2.0), -1.0, 1.0)
    angle = np.arccos(r) / 3.0
    high = q + 2.0 * p * np.cos(angle)
    low = q + 2.0 * p * np.cos(angle + 2.0 * np.pi / 3.0)
    middle = 3.0 * q - high - low
    return tuple(np.sqrt(np.maximum(e, 0.0)) for e in (high, middle, low))
