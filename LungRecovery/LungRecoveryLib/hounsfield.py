"""Checks that a volume is a CT in Hounsfield units, and its reduction to int16 HU at or above -1024."""

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput

LOWEST_HU = int(grids.AIR_HU)
HIGHEST_HU = 3071  # the top of 12-bit CT; metal beyond it carries no meaning for the lung

_SAMPLES = 2_000_000
_INTEGER_TYPES = {
    sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkUInt32, sitk.sitkInt64,
    sitk.sitkUInt64,
}  # fmt: skip
_FLOAT_TYPES = {sitk.sitkFloat32, sitk.sitkFloat64}


def to_hounsfield(image: sitk.Image, name: str) -> sitk.Image:
    """The same volume as int16 HU in [-1024, 3071], values beyond clamped (padding such as -2048) and floats rounded.

    `name` is what the messages call it. Raises BadInput where voxels are not finite or the values are not HU.
    """
    if image.GetPixelID() not in _INTEGER_TYPES | _FLOAT_TYPES:
        raise BadInput(f"{name}: its voxels are not single numbers; give a CT in Hounsfield units")
    array = sitk.GetArrayViewFromImage(image)
    if image.GetPixelID() in _FLOAT_TYPES:
        _check_finite(array, name)
    check_values(array, name)
    if image.GetPixelID() in _FLOAT_TYPES:
        return grids.to_image(_rounded(array), grids.grid_of(image))
    if image.GetPixelID() == sitk.sitkInt16 and array.min() >= LOWEST_HU and array.max() <= HIGHEST_HU:
        return image
    return sitk.Clamp(image, sitk.sitkInt16, LOWEST_HU, HIGHEST_HU)


def _check_finite(array: np.ndarray, name: str) -> None:
    bad = sum(int(plane.size - np.isfinite(plane).sum()) for plane in array)
    if bad:
        raise BadInput(f"{name}: {bad} voxels are NaN or infinite; replace them (with -1024 outside the scan)")


def _rounded(array: np.ndarray) -> np.ndarray:
    """int16 HU of a float array, plane by plane so that no second float volume is needed."""
    out = np.empty(array.shape, np.int16)
    for plane, source in zip(out, array, strict=True):
        np.clip(np.rint(source), LOWEST_HU, HIGHEST_HU, out=plane, casting="unsafe")
    return out


def check_values(array: np.ndarray, name: str) -> None:
    """Raise BadInput unless an array (z, y, x) looks like chest CT in HU: gas at -1000, soft tissue about 0.

    The outside of a crop may be padded with any value at or below -1024. Judged on a regular sample of the voxels.
    """
    step = max(1, array.size // _SAMPLES) | 1  # odd, so that it does not fall in step with rows of even length
    values = np.asarray(array).reshape(-1)[::step].astype(np.float32)
    if values.min() == values.max():
        raise BadInput(f"{name}: all its voxels are {values[0]:g}; give a CT in Hounsfield units")
    inside = values[values > LOWEST_HU]

    def share(low: float, high: float) -> float:
        return float(np.mean((inside >= low) & (inside <= high))) if inside.size else 0.0

    remedy = "export it again in Hounsfield units"
    if np.mean(values > HIGHEST_HU) > 0.05:
        raise BadInput(f"{name}: is not in Hounsfield units, many values lie above {HIGHEST_HU}; {remedy}")
    if np.mean(values < -1300) - _largest_constant_share(values, -1300) > 0.15:
        raise BadInput(
            f"{name}: is not in Hounsfield units, many different values lie below -1300 as if the rescale had been "
            f"applied twice; {remedy}"
        )
    if share(LOWEST_HU, -700) < 0.001:
        raise BadInput(f"{name}: is not in Hounsfield units, {_why_no_air(inside)}; {remedy}")
    if share(-300, HIGHEST_HU) < 0.001:
        raise BadInput(f"{name}: is not in Hounsfield units, it holds air but no soft tissue; {remedy}")


def _largest_constant_share(values: np.ndarray, below: float) -> float:
    """The share of all values that the commonest one below a limit has: a padding constant."""
    _, counts = np.unique(values[values < below], return_counts=True)
    return float(counts.max() / values.size) if counts.size else 0.0


def _why_no_air(inside: np.ndarray) -> str:
    """What values without any near -1000 look like, in words."""
    if not inside.size:
        return "no value lies above -1024"
    low, high = np.percentile(inside, [0.1, 99.9])
    tissue = np.mean((inside >= 824) & (inside <= 1324))
    if low >= -50 and inside.max() <= 1.5:
        return f"its values ({low:g} to {high:g}) look normalised"
    if low >= 0 and 128 <= inside.max() <= 255:
        return f"its values ({low:.0f} to {high:.0f}) look like a grey picture of 8 bits"
    if low >= -50 and tissue > 0.05:
        return f"it looks like stored CT values without the -1024 offset (its lowest is {low:.0f}, no air near -1000)"
    return f"it has no air near -1000 (its values are {low:.0f} to {high:.0f})"
