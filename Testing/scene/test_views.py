"""Comparisons, places, the layout, and what stands in which view."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import to_array


def test_comparisons_with_the_baseline(shown, truth):
    from LungRecoveryLib.scene import MODES, set_comparison, set_foreground_opacity
    from LungRecoveryLib.scene.volumes import voxels

    application, nodes = shown
    fixed, moving = (to_array(truth.layer(*which)) for which in (("baseline", "ct"), ("day 30", "warped")))
    assert set(MODES) == {"fade", "checkerboard", "difference", "edges"}
    set_comparison(nodes, "day 30", "difference")
    assert np.array_equal(voxels(nodes.comparison), moving.astype(float) - fixed)
    set_comparison(nodes, "day 30", "checkerboard")
    mixed = voxels(nodes.comparison)
    differs = fixed != moving
    share = (mixed == moving)[differs].mean()
    assert 0.4 < share < 0.6
    assert ((mixed == fixed) | (mixed == moving)).all()
    set_comparison(nodes, "day 30", "edges")
    edges = voxels(nodes.comparison) != 0
    assert (moving[edges] > -500).all()
    assert 0 < edges.mean() < 0.1
    picture = application.picture("Red").astype(int)
    yellow = (picture[..., 0] > 200) & (picture[..., 1] > 200) & (picture[..., 2] < 60)
    assert 0.01 < yellow.mean() < 0.2
    set_comparison(nodes, "day 30", "fade")
    pictures = []
    for opacity in (0.0, 1.0):
        set_foreground_opacity(nodes, opacity)
        pictures.append(application.picture("Red").astype(int))
    set_comparison(nodes, "day 30", None)
    assert np.abs(application.picture("Red").astype(int) - pictures[1]).max() <= 1
    assert np.abs(pictures[0] - pictures[1]).max() > 20
    with pytest.raises(KeyError):
        set_comparison(nodes, "day 30", "sideways")


def test_a_regions_place_lies_in_it_where_the_change_is_largest(application, study_writer, tmp_path):
    import SimpleITK as sitk

    from LungRecoveryLib.grids import to_image
    from LungRecoveryLib.scene import region_point, show_study

    truth = study_writer(tmp_path / "study")
    path = truth.folder / "day-30" / "jacobian.nii.gz"
    labels = to_array(truth.layer("baseline", "lungs"))
    spot = np.argwhere(labels == 2)
    spot = spot[np.argmax(spot[:, 0])] - (6, 0, 0)  # below the top of the left lung
    jacobian = np.ones(labels.shape, np.float32)
    jacobian[tuple(slice(v - 1, v + 2) for v in spot)] = 0.6
    jacobian[0, 0, 0] = 9.0
    sitk.WriteImage(to_image(jacobian, truth.grid), str(path))
    nodes = show_study(truth.folder, application.scene)
    expected = truth.grid.points(spot[None, ::-1])[0] * (-1, -1, 1)
    for region in ("lungs", "left"):
        assert np.linalg.norm(np.array(region_point(nodes, region, "day 30", "jacobian")) - expected) < 8, region
    elsewhere = np.array(region_point(nodes, "right", "day 30", "jacobian")) * (-1, -1, 1)
    assert labels[tuple(np.rint(truth.grid.indices(elsewhere[None])[0]).astype(int)[::-1])] == 1
    with pytest.raises(BadInput, match="no region spleen"):
        region_point(nodes, "spleen", "day 30", "jacobian")


def test_a_map_that_shows_no_change_leads_nowhere(shown):
    """Where the uncertainty, the lesions or nothing lies over the CT, the first map of a change says where to go."""
    from LungRecoveryLib.scene import change_map

    _application, nodes = shown
    assert change_map(nodes, "density_change") == "density_change"
    assert {change_map(nodes, name) for name in ("uncertainty", "lesions", "", None)} == {"jacobian"}


def test_without_a_map_the_place_is_the_regions_middle(shown, truth):
    from LungRecoveryLib.scene import region_point

    _application, nodes = shown
    labels = to_array(truth.layer("baseline", "lungs"))
    for region, value in (("left", 2), ("right", 1)):
        middle = truth.grid.points(np.argwhere(labels == value)[:, ::-1]).mean(axis=0) * (-1, -1, 1)
        assert np.linalg.norm(np.array(region_point(nodes, region, "baseline", "jacobian")) - middle) < 6


def test_all_slices_jump_to_a_place(shown):
    from LungRecoveryLib.scene import jump_to

    application, nodes = shown
    point = (-30.0, 25.0, -900.0)
    jump_to(nodes.scene, point)
    for name, axis in (("Red", 2), ("Yellow", 0), ("Green", 1)):
        matrix = application.slices[name].GetSliceNode().GetSliceToRAS()
        assert matrix.GetElement(axis, 3) == pytest.approx(point[axis]), name


def test_the_layout_holds_the_views_it_promises(application):
    import slicer

    from LungRecoveryLib.scene import LAYOUT_ID, add_layout, layout_xml

    tree = ElementTree.fromstring(layout_xml())
    views = [(v.get("class"), v.get("singletontag")) for v in tree.iter("view")]
    assert [tag for name, tag in views if name == "vtkMRMLSliceNode"] == ["Red", "Yellow", "Green"]
    assert {name for name, _tag in views} >= {"vtkMRMLViewNode", "vtkMRMLPlotViewNode", "vtkMRMLTableViewNode"}
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(application.scene)
    layout = logic.GetLayoutNode()
    assert add_layout(layout) == add_layout(layout) == LAYOUT_ID
    layout.SetViewArrangement(LAYOUT_ID)
    assert layout.GetViewArrangement() == LAYOUT_ID
    for class_name, tag in views:
        assert application.scene.GetSingletonNode(tag, class_name) is not None, tag
    orientations = {t: application.scene.GetSingletonNode(t, "vtkMRMLSliceNode").GetOrientation() for t in ("Red",)}
    assert orientations == {"Red": "Axial"}


def test_show_in_views_fills_the_layouts_views(application, truth):
    import slicer

    from LungRecoveryLib.scene import LAYOUT_ID, add_layout, show_chart, show_in_views, show_study, show_table

    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(application.scene)
    add_layout(logic.GetLayoutNode())
    logic.GetLayoutNode().SetViewArrangement(LAYOUT_ID)
    application.slice_logic("Red")
    nodes = show_study(truth.folder, application.scene)
    show_in_views(nodes)
    table, plot = (
        application.scene.GetSingletonNode(tag, f"vtkMRML{kind}ViewNode")
        for tag, kind in (("TableView1", "Table"), ("PlotView1", "Plot"))
    )
    composite = application.slices["Red"].GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == nodes.maps["ct"].GetID()
    assert composite.GetForegroundVolumeID() == nodes.maps["jacobian"].GetID()
    assert table.GetTableNodeID() == nodes.timepoints[truth.labels[2]].table.GetID()
    assert plot.GetPlotChartNodeID() == nodes.charts["scores"].GetID()
    show_table(nodes, "scores")
    show_chart(nodes, "histogram")
    assert table.GetTableNodeID() == nodes.tables["scores"].GetID()
    assert plot.GetPlotChartNodeID() == nodes.charts["histogram"].GetID()


def test_views_can_be_linked(shown):
    from LungRecoveryLib.scene import set_linked

    application, nodes = shown
    for linked in (True, False):
        set_linked(nodes, linked)
        assert {logic.GetSliceCompositeNode().GetLinkedControl() for logic in application.slices.values()} == {linked}
