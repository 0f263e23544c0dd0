"""Chests are painted as the network for dense lung must see them, and it learns from them."""

import numpy as np
import torch
from scipy import ndimage

from LungRecoveryTrainingLib import completion
from LungRecoveryTrainingLib.completion import CompletionTask, painted, varied
from LungRecoveryTrainingLib.draws import Draws
from LungRecoveryTrainingLib.objective import Weights

ARCHITECTURE = {"name": "segmenter", "channels": 4, "encoder": [4, 8, 8], "decoder": [8, 4], "final": [4]}
SHAPE = (20, 24, 28)


def chests(count: int) -> dict[str, torch.Tensor]:
    """Boxes of tissue with two boxes of air in them."""
    image = torch.full((count, 1, *SHAPE), 1.05)
    lung = torch.zeros_like(image)
    lung[..., 4:16, 5:19, 3:12] = 1
    lung[..., 4:16, 5:19, 16:25] = 1
    return {"image": torch.where(lung > 0, 0.15, image), "lung": lung, "known": torch.ones_like(lung)}


def test_what_is_painted_lies_in_the_lungs_and_is_no_longer_air():
    made = painted(chests(36), Draws(36, torch.device("cpu"), torch.Generator().manual_seed(0)))
    lung, air = made["lung"] > 0, made["air"] > 0
    assert not (air & ~lung).any()
    inner = torch.nn.functional.avg_pool3d(made["lung"], 3, 1, 1) > 0.99
    dense = inner & (made["image"] > 0.85)
    assert not (dense & air).any()
    shares = dense.sum((1, 2, 3, 4)) / inner.sum((1, 2, 3, 4))
    assert shares.max() > 0.1  # some chests are badly ill,
    assert shares.min() < 0.01  # some are well


def test_round_masses_are_few_and_solid(monkeypatch):
    """What is painted as round masses is at most four pieces, each without a hole."""
    monkeypatch.setattr(completion, "_ROUND", 1.0)
    made = painted(chests(24), Draws(24, torch.device("cpu"), torch.Generator().manual_seed(3)))
    ill = ((made["image"] > 0.6) & (made["lung"] > 0))[:, 0].numpy()
    inner = torch.nn.functional.avg_pool3d(made["lung"], 3, 1, 1)[:, 0].numpy() > 0.99
    pieces = [ndimage.label(mask & inside)[1] for mask, inside in zip(ill, inner, strict=True)]
    assert max(pieces) <= 4
    assert np.count_nonzero(pieces) > 12
    assert all(np.array_equal(ndimage.binary_fill_holes(mask), mask) for mask in ill)


def test_lobes_without_air_are_large_and_have_flat_borders(monkeypatch):
    """What is painted as a lobe is at least a twenty-fifth of the lungs on average, and convex within them: nothing of
    the lungs lies between two of its voxels that does not belong to it."""
    monkeypatch.setattr(completion, "_ROUND", 0.0)
    monkeypatch.setattr(completion, "_LOBAR", 1.0)
    monkeypatch.setattr(completion, "_PLANAR", 0.0)
    made = painted(chests(24), Draws(24, torch.device("cpu"), torch.Generator().manual_seed(5)))
    lungs = made["lung"] > 0
    dense = (made["image"] > 0.8) & lungs  # far enough from what is painted for the scanner's noise and blur
    assert dense.sum() > 0.04 * lungs.sum()
    generator = torch.Generator().manual_seed(6)
    for each, lung in zip(dense[:, 0], lungs[:, 0], strict=True):
        places = each.nonzero()
        if len(places) > 50:
            pairs = places[torch.randint(len(places), (200, 2), generator=generator)]
            middle = (pairs.float().mean(dim=1)).long().unbind(1)
            assert each[middle][lung[middle]].float().mean() > 0.9


