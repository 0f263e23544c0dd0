"""The module's own test, as a real Slicer runs it, and the patient that it offers in the module Sample Data."""

import inspect
import os
import sys
import types
from pathlib import Path
from typing import ClassVar

import pytest

OFFLINE = """
import socket, sys

def refuse(*arguments, **options):
    with open({log!r}, "a", encoding="utf-8") as file:
        file.write("connects\\n")
    raise OSError("there is no network in this test")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
with open({log!r}, "a", encoding="utf-8") as file:
    file.write(" ".join(sys.orig_argv) + "\\n")
"""


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Let every Python process that starts be without a network; returns the file where they are noted."""
    log, folder = tmp_path / "started.txt", tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OFFLINE.format(log=str(log)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))
    return log


@pytest.fixture
def own_panel(module, monkeypatch):
    """The panel that `slicer.util.getModuleWidget` gives; closed after the test."""
    import slicer

    monkeypatch.setattr("LungRecoveryLib.gui.devices.DeviceProbe.start", lambda self: None)
    widget = slicer.util.getModuleWidget("LungRecovery")
    yield widget
    widget.cleanup()
    widget.parent.close()
    widget.parent.deleteLater()


@pytest.mark.timeout(1200)  # it computes, and the computer may be busy
@pytest.mark.slow
def test_the_modules_own_test(scene, own_panel, module, standin, offline):
    """A patient is made, an analysis cancelled, another one shown and exported; nothing is asked of any network."""
    module.LungRecoveryTest().runTest()
    assert [m["text"] for m in standin.messages if m["kind"] == "error"] == []
    assert own_panel.panel.shown.nodes.labels == ["baseline", "day 60"]
    noted = offline.read_text(encoding="utf-8")
    assert "LungRecoveryLib.gui.phantom_child" in noted
    assert noted.count("LungRecoveryLib.child") == 2
    assert "connects" not in noted
    assert len(os.listdir(standin.temporaryPath)) == 1  # the study that is shown
    own_panel.cleanup()
    assert os.listdir(standin.temporaryPath) == []


def alive(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(os.name == "nt", reason="looks into /proc")
def test_cancel_while_the_patient_is_made_leaves_nothing(scene, module, standin, monkeypatch):
    """No node, no file, no process, and no message."""
    import qt

    from LungRecoveryLib.gui import process, sample_data

    started = []
    monkeypatch.setattr(
        process.WorkerProcess,
        "start",
        lambda self, job, start=process.WorkerProcess.start: (started.append(self), start(self, job)),
    )
    before = scene.GetNumberOfNodes()
    watch, pids = qt.QTimer(), []

    def cancel_when_it_works():
        if started and started[0].started:
            pids.append(started[0]._pid)
            for dialog in standin.topLevelWidgets():
                if isinstance(dialog, qt.QProgressDialog):
                    dialog.cancel()

    watch.connect("timeout()", cancel_when_it_works)
    watch.start(50)
    assert sample_data.make_patient() == []
    watch.stop()
    assert pids
    assert not any(alive(pid) for pid in pids)
    assert scene.GetNumberOfNodes() == before
    assert os.listdir(standin.temporaryPath) == []
    assert standin.messages == []


# -------------------------------------------------------------------------------------------------------- Sample Data


class SampleDataLogic:
    """What Slicer's module Sample Data has, with its documented arguments."""

    registered: ClassVar[list[dict]] = []

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType="VolumeFile",
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ):
        SampleDataLogic.registered.append(dict(locals()))


@pytest.fixture
def sample_data_module(module, standin, monkeypatch):
    """Sample Data as it is when Slicer has started."""
    SampleDataLogic.registered.clear()
    fake = types.ModuleType("SampleData")
    fake.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", fake)
    standin.slots["startupCompleted()"].clear()
    module.LungRecovery(types.SimpleNamespace(path=inspect.getfile(module)))
    assert SampleDataLogic.registered == []
    for slot in standin.slots["startupCompleted()"]:
        slot()
    return SampleDataLogic.registered


def test_the_patient_is_offered_in_sample_data(sample_data_module, monkeypatch):
    """With its picture and without an address; a click makes it."""
    (source,) = sample_data_module
    assert source["category"] == "Lung Recovery"
    assert Path(source["thumbnailFileName"]).is_file()
    assert source["uris"] == source["fileNames"] == source["nodeNames"] == []
    asked = []
    monkeypatch.setattr("LungRecoveryLib.gui.sample_data.make_patient", lambda path: asked.append(path) or ["made"])
    assert source["customDownloader"](source) == ["made"]
    assert asked[0].name == "requirements.txt"


def test_a_patient_that_cannot_be_made_is_told(sample_data_module, standin, scene, monkeypatch):
    """A click on Sample Data's button would swallow the exception: a message, and the scene as before."""
    monkeypatch.setattr("LungRecoveryLib.gui.waiting.python_program", lambda: "/nowhere/PythonSlicer")
    monkeypatch.setattr("LungRecoveryLib.gui.requirements.ensure", lambda path: True)
    before = scene.GetNumberOfNodes()
    assert sample_data_module[0]["customDownloader"](None) == []
    assert "could not be made" in standin.messages[0]["text"]
    assert "Traceback" in standin.messages[0]["detailedText"]
    assert scene.GetNumberOfNodes() == before
    assert os.listdir(standin.temporaryPath) == []
