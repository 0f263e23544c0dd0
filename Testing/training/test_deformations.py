"""Random transforms and their inverses, against float64 and by going there and back."""

import numpy as np
import pytest
import torch

from LungRecoveryLib.registration import flow
from LungRecoveryTrainingLib import deformations
from LungRecoveryTrainingLib.deformations import Affine, Flow, Lattice, random_affine
from LungRecoveryTrainingLib.draws import Draws

from .batches import SHAPES, generator, lungs

CPU = torch.device("cpu")


def draw(count: int = 4, seed: int = 0) -> Draws:
    return Draws(count, CPU, generator(seed))


def affine_of(draws: Draws, **changes) -> Affine:
    limits = dict(rotation_degrees=20.0, scale=1.3, shear=0.1, translation=8.0, flips=(0.5, 0.5, 0.5)) | changes
    return random_affine(draws, torch.tensor([20.0, 15.0, 30.0]), torch.ones(draws.count), **limits)


def points(count: int = 4) -> torch.Tensor:
    return 40 * torch.rand(count, 3, 3, 4, 5, generator=generator(7))


def test_an_affine_map_its_inverse_and_determinant_are_those_of_float64():
    affine = affine_of(draw())
    matrix, shift, centre = (t.double().numpy() for t in (affine.matrix, affine.translation, affine.centre))
    p = points().double().numpy()
    moved = np.einsum("nij,njzyx->nizyx", matrix, p - centre[None, :, None, None, None])
    moved += (centre + shift)[..., None, None, None]
    assert np.abs(affine(points()).numpy() - moved).max() < 2e-5
    torch.testing.assert_close(affine.inverse()(affine(points())), points(), atol=5e-5, rtol=0)
    assert np.abs(affine.determinant().numpy() - np.linalg.det(matrix)).max() < 1e-5
    assert {-1, 1} == set(np.sign(np.linalg.det(matrix)))  # with and without flips


def test_affine_maps_in_sequence_and_in_part():
    draws = draw()
    first, second = affine_of(draws), affine_of(draws)
    torch.testing.assert_close(first.then(second)(points()), second(first(points())), atol=5e-5, rtol=0)
    share = torch.tensor([0.0, 0.3, 0.5, 1.0])
    partly = first.partly(share)(points()) - points()
    torch.testing.assert_close(partly, share.reshape(-1, 1, 1, 1, 1) * (first(points()) - points()), atol=5e-5, rtol=0)


def test_limits_of_random_affine_maps_hold_and_no_strength_is_identity():
    affine = random_affine(draw(300), torch.zeros(3), torch.ones(300), 10.0, 1.25, 0.0, 6.0)
    factors = torch.linalg.svdvals(affine.matrix)
    assert factors.min() > 1 / 1.2501
    assert 1.2 < factors.max() < 1.2501
    assert 5 < affine.translation.abs().max() <= 6
    still = random_affine(draw(), torch.ones(3), torch.zeros(4), 10.0, 1.25, 0.1, 6.0)
    torch.testing.assert_close(still(points()), points(), atol=1e-6, rtol=0)


def test_the_nearest_affine_map_is_found_within_the_weights():
    shape = SHAPES[0]
    positions = flow.voxel_coordinates(shape).expand(4, -1, -1, -1, -1)
    wanted = affine_of(draw())
    weights = (lungs(shape) > 0).float().expand(4, -1, -1, -1, -1)
    field = wanted(positions) - positions + 100 * (1 - weights)  # nonsense where the weight is zero
    found = Affine.nearest(field, positions, weights, wanted.centre)
    torch.testing.assert_close(found.matrix, wanted.matrix, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.translation, wanted.translation, atol=1e-3, rtol=0)
    nothing = Affine.nearest(field, positions, torch.zeros_like(weights), wanted.centre)
    assert nothing.matrix.isfinite().all()


def test_smooth_noise_has_unit_deviation_and_the_promised_gradient():
    noise = draw(20).smooth_noise(1, (60, 50, 40), 8.0)
    assert abs(noise.std() - 1) < 0.05
    steps = torch.diff(noise, dim=2)
    assert 0.9 < steps.std() * 8 / 1.2 < 1.1
    # Second differences are those of cubic splines, half of what a broken line has.
    assert 0.85 < torch.diff(noise, n=2, dim=2).std() * 8**2 / 2.36 < 1.15
    assert torch.equal(noise, draw(20).smooth_noise(1, (60, 50, 40), 8.0))


@pytest.mark.parametrize("shape", [(40, 36, 44), (9, 50, 21)])
def test_the_inverse_of_a_flow_leads_back_and_its_jacobian_is_that_of_differences(shape):
    draws = draw()
    lattice = Lattice.over(shape, 2.0)
    motion = Flow.of(3.0 * draws.smooth_noise(3, lattice.shape, 10.0), lattice)
    positions = flow.voxel_coordinates(shape).expand(4, -1, -1, -1, -1)
    moved = motion(positions)
    back = motion.inverse()(moved)
    error = (back - positions).square().sum(1).sqrt()
    assert (moved - positions).abs().max() > 5
    assert error.mean() < 0.03
    inner = deformations.inside_grid(moved, shape)[:, 0]
    assert error[inner].max() < 0.15
    h = 0.05
    steps = [torch.zeros(3, 1, 1, 1) for _ in range(3)]
    for axis in range(3):
        steps[axis][axis] = h
    columns = [(motion(positions + s) - motion(positions - s)) / (2 * h) for s in steps]
    expected = torch.linalg.det(torch.stack(columns, dim=-1).movedim(1, -2))
    difference = (motion.jacobian(positions)[:, 0] - expected).abs()
    assert difference.mean() < 0.03
    assert motion.jacobian(positions).min() > 0


def test_a_flow_at_rest_moves_nothing():
    lattice = Lattice.over((10, 11, 12), 3.0)
    motion = Flow.of(torch.zeros(2, 3, *lattice.shape), lattice)
    positions = flow.voxel_coordinates((10, 11, 12)).expand(2, -1, -1, -1, -1)
    assert torch.equal(motion(positions), positions)
    torch.testing.assert_close(motion.jacobian(positions), torch.ones(2, 1, 10, 11, 12))


def test_the_nearest_voxel_is_taken_and_zero_beyond_the_grid():
    labels = torch.randint(0, 255, (1, 2, 6, 7, 8), generator=generator(0)).float()
    p = flow.voxel_coordinates((6, 7, 8))[None]
    torch.testing.assert_close(deformations.nearest_voxel(labels, p + 0.4), labels, atol=0, rtol=0)
    shifted = deformations.nearest_voxel(labels, p + 1.3)
    torch.testing.assert_close(shifted[..., :-1, :-1, :-1], labels[..., 1:, 1:, 1:], atol=0, rtol=0)
    assert not shifted[..., -1].any()
