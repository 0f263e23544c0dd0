"""The module's panel, run under a stand-in of Slicer's application (see Testing/slicer_standin)."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from skips import skip_or_fail

TESTING = Path(__file__).resolve().parents[1]
MODULE = TESTING.parent / "LungRecovery" / "LungRecovery.py"
FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
RUN_SECONDS = 120.0


@pytest.fixture(scope="session")
def standin():
    """The stand-in of ``slicer.app``; skipped, saying so, where slicer-core or PySide6 is missing."""
    for package, hint in (("slicer", "slicer-core==5.11.0.6"), ("PySide6", "PySide6-Essentials==6.11.3")):
        try:
            __import__(package)
        except ImportError as error:
            skip_or_fail(f"{package} cannot be imported ({error}): pip install {hint}")
    import slicer_standin

    application = slicer_standin.install()
    yield application
    application.remove_files()


@pytest.fixture
def scene(standin):
    """A new empty scene; an exception in a slot fails the test, as it would only be printed otherwise."""
    import slicer_standin

    failures = []
    before, sys.excepthook = sys.excepthook, lambda *error: failures.append(error)
    made = slicer_standin.new_scene(standin)
    yield made
    made.Clear(0)  # as Slicer closes a scene; or its images stay for as long as anything refers to a node
    sys.excepthook = before
    for _kind, error, trace in failures:
        raise error.with_traceback(trace)


@pytest.fixture
def module(standin):
    """The module LungRecovery, imported as Slicer does it."""
    import slicer_standin

    return slicer_standin.load_module(MODULE)


@pytest.fixture
def make_panel(module, scene, monkeypatch):
    """The function that opens the module's panel; closed again after the test."""
    opened = []
    monkeypatch.setattr("LungRecoveryLib.gui.devices.DeviceProbe.start", lambda self: None)

    def make():
        widget = module.LungRecoveryWidget()
        opened.append(widget)
        return widget

    yield make
    for widget in opened:
        widget.cleanup()
        widget.parent.close()
        widget.parent.deleteLater()


@pytest.fixture
def panel(make_panel):
    """The module's panel on an empty scene."""
    return make_panel()


@pytest.fixture
def process_events(standin) -> Callable:
    """The function that lets Qt work until a condition holds, or until a time in seconds is over."""

    def work(condition: Callable[[], bool] = lambda: False, seconds: float = 0.0) -> bool:
        end = time.monotonic() + seconds
        while True:
            standin.processEvents()
            if condition():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)

    return work


@pytest.fixture
def volumes(scene, small_scans) -> list:
    """The small patient's scans in the scene."""
    import slicer

    nodes = [slicer.util.loadVolume(small_scans / f"{i}.mha") for i in range(3)]
    for number, node in enumerate(nodes):
        node.SetName(f"CT {number}")
    return nodes


@pytest.fixture
def listed(panel, volumes):
    """A panel whose table holds the small patient's scans, labelled as the small study has them."""
    from LungRecoveryLib.gui.rows import Row

    labels = ("", "", "Kontrolle")
    rows = [Row(v, label, day) for v, label, day in zip(volumes, labels, ("0", "30", "90"), strict=True)]
    panel.panel.time_points.set_rows(rows)
    return panel


@pytest.fixture
def behave(module, small_study, tmp_path, monkeypatch) -> Callable:
    """The function that lets a panel's worker behave as fake_worker.py knows; it returns where children are noted."""

    def choose(widget, behaviour: str) -> SimpleNamespace:
        children = tmp_path / "children"
        monkeypatch.setenv("FAKE_WORKER_CHILDREN", str(children))
        widget.logic.worker_command = [sys.executable, str(FAKE_WORKER), behaviour, str(small_study)]
        return SimpleNamespace(
            children=lambda: [int(pid) for pid in children.read_text().split()] if children.exists() else []
        )

    return choose


@pytest.fixture
def copied_study(small_study, tmp_path) -> Path:
    """A copy of the small study, to be changed or damaged."""
    return Path(shutil.copytree(small_study, tmp_path / "study"))


@pytest.fixture
def shown(listed, behave, process_events):
    """A panel that shows the small patient's study."""
    behave(listed, "good")
    listed.ui.applyButton.click()
    assert process_events(lambda: not listed.panel.run.running, RUN_SECONDS)
    assert listed.panel.shown is not None, listed.ui.logEdit.toPlainText()
    return listed


@pytest.fixture
def views(scene):
    """Slice views as Slicer's layout makes them."""
    import slicer

    for name in ("Red", "Yellow", "Green"):
        slice_node = slicer.vtkMRMLSliceNode()
        slice_node.SetSingletonTag(name)
        slice_node.SetLayoutName(name)
        slice_node.SetName(name)
        scene.AddNode(slice_node)
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetSingletonTag(name)
        composite.SetLayoutName(name)
        scene.AddNode(composite)
    return scene
