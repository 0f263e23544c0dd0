"""Correction: lungs and lesions edited and measured again, and the reader's verdict."""

import json

import pytest

from panel_actions import choose

RUN_SECONDS = 120.0


class SegmentEditor:
    """What the panel asks of the module Segment Editor."""

    def __init__(self):
        self.segmentation = self.volume = None
        self.editor = self

    def setSegmentationNode(self, node):
        self.segmentation = node

    def setSourceVolumeNode(self, node):
        self.volume = node


@pytest.fixture
def segment_editor(standin, monkeypatch):
    """The module Segment Editor, as far as it is needed."""
    from types import SimpleNamespace

    import slicer

    editor = SegmentEditor()
    representation = SimpleNamespace(self=lambda: editor)
    module = SimpleNamespace(widgetRepresentation=lambda: representation, logic=lambda: None)
    monkeypatch.setattr(slicer.modules, "segmenteditor", module, raising=False)
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", lambda **layers: None)
    return editor


def test_lungs_are_edited_and_measured_again(
    views, shown, segment_editor, volumes, standin, process_events, monkeypatch
):
    """A copy that lies where the scan lies is opened; the job names scan and mask; the old study is replaced."""
    ui = shown.ui
    assert not ui.recomputeButton.enabled
    ui.correctTimePointComboBox.setCurrentIndex(1)
    ui.editLungsButton.click()
    assert standin.selected_modules == ["SegmentEditor"]
    copy = segment_editor.segmentation
    assert segment_editor.volume is volumes[1]
    assert copy.GetParentTransformNode() is None
    assert copy.GetSegmentation().GetNumberOfSegments() == 2
    assert ui.recomputeButton.enabled
    seen = {}
    start = shown.panel.logic.start

    def spy(request, listener):
        run = start(request, listener)
        seen["job"] = json.loads((run.folder / "job.json").read_text())
        return run

    monkeypatch.setattr(shown.panel.logic, "start", spy)
    before = shown.panel.shown.folder
    ui.recomputeButton.click()
    assert process_events(lambda: not shown.panel.run.running, RUN_SECONDS)
    assert standin.messages == []
    assert seen["job"]["scans"] == [{"label": "day 30", "path": "scan-0.nrrd", "lungs": "lungs-0.nrrd"}]
    assert seen["job"]["study"] == str(before)
    assert not before.exists()
    assert shown.panel.shown.folder.is_dir()
    assert not ui.recomputeButton.enabled


def paint(segmentation, kind: str, box: tuple[slice, slice, slice]) -> None:
    """Draw a box (z, y, x) of voxels into a segment of its own layer, as Segment Editor does."""
    import numpy as np
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    segmentation.SeparateSegmentLabelmap(kind)
    image = segmentation.GetSegment(kind).GetRepresentation("Binary labelmap")
    text = segmentation.GetConversionParameter(slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName())
    whole = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, whole, False)
    whole.AllocateScalars(3, 1)
    array = vtk_to_numpy(whole.GetPointData().GetScalars()).reshape(whole.GetDimensions()[::-1])
    array[:] = np.uint8(0)
    array[box] = segmentation.GetSegment(kind).GetLabelValue()
    image.DeepCopy(whole)


