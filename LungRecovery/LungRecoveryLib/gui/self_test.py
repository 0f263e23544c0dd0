"""The module's own tests, run by `LungRecoveryTest` in Slicer itself or under the stand-in; each gets the test case.

They use a small synthetic patient, made by the process that makes the one of Sample Data.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from LungRecoveryLib.gui.study_run import PREPARED

TESTS = ("test_panel", "test_bad_input", "test_analysis")
_SPACING_MM, _DAYS = 4.0, (0, 60)
_LONGEST_SECONDS = 900.0


def test_panel(case: Any) -> None:
    """The panel opens, takes its parameter node, and its sections hold the widgets that the code names."""
    case.delayDisplay("The panel opens")
    widget = _widget()
    assert widget.panel.parameters.preset == "standard"
    assert not widget.ui.applyButton.enabled
    assert widget.ui.noticeLabel.text == "Research use only; not for diagnosis"


def test_bad_input(case: Any) -> None:
    """A volume without voxels is refused in words, and nothing starts."""
    from LungRecovery import LungRecoveryLogic
    from LungRecoveryLib.errors import BadInput

    case.delayDisplay("A volume without voxels is refused")
    nodes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("a", "b")]
    with case.assertRaisesRegex(BadInput, "has no voxels"):  # noqa: PT027 - there is no pytest in Slicer
        LungRecoveryLogic().process(nodes)


def test_analysis(case: Any) -> None:
    """A synthetic patient from Sample Data's generator to the study in the scene, through the panel's Apply."""
    from LungRecoveryLib.gui.sample_data import make_patient

    case.delayDisplay("A synthetic patient is made")
    volumes = make_patient(spacing_mm=_SPACING_MM, days=_DAYS)
    assert len(volumes) == len(_DAYS)
    widget = _widget()
    widget.panel.time_points.add(volumes)
    assert widget.ui.timePointTable.item(1, 1).text() == "day 60"
    widget.panel.parameters.preset = "preview"
    widget.panel.parameters.device = "cpu"
    widget.panel.parameters.spacingMm = _SPACING_MM
    _cancel(case, widget)
    case.delayDisplay("The patient is analysed")
    widget.ui.applyButton.click()
    _wait(lambda: not widget.panel.run.running)
    assert widget.panel.shown is not None, widget.ui.logEdit.toPlainText()
    nodes = widget.panel.shown.nodes
    assert nodes.labels == ["baseline", "day 60"]
    assert nodes.timepoints["day 60"].volume.GetParentTransformNode() is nodes.timepoints["day 60"].transform
    assert volumes[1].GetParentTransformNode() is None
    with tempfile.TemporaryDirectory(dir=slicer.app.temporaryPath or None) as folder:
        widget.ui.exportFolderEdit.currentPath = folder
        widget.ui.exportButton.click()
        assert (Path(folder) / "report.html").is_file()
    case.delayDisplay("The results are shown and exported")


def _cancel(case: Any, widget: Any) -> None:
    """Press Apply, and Cancel when the worker is at work: no node is left."""
    case.delayDisplay("An analysis is cancelled")
    before = slicer.mrmlScene.GetNumberOfNodes()
    widget.ui.applyButton.click()
    _wait(lambda: widget.ui.progressBar.value > widget.ui.progressBar.maximum * PREPARED)
    widget.ui.applyButton.click()
    _wait(lambda: not widget.panel.run.running)
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert widget.panel.shown is None


def _widget() -> Any:
    """The module's panel, as Slicer shows it."""
    return slicer.util.getModuleWidget("LungRecovery")


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        slicer.app.processEvents()
        qt.QThread.msleep(20)
