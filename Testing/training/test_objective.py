"""Every term of the objective is lower for the right deformation, and counts as its weight says."""

from dataclasses import asdict, fields

import pytest
import torch

from batches import lungs, make_batch
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.networks import Prediction, build_network
from LungRecoveryTrainingLib.deformations import nearest_voxel
from LungRecoveryTrainingLib.objective import Objective, Weights, dice_loss, landmark_errors, likelihood_loss

NONE = {field.name: 0.0 for field in fields(Weights) if field.name not in ("stage_decay", "kl_precision")}
SHAPE = (24, 20, 28)
NETWORK = build_network({"name": "voxelmorph", "encoder": [2, 2], "decoder": [2], "final": [2]})


@pytest.fixture(scope="module")
def batch() -> dict:
    """Two pairs with a known motion over the whole grid; the fixed labels are the moving ones pulled back."""
    batch = make_batch(SHAPE, count=2, whole=True)
    moving = lungs(SHAPE).repeat(2, 1, 1, 1, 1)
    coordinates = flow.voxel_coordinates(SHAPE) + batch["displacement"]
    return {**batch, "moving_labels": moving, "fixed_labels": nearest_voxel(moving.float(), coordinates)}


def right(batch: dict) -> Prediction:
    """The known motion."""
    return Prediction(batch["displacement"].clone())


def term(batch: dict, prediction: Prediction, name: str, network=NETWORK) -> float:
    """One term alone, which is the loss divided by its weight."""
    loss, terms = Objective(Weights(**NONE | {name: 2.0}))(batch, prediction, network)
    assert list(terms) == [name]
    assert float(loss) == pytest.approx(2 * float(terms[name]))
    return float(terms[name])


@pytest.mark.parametrize("name", ["ncc", "mse", "ssim", "mind", "nmi", "dice", "displacement", "landmarks"])
def test_terms_tell_right_from_none(batch, name):
    """The true deformation has a lower loss than no deformation, and gradients lead there."""
    found = right(batch)
    rest = Prediction(torch.zeros_like(found.displacement).requires_grad_())
    assert term(batch, found, name) < 0.85 * term(batch, rest, name)
    loss, _ = Objective(Weights(**NONE | {name: 1.0}))(batch, rest, NETWORK)
    loss.backward()
    step = -rest.displacement.grad
    assert float((step * found.displacement).sum()) > 0


def test_the_defaults_are_those_of_the_field():
    """NCC 1.0, bending 3.0, Jacobian 0.1, Dice 0.5; everything else only when asked for."""
    given = {name: weight for name, weight in asdict(Weights()).items() if weight and name in NONE}
    assert given == {"ncc": 1.0, "bending": 3.0, "jacobian": 0.1, "dice": 0.5}


def test_regularity_terms(batch):
    """Bending does not see affine fields, diffusion does; folding is what the Jacobian's term sees."""
    positions = flow.voxel_coordinates(SHAPE).expand(2, -1, -1, -1, -1)
    affine = Prediction(0.1 * positions)
    assert term(batch, affine, "bending") == pytest.approx(0, abs=1e-6)
    assert term(batch, affine, "diffusion") == pytest.approx(3 * 0.01, rel=1e-4)
    assert term(batch, affine, "jacobian") == 0
    assert term(batch, Prediction(-2.0 * positions), "jacobian") == pytest.approx(1.0, rel=1e-3)
    # Of a velocity, on its own grid and in its cells.
    wave = torch.sin(torch.arange(8.0))[None, None, None, None].expand(2, 3, 8, 8, 8)
    coarse = Prediction(affine.displacement, velocity=4 * wave, spacing=4)
    fine = Prediction(affine.displacement, velocity=wave, spacing=1)
    assert term(batch, coarse, "bending") == pytest.approx(term(batch, fine, "bending"))


def test_dice_counts_the_labels_that_are_there(batch):
    """Each label alike, however large; the masks where there are no labels; nothing where there is nothing."""
    coordinates = flow.voxel_coordinates(SHAPE)[None].expand(2, -1, -1, -1, -1)
    labels = torch.zeros(2, 1, *SHAPE, dtype=torch.uint8)
    labels[..., :4], labels[..., 10:11] = 1, 9
    moved = labels.clone()
    moved[..., 10:11] = 0
    assert float(dice_loss({**batch, "fixed_labels": labels, "moving_labels": moved}, coordinates)) == pytest.approx(
        0.5
    )
    masks = {key: batch[key] for key in ("fixed_mask", "moving_mask")}
    assert float(dice_loss(masks, coordinates)) == pytest.approx(0, abs=1e-5)
    empty = {**batch, "fixed_labels": torch.zeros_like(labels), "moving_labels": torch.zeros_like(labels)}
    assert float(dice_loss(empty, coordinates)) == 0


