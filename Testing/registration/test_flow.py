"""Numerics of deformations against float64 and analytic truths."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.registration import flow

SHAPE = (24, 20, 28)


def linear_field(matrix: np.ndarray, shape=SHAPE, dtype=torch.float64) -> torch.Tensor:
    """u(p) = matrix (p - centre), so that the centre rests."""
    coordinates = flow.voxel_coordinates(shape, dtype=dtype)
    centre = torch.tensor([(n - 1) / 2 for n in shape[::-1]], dtype=dtype)[:, None, None, None]
    return torch.einsum("ij,jzyx->izyx", torch.tensor(matrix, dtype=dtype), coordinates - centre)


def interior(field: torch.Tensor, margin: int) -> torch.Tensor:
    return field[..., margin:-margin, margin:-margin, margin:-margin]


def test_voxel_coordinates_are_x_y_z():
    coordinates = flow.voxel_coordinates((2, 3, 4))
    assert coordinates[:, 1, 2, 3].tolist() == [3, 2, 1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_warp_by_whole_voxels_moves_them_exactly_whatever_the_threads(threads):
    image = torch.rand(SHAPE, dtype=torch.float64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shift = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)[:, None, None, None]
        warped = flow.warp(image, flow.voxel_coordinates(SHAPE, dtype=torch.float64) + shift)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(warped[:-3, 1:, :-2], image[3:, :-1, 2:])


def test_warp_of_a_linear_image_is_exact_between_voxels():
    z, y, x = flow.voxel_coordinates(SHAPE, dtype=torch.float64).flip(0)
    image = 2 * x - 3 * y + 0.5 * z
    warped = flow.warp(image, torch.stack([x, y, z]) + 0.37)
    torch.testing.assert_close(interior(warped, 1), interior(image + 0.37 * (2 - 3 + 0.5), 1))


def test_warp_passes_gradients_to_the_coordinates():
    image = torch.rand(12, 9, 10, dtype=torch.float64)
    coordinates = (flow.voxel_coordinates((12, 9, 10), dtype=torch.float64) * 0.8 + 0.3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda c: flow.warp(image, c).sum(), coordinates, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=9, max_size=9))
def test_exponential_of_a_linear_velocity_is_the_matrix_exponential(numbers):
    matrix = np.array(numbers).reshape(3, 3)
    displacement = flow.exponentiate(linear_field(matrix), steps=10)
    truth = linear_field(scipy.linalg.expm(matrix) - np.eye(3))
    assert interior(displacement - truth, 8).abs().max() < 0.02


def test_integrating_the_negative_velocity_inverts_the_deformation():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(3, 7, 7, 7, generator=generator, dtype=torch.float64)
    matrices = tuple(flow.spline_matrix(torch.linspace(-1, 7, n, dtype=torch.float64), 7) for n in (40, 40, 40))
    velocity = 3.0 * flow.expand(coarse, matrices)
    there, back = flow.exponentiate(velocity, 7), flow.exponentiate(-velocity, 7)
    remainder = flow.compose(back, there).norm(dim=0)
    assert there.norm(dim=0).max() > 3
    assert remainder.mean() < 0.05
    assert flow.compose(-there, there).norm(dim=0).mean() > 5 * remainder.mean()  # -u is no inverse
    assert flow.jacobian_determinant(there).min() > 0


def test_float32_exponential_is_close_to_float64():
    velocity = linear_field(np.array([[0.1, 0.05, 0], [0, -0.1, 0.1], [0.05, 0, 0.02]]))
    exact, single = flow.exponentiate(velocity), flow.exponentiate(velocity.float())
    assert (exact - single.double()).abs().max() < 1e-4


def test_jacobian_determinant_of_an_affine_map():
    matrix = np.array([[0.2, 0.1, 0], [-0.05, 0.1, 0.2], [0, 0.1, -0.3]])
    jacobian = flow.jacobian_determinant(linear_field(matrix))
    torch.testing.assert_close(jacobian, torch.full_like(jacobian, np.linalg.det(np.eye(3) + matrix)))


def test_composition_adds_translations_and_multiplies_affine_maps():
    a, b = np.diag([0.05, -0.05, 0.1]), np.array([[0, 0.05, 0], [0, 0, 0], [0.03, 0, 0]])
    truth = linear_field((np.eye(3) + a) @ (np.eye(3) + b) - np.eye(3))
    assert interior(flow.compose(linear_field(a), linear_field(b)) - truth, 3).abs().max() < 1e-9


@pytest.mark.parametrize("weights", [flow.spline_matrix, flow.cubic_matrix, flow.linear_matrix])
def test_interpolation_weights_sum_to_one_inside_and_fade_beyond(weights):
    inside = torch.linspace(1, 8, 50, dtype=torch.float64)
    torch.testing.assert_close(weights(inside, 10).sum(1), torch.ones(50, dtype=torch.float64))
    assert weights(torch.tensor([-3.0, 13.0]), 10).abs().max() == 0


def test_cubic_interpolation_reproduces_quadratics_and_its_nodes():
    nodes = torch.arange(12, dtype=torch.float64) ** 2
    positions = torch.linspace(2, 9, 37, dtype=torch.float64)
    torch.testing.assert_close(flow.cubic_matrix(positions, 12) @ nodes, positions**2)
    torch.testing.assert_close(flow.cubic_matrix(torch.arange(12).double(), 12), torch.eye(12, dtype=torch.float64))
