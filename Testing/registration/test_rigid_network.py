"""The rigid network: its motions are rigid, its fit is exact, it has a gradient everywhere and takes any size."""

import numpy as np
import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration import rigid_network
from LungRecoveryLib.registration.flow import voxel_coordinates
from LungRecoveryLib.registration.motion6 import rotation_of
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryLib.registration.rigid_network import matching_loss, moved, nearest_motion, wanted_cells

SMALL = {"name": "rigid", "channels": [4, 6, 8, 8, 8], "description": 8, "passes": 1}


def pair(count: int = 2, shape: tuple[int, int, int] = (18, 21, 22)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(count, 1, *shape, generator=generator) * 0.4 + 0.8 for _ in range(2)]
    return [*images, torch.ones(count, 1, *shape), torch.ones(count, 1, *shape)]


@pytest.mark.parametrize("degrees", [0.0, 5.0, 40.0])
def test_the_motion_nearest_to_a_rigid_field_is_that_motion(degrees):
    rotation = torch.tensor(rotation_of(np.radians(degrees) * np.array([0.6, -0.48, 0.64])))
    shift = torch.tensor([[3.0], [-7.0], [9.0]], dtype=torch.float64)
    places = torch.rand(3, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40
    field = (rotation @ places + shift - places)[None]
    found = nearest_motion(places, field, torch.full((1, 1, 200), 1 / 200))[0].double()
    assert torch.allclose(found[:3, :3], rotation, atol=1e-5)
    assert torch.allclose(found[:3, 3:], shift, atol=1e-4)


def test_votes_without_weight_do_not_count():
    places = torch.rand(3, 100, generator=torch.Generator().manual_seed(1)) * 40
    field = torch.full((1, 3, 100), 5.0)
    field[:, :, 50:] = 300.0 * torch.rand(1, 3, 50)
    weight = torch.zeros(1, 1, 100)
    weight[..., :50] = 1 / 50
    motion = nearest_motion(places, field, weight)[0]
    assert torch.allclose(motion[:3, 3], torch.full((3,), 5.0), atol=1e-3)


def test_whatever_the_weights_the_motion_is_rigid_and_has_an_inverse():
    torch.manual_seed(0)
    network = build_network({**SMALL, "passes": 2}).eval()
    found = network(*pair())
    rotation = found.motion[:, :3, :3].double()
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(2, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(2, 3, 3), atol=1e-5)
    assert found.displacement.abs().max() > 0.1
    points = torch.tensor([[4.0], [5.0], [6.0]])[..., None, None]
    back = moved(torch.linalg.inv(found.motion), moved(found.motion, points)[0])
    assert torch.allclose(back[0], points, atol=1e-3)


def test_an_image_is_found_in_itself_where_it_is():
    torch.manual_seed(0)
    fixed, _, *masks = pair(1)
    found = build_network(SMALL).eval()(fixed, fixed, *masks)
    assert found.displacement.abs().max() < 0.3


def test_cells_around_a_cell_are_those_within_the_radius():
    shape = (5, 4, 6)
    cells = torch.tensor([0, 37, 119])
    numbers, there = rigid_network._around(cells, 2.5, shape)
    places = voxel_coordinates(shape).flatten(1).T
    for cell, around, real in zip(cells, numbers, there, strict=True):
        near = (places - places[cell]).norm(dim=1) <= 2.5
        assert sorted(around[real].tolist()) == near.nonzero()[:, 0].tolist()


def test_scans_that_lie_near_are_looked_at_once_and_nearby(monkeypatch):
    looks, around = [], rigid_network._around
    monkeypatch.setattr(rigid_network, "_around", lambda *given: looks.append(given[1]) or around(*given))
    network = build_network({**SMALL, "passes": 3}).eval()
    for near, radii in ((False, [1.5, 6.0, 4.0]), (True, [4.0])):
        looks.clear()
        found = network(*pair(1), near=near)
        assert looks == radii
        assert torch.linalg.det(found.motion[:, :3, :3]).allclose(torch.ones(1), atol=1e-5)


def test_tissue_inside_the_mask_is_looked_for_and_all_tissue_without_one():
    fixed = torch.zeros(4, 1, 12, 12, 12)
    fixed[:3, ..., 6:] = 1.0
    mask = torch.zeros_like(fixed)
    mask[0, :, 4:9, :, 4:] = 1
    mask[3, :, :4] = 1
    organ, whole, few, air = (len(cells) for cells in wanted_cells(fixed, mask, 1000))
    assert (organ, whole, few, air) == (3 * 6 * 3, 6 * 6 * 3, 6 * 6 * 3, 6**3)  # the mask and a voxel around it
    places = voxel_coordinates((6, 6, 6)).flatten(1)[:, wanted_cells(fixed, mask, 1000)[0]]
    assert places.min(1).values.tolist() == [3, 0, 2]
    assert places.max(1).values.tolist() == [5, 5, 4]
    assert [len(cells) for cells in wanted_cells(fixed, mask, 50)] == [50] * 4


def test_the_matching_loss_is_least_where_the_tissue_is():
    """Descriptions that are alike at a shift of one cell fit a displacement of one cell, and no other."""
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.functional.normalize(torch.randn(1, 16, 9, 10, 11, generator=generator), dim=1) * 4
    theirs = torch.roll(ours, 1, dims=4)
    known = torch.ones(1, 1, 18, 20, 22)
    known[..., 20:] = 0  # whose tissue would lie beyond the grid
    loss = lambda cells: float(
        matching_loss((ours, theirs), torch.tensor([2.0 * cells, 0, 0])[None, :, None, None, None] * known, known)
    )
    assert loss(1) < min(loss(0), loss(2)) - 0.5
    assert loss(1) < float(matching_loss((ours, ours.roll(3, 2)), torch.zeros(1, 3, 18, 20, 22), known)) - 0.5
    assert float(matching_loss((ours, theirs), torch.zeros(1, 3, 18, 20, 22), 0 * known)) == 0.0


@pytest.mark.parametrize("deformable", [False, True])
def test_it_learns_to_find_and_every_layer_has_a_gradient(deformable):
    torch.manual_seed(0)
    network = build_network({**SMALL, "deformable": deformable})
    fixed, _, *masks = pair(1)
    moving = torch.roll(fixed, 2, dims=4)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    wanted = torch.tensor([2.0, 0.0, 0.0])[None, :, None, None, None].expand(1, 3, *fixed.shape[2:])
    known = torch.ones_like(fixed)
    known[..., -3:] = 0
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        found = network(fixed, moving, *masks)
        loss = matching_loss(found.descriptions, wanted, known) + 0.1 * (found.displacement - wanted).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("channels", [[4, 8], [4, 8, 8, 8, 6]])
def test_settings_that_cannot_be_are_refused(channels):
    with pytest.raises(BadInput, match="convolutions"):
        build_network({"name": "rigid", "channels": channels})
