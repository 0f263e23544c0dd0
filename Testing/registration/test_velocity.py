"""A deformation's transforms, inverse, fields and Jacobian agree, on oblique far-off grids with an affine part."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from LungRecoveryLib import grids
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.align import affine
from LungRecoveryLib.registration.velocity import Deformation, Velocity

OBLIQUE = tuple(Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix().ravel())


@pytest.fixture(scope="module")
def deformation() -> Deformation:
    box = Grid((60, 50, 70), (1.5, 1.5, 1.5), (-40.0, 25.0, -920.0), OBLIQUE)
    rest = Velocity.zeros((70, 50, 60), 8.0, 24.0, torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    velocity = Velocity(4.0 * torch.randn(rest.coefficients.shape, generator=generator), rest.axes)
    matrix = Rotation.from_euler("z", 5, degrees=True).as_matrix() @ np.diag([1.05, 0.95, 1.1])
    return Deformation(affine(matrix, box.centre, np.array([8.0, -5.0, 30.0])), velocity, box)


def points_inside(box: Grid, margin: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return box.points(rng.uniform(margin, np.array(box.size) - 1 - margin, (500, 3)))


def test_maps_are_integrated_as_exactly_as_by_many_squarings_on_finer_nodes(deformation):
    exact, fine = deformation.velocity.displacement(1.0)
    again, axes = deformation.velocity.displacement(deformation.node_spacing)
    many = flow.exponentiate(deformation.velocity.at(fine), 9)
    assert (exact - many).norm(dim=0).mean() < 0.02
    matrices = [flow.cubic_matrix(a.nodes(b.positions()), a.count) for a, b in zip(axes, fine, strict=True)]
    assert (flow.expand(again, matrices) - many).norm(dim=0).mean() < 0.05 * many.norm(dim=0).mean()


def test_the_transform_agrees_with_the_full_field(deformation):
    points = points_inside(deformation.box)
    field, _ = deformation.on(deformation.box)
    full = points + grids.sample(field, deformation.box, points)
    difference = np.linalg.norm(grids.transform_points(deformation.transform(), points) - full, axis=1)
    assert difference.mean() < 0.1  # a rough field; a lung's is smoother, see test_register
    assert np.linalg.norm(full - points, axis=1).mean() > 10


def test_the_field_does_not_depend_on_the_grid_it_is_asked_on(deformation):
    fine, _ = deformation.on(deformation.box)
    other = Grid((33, 30, 20), (2.0, 1.7, 4.0), tuple(deformation.box.points(np.array([[4, 3, 5]]))[0]), OBLIQUE)
    coarse, _ = deformation.on(other)
    points = other.points(np.array([[5, 6, 7], [20, 11, 3], [9, 25, 12]]))
    difference = grids.sample(fine, deformation.box, points) - grids.sample(coarse, other, points)
    assert np.abs(difference).max() < 0.15


def test_the_inverse_transform_leads_back(deformation):
    points = points_inside(deformation.box)
    there = grids.transform_points(deformation.transform(), points)
    back = grids.transform_points(deformation.inverse_transform(), there)
    assert np.linalg.norm(back - points, axis=1).mean() < 0.15


def test_the_jacobian_is_that_of_the_transform_in_physical_space(deformation):
    field, jacobian = deformation.on(deformation.box)
    # ITK differentiates along the index axes, so its determinant holds on axis-aligned grids: rotate the field back.
    axes = deformation.box.axes
    aligned = Grid(deformation.box.size, deformation.box.spacing, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    rotated = np.einsum("ji,jzyx->izyx", axes, field)
    numeric = sitk.DisplacementFieldJacobianDeterminant(
        sitk.Cast(grids.to_image(rotated, aligned), sitk.sitkVectorFloat64)
    )
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(jacobian[inner], grids.to_array(numeric)[inner], atol=2e-3)


def test_far_outside_only_the_affine_part_remains(deformation):
    far = deformation.box.points(np.array([[-60.0, 20, 20], [30, 30, 160]]))
    expected = grids.transform_points(deformation.affine, far)
    np.testing.assert_allclose(grids.transform_points(deformation.transform(), far), expected, atol=1e-9)


def test_the_field_fades_to_zero_at_its_border(deformation):
    displacement, _ = deformation.velocity.displacement(2.0)
    for border in (displacement[:, 0], displacement[:, -1], displacement[:, :, 0], displacement[..., -1]):
        assert border.norm(dim=0).max() < 1e-5
    assert displacement.norm(dim=0).max() > 3


def test_a_velocity_moved_to_a_finer_grid_stays_the_same_field(deformation):
    velocity = deformation.velocity
    finer = velocity.moved_to(Velocity.zeros((70, 50, 60), 4.0, 24.0, torch.device("cpu")))
    inner = tuple(axis.refined(4.0) for axis in Velocity.zeros((70, 50, 60), 8.0, 0.0, torch.device("cpu")).axes)
    difference = (velocity.at(inner) - finer.at(inner)).norm(dim=0)
    assert difference.mean() < 0.02 * velocity.at(inner).norm(dim=0).mean()
