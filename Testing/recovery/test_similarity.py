"""Proves the similarity maps: their values, and that nothing from outside the lung enters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.recovery import similarity

GRID = Grid((20, 18, 16), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
LUNG = np.zeros(GRID.shape, bool)
LUNG[3:13, 3:15, 3:17] = True
MAPS = [similarity.ssim_map, similarity.lncc_map]


def scan(seed: int, sd: float = 100.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-800, sd, GRID.shape).astype(np.float32)


def image(values: np.ndarray):
    return to_image(values.astype(np.float32), GRID)


@pytest.mark.parametrize("similar", MAPS)
def test_the_same_scan_is_alike_everywhere_in_the_lung_and_zero_outside(similar):
    values = to_array(similar(image(scan(0)), image(scan(0)), LUNG))
    assert values.dtype == np.float32
    assert values[LUNG].min() > 0.97
    assert not values[~LUNG].any()


@pytest.mark.parametrize("similar", MAPS)
def test_nothing_outside_the_lung_enters(similar):
    one, other = scan(1), scan(2)
    changed = np.where(LUNG, other, 3000.0)
    np.testing.assert_array_equal(
        to_array(similar(image(one), image(other), LUNG)), to_array(similar(image(one), image(changed), LUNG))
    )


@pytest.mark.parametrize("similar", MAPS)
def test_unlike_scans_score_low_and_the_fields_edge_is_left_out(similar):
    inside = np.ones(GRID.shape, bool)
    inside[:6] = False
    values = to_array(similar(image(scan(1)), image(scan(2)), to_image(LUNG, GRID), inside))
    assert abs(values[LUNG & inside].mean()) < 0.2
    assert not values[~inside].any()


def test_values_equal_a_plain_float64_computation_at_one_voxel():
    b, w = scan(3), 0.6 * scan(3) + 0.4 * scan(4)
    z, y, x, r = 4, 4, 5, similarity.RADIUS
    box = (slice(z - r, z + r + 1), slice(y - r, y + r + 1), slice(x - r, x + r + 1))
    here = LUNG[box]
    p, q = (np.clip(a[box][here].astype(float), -1000, 200) + 1000 for a in (b, w))
    cov = np.mean(p * q) - p.mean() * q.mean()
    c1, c2 = (0.01 * 1200) ** 2, (0.03 * 1200) ** 2
    ssim = (2 * p.mean() * q.mean() + c1) / (p.mean() ** 2 + q.mean() ** 2 + c1)
    ssim *= (2 * cov + c2) / (p.var() + q.var() + c2)
    lncc = cov**2 / ((p.var() + 100) * (q.var() + 100))
    assert to_array(similarity.ssim_map(image(b), image(w), LUNG))[z, y, x] == pytest.approx(ssim, abs=1e-4)
    assert to_array(similarity.lncc_map(image(b), image(w), LUNG))[z, y, x] == pytest.approx(lncc, abs=1e-4)


def test_correlation_ignores_a_linear_change_of_grey_values_and_similarity_does_not():
    b = scan(5, 60.0)
    w = 0.5 * b - 300.0
    assert to_array(similarity.lncc_map(image(b), image(w), LUNG))[LUNG].mean() > 0.85
    assert to_array(similarity.ssim_map(image(b), image(w), LUNG))[LUNG].mean() < 0.85


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9999), sd=st.floats(0.0, 500.0), offset=st.floats(-300, 300))
def test_values_stay_in_range(seed, sd, offset):
    b, w = scan(seed, sd), scan(seed + 1, 20.0) + np.float32(offset)
    ssim = to_array(similarity.ssim_map(image(b), image(w), LUNG))
    lncc = to_array(similarity.lncc_map(image(b), image(w), LUNG))
    assert np.all((ssim >= -1) & (ssim <= 1 + 1e-6))
    assert np.all((lncc >= 0) & (lncc <= 1))


@pytest.mark.parametrize("similar", MAPS)
def test_no_lung_gives_an_empty_map(similar):
    assert not to_array(similar(image(scan(0)), image(scan(0)), np.zeros(GRID.shape, bool))).any()
