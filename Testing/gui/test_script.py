"""An analysis from a script, without the panel: `LungRecoveryLogic().process`."""

import os
from types import SimpleNamespace

import pytest

RUN_SECONDS = 120.0
GIVEN = {"labels": ["", "", "Kontrolle"], "when": ["0", "30", "90"]}
LABELS = ["baseline", "day 30", "Kontrolle"]


@pytest.fixture
def logic(module, behave):
    """The function that makes the module's logic with a worker that behaves in some way; it is closed afterwards."""
    made = []

    def make(behaviour: str):
        made.append(module.LungRecoveryLogic())
        behave(SimpleNamespace(logic=made[-1]), behaviour)
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_script_waits_for_the_study(logic, volumes, scene):
    """As the docstring's example has it: the nodes of the study, each follow-up under its transform."""
    nodes = logic("good").process(volumes, **GIVEN, waitForCompletion=True)
    assert nodes.labels == LABELS
    assert nodes.tables["scores"].GetTable().GetNumberOfRows() == 3
    followup = nodes.timepoints["day 30"]
    assert followup.volume.GetParentTransformNode() is followup.transform
    assert followup.volume.GetImageData() is volumes[1].GetImageData()
    assert all(volume.GetParentTransformNode() is None for volume in volumes)


def test_a_script_may_go_on_meanwhile(logic, volumes, scene, process_events):
    """The run is returned at once; the study is shown when it has ended."""
    from LungRecoveryLib.scene import find_studies

    run = logic("good").process(volumes, **GIVEN, waitForCompletion=False)
    assert run.state == "running"
    assert find_studies(scene) == []
    assert process_events(lambda: bool(find_studies(scene)), RUN_SECONDS)
    assert run.state == "done"
    assert find_studies(scene)[0].labels == LABELS


def test_a_study_that_is_to_be_kept_outlives_the_module(logic, volumes, standin, tmp_path):
    one = logic("good")
    one.process(volumes, **GIVEN, keep_in=tmp_path)
    one.close()
    (kept,) = tmp_path.glob("LungRecovery-*")
    assert (kept / "study.json").is_file()
    assert os.listdir(standin.temporaryPath) == []


@pytest.mark.parametrize(
    ("behaviour", "given", "kind", "words"),
    [
        ("good", {"when": ["0"]}, "BadInput", "when has 1 entries for 3 volumes"),
        ("good", {"when": ["0", "30", "yesterday"]}, "BadInput", "neither a date nor a day"),
        ("memory", GIVEN, "RuntimeError", "ran out of memory"),
        ("good", {**GIVEN, "keep_in": "/nowhere"}, "RuntimeError", "is not there"),
        ("damaged", GIVEN, "BadInput", "cannot be read"),
    ],
)
def test_what_goes_wrong_is_raised_and_changes_nothing(logic, volumes, scene, behaviour, given, kind, words):
    """In words, and no dialog comes up."""
    from LungRecoveryLib.errors import BadInput

    before = scene.GetNumberOfNodes()
    with pytest.raises({"BadInput": BadInput, "RuntimeError": RuntimeError}[kind], match=words):
        logic(behaviour).process(volumes, **given)
    assert scene.GetNumberOfNodes() == before
