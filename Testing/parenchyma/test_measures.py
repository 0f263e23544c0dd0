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
        assert found["mean_excess_hu"] == pytest.approx(300)
        assert found["volume_ml"] == pytest.approx((10 + faint) * chest.grid.voxel_ml)
        assert found["subtle_mean_excess_hu"] == (20 if faint else None)
    found = lesion_measures(to_image(excess, chest.grid), to_image(lesions * (lesions == 2), chest.grid), 1000.0)
    assert found["mean_excess_hu"] == pytest.approx(20)


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
    assert np.ptp(means) < 4
    assert plain[0] + 20 < means[0] < 300  # the rim counts less than the ball


def test_ground_glass_counts_as_much_as_a_dense_core_in_it(chest):
    """What is well above the baseline counts in full, whatever lies beside it."""
    excess, lesions = np.zeros(chest.hu.shape, np.int16), np.zeros(chest.hu.shape, np.uint8)
    excess[8:20, 8:20, 8:38] = 200
    excess[8:20, 8:20, 8:14] = 800
    lesions[8:20, 8:20, 8:38] = 1
    found = lesion_measures(to_image(excess, chest.grid), to_image(lesions, chest.grid), 1000.0)
    assert found["mean_excess_hu"] == pytest.approx((800 * 6 + 200 * 24) / 30, rel=0.02)


def test_faint_lesions_have_a_mean_of_their_own(chest):
    """Where nothing is plainly visible, and little counts, the mean is still that of the lesion."""
    excess, lesions = np.zeros(chest.hu.shape, np.int16), np.zeros(chest.hu.shape, np.uint8)
    excess[8:20, 8:20, 8:38] = 40
    lesions[8:20, 8:20, 8:38] = 2
    found = lesion_measures(to_image(excess, chest.grid), to_image(lesions, chest.grid), 1000.0)
    assert found["mean_excess_hu"] == pytest.approx(40)
