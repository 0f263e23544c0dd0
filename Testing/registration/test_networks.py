"""Networks: what they promise of any weights — sizes, inverses, levels, priors — before accuracy comes into it."""

import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration import flow, networks

SMALL = {"encoder": [4, 6, 8], "decoder": [6], "final": [4]}
PYRAMID = {
    "name": "pyramid",
    "levels": [{"downsample": 2, **SMALL, "correlation": 1}, {"downsample": 1, **SMALL, "passes": 2}, SMALL],
}


def stirred(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The network with heads that predict something: they start at rest."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, networks.Head):
            with torch.no_grad():
                module.mean.weight.normal_(std=0.05, generator=generator)
                if module.log_variance is not None:
                    module.log_variance.weight.normal_(std=0.05, generator=generator)
    return network.eval()


def pair(shape=(24, 20, 28), count=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(count, 1, *shape, generator=generator) for _ in range(2)]
    return (*images, torch.ones(count, 1, *shape), torch.ones(count, 1, *shape))


@pytest.mark.parametrize("shape", [(24, 20, 28), (17, 9, 31), (8, 8, 8)])
@pytest.mark.parametrize(
    "architecture",
    [PYRAMID, {"name": "voxelmorph_diff", **SMALL}, {"name": "voxelmorph", "encoder": [4, 6, 8], "decoder": [6, 4]}],
    ids=lambda a: a["name"],
)
def test_any_size_goes_in_and_comes_out(architecture, shape):
    network = stirred(networks.build_network(architecture))
    with torch.no_grad():
        prediction = network(*pair(shape))
    assert prediction.displacement.shape == (1, 3, *shape)
    assert prediction.displacement.abs().max() > 1e-3


def test_an_untrained_network_leaves_everything_where_it_is():
    prediction = networks.build_network(PYRAMID)(*pair())
    assert prediction.displacement.abs().max() < 0.05


def test_the_inverse_undoes_the_deformation():
    network = stirred(networks.build_network(PYRAMID))
    images = [torch.nn.functional.avg_pool3d(i, 5, 1, 2) for i in pair((40, 40, 40))]
    with torch.no_grad():
        prediction = network(*images)
    there, back = prediction.displacement, prediction.inverse_displacement
    assert there.abs().max() > 0.1
    residual = flow.compose(back, there)[..., 8:-8, 8:-8, 8:-8]
    assert residual.abs().max() < 0.05 * there.abs().max()


def test_the_last_stage_is_the_prediction_and_every_pass_a_stage():
    network = stirred(networks.build_network(PYRAMID))
    with torch.no_grad():
        prediction = network(*pair())
        first = network(*pair(), levels=1)
    assert [spacing for _, spacing in prediction.stages] == [8, 4, 4, 2]
    velocity, spacing = prediction.stages[-1]
    whole = network.integrated(velocity, spacing, (24, 20, 28))
    torch.testing.assert_close(whole, prediction.displacement)
    assert len(first.stages) == 1
    torch.testing.assert_close(first.stages[0][0], prediction.stages[0][0])


def test_a_level_works_on_the_image_that_the_one_before_warped():
    """With the first level's velocity given by hand, the second sees the warped image: shifts cancel."""
    network = networks.build_network(PYRAMID).eval()
    seen = []
    network.levels[2].unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    fixed = torch.nn.functional.avg_pool3d(torch.rand(1, 1, 32, 32, 32), 3, 1, 1)
    moving = fixed.roll(4, dims=4)
    ones = torch.ones_like(fixed)
    with torch.no_grad():
        network.levels[0].head.mean.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))  # four voxels of x: the level's scale
        network(fixed, moving, ones, ones)
    inner = (..., slice(8, -8), slice(8, -8), slice(8, -8))
    warped = seen[-1][:, 1:2]
    assert (warped - fixed)[inner].abs().mean() < 0.1 * (moving - fixed)[inner].abs().mean()


def test_the_same_pair_gives_the_same_field_alone_and_in_a_batch():
    network = stirred(networks.build_network(PYRAMID))
    images = pair(count=2)
    with torch.no_grad():
        both = network(*images).displacement
        second = network(*(image[1:] for image in images)).displacement
    torch.testing.assert_close(both[1:], second, atol=1e-4, rtol=1e-4)


