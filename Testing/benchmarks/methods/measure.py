"""What the benchmark measures of a transform, the same way for every method."""

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids

INSIDE_MM = 7.0
SMALLEST_JACOBIAN = 0.01


def landmark_errors(transform: sitk.Transform, fixed_points: np.ndarray, moving_points: np.ndarray) -> np.ndarray:
    """Sub-voxel distances (N,) in mm between the mapped points of the fixed image and the true ones."""
    return np.linalg.norm(grids.transform_points(transform, fixed_points) - moving_points, axis=1)


def jacobian_determinant(transform: sitk.Transform, grid: grids.Grid) -> np.ndarray:
    """det(grad phi) on a grid (z, y, x), by central differences over one voxel to either side.

    In index coordinates phi(i) = i + R(u), R being the grid's point-to-index matrix: its determinant is that in mm.
    """
    field = grids.transform_to_field(transform, grid).astype(np.float32)
    in_voxels = np.einsum("ij,jzyx->izyx", np.linalg.inv(grid.index_to_point).astype(np.float32), field)
    rows = []
    for component in range(3):
        along_z, along_y, along_x = np.gradient(in_voxels[component])
        rows.append([along_x, along_y, along_z])
        rows[component][component] = rows[component][component] + 1.0
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def folding_percent(jacobian: np.ndarray, lungs: sitk.Image) -> float:
    """The share of the lung's voxels where the map folds, J <= 0."""
    inside = sitk.GetArrayViewFromImage(lungs) != 0
    return 100.0 * float((jacobian[inside] <= 0).mean())


def log_jacobian_error(jacobian: np.ndarray, truth: np.ndarray, lungs: sitk.Image) -> float:
    """Mean |log J - log J true| over the lung deeper than `INSIDE_MM`; J counts as at least `SMALLEST_JACOBIAN`."""
    depth = sitk.SignedMaurerDistanceMap(lungs != 0, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    inside = sitk.GetArrayViewFromImage(depth) > INSIDE_MM
    logs = [np.log(np.maximum(j[inside], SMALLEST_JACOBIAN)) for j in (jacobian, truth)]
    return float(np.abs(logs[0] - logs[1]).mean())
