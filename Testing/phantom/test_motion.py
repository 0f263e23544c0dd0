"""The motion is an exact map: its inverse, its Jacobian, sliding at the chest wall and smoothness inside the lungs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.grids import to_array
from LungRecoveryLib.phantom import make_pair
from LungRecoveryLib.phantom.motion import Motion, Thorax, random_motion
from LungRecoveryLib.phantom.ventilation import STEEPEST, Ventilation, random_waves


def points_in_chest(rng, count=20_000):
    return rng.uniform(-1, 1, (count, 3)) * (110.0, 85.0, 130.0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), depth=st.floats(-45, 75))
def test_inverse_undoes_forward(seed, depth):
    """Forward and back ends within 0.02 mm everywhere, for breaths up to 75 mm, tables up to 35 mm off."""
    rng = np.random.default_rng(seed)
    motion = random_motion(rng, Thorax(), depth, table_mm=20.0, table_degrees=3.0)
    points = points_in_chest(rng, 3000)
    assert np.abs(motion.inverse(motion.forward(points)) - points).max() < 0.02


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), depth=st.floats(-45, 75))
def test_jacobian_is_the_derivative_of_the_map(seed, depth):
    """The closed-form determinant equals the one of central differences, and the map never folds."""
    rng = np.random.default_rng(seed)
    thorax = Thorax()
    motion = random_motion(rng, thorax, depth, table_mm=5.0)
    points = points_in_chest(rng, 3000)
    # Keep off the chest wall: the map jumps there.
    points = points[np.abs(thorax.wall_level(*thorax.to_chart(*points.T))) > 0.02]
    step = 0.01
    columns = [(motion.forward(points + e) - motion.forward(points - e)) / (2 * step) for e in np.eye(3) * step]
    assert np.allclose(motion.jacobian(points), np.linalg.det(np.stack(columns, -1)), atol=2e-4)
    assert motion.jacobian(points).min() > 0.05


def test_lungs_slide_along_the_wall():
    """On both sides of the chest wall's inner surface the motion differs by centimetres, but only along the wall."""
    thorax = Thorax()
    motion = Motion(thorax=thorax, depth=50.0, wall=4.0)
    z = np.linspace(-40, 40, 9)
    level = lambda s: thorax.wall_level(np.array([s]), np.array([0.0]))[0]
    low, high = 0.8, 1.2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if level(middle) < 0 else (low, middle)
    sides = []
    for xi in (low - 1e-6, low + 1e-6):
        x, y = thorax.from_chart(np.full(9, xi), np.zeros(9), z)
        sides.append(motion.forward(np.stack([x, y, z], 1)))
    jump = sides[0] - sides[1]
    assert np.abs(jump[:, 2]).min() > 10.0
    # The lung's side still touches the wall: no gap opens and nothing overlaps.
    inside, outside = (thorax.to_chart(*side.T, motion.widen)[0] for side in sides)
    assert np.abs(inside - outside).max() < 1e-5


def test_single_precision_agrees():
    """Images are traced in float32: that costs less than 0.005 mm."""
    rng = np.random.default_rng(3)
    motion = random_motion(rng, Thorax(), 60.0)
    points = points_in_chest(rng)
    exact = motion.inverse(points)
    traced, _, _ = motion.inverse_coordinates(tuple(points.T.astype(np.float32)))
    assert traced[0].dtype == np.float32
    difference = np.abs(np.stack(traced, 1) - exact).max(axis=1)
    # A point on the wall itself may be taken for either side.
    assert np.quantile(difference, 0.999) < 0.005


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_scaled_breathing(factor):
    """Scaling changes the breathing and leaves posture and table alone."""
    motion = random_motion(np.random.default_rng(1), Thorax(), 40.0)
    scaled = motion.scaled(factor)
    assert scaled.depth == pytest.approx(40.0 * factor)
    assert scaled.shift == motion.shift
    assert scaled.posture == motion.posture


def remainder_mm(start, end):
    """What the best affine map leaves of the motion from `start` to `end`, (N, 3) both; (N,) mm."""
    columns = np.column_stack([start, np.ones(len(start))])
    return np.linalg.norm(columns @ np.linalg.lstsq(columns, end, rcond=None)[0] - end, axis=1)


@pytest.mark.parametrize(("motion_mm", "least", "most"), [(25.0, 3.5, 7.5), (11.0, 2.0, 4.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_pairs_are_far_from_affine(motion_mm, least, most, seed):
    """No affine map comes close to a pair's motion, yet no tissue is squeezed or stretched beyond what lungs do."""
    patient = make_pair(seed, motion_mm, (60, 46, 62), (5.0,) * 3)
    baseline, visit = patient.visits
    assert least < remainder_mm(baseline.landmarks, visit.landmarks).mean() < most
    jacobian = to_array(visit.jacobian)[to_array(baseline.lungs) > 0]
    assert jacobian.min() > 0.2
    assert 0.3 < np.quantile(jacobian, 0.01) < np.quantile(jacobian, 0.99) < 2.4
    if motion_mm == 25.0:
        assert np.log(jacobian).std() > 0.14


def test_ventilation_never_folds():
    """Waves too strong for a diffeomorphism are lowered until they are one, and undone exactly."""
    rng = np.random.default_rng(5)
    thorax = Thorax()
    ventilation = Ventilation(random_waves(rng, (60.0, 60.0, 60.0)), (thorax.width, thorax.depth))
    xi, eta, z = rng.uniform(-1, 1, (3, 20_000)) * np.array([[0.9], [0.9], [150.0]])
    inside = thorax.wall_level(xi, eta) < 0
    chart = (xi[inside], eta[inside], z[inside])
    moved, determinant = ventilation.forward(chart)
    assert determinant.min() >= (1 - STEEPEST) ** 3
    back, again = ventilation.inverse(moved)
    assert np.abs(np.array(back) - np.array(chart)).max(axis=1) @ [thorax.width, thorax.depth, 1.0] < 0.02
    assert np.allclose(determinant, again, atol=1e-4)
    # Nothing leaves the chest, and what lies at its wall stays there.
    assert thorax.wall_level(moved[0], moved[1]).max() < 0
    level = thorax.wall_level(chart[0], chart[1])
    rim = level > -0.005
    assert rim.sum() > 50
    assert np.abs(np.array(moved)[:2, rim] - np.array(chart)[:2, rim]).max() < 1e-3