def test_a_base_without_air_ends_at_a_plane(monkeypatch):
    """It is a part of one lung or of both, rather below and behind, and never most of both."""
    monkeypatch.setattr(completion, "_ROUND", 0.0)
    monkeypatch.setattr(completion, "_LOBAR", 1.0)
    monkeypatch.setattr(completion, "_PLANAR", 1.0)
    made = painted(chests(24), Draws(24, torch.device("cpu"), torch.Generator().manual_seed(7)))
    inner = (torch.nn.functional.avg_pool3d(made["lung"], 3, 1, 1) > 0.99)[:, 0].numpy()
    dense = (made["image"] > 0.8)[:, 0].numpy() & inner
    shares = [
        [one[..., side].sum() / box[..., side].sum() for side in (slice(0, 14), slice(14, 28))]
        for one, box in zip(dense, inner, strict=True)
    ]
    assert np.mean(shares, axis=1).max() < 0.7
    assert 0 < np.mean([min(both) > 0 for both in shares]) < 0.7
    assert np.mean([max(both) > 0.02 for both in shares]) > 0.7
    lower, behind = [], []
    for one, box in zip(dense, inner, strict=True):
        for side in (slice(0, 14), slice(14, 28)):
            ill, well = one[..., side], box[..., side] & ~one[..., side]
            if ill.sum() > 20:
                off = np.argwhere(ill).mean(0) - np.argwhere(well).mean(0)
                along = np.argwhere(ill) @ off, np.argwhere(well) @ off
                assert np.mean(along[0] > np.percentile(along[1], 90)) > 0.6
                lower.append(off[0] < 0)
                behind.append(off[1] > 0)
    assert np.mean(lower) > 0.6
    assert np.mean(behind) > 0.6


def test_some_chests_give_way_to_plain_shapes_and_some_to_tissues_alike():
    """What is replaced is known everywhere; where tissues are made alike, lungs, air and bone stay as they were."""
    given = chests(40)
    given["image"][..., :8] += 0.05
    given["image"][..., 13:15] = 1.4
    given["known"][..., :2] = 0
    made = varied(given, Draws(40, torch.device("cpu"), torch.Generator().manual_seed(5)), 8.0)
    replaced = (made["lung"] != given["lung"]).flatten(1).any(1)
    assert 0.1 < replaced.float().mean() < 0.6
    assert (made["known"][replaced] == 1).all()
    image, before, kept = made["image"][~replaced], given["image"][~replaced], given["known"][~replaced]
    assert torch.equal(made["known"][~replaced], kept)
    fixed = (given["lung"][~replaced] > 0) | (before > 1.15)
    assert torch.equal(image[fixed], before[fixed])
    contrast = image[:, 0, 1, 1, 0] - image[:, 0, 1, 1, -1]
    assert (contrast > 0.0499).any()
    assert (contrast < 0.04).any()


def test_the_same_generator_paints_the_same():
    one, again = (painted(chests(3), Draws(3, torch.device("cpu"), torch.Generator().manual_seed(4))) for _ in range(2))
    assert torch.equal(one["image"], again["image"])


def test_it_learns_where_lungs_are():
    """A few steps on one batch lower the objective by half, and lung is then told from tissue."""
    torch.manual_seed(0)
    task = CompletionTask(ARCHITECTURE, objective=Weights(likelihood=1.0, dice=1.0))
    made = painted(
        {key: torch.cat([value] * 2) for key, value in chests(2).items()},
        Draws(4, torch.device("cpu"), torch.Generator().manual_seed(1)),
    )
    optimizer = torch.optim.Adam(task.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss, terms = task.loss(made)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert set(terms) == {"likelihood", "dice"}
    assert losses[-1] < 0.5 * losses[0]
    found = task.network.eval()(_channels(made)) > 0
    assert (found == (made["lung"][:, 0] > 0)).float().mean() > 0.9


def test_what_is_not_known_does_not_count():
    """The objective does not change where the truth is not known."""
    torch.manual_seed(0)
    task = CompletionTask(ARCHITECTURE, objective=Weights(likelihood=1.0, dice=1.0)).eval()
    made = painted(chests(2), Draws(2, torch.device("cpu"), torch.Generator().manual_seed(2)))
    made["known"][..., 14:] = 0
    other = made | {"lung": torch.where(made["known"] > 0, made["lung"], 1 - made["lung"])}
    with torch.no_grad():
        losses = [task.loss(chest)[0] for chest in (made, other, other | {"known": torch.ones_like(made["known"])})]
    assert losses[0] == losses[1]
    assert losses[2] > losses[0] + 0.01


def _channels(made: dict) -> torch.Tensor:
    from LungRecoveryLib.anatomy.completion import channels

    return channels(made["image"][:, 0] * 1000 - 1000, made["air"][:, 0])