def test_uncertainty_comes_from_the_variance_and_a_deterministic_network_has_none():
    network = stirred(networks.build_network({**PYRAMID, "probabilistic": True}))
    with torch.no_grad():
        prediction = network(*pair())
        calm = network.sample(prediction, 4, torch.Generator().manual_seed(0)).std(dim=0).mean()
        prediction.log_variance += 2.0
        wild = network.sample(prediction, 4, torch.Generator().manual_seed(0)).std(dim=0).mean()
        assert 2.0 < wild / calm < 3.5  # e^1 = 2.7 in standard deviation
        plain = networks.build_network(PYRAMID)
        with pytest.raises(BadInput, match="deterministic"):
            plain.sample(plain(*pair()), 2)


def test_a_spread_of_its_own_tells_the_variance_and_leaves_the_velocity():
    """With it the levels give the same field as without; the variance depends on the pair."""
    settings = {"downsample": 0, **SMALL}
    with_spread = stirred(networks.build_network({**PYRAMID, "probabilistic": True, "spread": settings}))
    without = networks.build_network(PYRAMID).eval()
    without.load_state_dict({k: v for k, v in with_spread.state_dict().items() if not k.startswith("spread.")})
    with torch.no_grad():
        told = with_spread(*pair())
        torch.nn.init.normal_(with_spread.spread.log_variance.weight, std=0.05)
        again, moved = with_spread(*pair()), with_spread(*pair(seed=2))
        plain = without(*pair())
        early = with_spread(*pair(), levels=2)
    assert torch.equal(told.displacement, plain.displacement)
    assert told.log_variance.shape == told.velocity.shape
    assert told.log_variance.mean() == pytest.approx(-4.0, abs=0.1)
    assert (again.log_variance - moved.log_variance).abs().max() > 0.01
    assert plain.log_variance is None
    assert early.log_variance is None


def test_weights_hold_nothing_of_a_size():
    shapes = [tuple(value.shape) for value in networks.build_network(PYRAMID).state_dict().values()]
    assert all(len(shape) == 1 or shape[2:] == (3, 3, 3) for shape in shapes)


def test_local_contrast_ignores_linear_changes_of_density():
    image = torch.rand(1, 1, 16, 16, 16)
    before, after = networks.local_contrast(image), networks.local_contrast(3 * image + 2)
    torch.testing.assert_close(before, after, atol=0.02, rtol=0.02)


def test_the_right_shift_correlates_best():
    fixed = networks.local_contrast(torch.rand(1, 1, 16, 16, 16))
    moving = fixed.roll((1, -1, 0), dims=(2, 3, 4))
    found = networks.correlations(fixed, moving, 1)[..., 2:-2, 2:-2, 2:-2].mean((0, 2, 3, 4))
    assert int(found.argmax()) == (1 + 1) * 9 + (-1 + 1) * 3 + (0 + 1)


def test_kl_is_that_of_the_closed_form_on_a_small_grid():
    """Against the divergence of two Gaussians with full matrices, up to the constant of the prior's determinant."""
    shape, precision = (2, 2, 3), 7.0
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 3, *shape, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(1, 3, *shape, generator=generator, dtype=torch.float64)
    nodes = [(z, y, x) for z in range(2) for y in range(2) for x in range(3)]
    laplacian = torch.zeros(12, 12, dtype=torch.float64)
    for i, a in enumerate(nodes):
        for j, b in enumerate(nodes):
            if sum(abs(p - q) for p, q in zip(a, b, strict=True)) == 1:
                laplacian[i, i] += 1
                laplacian[i, j] -= 1
    expected = 0.0
    for component in range(3):
        mu, variance = mean[0, component].flatten(), log_variance[0, component].flatten().exp()
        expected += 0.5 * (
            (precision * laplacian.diagonal() * variance).sum() - variance.log().sum() + precision * mu @ laplacian @ mu
        )
    found = networks.kl_divergence(mean, log_variance, precision) * 36
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "resnet"},
        {"name": "pyramid", "levels": []},
        {"name": "pyramid", "levels": [{}, {"downsample": 2}]},
        {"name": "pyramid", "levels": [{"depth": 3}]},
        {"name": "voxelmorph_diff", "encoder": [4, 4, 4], "decoder": [4, 4]},
        {**PYRAMID, "spread": SMALL},
        {**PYRAMID, "probabilistic": True, "spread": {"downsample": 1, **SMALL}},
    ],
)
def test_settings_that_cannot_be_are_named(architecture):
    with pytest.raises(BadInput):
        networks.build_network(architecture)
