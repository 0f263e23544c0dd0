"""Results, quality, correction and export, clicked through on the small patient's study."""

import json

import numpy as np
import pytest

RUN_SECONDS = 120.0


@pytest.fixture
def shown(listed, behave, process_events):
    """A panel that shows the small patient's study."""
    behave(listed, "good")
    listed.ui.applyButton.click()
    assert process_events(lambda: not listed.panel.run.running, RUN_SECONDS)
    assert listed.panel.shown is not None, listed.ui.logEdit.toPlainText()
    return listed


def composites(scene) -> list:
    """The slice views' layers."""
    return [
        node
        for i in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode"))
        if (node := scene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode"))
    ]


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


def column(widget, title: str) -> list[str]:
    """A column of the table of regions by its title."""
    table = widget.ui.regionTable
    index = next(c for c in range(table.columnCount) if table.horizontalHeaderItem(c).text().startswith(title))
    return [table.item(row, index).text() for row in range(table.rowCount)]


def choose(combo, data: str) -> None:
    index = combo.findData(data)
    assert index >= 0, data
    combo.setCurrentIndex(index)


# ----------------------------------------------------------------------------------------------------------- results


def test_the_slider_moves_through_the_time_points(views, shown):
    """The label, the table and the sequences follow; the last follow-up is shown first."""
    ui, nodes = shown.ui, shown.panel.shown.nodes
    assert ui.timePointSlider.maximum == 2
    assert nodes.selected == "Kontrolle"
    assert "Tissue recovery" in [
        ui.regionTable.horizontalHeaderItem(c).text() for c in range(ui.regionTable.columnCount)
    ]
    ui.timePointSlider.setValue(1)
    assert nodes.selected == "day 30"
    assert ui.timePointLabel.text.strip() == "day 30"
    expected = shown.panel.shown.timepoint("day 30")["scores"]["lungs"]["tissue_recovery"]
    assert float(column(shown, "Tissue recovery")[0]) == pytest.approx(expected, abs=0.006)
    ui.timePointSlider.setValue(0)
    assert nodes.selected == "baseline"
    assert "not registered" in ui.verdictLabel.text


def test_the_overlay_its_opacity_range_and_legend(views, shown, scene):
    """What is chosen is what the slice views and the map's display have."""
    ui, nodes = shown.ui, shown.panel.shown.nodes
    offered = [ui.overlayComboBox.itemData(i) for i in range(ui.overlayComboBox.count)]
    assert offered[:5] == ["", "jacobian", "jacobian_normalized", "density_change", "hu_change"]
    choose(ui.overlayComboBox, "density_change")
    ui.opacitySlider.value = 0.3
    for composite in composites(scene):
        assert composite.GetForegroundVolumeID() == nodes.maps["density_change"].GetID()
        assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    assert nodes.legends["density_change"].GetVisibility()
    assert not nodes.legends["jacobian"].GetVisibility()
    assert ui.rangeUnitLabel.text == "mg/ml"
    ui.rangeWidget.setValues(-150.0, 150.0)
    display = nodes.maps["density_change"].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-150.0, 150.0)
    ui.autoRangeButton.click()
    assert display.GetWindowLevelMax() == 300.0
    assert ui.rangeWidget.maximumValue == 300.0
    ui.legendCheckBox.checked = False
    assert not nodes.legends["density_change"].GetVisibility()
    choose(ui.overlayComboBox, "")
    assert not ui.rangeWidget.enabled
    assert composites(scene)[0].GetForegroundVolumeID() is None


def test_linked_views(views, shown, scene):
    assert all(c.GetLinkedControl() for c in composites(scene))
    shown.ui.linkViewsCheckBox.checked = False
    assert not any(c.GetLinkedControl() for c in composites(scene))


def test_a_click_on_a_region_goes_to_where_it_changed(views, shown, scene):
    """The slice views show a point inside that region, and its outline."""
    import slicer

    ui, nodes = shown.ui, shown.panel.shown.nodes
    row = column(shown, "Region").index("Left lower third")
    ui.regionTable.cellClicked.emit(row, 1)
    planes = [scene.GetNthNodeByClass(i, "vtkMRMLSliceNode").GetSliceToRAS() for i in range(3)]
    offsets = [np.array([m.GetElement(r, 3) for r in range(3)]) for m in planes]
    assert np.ptp([o[2] for o in offsets]) >= 0
    point = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    from LungRecoveryLib.scene import region_point

    expected = region_point(nodes, "left_lower", "Kontrolle", "jacobian")
    slice_node = scene.GetNthNodeByClass(0, "vtkMRMLSliceNode")
    normal = np.array([slice_node.GetSliceToRAS().GetElement(r, 2) for r in range(3)])
    assert abs(normal @ (offsets[0] - np.array(expected))) < 1e-3
    assert nodes.regions.GetDisplayNode().GetSegmentVisibility("left_lower")
    assert point is None or isinstance(point, slicer.vtkMRMLCrosshairNode)


