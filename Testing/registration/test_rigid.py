"""Rigid registration recovers known motions between contrast phases, by every metric, and refuses what it cannot do."""

import numpy as np
import pytest
import SimpleITK as sitk

from abdomens import mean_error_mm, small_abdomen
from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.phantom.abdomen import make_abdomen
from LungRecoveryLib.registration.motion6 import matrix_4x4
from LungRecoveryLib.registration.point_metrics import METRICS
from LungRecoveryLib.registration.rigid import register_rigid
from LungRecoveryLib.resources import NO_NETWORK, RIGID_WEIGHTS

SPACING = 4.0


def found_and_error(venous, arterial, masks: bool = True, **options):
    organs = (venous.liver, arterial.liver) if masks else (None, None)
    found = register_rigid(venous.ct, arterial.ct, *organs, spacing_mm=SPACING, **options)
    return found, mean_error_mm(found.transform, arterial.from_body, venous.liver)


@pytest.mark.parametrize(
    ("metric", "limit_mm"),
    [
        ("nmi", 0.6),
        pytest.param("mi", 0.6, marks=pytest.mark.slow),
        ("ncc", 0.9),
        pytest.param("mind", 0.6, marks=pytest.mark.slow),
    ],
)
def test_every_metric_recovers_the_motion_between_the_phases(metric, limit_mm):
    """Voxels are 4 mm here: the limits are a sixth to a quarter of them."""
    venous, arterial = small_abdomen()
    found, error = found_and_error(venous, arterial, metric=metric)
    assert error < limit_mm
    assert abs(np.linalg.det(matrix_4x4(found.transform)[:3, :3]) - 1) < 1e-6
    assert found.after < found.before


@pytest.mark.slow
def test_squares_of_differences_do_for_one_phase():
    venous, _ = small_abdomen()
    shift = sitk.Euler3DTransform()
    shift.SetRotation(0.05, -0.1, 0.08)
    shift.SetTranslation((9.0, -7.0, 5.0))
    moved = sitk.Resample(venous.ct, venous.ct, shift.GetInverse(), sitk.sitkLinear, -1024)
    found = register_rigid(venous.ct, moved, venous.liver, metric="mse", spacing_mm=SPACING)
    assert mean_error_mm(found.transform, shift, venous.liver) < 0.5


@pytest.mark.parametrize(
    ("weights", "start"),
    [(RIGID_WEIGHTS, "network"), pytest.param(NO_NETWORK, "search", marks=pytest.mark.slow)],
)
def test_thirty_degrees_and_fifty_millimetres_without_any_mask(weights, start):
    venous, arterial = small_abdomen(6, (0.0, 0.0, 30.0), (40.0, -30.0, 0.0))
    found, error = found_and_error(venous, arterial, masks=False, weights=weights)
    assert error < 1.0
    assert found.start == start


@pytest.mark.slow
def test_a_scan_that_resampling_has_padded_is_not_held_by_the_padding():
    venous, arterial = small_abdomen()
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.0, 0.0, 0.45)
    padded = sitk.Resample(arterial.ct, arterial.ct, turn, sitk.sitkLinear, -1024)
    true = sitk.CompositeTransform([turn.GetInverse(), arterial.from_body])
    found = register_rigid(venous.ct, padded, venous.liver, spacing_mm=SPACING)
    assert mean_error_mm(found.transform, true, venous.liver) < 1.0


def test_an_affine_estimate_ends_as_its_nearest_rotation():
    venous, arterial = small_abdomen()
    found, error = found_and_error(venous, arterial, affine=True)
    assert error < 0.6
    assert found.affine is not None
    assert abs(np.linalg.det(matrix_4x4(found.affine)[:3, :3]) - 1) > 1e-6  # it was free to scale
    assert abs(np.linalg.det(matrix_4x4(found.transform)[:3, :3]) - 1) < 1e-6


def test_an_initial_transform_replaces_the_search():
    venous, arterial = small_abdomen()
    initial = sitk.AffineTransform(3)
    matrix = matrix_4x4(arterial.from_body)
    initial.SetMatrix((1.05 * matrix[:3, :3]).ravel().tolist())
    initial.SetTranslation((matrix[:3, 3] + 3.0).tolist())
    _, error = found_and_error(venous, arterial, initial=initial)
    assert error < 0.6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_transform():
    venous, arterial = small_abdomen()
    start = {"initial": sitk.Euler3DTransform(arterial.from_body), "seed": 3}
    first, again = (found_and_error(venous, arterial, **start)[0].transform for _ in range(2))
    assert np.array_equal(matrix_4x4(first), matrix_4x4(again))


def test_scans_of_different_places_are_refused():
    venous, arterial = small_abdomen()
    away = sitk.Image(arterial.ct)
    away.SetOrigin((900.0, 0.0, 0.0))
    with pytest.raises(BadInput, match="do not overlap"):
        register_rigid(venous.ct, away, venous.liver, initial=sitk.Euler3DTransform(), spacing_mm=SPACING)


def test_different_patients_are_refused():
    venous, _ = small_abdomen()
    _, other = make_abdomen(77, (87, 66, 68), (SPACING,) * 3)
    with pytest.raises(BadInput, match="same patient"):
        register_rigid(venous.ct, other.ct, spacing_mm=SPACING)
    half = sitk.GetArrayFromImage(other.liver)
    half[:, :, : half.shape[2] // 4] = 0
    cut = grids.to_image(half, other.liver)
    with pytest.raises(BadInput, match="organs differ in shape"):
        register_rigid(venous.ct, other.ct, venous.liver, cut, spacing_mm=SPACING)


def test_unknown_metrics_and_empty_organs_are_refused():
    venous, arterial = small_abdomen()
    assert set(METRICS) == {"mse", "ncc", "nmi", "mi", "mind"}
    with pytest.raises(BadInput, match="no metric 'sad'"):
        register_rigid(venous.ct, arterial.ct, metric="sad")
    with pytest.raises(BadInput, match="moving scan shows nothing"):
        register_rigid(venous.ct, arterial.ct, venous.liver, arterial.liver * 0, spacing_mm=SPACING)
