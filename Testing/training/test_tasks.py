"""The task: seeds, randomness, phases, figures."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from batches import make_batch
from LungRecoveryTrainingLib.augmentation import Augmentation
from LungRecoveryTrainingLib.objective import Weights
from LungRecoveryTrainingLib.phases import Phase
from LungRecoveryTrainingLib.sums import Sums
from LungRecoveryTrainingLib.synthetic import Synthesis
from LungRecoveryTrainingLib.tasks import Randomness, RegistrationTask, batch_seed

LEVEL = {"encoder": [2, 4, 4], "final": [4]}
PYRAMID = {"name": "pyramid", "levels": [{"downsample": 1, **LEVEL}, LEVEL]}
PHASES = [Phase(1, (0,), 0.5, coarsened=2), Phase(2, (1,), 0.25), Phase(2, (0, 1), 0.25)]
SHAPE = (16, 16, 20)


def make_task(
    epoch: int = 0, fn: TrainerFn = TrainerFn.FITTING, architecture: dict = PYRAMID, **settings
) -> RegistrationTask:
    """A task in an epoch of a training of four."""
    torch.manual_seed(0)
    task = RegistrationTask(architecture, **settings)
    task._trainer = SimpleNamespace(
        max_epochs=4, current_epoch=epoch, global_rank=0, state=SimpleNamespace(fn=fn), barebones=False
    )
    return task


def test_seeds_are_the_same_in_every_process_and_version():
    """What a batch's randomness is drawn from depends on these four numbers alone; each of them matters."""
    assert batch_seed(0, 0, 0) == 7896617691693857887
    near = [batch_seed(*numbers) for numbers in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1), (0, 0, 0))]
    assert len(set(near)) == 5
    assert all(0 <= seed < 2**63 for seed in near)


def test_batches_are_disturbed_alike_whenever_they_are_drawn():
    """The same seed, epoch and batch give the same augmented pair, whatever was drawn before; another epoch another."""
    batch = make_batch(SHAPE, count=2)
    settings = {"randomness": Randomness(synthetic_share=0.5), "seed": 5}
    first = make_task(epoch=1, **settings).prepared(batch, 3)
    torch.rand(7)
    again = make_task(epoch=1, **settings).prepared(batch, 3)
    other = make_task(epoch=2, **settings).prepared(batch, 3)
    assert torch.equal(first["moving"], again["moving"])
    assert torch.equal(first["displacement"], again["displacement"])
    assert not torch.equal(first["moving"], other["moving"])


def test_lengths_follow_the_grid():
    """Augmentation in voxels and synthesis in mm move tissue as far on a coarser grid, and on one of other voxels."""
    randomness = Randomness(Augmentation(translation=6.0, motion=2.0), Synthesis(spacing_mm=3.0))
    coarse = randomness.on_grid(3.0, 2)
    assert (coarse.augmentation.translation, coarse.augmentation.motion) == (3.0, 1.0)
    assert coarse.synthesis.spacing_mm == 6.0
    assert randomness.on_grid(2.0, 1).synthesis.spacing_mm == 2.0


def test_phases_freeze_and_run_their_levels():
    """Epoch by epoch: level 1 alone on a coarser grid, level 2 with the first frozen, both; outside training all."""
    learning, running = [], []
    for epoch in range(4):
        task = make_task(epoch, phases=PHASES)
        task.on_train_epoch_start()
        learning.append([all(p.requires_grad for p in level.parameters()) for level in task.network.levels])
        running.append((task.phase().levels, task.phase().coarsened, task.in_last_phase()))
    assert learning == [[True, False], [True, False], [False, True], [True, True]]
    assert running == [(1, 2, False), (1, 2, False), (2, 1, False), (2, 1, True)]
    assert make_task(0, TrainerFn.VALIDATING, phases=PHASES).phase().levels == 2
    assert make_task(0).phase() is None
    assert make_task(0).in_last_phase()


def test_a_frozen_level_stays_as_it_is():
    """A step of AdamW, weight decay and all, leaves what does not learn untouched."""
    task = make_task(2, phases=PHASES)
    task.on_train_epoch_start()
    optimizer = torch.optim.AdamW(task.network.parameters(), 0.1, weight_decay=0.5)
    before = [[p.detach().clone() for p in level.parameters()] for level in task.network.levels]
    loss, _ = task.loss(make_batch(SHAPE, count=1), task.phase())
    loss.backward()
    optimizer.step()
    same = [
        all(torch.equal(a, b) for a, b in zip(old, level.parameters(), strict=True))
        for old, level in zip(before, task.network.levels, strict=True)
    ]
    assert same == [True, False]


def test_a_spread_learns_alone_from_the_error_that_the_levels_leave():
    """Only it has gradients in its phase, and in none before."""
    architecture = {**PYRAMID, "probabilistic": True, "spread": LEVEL}
    phases = [Phase(2, (0, 1), 0.5), Phase(2, (), 0.5, spread=True)]
    objective = Weights(displacement=1.0, likelihood=1.0)
    learning = []
    for epoch in (0, 2):
        task = make_task(epoch, architecture=architecture, phases=phases, objective=objective)
        task.on_train_epoch_start()
        loss, terms = task.loss(make_batch(SHAPE, count=1), task.phase())
        loss.backward()
        learning.append({name.split(".")[0] for name, p in task.network.named_parameters() if p.grad is not None})
    assert "likelihood" in terms
    assert learning == [{"levels"}, {"spread"}]


def test_figures_are_in_mm_and_percent():
    """Errors are those of the known displacement and of the landmarks, at the voxel's size."""
    task = make_task(spacing_mm=2.0)
    batch = make_batch(SHAPE, count=2, whole=True)
    found = task.figures(batch, batch["displacement"] + torch.tensor([3.0, 0, 4.0])[:, None, None, None])
    assert float(found["error_mm"]) == pytest.approx(10.0, rel=1e-4)
    assert float(found["start_mm"]) == pytest.approx(2 * float(batch["displacement"].square().sum(1).sqrt().mean()))
    assert float(found["tre_mm"]) == pytest.approx(10.0, rel=0.05)
    assert float(found["folds_percent"]) == 0
    nothing = {key: value for key, value in batch.items() if not key.endswith("_points")}
    nothing |= {key: torch.zeros_like(batch[key]) for key in ("truth", "fixed_mask")}
    assert task.figures(nothing, batch["displacement"]).keys() == {"folds_percent"}


def test_means_are_over_pairs():
    """Batches count as many pairs as they hold; what only some have is the mean of those."""
    sums = Sums()
    sums.add({"loss": torch.tensor(1.0), "tre": 2.0}, 3)
    sums.add({"loss": 5.0}, 1)
    assert sums.over_processes().means() == {"loss": 2.0, "tre": 2.0}


def test_a_network_without_levels_trains_too():
    """VoxelMorph, whose loss has no velocity."""
    task = RegistrationTask({"name": "voxelmorph", "encoder": [2, 4], "decoder": [4], "final": [4]})
    loss, terms = task.loss(make_batch(SHAPE, count=1))
    loss.backward()
    assert set(terms) == {"ncc", "bending", "jacobian", "dice"}
    assert torch.isfinite(loss)