def test_regions_can_be_hidden(shown, process_events):
    """The settings' list decides which rows the table has; the study keeps them all."""
    count = shown.ui.regionTable.rowCount
    shown.ui.regionsGroup.setCollapsed(False)
    item = shown.ui.regionList.item(0)
    import qt

    item.setCheckState(qt.Qt.Unchecked)
    process_events(seconds=0.05)
    assert shown.ui.regionTable.rowCount == count - 1
    assert "Both lungs" not in column(shown, "Region")
    shown.ui.restoreRegionsButton.click()
    process_events(seconds=0.05)
    assert shown.ui.regionTable.rowCount == count


def test_charts_are_chosen(views, shown, scene):
    choose(shown.ui.chartComboBox, "scores")
    view = scene.GetSingletonNode("PlotView1", "vtkMRMLPlotViewNode")  # made by the layout
    choose(shown.ui.chartComboBox, "histogram")
    assert view.GetPlotChartNodeID() == shown.panel.shown.nodes.charts["histogram"].GetID()


def test_two_studies_in_a_scene(views, shown, small_scans, behave, process_events):
    """Another baseline gives another study beside the first; the panel shows the one that is chosen."""
    import slicer

    from LungRecoveryLib.gui.rows import Row

    others = [slicer.util.loadVolume(small_scans / f"{i}.mha") for i in range(3)]
    labels = ("", "", "Kontrolle")
    rows = [Row(v, label, day) for v, label, day in zip(others, labels, ("0", "30", "90"), strict=True)]
    shown.panel.time_points.set_rows(rows)
    shown.ui.applyButton.click()
    assert process_events(lambda: not shown.panel.run.running, RUN_SECONDS)
    assert [study.name for study in shown.panel.studies] == ["Lung recovery", "Lung recovery 2"]
    assert shown.panel.shown.name == "Lung recovery 2"
    shown.ui.studyComboBox.setCurrentIndex(0)
    assert shown.panel.shown.name == "Lung recovery"


def test_results_survive_saving_and_loading_the_scene(views, shown, scene, standin, tmp_path, make_panel):
    """The panel finds the study again, its verdict and its table, without any file of the study."""
    import slicer
    import slicer_standin

    assert slicer.util.saveScene(tmp_path / "scene.mrb")
    labels, verdict = shown.panel.shown.nodes.labels, shown.ui.verdictLabel.text
    shown.cleanup()
    slicer_standin.new_scene(standin)
    assert slicer.util.loadScene(tmp_path / "scene.mrb")
    widget = make_panel()
    assert widget.panel.shown is not None
    assert widget.panel.shown.nodes.labels == labels
    widget.ui.timePointSlider.setValue(2)
    assert widget.ui.verdictLabel.text == verdict
    assert widget.ui.regionTable.rowCount > 5
    widget.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "export"))
    widget.ui.exportButton.click()
    assert "no longer on the disk" in standin.messages[-1]["text"]


def test_every_file_of_a_study_is_read_once(scene, copied_study, monkeypatch):
    """Reading is most of the time that showing takes: each image once, and `study.json` checked once."""
    from LungRecoveryLib import results
    from LungRecoveryLib.scene import show_study, volumes

    read, checked = [], []
    plain, check = volumes.read_layer, results._check
    monkeypatch.setattr(volumes, "read_layer", lambda path: read.append(path) or plain(path))
    monkeypatch.setattr(results, "_check", lambda content: checked.append(1) or check(content))
    show_study(copied_study, scene, name="counted")
    images = {path for path in copied_study.rglob("*.nii.gz")}
    assert len(read) == len(set(read))
    assert set(read) == images
    assert len(checked) == 1
    assert results._validator() is results._validator()