@pytest.mark.parametrize("row", [0, 1])
def test_lesions_are_edited_and_keep_their_kinds(shown, segment_editor, volumes, tmp_path, row):
    """Of the baseline and of a follow-up: the file that the worker gets has what was drawn, where the scan lies."""
    import numpy as np
    import SimpleITK as sitk

    from LungRecoveryLib.corrections import read_lesions
    from LungRecoveryLib.gui import correction, inputs

    shown.ui.correctTimePointComboBox.setCurrentIndex(row)
    shown.ui.editLesionsButton.click()
    copy = segment_editor.segmentation
    assert segment_editor.volume is volumes[row]
    assert copy.GetParentTransformNode() is None
    segmentation = copy.GetSegmentation()
    names = [segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs()]
    assert names == ["Ground glass", "Consolidation", "Reticulation"]
    assert "lesions of" in shown.ui.correctionLabel.text
    for kind in ("ground_glass", "reticulation"):
        segmentation.RemoveSegment(kind)
    box = (slice(20, 26), slice(30, 33), slice(10, 14))
    paint(segmentation, "consolidation", box)
    request = correction.masks_request(shown.panel.shown)
    (item,) = request.job["scans"]
    assert (item["label"], "lungs" in item) == (shown.panel.shown.nodes.labels[row], False)
    for file in request.files:
        file.write(tmp_path / file.name)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / item["lesions"])))
    assert set(np.unique(written)) == {0, 2}
    assert np.count_nonzero(written) == 6 * 3 * 4
    assert (written[box] == 2).all()
    scan = sitk.ReadImage(str(tmp_path / item["path"]))
    assert np.count_nonzero(sitk.GetArrayFromImage(read_lesions(tmp_path / item["lesions"], scan)) == 2) > 0
    segmentation.GetSegment(segmentation.AddEmptySegment("mine", "Tumour"))
    paint(segmentation, "mine", box)
    with pytest.raises(inputs.BadInput, match="Tumour is no kind of lesion"):
        inputs.write_lesions(copy, tmp_path / "again.nrrd")
    segmentation.GetSegment("mine").SetName("ground glass")
    inputs.write_lesions(copy, tmp_path / "again.nrrd")
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again.nrrd"))))) == {0, 1}


def test_what_is_judged_is_what_is_seen(shown, behave, process_events):
    """The choices of the section follow the results; a run of the same study, as a correction is, goes back there."""
    ui = shown.ui
    combos = (ui.correctTimePointComboBox, ui.readerTimePointComboBox)
    assert [combo.currentText for combo in combos] == ["Kontrolle", "Kontrolle"]
    ui.timePointSlider.setValue(1)
    assert [combo.currentText for combo in combos] == ["day 30", "day 30"]
    ui.timePointSlider.setValue(0)
    assert [combo.currentText for combo in combos] == ["baseline", "day 30"]  # nobody judges the baseline
    ui.readerCommentEdit.text = "left base"
    ui.timePointSlider.setValue(2)
    assert [combo.currentText for combo in combos] == ["Kontrolle", "day 30"]
    assert ui.readerCommentEdit.text == "left base"
    ui.readerCommentEdit.text = ""
    ui.timePointSlider.setValue(1)
    behave(shown, "good")
    ui.applyButton.click()
    assert process_events(lambda: not shown.panel.run.running, RUN_SECONDS)
    assert shown.panel.results.label == "day 30"
    assert [combo.currentText for combo in combos] == ["day 30", "day 30"]


def test_the_reader_overrides_a_verdict(shown, standin, process_events, monkeypatch):
    """A comment is asked for; the job carries verdict and comment."""
    ui = shown.ui
    ui.readerTimePointComboBox.setCurrentIndex(0)
    choose(ui.readerVerdictComboBox, "not usable")
    ui.readerButton.click()
    assert "Write a comment" in standin.messages[0]["text"]
    ui.readerCommentEdit.text = "left base misaligned"
    requests = []
    monkeypatch.setattr(shown.panel.run, "start", requests.append)
    ui.readerButton.click()
    assert requests[0].job["verdicts"] == [
        {"label": "day 30", "verdict": "not usable", "comment": "left base misaligned"}
    ]


def test_the_corrections_job_is_one_the_worker_takes(shown, segment_editor, tmp_path):
    """Its schema's name and keys are those of LungRecoveryLib.corrections."""
    from LungRecoveryLib.corrections import correction_from
    from LungRecoveryLib.gui import correction

    shown.ui.correctTimePointComboBox.setCurrentIndex(2)
    shown.ui.editLungsButton.click()
    for request in (
        correction.masks_request(shown.panel.shown),
        correction.verdict_request(shown.panel.shown, "day 30", "accepted", ""),
    ):
        found = correction_from({**request.job, "output": "again"}, tmp_path)
        assert found.study == shown.panel.shown.folder
    assert [item["label"] for item in correction.masks_request(shown.panel.shown).job["scans"]] == ["Kontrolle"]
