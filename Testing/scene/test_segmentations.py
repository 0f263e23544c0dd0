"""Lungs, regions and lesions as segmentations, and back as label maps after editing."""

import numpy as np

from LungRecoveryLib.anatomy.regions import REGION_NAMES, region_masks
from LungRecoveryLib.grids import grid_of, same_grid, to_array


def test_the_lungs_segments_are_the_studys_masks(shown, truth):
    from LungRecoveryLib.scene import LUNG_VALUES, labels_of

    _application, nodes = shown
    labels, expected = labels_of(nodes.baseline.lungs, LUNG_VALUES), truth.layer("baseline", "lungs")
    assert same_grid(labels, expected)
    assert np.array_equal(to_array(labels), to_array(expected))
    segment = nodes.baseline.lungs.GetSegmentation().GetSegment("right")
    assert segment.GetName() == "Right lung"


def test_followup_lungs_stand_under_their_transform(shown, truth):
    from LungRecoveryLib.scene import LUNG_VALUES, labels_of

    _application, nodes = shown
    for label, timepoint in nodes.followups.items():
        assert timepoint.lungs.GetParentTransformNode() is timepoint.transform
        image, expected = labels_of(timepoint.lungs, LUNG_VALUES), truth.layer(label, "lungs")
        assert same_grid(image, expected)
        assert np.array_equal(to_array(image), to_array(expected))


def test_every_region_is_a_segment_though_they_overlap(shown, truth):
    from LungRecoveryLib.scene import labels_of

    _application, nodes = shown
    expected = region_masks(truth.layer("baseline", "regions"))
    assert list(nodes.regions.GetSegmentation().GetSegmentIDs()) == list(REGION_NAMES)
    for region, name in REGION_NAMES.items():
        assert nodes.regions.GetSegmentation().GetSegment(region).GetName() == name
        assert np.array_equal(to_array(labels_of(nodes.regions, {region: 1})) == 1, expected[region]), region


def test_regions_that_do_not_overlap_share_a_layer():
    from LungRecoveryLib.scene.segmentations import layers_of

    codes = {"1": ["all", "a", "x"], "2": ["all", "b", "x"], "3": ["all", "b", "y"]}
    names = {name: name for name in ("all", "a", "b", "x", "y", "absent")}
    assert layers_of(names, codes) == [["all"], ["a", "b"], ["x", "y"]]


def test_one_region_is_outlined_at_a_time(shown):
    from LungRecoveryLib.scene import show_region

    _application, nodes = shown
    display = nodes.regions.GetDisplayNode()
    assert not display.GetVisibility()
    show_region(nodes, "left_upper")
    assert display.GetVisibility()
    assert [region for region in REGION_NAMES if display.GetSegmentVisibility(region)] == ["left_upper"]
    show_region(nodes, None)
    assert not display.GetVisibility()


def test_the_lungs_surfaces_in_3d_lie_around_the_lungs(application, truth):
    import vtk

    from LungRecoveryLib.scene import show_lungs_in_3d, show_study

    nodes = show_study(truth.folder, application.scene)
    display = nodes.baseline.lungs.GetDisplayNode()
    assert not display.GetVisibility3D()
    show_lungs_in_3d(nodes)
    assert display.GetVisibility3D()
    labels = to_array(truth.layer("baseline", "lungs"))
    for segment, value in (("right", 1), ("left", 2)):
        surface = vtk.vtkPolyData()
        assert nodes.baseline.lungs.GetClosedSurfaceRepresentation(segment, surface)
        points = truth.grid.points(np.argwhere(labels == value)[:, ::-1]) * (-1, -1, 1)
        bounds = np.array(surface.GetBounds()).reshape(3, 2)
        assert np.abs(bounds[:, 0] - points.min(axis=0)).max() < 6, segment
        assert np.abs(bounds[:, 1] - points.max(axis=0)).max() < 6, segment
    show_lungs_in_3d(nodes, False)
    assert not display.GetVisibility3D()


def test_an_edited_segmentation_becomes_a_label_map_on_its_scans_grid(application, truth):
    """As Segment Editor leaves it: one segment repainted in a box of its own, another emptied."""
    import slicer

    from LungRecoveryLib.scene import LUNG_VALUES, labels_of, show_study
    from LungRecoveryLib.scene.segmentations import BINARY
    from LungRecoveryLib.scene.volumes import ijk_to_ras, image_data, vtk_matrix

    nodes = show_study(truth.folder, application.scene)
    node = nodes.timepoints["day 30"].lungs
    segmentation = node.GetSegmentation()
    original = truth.layer("day 30", "lungs")
    box = image_data(np.ones((4, 5, 6), np.uint8), slicer.vtkOrientedImageData)
    shift = np.eye(4)
    shift[:3, 3] = 7, 8, 9
    box.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(grid_of(original)) @ shift))
    segmentation.SeparateSegmentLabelmap("right")
    right = segmentation.GetSegment("right")
    right.RemoveRepresentation(BINARY)
    right.SetLabelValue(1)
    right.AddRepresentation(BINARY, box)
    labels = to_array(labels_of(node, LUNG_VALUES))
    expected = np.where(to_array(original) == 2, 2, 0)
    painted = np.zeros(expected.shape, bool)
    painted[9:13, 8:13, 7:13] = True
    assert np.array_equal(labels == 1, painted & (expected != 2))
    assert np.array_equal(labels == 2, expected == 2)
    segmentation.RemoveSegment("right")
    assert np.array_equal(to_array(labels_of(node, LUNG_VALUES)), expected)