def test_layers_that_other_versions_add_are_offered(views, scene, listed, copied_study):
    """The overlays are those that the study's files hold: known ones by their names, new ones by theirs."""
    import SimpleITK as sitk

    from LungRecoveryLib.gui import shown as studies
    from LungRecoveryLib.scene import show_study

    content = json.loads((copied_study / "study.json").read_text(encoding="utf-8"))
    last = content["timepoints"][-1]
    lungs = sitk.ReadImage(str(copied_study / content["timepoints"][0]["files"]["lungs"]))
    for layer, kind in (
        ("uncertainty", sitk.sitkFloat32),
        ("enhanced", sitk.sitkFloat32),
        ("elastance", sitk.sitkFloat32),
    ):
        last["files"][layer] = f"{last['folder']}/{layer}.nii.gz"
        sitk.WriteImage(sitk.Cast(lungs, kind), str(copied_study / last["files"][layer]))
    own = sitk.ReadImage(str(copied_study / last["files"]["lungs"]))
    last["files"]["lesions"] = f"{last['folder']}/lesions.nii.gz"
    sitk.WriteImage(own == 1, str(copied_study / last["files"]["lesions"]))
    (copied_study / "study.json").write_text(json.dumps(content), encoding="utf-8")
    nodes = show_study(copied_study, scene, name="more layers")
    studies.remember(nodes, copied_study, {}, {})
    listed.panel.refresh()
    combo = listed.ui.overlayComboBox
    offered = {combo.itemData(i): combo.itemText(i) for i in range(combo.count)}
    assert {"uncertainty", "enhanced", "lesions", "elastance"} <= set(offered)
    assert offered["uncertainty"] == "Uncertainty"
    for layer in ("uncertainty", "enhanced", "elastance"):
        choose(combo, layer)
        assert {c.GetForegroundVolumeID() for c in composites(scene)} == {nodes.maps[layer].GetID()}
        assert listed.ui.rangeWidget.enabled
    choose(combo, "lesions")
    assert not listed.ui.rangeWidget.enabled
    assert nodes.timepoints[last["label"]].lesions.GetDisplayNode().GetVisibility()


@pytest.mark.parametrize(
    ("kind", "first", "now", "expected"),
    [
        ("ratio", (0.5, 2.0), (0.5, 2.0), (0.0, 8.0)),
        ("ratio", (0.5, 2.0), (0.1, 10.0), (0.0, 10.0)),
        ("difference", (-300.0, 300.0), (-300.0, 300.0), (-1200.0, 1200.0)),
        ("amount", None, (0.0, 5.0), (0.0, 20.0)),
        ("likeness", (0.0, 1.0), (0.2, 1.0), (0.0, 1.0)),
    ],
)
def test_the_range_can_be_moved_as_far_as_makes_sense(scene, kind, first, now, expected):
    """A slider from minus to plus infinity could not be used."""
    from types import SimpleNamespace

    from LungRecoveryLib.gui.results import reach

    assert reach(SimpleNamespace(kind=kind, range=first), *now) == expected


# ----------------------------------------------------------------------------------------------------------- quality


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


@pytest.mark.parametrize("mode", ["checkerboard", "difference", "edges"])
def test_comparisons(views, shown, scene, mode):
    """Each mode puts a picture into the slice views; another time point goes back to the overlay."""
    choose(shown.ui.compareComboBox, mode)
    nodes = shown.panel.shown.nodes
    shows = {c.GetBackgroundVolumeID() for c in composites(scene)} | {
        c.GetForegroundVolumeID() for c in composites(scene)
    }
    assert nodes.comparison.GetID() in shows
    shown.ui.timePointSlider.setValue(1)
    assert shown.ui.compareComboBox.currentIndex == 0
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


# -------------------------------------------------------------------------------------------------------- correction


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
    assert seen["job"]["lungs"] == [{"label": "day 30", "path": "scan-0.nrrd", "lungs": "lungs-0.nrrd"}]
    assert seen["job"]["study"] == str(before)
    assert not before.exists()
    assert shown.panel.shown.folder.is_dir()
    assert not ui.recomputeButton.enabled


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
        correction.lungs_request(shown.panel.shown),
        correction.verdict_request(shown.panel.shown, "day 30", "accepted", ""),
    ):
        found = correction_from({**request.job, "output": "again"}, tmp_path)
        assert found.study == shown.panel.shown.folder
    assert [item["label"] for item in correction.lungs_request(shown.panel.shown).job["lungs"]] == ["Kontrolle"]


