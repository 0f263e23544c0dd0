"""Callbacks: what counts in which phase, and pictures for every logger."""

from types import SimpleNamespace

import torch
from lightning.pytorch.trainer.states import TrainerFn

from batches import make_batch
from LungRecoveryTrainingLib.callbacks import BestCheckpoint, StopEarly, WarpedPairs, WeightsExport, warped_pair
from LungRecoveryTrainingLib.tasks import RegistrationTask

SHAPE = (16, 16, 20)


class Trainer(SimpleNamespace):
    """What callbacks ask of a trainer."""

    def __init__(self, last_phase: bool = True, **values):
        task = SimpleNamespace(in_last_phase=lambda: last_phase)
        state = SimpleNamespace(fn=TrainerFn.FITTING)
        strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all=True: decision)
        super().__init__(
            lightning_module=task, state=state, strategy=strategy, sanity_checking=False, fast_dev_run=False,
            should_stop=False, current_epoch=0, is_global_zero=True, world_size=1, global_step=7, **values,
        )  # fmt: skip


def test_early_stopping_does_not_compare_phases():
    """A coarse phase's low loss neither counts as the best nor uses up patience; the last phase does both."""
    stop = StopEarly(patience=2)

    def validate(loss: float, last_phase: bool) -> bool:
        trainer = Trainer(last_phase, callback_metrics={"val/loss": torch.tensor(loss)})
        stop.on_validation_end(trainer, trainer.lightning_module)
        return trainer.should_stop

    assert not any(validate(0.1, False) for _ in range(5))
    assert stop.wait_count == 0
    assert [validate(loss, True) for loss in (0.9, 0.8, 0.85, 0.85)] == [False, False, False, True]


def test_the_best_checkpoint_is_of_the_last_phase():
    """No epoch of an earlier phase is the best, however low its loss."""
    best = BestCheckpoint()
    assert not best.check_monitor_top_k(Trainer(False), torch.tensor(0.1))
    assert best.check_monitor_top_k(Trainer(True), torch.tensor(0.9))


def test_hours_add_up_over_resumed_runs():
    """A run that goes on counts from where it was."""
    export = WeightsExport()
    export.load_state_dict({"seconds": 3600.0})
    export.on_train_start(Trainer(), None)
    assert 3600 <= export.state_dict()["seconds"] < 3660


def test_the_card_does_not_tell_where_files_lay():
    """It names the weights that training began with, not the folder of whoever trained."""
    task = RegistrationTask({"name": "voxelmorph"})
    trainer = SimpleNamespace(world_size=1, global_step=3)
    assert WeightsExport()._card(trainer, task, {})["config"]["initial"] is None
    task.hparams["initial"] = "/home/somebody/start.safetensors"
    assert WeightsExport()._card(trainer, task, {})["config"]["initial"] == "start.safetensors"


def test_pictures_go_to_every_logger_that_takes_them():
    """TensorBoard's writer, W&B's logger, and a logger that has no pictures; every so many epochs, the first batch."""
    task, batch = RegistrationTask({"name": "voxelmorph"}), make_batch(SHAPE, count=2)
    seen = []
    board = SimpleNamespace(
        experiment=SimpleNamespace(
            add_image=lambda title, image, step: seen.append(("board", title, image.shape, step))
        )
    )
    wandb = SimpleNamespace(log_image=lambda title, images, step: seen.append(("wandb", title, images[0].shape, step)))
    trainer = Trainer(loggers=[board, wandb, SimpleNamespace(experiment=object())])
    callback = WarpedPairs(every=2)
    callback.on_validation_batch_end(trainer, task, None, batch, 0)
    size = (SHAPE[0], 5 * SHAPE[2])
    assert seen == [("board", callback.TITLE, (1, *size), 7), ("wandb", callback.TITLE, size, 7)]
    callback.on_validation_batch_end(trainer, task, None, batch, 1)
    trainer.current_epoch = 1
    callback.on_validation_batch_end(trainer, task, None, batch, 0)
    assert len(seen) == 2


def test_the_picture_shows_the_pair_head_up():
    """Five panels: fixed, moving, warped and the two errors, which at rest are the same."""
    task, batch = RegistrationTask({"name": "voxelmorph"}), make_batch(SHAPE, count=1)
    torch.nn.init.zeros_(task.network.head.mean.weight)
    panels = warped_pair(task, batch).split(SHAPE[2], dim=1)
    assert len(panels) == 5
    assert torch.equal(panels[0], batch["fixed"][0, 0, :, SHAPE[1] // 2].flip(0).clamp(0, 1))
    torch.testing.assert_close(panels[2], panels[1])
    torch.testing.assert_close(panels[4], panels[3])
