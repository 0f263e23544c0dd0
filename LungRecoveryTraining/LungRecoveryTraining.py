"""Lung Recovery Training, a hidden scripted module of 3D Slicer: the trainer, run by Slicer's own Python.

Without a window, from a terminal (everything after the script is the trainer's)::

    Slicer --no-splash --no-main-window --python-script LungRecoveryTraining.py fit --config default --config cpu
    PythonSlicer -m LungRecoveryTrainingLib.cli fit --config default --config cpu

From Slicer's Python console, or from another module::

    from LungRecoveryTraining import LungRecoveryTrainingLogic

    code = LungRecoveryTrainingLogic().run(["prepare", "phantoms", "--root", "phantoms"], print)

The trainer needs more packages than the analysis: ``slicer.util.pip_install("lightning monai jsonargparse[signatures]
tensorboard typer rich")``, and torch from Slicer's extension PyTorch.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    _FOLDER = Path(__file__).resolve().parent
except NameError:  # Slicer runs a script given by --python-script without naming its file
    _FOLDER = Path(sys.argv[0]).resolve().parent

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class LungRecoveryTraining(ScriptedLoadableModule):
    """What Slicer knows of the module; it is not in the menu."""

    def __init__(self, parent: Any):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Lung Recovery Training")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Chest Imaging Platform")]
        self.parent.dependencies = []
        self.parent.contributors = ["The LungRecovery developers"]
        self.parent.helpText = _(
            "Trains the networks of Lung Recovery without a window. Research use only; not for diagnosis."
        )
        self.parent.acknowledgementText = ""
        self.parent.hidden = True


class LungRecoveryTrainingWidget(ScriptedLoadableModuleWidget):
    """Empty: the module has no panel."""


class LungRecoveryTrainingLogic(ScriptedLoadableModuleLogic):
    """Runs the trainer as a process of its own: torch never enters Slicer's."""

    def run(self, arguments: Sequence[str], log: Callable[[str], None] = print) -> int:
        """Run ``lungrecovery-train`` with arguments and return its exit code when it has ended.

        `log` gets every line it prints. An interrupt ends the trainer too, which keeps its last checkpoint.
        """
        environment = os.environ.copy()
        folders = [str(_FOLDER), str(_FOLDER.parent / "LungRecovery"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
        command = [self.python(), "-u", "-m", "LungRecoveryTrainingLib.cli", *arguments]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in process.stdout:
                log(line.rstrip("\n"))
        except BaseException:
            process.terminate()
            raise
        finally:
            process.wait()
        return process.returncode

    @staticmethod
    def python() -> str:
        """Slicer's Python for a process of its own."""
        return shutil.which("PythonSlicer") or sys.executable


class LungRecoveryTrainingTest(ScriptedLoadableModuleTest):
    """The trainer can be started and explains itself."""

    def runTest(self) -> None:
        self.test_help()

    def test_help(self) -> None:
        """Needs none of the trainer's packages."""
        lines: list[str] = []
        assert LungRecoveryTrainingLogic().run(["--help"], lines.append) == 0
        assert any("lungrecovery-train" in line for line in lines)


if __name__ == "__main__":
    import slicer

    slicer.util.exit(LungRecoveryTrainingLogic().run(sys.argv[1:]))
