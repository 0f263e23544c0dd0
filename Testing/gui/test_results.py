"""Results: time points, overlays, charts and regions, clicked through on the small patient's study."""

import json

import numpy as np
import pytest

from panel_actions import choose, composites

RUN_SECONDS = 120.0


def column(widget, title: str) -> list[str]:
    """A column of the table of regions by its title."""
    table = widget.ui.regionTable
    index = next(c for c in range(table.columnCount) if table.horizontalHeaderItem(c).text().startswith(title))
    return [table.item(row, index).text() for row in range(table.rowCount)]


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


@pytest.mark.parametrize(("percent", "found"), [(7.5, "left_lower"), (0.9, None)])
def test_the_most_abnormal_region_is_a_part_that_is_affected(scene, percent, found):
    """What counts as not affected is not called abnormal."""
    from LungRecoveryLib.gui.results import worst_region

    shares = {"lungs": 20.0, "left": 30.0, "left_lower": percent, "left_upper": 0.2, "core": None}
    timepoint = {"density": {region: {"abnormal_percent": share} for region, share in shares.items()}}
    assert worst_region(timepoint, 1.0) == found


def test_why_there_are_no_lobes_is_said(shown):
    """The table of regions lacks them: the reader learns why, and where there are some, nothing."""
    absent = shown.panel.shown.content["absent"]
    absent["lobes"] = "no fissure is visible; the lungs are divided into thirds"
    shown.ui.timePointSlider.setValue(1)
    assert "No lobes: no fissure is visible; the lungs are divided into thirds." in shown.ui.regionHint.text
    assert not [name for name in column(shown, "Region") if "lobe" in name]
    del absent["lobes"]
    shown.ui.timePointSlider.setValue(2)
    assert "lobes" not in shown.ui.regionHint.text


def test_regions_can_be_hidden(shown, process_events):
    """The settings' list decides which rows the table has; the study keeps them all."""
    count = shown.ui.regionTable.rowCount
    shown.ui.regionsGroup.setCollapsed(False)
    item = shown.ui.regionList.item(0)
    offered = [shown.ui.regionList.item(i).text() for i in range(shown.ui.regionList.count)]
    assert {"Both lungs", "Left upper third", "Right middle lobe"} <= set(offered)
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
    from LungRecoveryLib.scene import build, show_study

    read, checked = [], []
    plain, check = build.read_layer, results._check
    monkeypatch.setattr(build, "read_layer", lambda path: read.append(path) or plain(path))
    monkeypatch.setattr(results, "_check", lambda content: checked.append(1) or check(content))
    show_study(copied_study, scene, name="counted")
    images = {path for path in copied_study.rglob("*.nii.gz") if path.name != "lobes.nii.gz"}  # they are regions too
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
    assert "Ground glass" in listed.ui.rangeUnitLabel.text


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
