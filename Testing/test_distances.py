"""Distances to a mask: against all of its voxels looked at one by one."""

import numpy as np
from scipy.spatial.distance import cdist

from LungRecoveryLib.distances import distance_to


def test_distances_are_those_to_the_nearest_voxel():
    """With unequal steps, for a mask of single voxels and pieces that touch the border."""
    mask = np.random.default_rng(0).random((9, 8, 7)) < 0.05
    mask[:2, :3, :2] = True
    spacing = (2.5, 0.7, 0.8)
    places = np.argwhere(np.ones_like(mask)) * spacing
    expected = cdist(places, places[mask.ravel()]).min(axis=1).reshape(mask.shape)
    found = distance_to(mask, spacing)
    assert found.dtype == np.float32
    assert (found[mask] == 0).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_is_near_an_empty_mask():
    assert np.isinf(distance_to(np.zeros((3, 4, 5), bool))).all()
    assert (distance_to(np.ones((3, 4, 5), bool)) == 0).all()