def test_absent_landmarks_do_not_count(batch):
    """NaN rows are left out; a batch without any has no error, not NaN."""
    errors = landmark_errors(batch, right(batch).displacement)
    assert len(errors) == 2 * 20 - 1
    assert float(errors.max()) < 0.2
    none = {**batch, "fixed_points": torch.full_like(batch["fixed_points"], torch.nan)}
    assert term(none, right(batch), "landmarks") == 0


def test_unknown_truth_does_not_count(batch):
    """Where the displacement is not known any prediction will do."""
    nothing = {**batch, "truth": torch.zeros_like(batch["truth"])}
    assert term(nothing, right(batch), "displacement") == 0


def test_every_stage_of_a_pyramid_is_supervised():
    """A pyramid's coarse stages have gradients from the true displacement alone."""
    torch.manual_seed(0)
    level = {"encoder": [2, 4, 4], "final": [4]}
    network = build_network({"name": "pyramid", "levels": [{"downsample": 1, **level}, level]})
    batch = make_batch(SHAPE, count=1)
    images = [batch[key].float() for key in ("fixed", "moving", "fixed_mask", "moving_mask")]
    prediction = network(*images)
    assert len(prediction.stages) == 2
    Objective(Weights(**NONE | {"displacement": 1.0}))(batch, prediction, network)[0].backward()
    for stage in network.levels:
        assert float(stage.head.mean.weight.grad.abs().max()) > 0


def test_the_likelihood_wants_the_variance_of_the_error():
    """Of all variances that of the error itself has the lowest loss, and the mean is left alone."""
    batch = make_batch(SHAPE, count=1, whole=True)
    off = right(batch).displacement + 0.5 * torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    off.requires_grad_()
    losses = {}
    for variance in (0.05, 0.25, 1.0):
        log_variance = torch.full((1, 3, *SHAPE), variance).log().requires_grad_()
        loss = likelihood_loss(batch, Prediction(off, velocity=off, spacing=1, log_variance=log_variance))
        loss.backward()
        losses[variance] = float(loss.detach())
    assert min(losses, key=losses.get) == 0.25
    assert off.grad is None


def test_the_prior_is_about_cells_of_the_velocity(batch):
    """The same field in cells has the same divergence from the prior, whatever the cells' size."""
    field = right(batch).displacement
    log_variance = torch.zeros(2, 3, *SHAPE)
    fine = Prediction(field, velocity=field, spacing=1, log_variance=log_variance)
    coarse = Prediction(
        field, velocity=2 * field, spacing=2, log_variance=log_variance + 2 * torch.log(torch.tensor(2.0))
    )
    assert term(batch, fine, "kl") == pytest.approx(term(batch, coarse, "kl"), rel=1e-5)


def test_an_objective_of_nothing_is_refused(batch):
    """All weights 0, or only terms that the batch has no truth for."""
    without = {key: value for key, value in batch.items() if not key.endswith("_points")}
    for weights in (Weights(**NONE), Weights(**NONE | {"landmarks": 1.0})):
        with pytest.raises(BadInput, match="Nothing is asked of the network"):
            Objective(weights)(without, right(batch), NETWORK)


def test_the_matching_term_asks_a_network_that_describes_and_no_other():
    truth = torch.zeros(1, 3, 8, 8, 8)
    batch = {"fixed": truth[:, :1], "fixed_mask": truth[:, :1] + 1, "displacement": truth, "truth": truth[:, :1] + 1}
    weights = Weights(ncc=0.0, bending=0.0, jacobian=0.0, dice=0.0, matching=2.0)
    described = torch.randn(1, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    loss, terms = Objective(weights)(batch, Prediction(truth, descriptions=(described, described)), None)
    assert set(terms) == {"matching"}
    assert torch.isclose(loss, 2 * terms["matching"])
    with pytest.raises(BadInput):
        Objective(weights)(batch, Prediction(truth), None)
