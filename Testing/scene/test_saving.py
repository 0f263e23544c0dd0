"""A scene that was saved and loaded again shows the same study."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def reloaded(shown, tmp_path_factory, truth):
    """(application, nodes) of the small study after saving to an archive and loading that in a new scene."""
    from LungRecoveryLib.scene import find_studies, select_timepoint, set_overlay

    application, nodes = shown
    set_overlay(nodes, "day 30", "jacobian", 0.5, (0.4, 2.5))
    folder = tmp_path_factory.mktemp("saved")
    application.save(folder / "scene.mrb")
    set_overlay(nodes, "day 30", "jacobian", 0.5, (0.5, 2.0))
    (folder / "cache").mkdir()
    fresh = type(application)(folder / "cache")
    fresh.slice_logic("Red")  # the views are there before, and take what the file says
    fresh.load(folder / "scene.mrb")
    (study,) = find_studies(fresh.scene)
    select_timepoint(study, study.selected)
    return fresh, study


def test_the_same_nodes_are_found(shown, reloaded):
    _application, before = shown
    _application, after = reloaded
    assert (after.name, after.labels, after.selected) == (before.name, before.labels, "day 30")
    for name in ("sequences", "maps", "legends", "tables", "charts"):
        assert list(getattr(after, name)) == list(getattr(before, name)), name
    for label, timepoint in after.timepoints.items():
        for name in ("volume", "transform", "lungs", "lesions", "table"):
            old, new = getattr(before.timepoints[label], name), getattr(timepoint, name)
            assert (old is None) == (new is None), (label, name)
            assert old is None or old.GetName() == new.GetName()
    assert len(after.others) == len(before.others)


def test_transforms_hit_the_same_landmarks(reloaded, truth):
    from LungRecoveryLib.scene.transforms import to_followup

    _application, nodes = reloaded
    for label, timepoint in nodes.followups.items():
        moved = to_followup(timepoint.transform, truth.landmarks_ras)
        assert np.linalg.norm(moved - truth.moved_ras(label), axis=1).max() < 1e-3, label
        assert timepoint.volume.GetParentTransformNode() is timepoint.transform
        assert timepoint.lungs.GetParentTransformNode() is timepoint.transform


def test_sequences_hold_the_same_voxels_in_the_same_places(shown, reloaded, truth):
    from LungRecoveryLib.scene import select_timepoint
    from LungRecoveryLib.scene.sequences import item
    from LungRecoveryLib.scene.volumes import voxels, world_matrix

    _application, before = shown
    _application, after = reloaded
    for layer in before.maps:
        for label in truth.labels:
            old, new = item(before, layer, label), item(after, layer, label)
            assert (old is None) == (new is None), (layer, label)
            if old is not None:
                assert np.array_equal(voxels(old), voxels(new)), (layer, label)
                assert np.abs(world_matrix(old) - world_matrix(new)).max() < 1e-6
    select_timepoint(after, truth.labels[2])
    assert voxels(after.maps["jacobian"]).max() == pytest.approx(1.5)
    select_timepoint(after, "day 30")
    assert voxels(after.maps["jacobian"]).max() == pytest.approx(1.25)


def test_colours_range_and_legend_are_as_they_were(reloaded):
    from LungRecoveryLib.scene import range_now
    from LungRecoveryLib.scene.maps import colours, overlay_of

    _application, nodes = reloaded
    assert range_now(nodes, "jacobian") == pytest.approx((0.4, 2.5))
    display = nodes.maps["jacobian"].GetDisplayNode()
    table = display.GetColorNode()
    found = []
    for index in range(table.GetNumberOfColors()):
        rgba = [0.0] * 4
        table.GetColor(index, rgba)
        found.append(rgba)
    assert np.abs(np.array(found) - colours(overlay_of("jacobian"), 0.4, 2.5)).max() < 1 / 255 + 1e-6
    legend = nodes.legends["jacobian"]
    assert legend.GetPrimaryDisplayNode() is display
    assert legend.GetVisibility()
    assert legend.GetTitleText() == "Jacobian (volume ratio)"


def test_the_overlay_works_on_the_loaded_scene(shown, reloaded):
    from LungRecoveryLib.scene import set_overlay

    pictures = []
    for application, nodes in (shown, reloaded):
        set_overlay(nodes, "day 30", "jacobian", 0.6, (0.5, 2.0))
        pictures.append(application.picture("Red").astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_tables_and_charts_keep_their_numbers_and_gaps(shown, reloaded):
    _application, before = shown
    _application, after = reloaded

    def values(node):
        table = node.GetTable()
        return [
            [table.GetValueByName(r, table.GetColumnName(c)) for r in range(table.GetNumberOfRows())]
            for c in range(table.GetNumberOfColumns())
        ]

    for label in before.labels:
        old, new = before.timepoints[label].table, after.timepoints[label].table
        assert [[v.ToString() for v in c] for c in values(old)] == [[v.ToString() for v in c] for c in values(new)]
        assert old.GetAttribute("LungRecovery.Regions") == new.GetAttribute("LungRecovery.Regions")
    for key, chart in before.charts.items():
        loaded = after.charts[key]
        assert loaded.GetTitle() == chart.GetTitle()
        assert loaded.GetNumberOfPlotSeriesNodes() == chart.GetNumberOfPlotSeriesNodes()
        for index in range(chart.GetNumberOfPlotSeriesNodes()):
            old, new = chart.GetNthPlotSeriesNode(index), loaded.GetNthPlotSeriesNode(index)
            assert (old.GetName(), old.GetColor()) == (new.GetName(), new.GetColor())
            for side in ("GetXColumnName", "GetYColumnName"):
                columns = [n.GetTableNode().GetTable().GetColumnByName(getattr(n, side)()) for n in (old, new)]
                assert columns[1].IsA("vtkDataArray")
                was, now = (np.array([c.GetTuple1(i) for i in range(c.GetNumberOfTuples())]) for c in columns)
                assert np.allclose(was, now, rtol=1e-5, equal_nan=True), (key, old.GetName())


def test_segmentations_keep_segments_and_geometry(shown, reloaded):
    from LungRecoveryLib.grids import same_grid, to_array
    from LungRecoveryLib.scene import LUNG_VALUES, labels_of, region_point

    _application, before = shown
    _application, after = reloaded
    for region in before.regions.GetSegmentation().GetSegmentIDs():
        old, new = (to_array(labels_of(study.regions, {region: 1})) for study in (before, after))
        assert np.array_equal(old, new), region
        points = [region_point(study, region, "day 30", "jacobian") for study in (before, after)]
        assert points[0] == pytest.approx(points[1], abs=1e-3), region
    old, new = (labels_of(study.timepoints["day 30"].lungs, LUNG_VALUES) for study in (before, after))
    assert same_grid(old, new)
    assert np.array_equal(to_array(old), to_array(new))


def test_folders_are_kept_and_removed_with_the_study(shown, reloaded, tmp_path):
    import slicer

    from LungRecoveryLib.scene import find_studies, remove_study

    application, nodes = reloaded
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(application.scene)
    item = hierarchy.GetItemByDataNode(nodes.timepoints["day 30"].transform)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(item)) == "day 30"
    application.save(tmp_path / "again.mrb")  # the loaded scene can be saved again
    (tmp_path / "cache").mkdir()
    third = type(application)(tmp_path / "cache")
    third.load(tmp_path / "again.mrb")
    remove_study(third.scene)
    assert find_studies(third.scene) == []
    assert not any("Lung recovery" in name for name in third.nodes().values())
