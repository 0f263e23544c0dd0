"""Checkpoints are whole, and the newest run is the one that is found."""

import os

import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.checkpoints import WholeCheckpoints, newest_checkpoint, read_checkpoint


def test_a_checkpoint_that_is_cut_short_leaves_the_one_before(tmp_path, monkeypatch):
    """Writing ends in the middle: the file is still the old one, and nothing lies beside it."""
    path, disk = tmp_path / "checkpoints" / "last.ckpt", WholeCheckpoints()
    disk.save_checkpoint({"state_dict": {}, "epoch": 1}, path)
    save = torch.save

    def cut_short(content, target):
        save(content, target)
        with open(target, "r+b") as file:
            file.truncate(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(KeyboardInterrupt):
        disk.save_checkpoint({"state_dict": {}, "epoch": 2}, path)
    assert disk.load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_the_newest_run_is_found(tmp_path):
    """By when its checkpoint was written, not by the number of the run."""
    for number, when in ((0, 200), (1, 100), (10, 150)):
        path = tmp_path / f"version_{number}" / "checkpoints" / "last.ckpt"
        WholeCheckpoints().save_checkpoint({"state_dict": {}, "run": number}, path)
        os.utime(path, (when, when))
    assert read_checkpoint(newest_checkpoint("last", tmp_path))["run"] == 0
    with pytest.raises(BadInput, match="has a best checkpoint yet"):
        newest_checkpoint("best", tmp_path)
