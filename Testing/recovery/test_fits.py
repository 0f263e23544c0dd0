"""Proves the two fits on curves with known parameters, and where they reach a level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.recovery import fits

DAYS = np.array([0.0, 30.0, 60.0, 90.0, 180.0, 360.0])
EQUAL = np.ones(DAYS.size)


def test_a_line_is_recovered_and_reaches_a_level():
    line = fits.fit_line(DAYS, np.stack([0.1 + 0.005 * DAYS, 0.9 - 0.001 * DAYS, np.full(6, 0.5)]), EQUAL)
    assert line.start == pytest.approx([0.1, 0.9, 0.5])
    assert line.slope == pytest.approx([0.005, -0.001, 0.0])
    assert line.reaches(0.85)[0] == pytest.approx(150.0)
    assert list(line.reaches(0.85)[1:]) == [0.0, np.inf]
    assert line.at(np.array([10.0]))[0, 0] == pytest.approx(0.15)


def test_weights_pull_the_line_to_the_better_points():
    y = np.array([[0.0, 1.0, 5.0]])
    line = fits.fit_line(np.array([0.0, 1.0, 2.0]), y, np.array([1e6, 1e6, 1.0]))
    assert line.slope[0] == pytest.approx(1.0, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(start=st.floats(-1, 1), end=st.floats(-1, 1), tau=st.floats(20, 500))
def test_an_exponential_approach_is_recovered(start, end, tau):
    truth = end + (start - end) * np.exp(-DAYS / tau)
    fit = fits.fit_approach(DAYS, truth[None], EQUAL)
    assert fit.at(DAYS)[0] == pytest.approx(truth, abs=2e-3)
    if abs(start - end) > 0.2:
        assert fit.time_constant[0] == pytest.approx(tau, rel=0.03)
        assert fit.end[0] == pytest.approx(end, abs=0.03)


def test_where_an_approach_reaches_a_level():
    truth = np.stack([1.0 - np.exp(-DAYS / 60), 0.8 - 0.8 * np.exp(-DAYS / 60), 0.5 + 0.5 * np.exp(-DAYS / 60)])
    reached = fits.fit_approach(DAYS, truth, EQUAL).reaches(0.85)
    assert reached[0] == pytest.approx(-60 * np.log(0.15), rel=0.01)
    assert list(reached[1:]) == [np.inf, 0.0]


def test_equal_values_fit_without_warning():
    with np.errstate(all="raise"):
        fit = fits.fit_approach(DAYS, np.full((2, 6), 0.3), EQUAL)
    assert fit.at(DAYS) == pytest.approx(0.3)


def test_an_exact_point_weighs_as_a_typical_one_so_that_a_line_does_not_hang_on_it():
    assert fits.weights_of(np.array([0.0, 0.1, 0.1])) == pytest.approx([100.0, 100.0, 100.0])
    assert fits.weights_of(np.zeros(3)) == pytest.approx(1.0)
