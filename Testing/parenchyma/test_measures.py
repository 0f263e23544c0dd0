"""A scan's lesions measure the same, whatever its noise lets see of them."""

import numpy as np
import pytest

from LungRecoveryLib.grids import to_image
from LungRecoveryLib.parenchyma.measures import lesion_measures


def test_the_mean_is_that_of_what_is_plainly_visible(chest):
    """How many faint voxels are seen is the noise's doing; the mean does not follow it."""
    excess, lesions = np.zeros(chest.hu.shape, np.int16), np.zeros(chest.hu.shape, np.uint8)
    lesions[5, 5, 5:15], excess[5, 5, 5:15] = 1, 300
    for faint in (0, 10, 60):
        lesions[7, 7, :faint], excess[7, 7, :faint] = 2, 20
        found = lesion_measures(to_image(excess, chest.grid), to_image(lesions, chest.grid), 1000.0)
        assert found["mean_excess_hu"] == 300
        assert found["volume_ml"] == pytest.approx((10 + faint) * chest.grid.voxel_ml)
        assert found["subtle_mean_excess_hu"] == (20 if faint else None)
    found = lesion_measures(to_image(excess, chest.grid), to_image(lesions * (lesions == 2), chest.grid), 1000.0)
    assert found["mean_excess_hu"] == 20


def test_the_mean_does_not_follow_how_much_of_a_soft_rim_is_drawn(chest):
    """A ball of 300 HU whose rim falls off over 8 mm, drawn down to 40, 80 and 120 HU under noise of 30 HU."""
    grid = chest.grid
    off = [(np.arange(n) - n // 2) * step for n, step in zip(grid.shape, grid.spacing[::-1], strict=True)]
    distance = np.sqrt(sum(np.square(o) for o in np.meshgrid(*off, indexing="ij")))
    profile = 300.0 * np.clip((18.0 - distance) / 8.0, 0, 1)
    noisy = np.rint(profile + np.random.default_rng(0).normal(0, 30.0, profile.shape)).astype(np.int16)
    means, plain = [], []
    for limit in (40, 80, 120):
        drawn = profile > limit
        found = lesion_measures(to_image(noisy, grid), to_image(drawn.astype(np.uint8), grid), 1000.0)
        means.append(found["mean_excess_hu"])
        plain.append(noisy[drawn].mean())
    assert np.ptp(plain) > 30
    assert np.ptp(means) < 6
    assert means[0] == pytest.approx(300.0, abs=20)  # the ball's own
    assert plain[0] < 240


def test_a_dense_core_does_not_hide_ground_glass_far_from_it(chest):
    """Only what borders on something far denser is a rim: ground glass of the same piece counts."""
    excess, lesions = np.zeros(chest.hu.shape, np.int16), np.zeros(chest.hu.shape, np.uint8)
    excess[8:20, 8:20, 8:38] = 200
    excess[8:20, 8:20, 8:14] = 800
    lesions[8:20, 8:20, 8:38] = 1
    found = lesion_measures(to_image(excess, chest.grid), to_image(lesions, chest.grid), 1000.0)
    near = round(6.0 / chest.grid.spacing[0])
    expected = (800 * 6 + 200 * (24 - near)) / (30 - near)
    assert found["mean_excess_hu"] == pytest.approx(expected, rel=0.05)
