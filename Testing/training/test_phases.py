"""The multi-level strategy: epochs, learning rates and coarser grids."""

import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryTrainingLib.phases import Phase, Schedule, check_phases, coarsened, warm_cosine

THREE = (Phase(1, (0,), 0.3), Phase(2, (1,), 0.3), Phase(2, (0, 1), 0.4, rate=0.5))
LEVEL = {"encoder": [2, 4, 4]}


def test_epochs_are_shared_out_whole():
    """Every phase has its share to the nearest epoch, and one at least."""
    assert Schedule(THREE, 10).ends == [3, 6, 10]
    assert Schedule(THREE, 3).ends == [1, 2, 3]
    assert Schedule((Phase(1, (0,), 0.01), Phase(1, (0,), 0.98), Phase(1, (0,), 0.01)), 10).ends == [1, 9, 10]
    assert [Schedule(THREE, 10).number(epoch) for epoch in (0, 2, 3, 5, 6, 9, 12)] == [0, 0, 1, 1, 2, 2, 2]
    assert Schedule((), 5).phase(4) is None
    with pytest.raises(BadInput, match="3 phases need at least one epoch each"):
        Schedule(THREE, 2)


def test_the_rate_warms_up_and_falls_in_every_phase():
    """Up in a line, down a cosine, anew with each phase and as high as the phase says."""
    schedule = Schedule(THREE, 10)
    rates = [schedule.rate(step, 100, 0.1, 0.01) for step in range(100)]
    for first, end, highest in ((0, 30, 1.0), (30, 60, 1.0), (60, 100, 0.5)):
        part = rates[first:end]
        top = part.index(max(part))
        assert max(part) == pytest.approx(highest)
        assert top == (end - first) // 10
        assert part[:top] == sorted(part[:top])
        assert part[top:] == sorted(part[top:], reverse=True)
        assert part[-1] < 0.02 * highest
    assert warm_cosine(55, 100, 0.1, 0.0) == pytest.approx(0.5)
    assert warm_cosine(0, 100, 0.0, 0.0) == 1.0
    assert Schedule((), 10).rate(100, 100, 0.1, 0.01) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ([Phase(3, (0,), 1.0)], "3 levels cannot run; the network has 2"),
        ([Phase(1, (1,), 1.0)], r"levels \[1\] cannot learn; give some of 0 to 0"),
        ([Phase(1, (), 1.0)], r"levels \[\] cannot learn"),
        ([Phase(2, (), 1.0, spread=True)], "where the network has one"),
        ([Phase(2, (0,), 1.0, coarsened=2)], "too coarse for a level that averages 1 voxels"),
        ([Phase(1, (0,), 0.5)], "add up to 0.5"),
        ([Phase(1, (0,), 0.0), Phase(1, (0,), 1.0)], "above 0"),
    ],
)
def test_phases_that_cannot_be(phases, words):
    """Each is told with what is wrong."""
    network = build_network({"name": "pyramid", "levels": [{"downsample": 1, **LEVEL}, LEVEL]})
    check_phases(THREE, network)
    with pytest.raises(BadInput, match=words):
        check_phases(phases, network)
    with pytest.raises(BadInput, match="leave them out, or train a pyramid"):
        check_phases(THREE, build_network({"name": "voxelmorph"}))


def test_a_coarser_batch_is_the_same_pair():
    """On half the grid lengths halve, means stay, and what is not known does not count."""
    shape = (6, 8, 9)
    truth = torch.ones(1, 1, *shape)
    truth[..., :3] = 0
    displacement = torch.full((1, 3, *shape), 3.0) * truth
    labels = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    labels[..., 4:] = 7
    batch = {
        "fixed": torch.arange(9.0).expand(1, 1, *shape),
        "fixed_mask": truth.to(torch.uint8),
        "fixed_labels": labels,
        "displacement": displacement,
        "truth": truth.to(torch.uint8),
        "fixed_points": torch.tensor([[[0.5, 2.5, 4.5]]]),
        "pair": ["a"],
    }
    assert coarsened(batch, 1) is batch
    coarse = coarsened(batch, 2)
    assert coarse["fixed"][0, 0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    # Voxels 2 and 3: one is known, which is not most of a block, but its displacement is the block's.
    assert coarse["displacement"][0, 0, 0, 0].tolist() == [0.0, 1.5, 1.5, 1.5]
    assert coarse["truth"][0, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert coarse["fixed_mask"].dtype == torch.uint8
    assert coarse["fixed_labels"][0, 0, 0, 0].tolist() == [0, 0, 7, 7]
    assert coarse["fixed_points"][0, 0].tolist() == [0.0, 1.0, 2.0]
    assert coarse["pair"] == ["a"]
    assert {key: value.shape[2:] for key, value in coarse.items() if key.startswith("fixed_l")} == {
        "fixed_labels": (3, 4, 4)
    }
