"""Rigid maps: matrices, parameters, frames and the nearest rotation."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration.motion6 import (
    in_ras,
    matrix_4x4,
    nearest_rigid,
    nearest_rotation,
    parameters,
    rigid,
    rotation_of,
    text,
)

CENTRE = np.array([30.0, -20.0, -850.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3), st.lists(st.floats(0.5, 2.0), min_size=3, max_size=3))
def test_scaling_along_the_axes_of_a_rotation_is_taken_out(vector, sizes):
    rotation = rotation_of(np.array(vector))
    stretch = rotation_of(np.array([0.3, 0.2, -0.5]))
    squeezed = rotation @ stretch @ np.diag(sizes) @ stretch.T
    found = nearest_rotation(squeezed)
    assert np.allclose(found, rotation, atol=1e-9)
    assert abs(np.linalg.det(found) - 1) < 1e-9


def test_no_other_rotation_is_nearer_than_the_nearest():
    sheared = rotation_of(np.array([0.2, -0.4, 0.1])) + np.array([[0, 0.2, 0], [0, 0, 0.1], [0, 0, 0.05]])
    nearest = nearest_rotation(sheared)
    rng = np.random.default_rng(0)
    others = [nearest @ rotation_of(rng.normal(0, 0.05, 3)) for _ in range(200)]
    assert all(np.linalg.norm(sheared - nearest) <= np.linalg.norm(sheared - other) for other in others)


@pytest.mark.parametrize("matrix", [np.diag([1.0, 1.0, -1.0]), np.diag([1.0, 1.0, 0.0])])
def test_what_mirrors_or_flattens_has_no_nearest_rotation(matrix):
    with pytest.raises(BadInput, match="mirrors or flattens"):
        nearest_rotation(matrix)


def test_the_centre_goes_where_the_affine_map_takes_it():
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.1, 0.1, 0, 0, 0.9, 0, 0, 0, 1.05))
    affine.SetTranslation((5, 6, 7))
    found = nearest_rigid(affine, CENTRE)
    assert np.allclose(found.TransformPoint(CENTRE.tolist()), affine.TransformPoint(CENTRE.tolist()))
    assert np.linalg.det(matrix_4x4(found)[:3, :3]) == pytest.approx(1.0, abs=1e-9)


def test_parameters_build_the_same_transform_in_itk():
    transform = rigid(rotation_of(np.array([0.3, -0.2, 0.5])), CENTRE, np.array([4.0, 50.0, -6.0]))
    found = parameters(transform)
    again = sitk.Euler3DTransform(CENTRE.tolist(), *np.radians(found["rotation_degrees"]), found["translation_mm"])
    assert np.allclose(matrix_4x4(again), matrix_4x4(transform))
    assert found["centre_mm"] == CENTRE.tolist()


def test_the_matrix_in_ras_moves_the_same_point():
    matrix = matrix_4x4(rigid(rotation_of(np.array([0.3, -0.2, 0.5])), CENTRE, np.array([4.0, 50.0, -6.0])))
    lps = np.array([10.0, 20.0, 30.0, 1.0])
    flip = np.array([-1.0, -1.0, 1.0, 1.0])
    assert np.allclose(flip * (in_ras(matrix) @ (flip * lps)), matrix @ lps)
    assert np.allclose(in_ras(in_ras(matrix)), matrix)


def test_the_text_of_a_matrix_reads_back():
    matrix = matrix_4x4(rigid(rotation_of(np.array([0.3, -0.2, 0.5])), CENTRE, np.array([4.0, 50.0, -6.0])))
    rows = [[float(n) for n in line.split()] for line in text(matrix).splitlines()]
    assert np.allclose(rows, matrix, atol=1e-9)


def test_a_transform_that_bends_is_no_matrix():
    field = sitk.DisplacementFieldTransform(sitk.Image([8, 8, 8], sitk.sitkVectorFloat64, 3))
    with pytest.raises(BadInput, match="not linear"):
        matrix_4x4(field)
