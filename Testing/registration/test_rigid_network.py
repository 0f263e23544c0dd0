"""The rigid network: its motions are rigid, its fit is exact, it has a gradient everywhere and takes any size."""

import numpy as np
import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration.motion6 import rotation_of
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryLib.registration.rigid_network import moved, nearest_motion


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
    network = build_network({"name": "rigid", "channels": [4, 6, 8, 8, 8], "passes": 2})
    torch.nn.init.normal_(network.votes.weight, std=0.5)
    found = network(*pair())
    rotation = found.motion[:, :3, :3].double()
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(2, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(2, 3, 3), atol=1e-5)
    assert found.displacement.abs().max() > 0.1
    points = torch.tensor([[4.0], [5.0], [6.0]])[..., None, None]
    back = moved(torch.linalg.inv(found.motion), moved(found.motion, points)[0])
    assert torch.allclose(back[0], points, atol=1e-3)


@pytest.mark.parametrize("deformable", [False, True])
def test_it_learns_a_shift_and_every_layer_has_a_gradient(deformable):
    torch.manual_seed(0)
    settings = {"name": "rigid", "channels": [4, 6, 8, 8, 8], "passes": 1, "deformable": deformable}
    network = build_network(settings)
    fixed, moving, *masks = pair(1)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    wanted = torch.tensor([2.0, -1.0, 1.5])[None, :, None, None, None]
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (network(fixed, moving, *masks).displacement - wanted).square().mean()
        loss.backward()
        losses.append(float(loss))
        optimiser.step()
    assert losses[-1] < 0.3 * losses[0]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(BadInput, match="five convolutions"):
        build_network({"name": "rigid", "channels": [4, 8]})
