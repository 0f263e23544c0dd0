"""A study that is brought into the scene step by step: the first picture early, and in the end what the whole has."""

import shutil

import numpy as np
import pytest

from known_study import LABELS
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.results import read_study


@pytest.fixture
def open_study(application):
    """Opens a study in an empty scene; closed again after the test."""
    from LungRecoveryLib.scene import Opening

    opened = []

    def make(folder):
        opened.append(Opening(folder, application.scene, read_study(folder)))
        return opened[-1]

    yield make
    for opening in opened:
        opening.close()


def finish(opening):
    """Make every step that is left; returns the nodes."""
    opening.read_on()
    while opening.unfinished:
        opening.wait()
        nodes = opening.step()
    return nodes


def finish_what_can_be_read(opening):
    """Make every step that can be made; returns the nodes and what was said of the others."""
    opening.begin()
    opening.read_on()
    told = []
    while opening.unfinished:
        opening.wait()
        try:
            nodes = opening.step()
        except BadInput as error:
            told.append(str(error))
    return nodes, told


def test_the_first_picture_needs_one_map_alone(open_study, truth):
    """The scans of all dates, the Jacobian and the tables are there, the last date is shown, the rest is to come."""
    opening = open_study(truth.folder)
    nodes = opening.begin()
    assert set(nodes.maps) == {"ct", "jacobian"}
    assert nodes.labels == list(LABELS)
    assert nodes.selected == LABELS[-1]
    assert all(timepoint.table is not None for timepoint in nodes.timepoints.values())
    assert opening.unfinished > 0
    assert nodes.charts == {}


def test_in_the_end_there_is_what_the_whole_has(open_study, truth, shown):
    """The same maps, with the same values, and the same charts."""
    from LungRecoveryLib.scene.sequences import item
    from LungRecoveryLib.scene.volumes import voxels

    opening = open_study(truth.folder)
    opening.begin()
    nodes, (_application, whole) = finish(opening), shown
    assert set(nodes.maps) == set(whole.maps)
    assert set(nodes.charts) == set(whole.charts)
    for layer in nodes.maps:
        np.testing.assert_array_equal(*(voxels(item(study, layer, LABELS[1])) for study in (nodes, whole)))


def test_a_damaged_map_is_left_out(open_study, truth, tmp_path):
    """Its step says so, and those after it are made."""
    folder = tmp_path / "study"
    shutil.copytree(truth.folder, folder)
    (folder / "day-30" / "density_change.nii.gz").write_bytes(b"cut short")
    nodes, told = finish_what_can_be_read(open_study(folder))
    assert len(told) == 1
    assert "density_change.nii.gz cannot be read" in told[0]
    assert "density_change" not in nodes.maps
    assert "similarity" in nodes.maps
    assert nodes.charts


@pytest.mark.parametrize(("damage", "words"), [("gone", "is gone"), ("cut short", "cannot be read")])
def test_a_map_whose_transform_is_lost_is_left_out(open_study, study_writer, tmp_path, damage, words):
    """It lies on the follow-up's own grid, from which that transform would lay it on the baseline."""
    folder = study_writer(tmp_path / "study", {"day 30": ("enhanced",)}).folder
    transform = folder / "day-30" / "transform.h5"
    transform.unlink() if damage == "gone" else transform.write_bytes(b"cut short")
    nodes, told = finish_what_can_be_read(open_study(folder))
    assert [f"transform.h5 {words}" in said for said in told] == [True]
    assert "enhanced" not in nodes.maps
    assert "similarity" in nodes.maps


def test_a_study_that_is_no_longer_wanted_leaves_the_scene_as_before(application, truth):
    """Wherever its showing is broken off; one that was shown before stays, and is replaced only at the end."""
    from LungRecoveryLib.scene import find_studies, show_in_steps, show_study

    first = show_study(truth.folder, application.scene)
    shares = list(show_in_steps(truth.folder, application.scene))
    assert shares == sorted(set(shares))
    assert 0.0 == shares[0] < shares[-1] < 1.0
    again = show_study(truth.folder, application.scene)
    before = application.nodes()
    for share in (shares[1], shares[-1]):
        showing = show_in_steps(truth.folder, application.scene)
        while next(showing) < share:
            assert application.scene.IsNodePresent(again.browser)
        showing.close()
        assert application.nodes() == before
    assert not application.scene.IsNodePresent(first.browser)
    assert [study.name for study in find_studies(application.scene)] == ["Lung recovery"]
