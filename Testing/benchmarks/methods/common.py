"""What every method starts from: the pair, and one initial alignment of the lung masks for all that need one."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids

WINDOW_HU = (-1024.0, 600.0)


@dataclass(frozen=True)
class Pair:
    """Two CTs of one patient (int16 HU) and their lung masks (uint8, non-zero in the lungs), None where not given."""

    fixed: sitk.Image
    moving: sitk.Image
    fixed_lungs: sitk.Image | None
    moving_lungs: sitk.Image | None


def windowed(image: sitk.Image) -> sitk.Image:
    """The CT as float32 HU with the padding outside the scan raised to air and metal cut off."""
    return sitk.Clamp(image, sitk.sitkFloat32, *WINDOW_HU)


def binary(lungs: sitk.Image, margin_mm: float = 0.0) -> sitk.Image:
    """The mask of both lungs, uint8 0 or 1, grown by a margin in mm."""
    mask = lungs != 0
    if margin_mm > 0:
        distance = sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)
        mask = distance <= margin_mm
    return sitk.Cast(mask, sitk.sitkUInt8)


def align_lungs(fixed_lungs: sitk.Image, moving_lungs: sitk.Image) -> sitk.AffineTransform:
    """Take the centre of the fixed lungs to that of the moving ones and scale each LPS axis by their extents' ratio.

    The extent along an axis is the standard deviation of the mask's voxel positions.
    """
    (fixed_centre, fixed_extent), (moving_centre, moving_extent) = (
        _centre_and_extent(mask) for mask in (fixed_lungs, moving_lungs)
    )
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.diag(moving_extent / fixed_extent).ravel().tolist())
    transform.SetCenter(fixed_centre.tolist())
    transform.SetTranslation((moving_centre - fixed_centre).tolist())
    return transform


def _centre_and_extent(mask: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask) != 0)[:, ::-1]
    points = grids.grid_of(mask).points(indices)
    return points.mean(axis=0), points.std(axis=0)


def affine_matrix(transform: sitk.AffineTransform) -> np.ndarray:
    """The homogeneous (4, 4) matrix of an affine transform, on LPS mm points, its centre folded in."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def affine_from_matrix(matrix: np.ndarray) -> sitk.AffineTransform:
    """The affine transform of a homogeneous (4, 4) matrix on LPS mm points."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.asarray(matrix, float)[:3, :3].ravel().tolist())
    transform.SetTranslation(np.asarray(matrix, float)[:3, 3].tolist())
    return transform
