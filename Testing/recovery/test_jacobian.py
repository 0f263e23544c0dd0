"""Proves the Jacobian statistics, ADI and SRI against affine maps whose stretches are known, on oblique grids too."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.recovery import jacobian

STRAIGHT = Grid((12, 11, 10), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def oblique(seed: int = 3) -> Grid:
    axes = rotation(np.random.default_rng(seed))
    return Grid((12, 11, 10), (0.8, 1.5, 2.5), (-31.0, 12.0, -920.0), tuple(axes.ravel().tolist()))


def affine_displacement(grid: Grid, matrix: np.ndarray, shift=(3.0, -7.0, 11.0)) -> sitk.Image:
    """The displacement of p -> matrix p + shift on a grid."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1).reshape(-1, 3)
    u = grid.points(index) @ (matrix - np.eye(3)).T + np.array(shift)
    return to_image(np.ascontiguousarray(u.T.reshape(3, *grid.size).transpose(0, 3, 2, 1)).astype(np.float32), grid)


def reference_indices(matrix: np.ndarray) -> tuple[float, float]:
    l1, l2, l3 = np.linalg.svd(matrix, compute_uv=False)
    adi = np.sqrt(((l1 - l2) / l2) ** 2 + ((l2 - l3) / l3) ** 2)
    return adi, 2 / np.pi * np.arctan2(l3 * (l1 - l2), l2 * (l2 - l3))


@pytest.mark.parametrize("grid", [STRAIGHT, oblique()], ids=["straight", "oblique"])
@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.3, 1.1, 0.9]),
        np.array([[1.0, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([[1.1, 0.2, -0.1], [0.05, 0.8, 0.3], [0.1, -0.2, 1.4]]),
    ],
    ids=["stretch", "shear", "general"],
)
def test_indices_of_an_affine_map_are_exact_on_any_grid(grid, matrix):
    mask = np.ones(grid.shape, bool)
    adi, sri = jacobian.deformation_indices(affine_displacement(grid, matrix), mask)
    expected = reference_indices(matrix)
    assert adi == pytest.approx(expected[0], abs=2e-3)
    assert sri == pytest.approx(expected[1], abs=2e-3)


def test_slab_and_rod_are_told_apart():
    mask = np.ones(STRAIGHT.shape, bool)
    for stretches, expected in (((1.5, 1.5, 1.0), 0.0), ((1.5, 1.0, 1.0), 1.0), ((1.2, 1.2, 1.2), 0.0)):
        adi, sri = jacobian.deformation_indices(affine_displacement(STRAIGHT, np.diag(stretches)), mask)
        assert sri == pytest.approx(expected, abs=1e-3)
        assert adi == pytest.approx(reference_indices(np.diag(stretches))[0], abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), stretches=st.tuples(*[st.floats(0.5, 2.0)] * 3))
def test_indices_do_not_depend_on_how_space_is_turned(seed, stretches):
    rng = np.random.default_rng(seed)
    matrix = rotation(rng) @ np.diag(stretches) @ rotation(rng)
    mask = np.zeros(STRAIGHT.shape, bool)
    mask[3:6, 3:6, 3:6] = True
    adi, sri = jacobian.deformation_indices(affine_displacement(STRAIGHT, matrix), mask)
    assert np.nanmean(adi) == pytest.approx(reference_indices(matrix)[0], abs=5e-3)
    assert np.all((sri[mask] >= 0) & (sri[mask] <= 1))
    assert np.all(np.isnan(adi[~mask]) & np.isnan(sri[~mask]))


def test_the_closed_form_stretches_are_the_singular_values():
    matrices = np.eye(3) + np.random.default_rng(0).normal(0, 0.4, (500, 3, 3))
    expected = np.linalg.svd(matrices, compute_uv=False)
    assert np.stack(jacobian._stretches(matrices), 1) == pytest.approx(expected, abs=1e-6)


def field_with_folds() -> tuple[sitk.Image, np.ndarray]:
    values = np.full(STRAIGHT.shape, 2.0, np.float32)
    values[:5] = 0.5
    values[0, 0, :2] = (-1.0, 0.0)
    return to_image(values, STRAIGHT), values


