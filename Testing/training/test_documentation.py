"""Every command in the page on training is one that the program takes."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from LungRecoveryTrainingLib import commands, fitting
from LungRecoveryTrainingLib.cli import main
from LungRecoveryTrainingLib.configs import configs_folder
from LungRecoveryTrainingLib.datasets import LAYOUTS

PAGE = (Path(__file__).parents[2] / "Resources" / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
LINES = [
    line for block in BLOCKS for line in block.splitlines() if line.startswith(("lungrecovery-train ", "torchrun "))
]


class Parsed(Exception):
    """The command was understood."""


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_understood(line, tmp_path, monkeypatch):
    """Parsed by the program itself, which stops before the work."""

    def stop(*arguments, **options):
        raise Parsed

    for name in ("_prepare", "_test", "_benchmark"):
        monkeypatch.setattr(commands, name, stop)
    monkeypatch.setattr(fitting.TrainingCLI, "instantiate_classes", stop)
    monkeypatch.setattr(fitting, "_small", stop)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("last", "best"):
        path = tmp_path / "runs" / "lung" / "version_0" / "checkpoints" / f"{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {}}, path)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition("LungRecoveryTrainingLib.cli")[2] or line.partition(" ")[2])
    with pytest.raises(Parsed):
        main(words)


def test_the_page_is_whole():
    """All commands, configs and data sets are there."""
    assert {shlex.split(line)[1] for line in LINES if line.startswith("lung")} == {
        "prepare", "fit", "validate", "test", "benchmark",
    }  # fmt: skip
    for config in configs_folder().glob("*.yaml"):
        assert f"`{config.stem}`" in PAGE
    for name in LAYOUTS:
        assert f"`{name}`" in PAGE
