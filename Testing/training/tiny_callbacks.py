"""Callbacks that disturb a training run, for the tests of what it does then."""

import os
import signal
from pathlib import Path

import lightning
import torch


class Disturb(lightning.Callback):
    """In batch 1 of epoch `epoch`: `kill` the process, `interrupt` it, or spoil the `images` or the `gradient`."""

    def __init__(self, what: str, epoch: int = 2):
        self.what, self.epoch = what, epoch

    def _now(self, trainer, index: int) -> bool:
        return trainer.current_epoch == self.epoch and index == 1

    def on_train_batch_start(self, trainer, task, batch, index) -> None:
        if not self._now(trainer, index):
            return
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "interrupt":
            raise KeyboardInterrupt
        if self.what == "images":
            batch["moving"].fill_(torch.nan)

    def on_after_backward(self, trainer, task) -> None:
        if self.what == "gradient" and self._now(trainer, trainer.fit_loop.epoch_loop.batch_idx):
            next(p for p in task.parameters() if p.grad is not None).grad.fill_(torch.inf)


class WriteWeights(lightning.Callback):
    """Each process writes the weights it ends with into a folder."""

    def __init__(self, folder: str):
        self.folder = folder

    def on_train_end(self, trainer, task) -> None:
        torch.save(task.state_dict(), Path(self.folder) / f"rank{trainer.global_rank}.pt")