def test_statistics_of_known_values_and_folds_are_counted_not_logged():
    image, values = field_with_folds()
    everything = np.ones(STRAIGHT.shape, bool)
    lower = np.zeros_like(everything)
    lower[5:] = True
    normalised, mean = jacobian.normalised_jacobian(image, everything)
    table = jacobian.statistics(
        image, normalised, affine_displacement(STRAIGHT, np.eye(3) * 2 ** (1 / 3)), {"lungs": everything, "low": lower}
    )
    whole, low = table["lungs"], table["low"]
    positive = values[values > 0].astype(float)
    assert mean == pytest.approx(values.mean(dtype=float))
    assert whole["mean"] == pytest.approx(mean)
    assert whole["volume_change_percent"] == pytest.approx(100 * (mean - 1))
    assert whole["log_mean"] == pytest.approx(np.log(positive).mean())
    assert whole["log_sd"] == pytest.approx(np.log(positive).std())
    assert whole["normalized_mean"] == pytest.approx(1.0)
    assert (whole["folded_voxels"], whole["voxels"]) == (2, values.size)
    assert [low[name] for name in ("mean", "median", "p05", "p95", "sd")] == pytest.approx([2, 2, 2, 2, 0])
    assert low["adi_mean"] == pytest.approx(0.0, abs=1e-4)
    assert low["sri_mean"] == 0.0


def test_a_region_that_folds_everywhere_has_no_logarithm():
    image = to_image(np.full(STRAIGHT.shape, -1.0, np.float32), STRAIGHT)
    table = jacobian.statistics(
        image, image, affine_displacement(STRAIGHT, np.eye(3)), {"lungs": np.ones(STRAIGHT.shape, bool)}
    )["lungs"]
    assert [table[name] for name in ("log_mean", "log_sd", "adi_mean", "sri_mean")] == [None] * 4
    assert table["mean"] == -1.0


def test_only_what_both_scans_show_counts():
    values = np.full(STRAIGHT.shape, 1.0, np.float32)
    values[:, :, 6:] = 3.0
    image, inside = to_image(values, STRAIGHT), np.zeros(STRAIGHT.shape, bool)
    inside[:, :, :6] = True
    lungs = np.ones(STRAIGHT.shape, bool)
    normalised, mean = jacobian.normalised_jacobian(image, lungs, inside)
    assert mean == pytest.approx(1.0)
    regions = {"lungs": lungs, "unseen": ~inside}
    table = jacobian.statistics(image, normalised, affine_displacement(STRAIGHT, np.eye(3)), regions, inside)
    assert set(table) == {"lungs"}
    assert table["lungs"]["voxels"] == inside.sum()


def test_no_common_lung_is_refused_in_words():
    image = to_image(np.ones(STRAIGHT.shape, np.float32), STRAIGHT)
    with pytest.raises(BadInput, match="fields of view"):
        jacobian.normalised_jacobian(image, np.ones(STRAIGHT.shape, bool), np.zeros(STRAIGHT.shape, bool))
    folded = to_image(np.full(STRAIGHT.shape, -1.0, np.float32), STRAIGHT)
    with pytest.raises(BadInput, match="unusable"):
        jacobian.normalised_jacobian(folded, np.ones(STRAIGHT.shape, bool))


def test_the_mask_volumes_only_check_the_jacobian_beyond_five_percent():
    assert jacobian.volume_check(1.04, 1.0) is None
    assert jacobian.volume_check(0.96, 1.0) is None
    assert "7 %" in jacobian.volume_check(1.07, 1.0)


def test_the_normalised_jacobian_removes_a_global_factor_only():
    pattern = np.random.default_rng(1).uniform(0.5, 1.5, STRAIGHT.shape).astype(np.float32)
    lungs = np.ones(STRAIGHT.shape, np.uint8)
    one, _ = jacobian.normalised_jacobian(to_image(pattern, STRAIGHT), to_image(lungs, STRAIGHT))
    other, mean = jacobian.normalised_jacobian(to_image(pattern * 1.7, STRAIGHT), to_image(lungs, STRAIGHT))
    assert to_array(one) == pytest.approx(to_array(other), rel=1e-5)
    assert mean == pytest.approx(1.7 * pattern.mean(), rel=1e-5)
