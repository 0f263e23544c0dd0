"""The benchmark measures what it says: errors, Jacobians, folds, and one outlier left out for all methods alike."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import Grid, field_to_transform, grid_of, to_image
from methods import common, measure, table

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((24, 22, 20), (1.5, 2.0, 2.5), (-20.0, 10.0, -920.0), OBLIQUE)


def affine(matrix, offset=(0.0, 0.0, 0.0)):
    return common.affine_from_matrix(np.block([[np.array(matrix), np.array(offset)[:, None]], [np.zeros(3), 1.0]]))


def box_mask(grid, size):
    """A solid box of `size` voxels (x, y, z) in the middle of a grid."""
    array = np.zeros(grid.shape, np.uint8)
    start = [(n - s) // 2 for n, s in zip(grid.size, size, strict=True)]
    array[tuple(slice(a, a + s) for a, s in zip(start[::-1], size[::-1], strict=True))] = 1
    return to_image(array, grid)


def test_the_jacobian_of_an_affine_map_is_its_determinant_on_an_oblique_grid():
    matrix = np.array([[1.2, 0.1, 0.0], [-0.2, 0.9, 0.05], [0.0, 0.1, 1.1]])
    jacobian = measure.jacobian_determinant(affine(matrix, (5.0, -3.0, 40.0)), GRID)
    np.testing.assert_allclose(jacobian, np.linalg.det(matrix), rtol=1e-4)


def test_the_jacobian_of_a_smooth_stretch_is_its_derivative():
    grid = Grid((60, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    x = np.arange(60.0)
    field = np.zeros((3, *grid.shape))
    field[0] = 4.0 * np.sin(x / 10.0)
    jacobian = measure.jacobian_determinant(field_to_transform(field, grid), grid)
    np.testing.assert_allclose(jacobian[4, 4, 1:-1], 1.0 + 0.4 * np.cos(x[1:-1] / 10.0), atol=1e-3)


def test_folds_are_the_share_of_the_lung_that_is_turned_inside_out():
    lungs = box_mask(GRID, (10, 10, 10))
    jacobian = np.ones(GRID.shape)
    jacobian[GRID.shape[0] // 2 :] = -1.0
    assert measure.folding_percent(jacobian, lungs) == pytest.approx(50.0)
    assert measure.folding_percent(np.abs(jacobian), lungs) == 0.0


def test_the_jacobian_error_counts_only_deep_in_the_lung():
    lungs = box_mask(GRID, (20, 18, 16))
    truth = np.full(GRID.shape, 1.3)
    wrong_outside = np.where(sitk.GetArrayFromImage(lungs) == 1, 1.3, 5.0)
    assert measure.log_jacobian_error(wrong_outside, truth, lungs) == 0.0
    assert measure.log_jacobian_error(truth * np.exp(0.25), truth, lungs) == pytest.approx(0.25)
    assert measure.log_jacobian_error(-truth, truth, lungs) == pytest.approx(np.log(1.3 / 0.01))


def test_the_common_start_takes_centre_to_centre_and_extent_to_extent():
    small, large = box_mask(GRID, (8, 8, 8)), box_mask(GRID, (16, 12, 8))
    moved = sitk.Image(large)
    moved.SetOrigin((30.0, 5.0, -800.0))
    initial = common.align_lungs(small, moved)
    centres = [grid_of(m).points(np.argwhere(sitk.GetArrayViewFromImage(m))[:, ::-1]).mean(0) for m in (small, moved)]
    np.testing.assert_allclose(initial.TransformPoint(centres[0].tolist()), centres[1], atol=1e-9)
    assert np.linalg.det(np.array(initial.GetMatrix()).reshape(3, 3)) > 2.0
    point = (3.0, -7.0, 11.0)
    copy = common.affine_from_matrix(common.affine_matrix(initial))
    np.testing.assert_allclose(copy.TransformPoint(point), initial.TransformPoint(point))


def run_of(method, errors, **more):
    return {
        "method": method,
        "errors_mm": errors,
        "folding_percent": 0.0,
        "seconds": 2.0,
        "peak_memory_gb": 1.0,
        **more,
    }


def test_the_landmark_that_is_worst_for_the_methods_at_large_is_left_out_for_all():
    results = {
        "real": {
            "before": run_of("before", [50.0, 40.0, 30.0]),
            "greedy": run_of("greedy", [1.0, 14.0, 2.0]),
            "demons": run_of("demons", [1.0, 13.0, 20.0]),
            "elastix": run_of("elastix", [1.0, 13.5, 3.0]),
        }
    }
    rows = table.tables(results)["real"]["rows"]
    assert rows["greedy"]["tre_mean_without_outlier_mm"] == pytest.approx(1.5)
    assert rows["demons"]["tre_mean_without_outlier_mm"] == pytest.approx(10.5)
    assert rows["before"]["tre_mean_without_outlier_mm"] == pytest.approx(40.0)


def test_the_table_has_means_over_the_phantoms_and_leaves_out_a_method_that_lacks_one():
    results = {
        "phantom-1-25mm": {
            "greedy": run_of("greedy", [1.0, 1.0], log_jacobian_error=0.1),
            "demons": run_of("demons", [9.0, 9.0], log_jacobian_error=0.2),
        },
        "phantom-1-11mm": {"greedy": run_of("greedy", [2.0, 4.0], log_jacobian_error=0.3)},
    }
    made = table.tables(results)
    assert list(made) == ["phantom"]
    assert list(made["phantom"]["rows"]) == ["greedy"]
    row = made["phantom"]["rows"]["greedy"]
    assert (row["tre_mean_mm"], row["log_jacobian_error"]) == pytest.approx((2.0, 0.2))
    assert "| Greedy | 2.00 |" in table.markdown(made)
