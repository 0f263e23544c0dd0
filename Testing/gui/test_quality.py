"""Quality: the verdict, its measures, comparisons with the baseline and landmark errors."""

import html

import numpy as np
import pytest

from panel_actions import choose, composites


def test_the_verdict_and_its_measures(shown):
    """In words and colour, with what it rests on."""
    quality = shown.panel.shown.timepoint("Kontrolle")["quality"]
    words = {"pass": "passed", "review": "to be reviewed", "fail": "failed"}[quality["verdict"]]
    assert f"Kontrolle: {words}" in shown.ui.verdictLabel.text
    assert quality["reasons"][0].split("<")[0][:20] in shown.ui.verdictLabel.text
    table = shown.ui.qualityTable
    rows = {table.item(r, 0).text(): table.item(r, 1).text() for r in range(table.rowCount)}
    assert rows["Lung overlap (Dice)"] == f"{quality['lung_dice']:.3f}"
    assert rows["Inverse consistency, mean"].endswith(" mm")
    assert {"Folds", "Lung surfaces apart (HD95)", "Similarity before", "Similarity after"} <= set(rows)


@pytest.mark.parametrize(
    ("verdict", "said", "reliable", "words", "caution"),
    [
        ("pass", "not usable", False, "day 30: passed, rejected by the reader", "the reader rejected the registration"),
        ("fail", "usable", True, "day 30: failed, used on the reader's word", ""),
        ("fail", "accepted", False, "day 30: failed, accepted by the reader", "failed its quality check"),
        ("fail", None, False, "day 30: failed", "failed its quality check"),
        ("pass", None, True, "day 30: passed", ""),
    ],
)
def test_the_readers_verdict_counts(shown, verdict, said, reliable, words, caution):
    """The verdict's colour and what follows are the reader's; beside maps and scores stands whether they are to be
    relied on."""
    from LungRecoveryLib.gui.colours import colour_of

    timepoint = shown.panel.shown.timepoint("day 30")
    timepoint["reliable"], timepoint["quality"]["verdict"] = reliable, verdict
    if said is not None:
        timepoint["quality"]["reader"] = {"verdict": said, "comment": "base > 10 mm off"}
    shown.ui.timePointSlider.setValue(1)
    text, label = html.unescape(shown.ui.verdictLabel.text), shown.ui.cautionLabel
    assert f"{words}</b>" in text
    assert colour_of("pass" if reliable else "fail", shown.panel.widget) in text
    assert ("Reader: “base > 10 mm off”" in text) == (said is not None)
    assert ("marked unreliable" in text) == (not reliable)
    assert label.isHidden() == reliable
    assert caution in label.text
    shown.ui.timePointSlider.setValue(0)
    assert label.isHidden()


def test_warnings_stand_below_the_verdict(shown):
    """Those of the scan that is shown and of the whole study, each once; without any there is no gap."""
    content = shown.panel.shown.content
    for timepoint in content["timepoints"]:
        timepoint["warnings"] = []
    content["timepoints"][1]["warnings"] = ["Noise of 40 HU > 30 HU."]
    content["warnings"] = ["The scans differ in kernel.", "day 30: Noise of 40 HU > 30 HU."]
    label = shown.ui.warningsLabel
    shown.ui.timePointSlider.setValue(1)
    assert label.text.count("Noise of 40 HU &gt; 30 HU.") == label.text.count("The scans differ in kernel.") == 1
    shown.ui.timePointSlider.setValue(0)
    assert "Noise" not in label.text
    assert "The scans differ" in label.text
    content["warnings"] = []
    shown.ui.timePointSlider.setValue(2)
    assert label.isHidden()


@pytest.mark.parametrize("mode", ["checkerboard", "difference", "edges"])
def test_comparisons(views, shown, scene, mode):
    """Each mode puts a picture into the slice views; another time point goes back to the overlay."""
    choose(shown.ui.compareComboBox, mode)
    nodes = shown.panel.shown.nodes
    shows = {c.GetBackgroundVolumeID() for c in composites(scene)} | {
        c.GetForegroundVolumeID() for c in composites(scene)
    }
    assert nodes.comparison.GetID() in shows
    words = {"checkerboard": "in turn", "difference": "white is denser by 400 HU", "edges": "Yellow"}[mode]
    assert words in shown.ui.compareHint.text
    shown.ui.timePointSlider.setValue(1)
    assert shown.ui.compareComboBox.currentIndex == 0
    assert shown.ui.compareHint.text == ""
    assert composites(scene)[0].GetForegroundVolumeID() == nodes.maps["jacobian"].GetID()


def test_fade_and_flicker(views, shown, scene, process_events):
    """The slider moves the opacity; flicker changes it by itself and stops with the mode."""
    choose(shown.ui.compareComboBox, "fade")
    assert shown.ui.fadeSlider.enabled
    shown.ui.fadeSlider.setValue(20)
    assert composites(scene)[0].GetForegroundOpacity() == pytest.approx(0.2)
    choose(shown.ui.compareComboBox, "flicker")
    assert not shown.ui.fadeSlider.enabled
    seen = set()
    process_events(lambda: len(seen.union({composites(scene)[0].GetForegroundOpacity()})) < 0, 0.1)
    assert process_events(lambda: seen.add(composites(scene)[0].GetForegroundOpacity()) or {0.0, 1.0} <= seen, 3)
    choose(shown.ui.compareComboBox, "")
    assert not shown.panel.quality._flicker.isActive()


def test_landmark_errors(shown, scene):
    """Points moved by the transform itself have no error; shifted by 3 mm they have 3 mm; mistakes are said."""
    import slicer

    fixed = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "in the baseline")
    moving = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "in the follow-up")
    ui, nodes = shown.ui, shown.panel.shown.nodes
    ui.landmarkGroup.setCollapsed(False)
    ui.landmarkButton.click()
    assert "Choose both lists" in ui.landmarkLabel.text
    ui.baselinePointsSelector.setCurrentNode(fixed)
    ui.followupPointsSelector.setCurrentNode(moving)
    ui.landmarkButton.click()
    assert "Place points" in ui.landmarkLabel.text
    centre = np.array(slicer.util.arrayFromVolume(nodes.baseline.volume).shape[::-1]) / 2
    matrix = slicer.util.arrayFromVTKMatrix(_ijk_to_ras(nodes.baseline.volume))
    for step in ((0, 0, 0), (12, 3, -5), (-14, 2, 4)):
        point = (matrix @ np.append(centre + step, 1))[:3]
        place = [0.0, 0.0, 0.0]
        nodes.timepoints["Kontrolle"].transform.GetTransformFromParent().TransformPoint(point, place)
        fixed.AddControlPoint(point)
        moving.AddControlPoint(np.add(place, (0.0, 0.0, 3.0)))
    ui.landmarkButton.click()
    assert ui.landmarkLabel.text.startswith("3 points: mean 3.00 mm, SD 0.0")
    moving.RemoveNthControlPoint(0)
    ui.landmarkButton.click()
    assert "3 and 2 points" in ui.landmarkLabel.text


def _ijk_to_ras(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix
