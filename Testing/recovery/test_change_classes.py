"""Voxel classes of change: exact on constructed pairs, unmoved by a breath, complete over the lung."""

import numpy as np
import pytest

from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.recovery.change_classes import EDGES_HU, band_changes, joint_histogram
from LungRecoveryLib.recovery.density import DEFAULT_BANDS

GRID = Grid((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
LUNG = np.ones(GRID.shape, bool)


def image(values):
    return to_image(np.broadcast_to(np.asarray(values, np.float32), GRID.shape).copy(), GRID)


def halves(left, right):
    return np.where(np.arange(10) < 5, left, right)


def test_each_voxel_goes_from_its_band_to_its_band():
    """Ground glass that cleared on one half, aerated lung that stayed on the other."""
    table = band_changes(image(halves(-500, -850)), image(-850), image(1.0), LUNG, DEFAULT_BANDS)
    assert table["poorly_aerated"]["well_aerated"] == pytest.approx(50)
    assert table["well_aerated"]["well_aerated"] == pytest.approx(50)
    assert sum(sum(row.values()) for row in table.values()) == pytest.approx(100)


def test_a_deeper_breath_alone_moves_nothing():
    """Twice the volume, half the density: the same class, although -925 HU became hyperinflated to the eye."""
    before = image(halves(-740, -910))
    after = image(halves(-870, -955))
    table = band_changes(before, after, image(2.0), LUNG, DEFAULT_BANDS)
    assert table["well_aerated"]["well_aerated"] == pytest.approx(100)
    shares = joint_histogram(before, after, image(2.0), LUNG)
    assert np.trace(shares) == pytest.approx(100)


def test_only_what_both_scans_show_counts():
    inside = np.zeros(GRID.shape, bool)
    inside[:, :, :5] = True
    table = band_changes(image(halves(-500, -850)), image(-500), image(1.0), LUNG, DEFAULT_BANDS, inside)
    assert table["poorly_aerated"]["poorly_aerated"] == pytest.approx(100)
    assert band_changes(image(0), image(0), image(1.0), LUNG, DEFAULT_BANDS, ~LUNG) == {}


def test_joint_histogram_has_the_baseline_in_rows_and_holds_outliers():
    shares = joint_histogram(image(halves(-610, 900)), image(-850), image(1.0), LUNG)
    row, last, column = (np.searchsorted(EDGES_HU, hu) - 1 for hu in (-610, 95, -850 + 0.1))
    assert shares[row, column] == pytest.approx(50)
    assert shares[last, column] == pytest.approx(50)
    assert shares.sum() == pytest.approx(100)
