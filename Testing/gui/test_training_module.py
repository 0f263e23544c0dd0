"""The hidden module that runs the trainer: from another module, and as Slicer's own script without a window."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import slicer_standin

PATH = Path(__file__).resolve().parents[2] / "LungRecoveryTraining" / "LungRecoveryTraining.py"


@pytest.fixture
def training(standin):
    """The module LungRecoveryTraining, imported as Slicer does it."""
    return slicer_standin.load_module(PATH)


def test_it_is_not_in_the_menu(training):
    parent = SimpleNamespace(path=str(PATH))
    training.LungRecoveryTraining(parent)
    assert parent.hidden is True
    assert "Research use only" in parent.helpText


def test_its_own_test(training):
    """The trainer starts in a process of its own and explains itself."""
    training.LungRecoveryTrainingTest().runTest()
    assert "torch" not in training.__dict__


def test_its_output_and_its_exit_code_come_back(training):
    lines: list[str] = []
    assert training.LungRecoveryTrainingLogic().run(["no-such-command"], lines.append) == 2
    assert any("no-such-command" in line for line in lines)


def test_slicer_runs_it_as_a_script(standin, monkeypatch):
    """`Slicer --no-main-window --python-script`: without the name of its file, and Slicer ends with its exit code."""
    import slicer

    codes: list[int] = []
    monkeypatch.setattr(slicer.util, "exit", codes.append, raising=False)
    monkeypatch.setattr(sys, "argv", [str(PATH), "--help"])
    exec(compile(PATH.read_text(encoding="utf-8"), "<string>", "exec"), {"__name__": "__main__"})
    assert codes == [0]
