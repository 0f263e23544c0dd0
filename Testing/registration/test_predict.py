"""The way of a pair into a network and of its velocity out again, on oblique grids far from the origin."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from LungRecoveryLib import grids
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.registration import flow, networks, predict
from LungRecoveryLib.registration.align import affine
from LungRecoveryLib.registration.prepare import prepare
from LungRecoveryLib.registration.velocity import Deformation

SMALL = {"encoder": [4, 6, 8], "decoder": [6], "final": [4]}


def oblique(origin) -> Grid:
    direction = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    return Grid((48, 40, 44), (2.0, 2.2, 2.5), origin, tuple(direction.ravel()))


def ball(grid: Grid, centre: np.ndarray, radius: float) -> tuple[sitk.Image, sitk.Image]:
    """A lung of one ball of textured air on `grid`, and its mask."""
    voxels = flow.voxel_coordinates(grid.shape).numpy().reshape(3, -1).T
    offset = grid.points(voxels) - centre
    inside = (np.linalg.norm(offset, axis=1) < radius).reshape(grid.shape)
    texture = (-800 + 150 * np.sin(offset / 7.0).sum(axis=1)).reshape(grid.shape)
    image = grids.to_image(np.where(inside, texture, 40.0).astype(np.float32), grid)
    return image, grids.to_image(inside.astype(np.uint8), grid)


@pytest.fixture(scope="module")
def pair():
    """Fixed and moving scans of one ball, 9 mm apart, on grids of different places: the alignment is a shift."""
    fixed_grid, moving_grid = oblique((-920.0, 310.0, -1200.0)), oblique((-915.0, 300.0, -1190.0))
    centre = fixed_grid.points(np.array([[24.0, 20.0, 22.0]]))[0]
    shift = np.array([4.0, -7.0, 4.0])
    fixed, fixed_mask = ball(fixed_grid, centre, 32.0)
    moving, moving_mask = ball(moving_grid, centre + shift, 32.0)
    prepared = prepare(fixed, moving, fixed_mask, moving_mask, 1.5, torch.device("cpu"))
    return prepared, affine(np.eye(3), centre, shift)


def test_an_aligned_pair_looks_the_same_to_the_network(pair):
    prepared, alignment = pair
    inputs = predict.network_inputs(prepared, alignment, 3.0)
    assert inputs.scale == 2
    assert inputs.fixed.shape == inputs.moving_mask.shape == (1, *inputs.grid.shape)
    inside = (inputs.fixed_mask * inputs.moving_mask) > 0
    difference = (inputs.fixed - inputs.moving)[inside].abs().mean()
    apart = (inputs.fixed - inputs.moving.roll(3, dims=1))[inside].abs().mean()
    assert difference < 0.2 * apart
    overlap = (inputs.fixed_mask * inputs.moving_mask).sum()
    assert 2 * overlap / (inputs.fixed_mask + inputs.moving_mask).sum() > 0.95


def test_the_networks_grid_lies_where_its_voxels_are(pair):
    """The mean of a linear function over a block is its value at the block's centre."""
    prepared, alignment = pair
    inputs = predict.network_inputs(prepared, alignment, 3.0)
    fine = prepared.fixed_box.points(np.array([[0, 0, 0], [1, 1, 1]])).mean(axis=0)
    np.testing.assert_allclose(inputs.grid.points(np.zeros((1, 3)))[0], fine, atol=1e-9)


def test_the_velocity_leaves_as_the_deformation_that_the_network_meant(pair):
    """A smooth velocity at the network's nodes and the saved transform move points alike."""
    prepared, alignment = pair
    inputs = predict.network_inputs(prepared, alignment, 3.0)
    network = networks.build_network({"name": "pyramid", "levels": [SMALL]})
    prediction = predict.predict(network, inputs)
    coarse = torch.randn(1, 3, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    velocity = torch.nn.functional.interpolate(coarse, prediction.velocity.shape[2:], mode="trilinear")
    prediction.velocity = velocity
    meant = network.integrated(velocity, prediction.spacing, inputs.grid.shape)[0]
    start = predict.start_velocity(prepared, inputs, prediction)
    transform = Deformation(alignment, start, prepared.fixed_box).transform()
    inner = np.stack(np.meshgrid(*(np.arange(6, n - 6, 5) for n in inputs.grid.size), indexing="ij"), -1).reshape(-1, 3)
    moved = torch.from_numpy(inner).float().T[:, :, None, None]
    in_voxels = flow.warp(meant, moved)[..., 0, 0].numpy().T
    expected = grids.transform_points(alignment, inputs.grid.points(inner + in_voxels))
    found = grids.transform_points(transform, inputs.grid.points(inner))
    assert np.linalg.norm(in_voxels, axis=1).max() > 1.0
    # The network interpolates linearly between its nodes, the engine by cubics.
    assert np.linalg.norm(found - expected, axis=1).mean() < 0.15
    assert np.linalg.norm(found - expected, axis=1).max() < 0.8


def test_the_start_fades_to_rest_outside_the_box(pair):
    prepared, alignment = pair
    inputs = predict.network_inputs(prepared, alignment, 3.0)
    prediction = predict.predict(networks.build_network({"name": "pyramid", "levels": [SMALL]}), inputs)
    prediction.velocity = torch.full_like(prediction.velocity.clone(), 2.0)
    start = predict.start_velocity(prepared, inputs, prediction)
    transform = Deformation(alignment, start, prepared.fixed_box).transform()
    far = prepared.fixed_box.points(np.array([[-60.0, 20.0, 20.0]]))
    np.testing.assert_allclose(
        grids.transform_points(transform, far), grids.transform_points(alignment, far), atol=1e-4
    )


def test_uncertainty_is_in_mm_where_the_velocity_lives(pair):
    prepared, alignment = pair
    inputs = predict.network_inputs(prepared, alignment, 3.0)
    network = networks.build_network({"name": "pyramid", "levels": [SMALL], "probabilistic": True})
    prediction = predict.predict(network, inputs)
    prediction.log_variance = torch.full_like(prediction.log_variance.clone(), 2 * np.log(0.1))
    image = predict.uncertainty(network, inputs, prediction)
    np.testing.assert_allclose(image.GetSpacing(), 2 * np.array(inputs.grid.spacing))
    deviation = sitk.GetArrayFromImage(image)
    # 0.1 voxels of 3 mm in each of three components, a little less where squaring averages independent nodes
    assert 0.3 < deviation.mean() < 3 * 0.1 * np.sqrt(3) * 1.05
