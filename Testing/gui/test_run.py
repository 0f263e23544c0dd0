"""Apply and Cancel: results only after success, a message for everything else, and the scene and disk as before."""

import os
from pathlib import Path

import pytest

RUN_SECONDS = 300.0
END_SECONDS = 60.0  # never needed: a computer may be busy


def node_ids(scene) -> list[str]:
    """The ids of all nodes of a scene."""
    return sorted(scene.GetNthNode(i).GetID() or "" for i in range(scene.GetNumberOfNodes()))


def left_on_disk(standin) -> list[str]:
    """What is left in Slicer's temporary folder."""
    return sorted(os.listdir(standin.temporaryPath))


def alive(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except OSError:
        return False


@pytest.fixture
def apply(listed, behave, process_events):
    """The function that presses Apply with a worker that behaves in some way, and waits for the end."""

    def press(behaviour: str, wait: bool = True):
        noted = behave(listed, behaviour)
        assert listed.ui.applyButton.enabled, listed.panel.time_points.problem()
        listed.ui.applyButton.click()
        if wait:
            assert process_events(lambda: not listed.panel.run.running, RUN_SECONDS)
        return noted

    return press


def test_apply_shows_the_study(listed, apply, standin, scene, volumes):
    """From the click to the results in the scene: bar, log, layout, sections opened; inputs are not changed."""
    before = [(node.GetMTime(), node.GetImageData().GetMTime()) for node in volumes]
    assert listed.panel.shown is None
    apply("good")
    assert standin.messages == []
    shown = listed.panel.shown
    assert shown.nodes.labels == ["baseline", "day 30", "Kontrolle"]
    assert listed.ui.stageLabel.text == "Done."
    assert listed.ui.progressBar.value > 900
    assert "Preparing CT 0" in listed.ui.logEdit.toPlainText()
    assert "day 30: refine" in listed.ui.logEdit.toPlainText()
    assert not listed.ui.resultsSection.collapsed
    assert listed.ui.applyButton.text == "&Apply"
    from LungRecoveryLib import scene as shows

    assert standin.layoutManager().layout == shows.LAYOUT_ID
    assert [(node.GetMTime(), node.GetImageData().GetMTime()) for node in volumes] == before
    assert not list(shown.folder.parent.glob("*.nrrd"))  # the copies of the inputs


def test_again_replaces_its_own_nodes_only(listed, apply, scene):
    """A second run leaves as many nodes as the first, and the user's own node."""
    import slicer

    apply("good")
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    count = scene.GetNumberOfNodes()
    apply("good")
    assert scene.GetNumberOfNodes() == count
    assert scene.IsNodePresent(mine)
    assert len(listed.panel.studies) == 1


def test_a_failed_quality_gate_still_shows_results(listed, apply, standin):
    """Exit code 6: the results are there, and the panel says that a registration did not pass."""
    apply("unreliable")
    assert listed.panel.shown is not None
    assert "quality" in listed.ui.stageLabel.text
    assert standin.messages == []


def test_garbage_between_the_lines_does_no_harm(listed, apply):
    apply("garbage")
    assert listed.panel.shown is not None
    assert "not json" in listed.ui.logEdit.toPlainText()


@pytest.mark.parametrize(
    ("behaviour", "words", "detail"),
    [
        ("crash", "ended by the system", ""),
        ("killed", "ended by the system", ""),
        ("silent", "without a result (code 3)", ""),
        ("memory", "ran out of memory", "not enough memory"),
        ("bug", "unexpected error", "Traceback: in broken"),
        ("bad", "CT 1: shows the left lung but CT 1 the right.", ""),
        ("full", "delete some files there, or keep the results on another disk", ""),
        ("vanished", "vanished", ""),
        ("damaged", "cannot be read", "Traceback"),
    ],
)
def test_a_run_that_goes_wrong_changes_nothing(listed, apply, scene, standin, behaviour, words, detail):
    """One message a radiologist understands, details behind a button, no node and no file left, Apply again."""
    before = node_ids(scene)
    apply(behaviour)
    assert len(standin.messages) == 1
    message = standin.messages[0]
    assert message["kind"] == "error"
    assert words in message["text"]
    assert "Traceback" not in message["text"]
    assert detail in message.get("detailedText", "")
    assert node_ids(scene) == before
    assert listed.panel.shown is None
    assert listed.ui.applyButton.enabled
    assert listed.ui.applyButton.text == "&Apply"
    if behaviour != "damaged":  # that one's files are kept until the scene closes
        assert left_on_disk(standin) == []


def test_a_program_that_is_not_there(listed, standin, process_events, scene):
    listed.logic.worker_command = ["/nowhere/PythonSlicer"]
    listed.ui.applyButton.click()
    assert process_events(lambda: not listed.panel.run.running, 30)
    assert "could not be started" in standin.messages[0]["text"]
    assert left_on_disk(standin) == []


def test_a_cancel_may_take_three_seconds_at_most():
    """A worker that does not end by itself is killed before, and the panel waits no longer for that."""
    from LungRecoveryLib.gui import process

    assert process.GRACE_MS + process._KILL_WAIT_MS < 3000


@pytest.mark.parametrize("behaviour", ["hang", "stubborn"])
def test_cancel_ends_the_process_tree(listed, apply, scene, standin, process_events, behaviour):
    """In the middle of a registration, also where the worker ignores the request: no process, node or file is left."""
    before = node_ids(scene)
    noted = apply(behaviour, wait=False)
    assert process_events(lambda: "refine" in listed.ui.stageLabel.text, 60)
    assert listed.ui.applyButton.text == "&Cancel"
    assert not listed.ui.addVolumeButton.enabled
    children = noted.children()
    assert all(alive(pid) for pid in children)
    listed.ui.applyButton.click()
    assert listed.ui.applyButton.text == "Cancelling…"
    assert not listed.ui.applyButton.enabled
    assert process_events(lambda: not listed.panel.run.running, END_SECONDS)
    assert process_events(lambda: not any(alive(pid) for pid in children), END_SECONDS)
    assert node_ids(scene) == before
    assert left_on_disk(standin) == []
    assert standin.messages == []
    assert "Cancelled" in listed.ui.stageLabel.text
    assert listed.ui.applyButton.enabled


def test_cancel_while_the_inputs_are_written(listed, apply, standin, process_events):
    """Before the worker starts: it never does."""
    noted = apply("hang", wait=False)
    listed.ui.applyButton.click()
    assert not listed.panel.run.running
    process_events(seconds=0.5)
    assert noted.children() == []
    assert left_on_disk(standin) == []
    assert "Cancelled" in listed.ui.stageLabel.text


def test_cancel_of_a_worker_that_has_not_said_its_id(listed, apply, standin, process_events):
    """A worker that never said that it started is ended by its process alone."""
    apply("mute", wait=False)
    assert process_events(lambda: "refine" in listed.ui.stageLabel.text, 60)
    listed.ui.applyButton.click()
    assert process_events(lambda: not listed.panel.run.running, END_SECONDS)
    assert left_on_disk(standin) == []


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_cancel_while_the_results_are_loaded(listed, apply, scene, standin, process_events, tmp_path, share):
    """Between two parts of the study: no node and no file is left, not even in a folder of the user's."""
    listed.panel.parameters.resultsFolder = str(tmp_path)
    before = node_ids(scene)
    cancel_at(listed, apply, process_events, share)
    assert node_ids(scene) == before
    assert left_on_disk(standin) == []
    assert list(tmp_path.glob("LungRecovery-*")) == []
    assert standin.messages == []
    assert listed.panel.shown is None
    assert "Cancelled" in listed.ui.stageLabel.text
    assert listed.ui.applyButton.text == "&Apply"
    assert listed.ui.applyButton.enabled


def test_cancel_while_the_results_are_loaded_again_keeps_those_before(listed, apply, scene, process_events):
    apply("good")
    before, volumes = node_ids(scene), listed.panel.shown.nodes.maps
    cancel_at(listed, apply, process_events, 0.9)
    assert node_ids(scene) == before
    assert listed.panel.shown.nodes.maps == volumes
    assert listed.panel.shown.folder.is_dir()


def cancel_at(listed, apply, process_events, share: float) -> None:
    """Apply, and Cancel when so much of the results is loaded."""
    steps = listed.logic.show_in_steps
    turns = []

    def watched(run):
        loading = steps(run)
        try:
            while True:
                done = next(loading)
                if done >= share and not turns:
                    turns.append(done)
                yield done
        finally:
            loading.close()

    listed.logic.show_in_steps = watched
    apply("good", wait=False)
    assert process_events(lambda: bool(turns), RUN_SECONDS)
    assert listed.ui.applyButton.text == "&Cancel"
    listed.ui.applyButton.click()
    assert not listed.panel.run.running
    process_events(seconds=0.2)
    listed.logic.show_in_steps = steps


def test_a_cancel_that_comes_too_late_shows_nothing(listed, apply, process_events, standin, tmp_path):
    """The worker had already finished: its results are thrown away, also from a folder of the user's."""
    listed.panel.parameters.resultsFolder = str(tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    apply("good", wait=False)
    run = listed.panel.run.current
    assert process_events(lambda: run._result is not None or not run.running, RUN_SECONDS)
    if run.running:
        run.cancel()
        process_events(lambda: not listed.panel.run.running, END_SECONDS)
        assert listed.panel.shown is None
        assert list((tmp_path / "kept").iterdir()) == []


def test_results_can_be_kept_in_a_folder(listed, apply, standin, tmp_path):
    """The study lies in a new folder of its own there, and nothing in the temporary folder."""
    listed.ui.resultsFolderEdit.setCurrentPath(str(tmp_path))
    apply("good")
    kept = list(tmp_path.glob("LungRecovery-*"))
    assert len(kept) == 1
    assert listed.panel.shown.folder == kept[0]
    assert left_on_disk(standin) == []
    listed.cleanup()
    assert kept[0].is_dir()


@pytest.mark.parametrize("how", ["cleanup", "close the scene"])
def test_nothing_is_loaded_when_the_module_or_the_scene_closes(listed, apply, scene, standin, process_events, how):
    """In the middle of loading the results."""
    before = scene.GetNumberOfNodes()
    apply("good", wait=False)
    assert process_events(lambda: listed.ui.stageLabel.text == "Loading the results", RUN_SECONDS)
    listed.cleanup() if how == "cleanup" else scene.Clear()
    process_events(seconds=0.2)
    assert left_on_disk(standin) == []
    assert listed.panel.shown is None
    assert standin.messages == []
    if how == "cleanup":
        assert scene.GetNumberOfNodes() == before


@pytest.mark.parametrize("how", ["cleanup", "close the scene"])
def test_nothing_goes_on_when_the_module_or_the_scene_closes(listed, apply, scene, standin, process_events, how):
    """Module reload, Slicer's exit and closing the scene end the process tree before they go on."""
    noted = apply("stubborn", wait=False)
    assert process_events(lambda: "refine" in listed.ui.stageLabel.text, 60)
    children = noted.children()
    listed.cleanup() if how == "cleanup" else scene.Clear()
    assert process_events(lambda: not any(alive(pid) for pid in children), END_SECONDS)
    assert left_on_disk(standin) == []
    if how != "cleanup":
        process_events(seconds=0.1)
        assert listed.panel.time_points.rows == []
        assert listed.panel.parameters is not None


def test_closing_the_scene_removes_the_temporary_study(listed, apply, scene, standin):
    apply("good")
    assert left_on_disk(standin)
    scene.Clear()
    assert left_on_disk(standin) == []
    assert listed.panel.shown is None


def test_a_worker_that_is_silent_for_long_is_noted(listed, apply, process_events, monkeypatch):
    """The user is told, and may cancel; nothing is ended by itself."""
    from LungRecoveryLib.gui import run

    monkeypatch.setattr(run, "SILENT_SECONDS", 0.5)
    apply("hang", wait=False)
    assert process_events(lambda: "no news" in listed.ui.remainingLabel.text, 60)
    assert listed.panel.run.running


def test_a_full_disk_is_said_before_anything_starts(listed, standin, monkeypatch, process_events):
    """By the room that is left, and by the error where it runs out all the same."""
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    listed.ui.applyButton.click()
    process_events(lambda: not listed.panel.run.running, 10)
    assert "too little room on the disk" in standin.messages[0]["text"]
    assert left_on_disk(standin) == []
    monkeypatch.undo()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("LungRecoveryLib.gui.inputs.write_volume", full)
    listed.ui.applyButton.click()
    assert process_events(lambda: not listed.panel.run.running, 10)
    assert "disk is full" in standin.messages[1]["text"]
    assert left_on_disk(standin) == []
    assert listed.ui.applyButton.enabled


@pytest.mark.parametrize("trouble", ["gone", "read-only", "full"])
def test_a_folder_for_the_results_that_cannot_be_used_is_said_before_anything_starts(
    listed, apply, standin, small_disk, tmp_path, trouble
):
    """Its disk was taken out, is closed to writing, or has no room while the temporary folder's has enough."""
    folder = tmp_path / "gone" if trouble == "gone" else small_disk(1, read_only=trouble == "read-only")
    listed.panel.parameters.resultsFolder = str(folder)
    noted = apply("hang")
    words = {
        "gone": "is not there",
        "read-only": "Nothing can be written into",
        "full": "too little room on the disk of",
    }
    (message,) = standin.messages
    assert words[trouble] in message["text"]
    assert str(folder) in message["text"]
    assert "Keep results in" in message["text"]
    assert noted.children() == []
    assert left_on_disk(standin) == []
    assert not folder.is_dir() or list(folder.iterdir()) == []
    assert listed.ui.applyButton.enabled