# ------------------------------------------------------------------------------------------------------------ export


def tick(widget, *keys: str) -> None:
    import qt

    for row in range(widget.ui.exportList.count):
        item = widget.ui.exportList.item(row)
        item.setCheckState(qt.Qt.Checked if item.data(qt.Qt.UserRole) in keys else qt.Qt.Unchecked)


def test_everything_is_exported(shown, standin, tmp_path):
    """Each kind of file under a name that tells what it is; transforms say the same in every format."""
    import SimpleITK as sitk

    tick(shown, "report", "tables", "study", "maps", "masks", "h5", "tfm", "nrrd")
    shown.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "export"))
    shown.ui.exportButton.click()
    assert standin.messages[-1]["kind"] == "info"
    names = {path.name for path in (tmp_path / "export").iterdir()}
    assert {
        "report.html",
        "report.pdf",
        "figures",
        "scores.csv",
        "regions.csv",
        "trajectory.csv",
        "study.json",
    } <= names
    assert {"baseline-ct.nii.gz", "day-30-jacobian.nii.gz", "day-30-warped.nii.gz", "baseline-lungs.nii.gz"} <= names
    files = {kind: tmp_path / "export" / f"day-30-transform.{kind}" for kind in ("h5", "tfm", "nrrd")}
    point = np.array(
        sitk.ReadImage(str(tmp_path / "export" / "baseline-ct.nii.gz")).TransformContinuousIndexToPhysicalPoint(
            (30, 30, 40)
        )
    )
    direct, text = (np.array(sitk.ReadTransform(str(files[k])).TransformPoint(point)) for k in ("h5", "tfm"))
    np.testing.assert_allclose(direct, text, atol=1e-3)
    field = sitk.ReadImage(str(files["nrrd"]))
    moved = point + np.array(field[field.TransformPhysicalPointToIndex(point)])
    np.testing.assert_allclose(moved, direct, atol=1e-2)


def test_dicom_objects_are_exported_where_there_are_any(shown, standin, tmp_path):
    """A study without them says so, and nothing else is written either."""
    tick(shown, "dicom", "tables")
    shown.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "export"))
    shown.ui.exportButton.click()
    assert "has no DICOM objects" in standin.messages[-1]["text"]
    assert not (tmp_path / "export").exists()
    objects = shown.panel.shown.folder / "dicom"
    objects.mkdir()
    (objects / "report.dcm").write_bytes(b"DICM")
    shown.ui.exportButton.click()
    assert (tmp_path / "export" / "dicom" / "report.dcm").read_bytes() == b"DICM"


def test_export_asks_before_it_replaces(shown, standin, tmp_path):
    (tmp_path / "scores.csv").write_text("mine")
    tick(shown, "tables")
    shown.ui.exportFolderEdit.setCurrentPath(str(tmp_path))
    standin.answers = [False]
    shown.ui.exportButton.click()
    assert standin.messages[-1]["kind"] == "confirm"
    assert (tmp_path / "scores.csv").read_text() == "mine"
    standin.answers = [True]
    shown.ui.exportButton.click()
    assert (tmp_path / "scores.csv").read_text() != "mine"


def test_an_export_that_fails_leaves_nothing(shown, standin, tmp_path):
    """Of the study's files one is missing: a message, and no half of the export."""
    (shown.panel.shown.folder / "regions.csv").unlink()
    tick(shown, "tables")
    shown.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "export"))
    shown.ui.exportButton.click()
    assert "regions.csv is missing" in standin.messages[-1]["text"]
    assert list((tmp_path / "export").iterdir()) == []
    tick(shown)
    shown.ui.exportButton.click()
    assert "Tick what" in standin.messages[-1]["text"]


def test_the_report_is_opened(shown, standin, monkeypatch):
    import qt

    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    shown.ui.openReportButton.click()
    assert opened == [str(shown.panel.shown.folder / "report.html")]
    (shown.panel.shown.folder / "study.json").unlink()
    shown.ui.openReportButton.click()
    assert "no longer on the disk" in standin.messages[-1]["text"]


def test_the_whole_scene_is_exported(shown, standin, tmp_path):
    tick(shown, "scene")
    shown.ui.exportFolderEdit.setCurrentPath(str(tmp_path))
    shown.ui.exportButton.click()
    assert (tmp_path / "scene.mrb").stat().st_size > 1000
