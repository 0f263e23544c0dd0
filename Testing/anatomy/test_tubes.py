"""What vessels and airways are recognised by."""

import numpy as np
import pytest

from LungRecoveryLib.anatomy.tubes import eigenvalues, tube_spacing
from LungRecoveryLib.grids import Grid

_SPECIAL = [np.zeros((3, 3)), 3.0 * np.eye(3), np.diag([1.0, 1.0, -2.0]), np.diag([-5.0, -5.0, 0.0])]


def test_eigenvalues_are_those_of_the_library():
    """To 1e-9 of the largest, for random symmetric matrices and for those with equal eigenvalues."""
    random = np.random.default_rng(0).normal(0, 50, (2000, 3, 3))
    matrices = np.concatenate([random + random.transpose(0, 2, 1), _SPECIAL])
    found = eigenvalues(matrices[:, [0, 1, 2], [0, 1, 2]].T, matrices[:, [0, 1, 2], [1, 2, 0]].T)
    expected = np.linalg.eigvalsh(matrices)[:, ::-1].T
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [((0.7, 0.7, 5.0), 1.0), ((1.3, 1.3, 1.3), 1.3), ((2.0, 2.0, 2.0), 1.5), ((3.5, 3.5, 3.5), 2.45)],
)
def test_the_grid_is_as_fine_as_the_scan_is_worth(spacing, expected):
    """Its own voxels, but none finer than asked for, and coarse ones split a little."""
    grid = Grid((10, 10, 10), spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    assert tube_spacing(grid, 1.0) == pytest.approx(expected)
