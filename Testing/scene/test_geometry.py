"""Where a study's nodes lie: LPS and RAS, the direction of the transforms, inputs that are not touched."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import to_array


def corners_ras(image: sitk.Image) -> np.ndarray:
    """RAS mm of the eight outermost voxels of an image."""
    index = np.array(np.meshgrid(*[(0, n - 1) for n in image.GetSize()])).reshape(3, -1).T
    return np.array([image.TransformIndexToPhysicalPoint(list(map(int, i))) for i in index]) * (-1, -1, 1)


def node_corners_ras(node) -> np.ndarray:
    from LungRecoveryLib.scene.volumes import world_matrix

    size = node.GetImageData().GetDimensions()
    index = np.array(np.meshgrid(*[(0, n - 1) for n in size])).reshape(3, -1)
    return (world_matrix(node) @ np.vstack([index, np.ones(8)]))[:3].T


def test_volumes_lie_where_the_files_say_on_an_oblique_grid(shown, truth):
    from LungRecoveryLib.scene.sequences import item
    from LungRecoveryLib.scene.volumes import voxels

    _application, nodes = shown
    around = truth.lung_box  # of the maps only this is kept: outside they say nothing
    for node, label, layer, grid in (
        (nodes.baseline.volume, "baseline", "ct", truth.grid),
        (item(nodes, "ct", "day 30"), "day 30", "warped", truth.grid),
        (item(nodes, "jacobian", "day 30"), "day 30", "jacobian", around),
        (item(nodes, "density_change", truth.labels[2]), truth.labels[2], "density_change", around),
    ):
        image = truth.layer(label, layer, grid)
        assert np.abs(node_corners_ras(node) - corners_ras(image)).max() < 1e-3, layer
        lungs = to_array(truth.layer("baseline", "lungs", grid)) != 0
        assert np.array_equal(voxels(node)[lungs], to_array(image)[lungs]), layer


def test_maps_say_no_change_outside_the_lungs(shown, truth):
    """The fields there mean nothing: the file's Jacobian is 3 outside the lungs."""
    from LungRecoveryLib.scene.sequences import item
    from LungRecoveryLib.scene.volumes import voxels

    _application, nodes = shown
    outside = to_array(truth.layer("baseline", "lungs", truth.lung_box)) == 0
    assert to_array(truth.layer("day 30", "jacobian", truth.lung_box))[outside].min() == 3.0
    for layer, neutral in (("jacobian", 1.0), ("jacobian_normalized", 1.0), ("density_change", 0.0), ("similarity", 1)):
        values = voxels(item(nodes, layer, "day 30"))[outside]
        assert values.min() == values.max() == neutral, layer


def test_transforms_take_baseline_landmarks_to_the_followup(shown, truth):
    from LungRecoveryLib.scene.transforms import to_followup

    _application, nodes = shown
    assert nodes.baseline.transform is None
    for label, timepoint in nodes.followups.items():
        error = np.linalg.norm(to_followup(timepoint.transform, truth.landmarks_ras) - truth.moved_ras(label), axis=1)
        assert error.max() < 1e-3, label
        motion = np.linalg.norm(truth.landmarks_ras - truth.moved_ras(label), axis=1)
        assert motion.mean() > 10  # so that the other direction, or LPS taken for RAS, could not pass


def test_transforms_agree_with_itk_off_the_grid(shown, truth):
    """The field has faded at the grid's border: beyond it only the affine part is left, in MRML as in ITK."""
    from LungRecoveryLib.scene.transforms import to_followup

    _application, nodes = shown
    far = np.random.default_rng(1).uniform(-400, 400, (50, 3)) + truth.grid.centre
    expected = np.array([truth.transforms["day 30"].TransformPoint(p) for p in far.tolist()]) * (-1, -1, 1)
    found = to_followup(nodes.timepoints["day 30"].transform, far * (-1, -1, 1))
    assert np.abs(found - expected).max() < 1e-3


def test_points_under_the_transform_are_laid_on_the_baseline(application, truth):
    """What a radiologist marks in the follow-up shows at the same tissue of the baseline."""
    from LungRecoveryLib.scene import show_study

    nodes = show_study(truth.folder, application.scene)
    points = application.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "in the follow-up")
    for point in truth.moved_ras("day 30"):
        points.AddControlPoint(point.tolist())
    points.SetAndObserveTransformNodeID(nodes.timepoints["day 30"].transform.GetID())
    laid = np.zeros((len(truth.landmarks), 3))
    for index, row in enumerate(laid):
        points.GetNthControlPointPositionWorld(index, row)
    assert np.linalg.norm(laid - truth.landmarks_ras, axis=1).max() < 0.02


def test_landmark_errors_of_two_lists(application, truth):
    from LungRecoveryLib.scene import landmark_errors, show_study

    nodes = show_study(truth.folder, application.scene)
    fixed, moving = (application.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", n) for n in ("before", "after"))
    for point, moved in zip(truth.landmarks_ras, truth.moved_ras("day 30"), strict=True):
        fixed.AddControlPoint(point.tolist())
        moving.AddControlPoint((moved + np.array([0, 3, 4])).tolist())
    assert np.allclose(landmark_errors(nodes, "day 30", fixed, moving), 5.0, atol=1e-3)
    moving.SetAndObserveTransformNodeID(nodes.timepoints["day 30"].transform.GetID())
    assert np.allclose(landmark_errors(nodes, "day 30", fixed, moving), 5.0, atol=1e-3)
    moving.RemoveNthControlPoint(0)
    with pytest.raises(BadInput, match="40 points and after 39"):
        landmark_errors(nodes, "day 30", fixed, moving)
    with pytest.raises(BadInput, match="choose a follow-up"):
        landmark_errors(nodes, "baseline", fixed, fixed)


def test_the_followup_under_its_transform_looks_like_the_one_laid_on_the_baseline(shown):
    """The transform is observed, not hardened, and it is the right way round: pictures agree with it, not without."""
    application, nodes = shown
    composite = application.slices["Red"].GetSliceCompositeNode()

    def picture(node):
        composite.SetBackgroundVolumeID(node.GetID())
        composite.SetForegroundVolumeID(None)
        return application.picture("Red").astype(float)[40:180, 40:180]

    from LungRecoveryLib.scene import select_timepoint

    select_timepoint(nodes, "day 30")
    followup = nodes.timepoints["day 30"]
    laid, under = picture(nodes.maps["ct"]), picture(followup.volume)
    assert followup.volume.GetParentTransformNode() is followup.transform
    followup.volume.SetAndObserveTransformNodeID(None)
    alone = picture(followup.volume)
    followup.volume.SetAndObserveTransformNodeID(followup.transform.GetID())
    assert np.abs(laid - under).mean() < 6  # grey values: they are interpolated once more
    assert np.abs(laid - alone).mean() > 15


def test_inputs_are_shared_and_not_changed(application, truth):
    from LungRecoveryLib.scene import remove_study, show_study
    from LungRecoveryLib.scene.volumes import world_matrix

    inputs = {label: application.add(scan, label) for label, scan in truth.scans.items()}
    before = {n: (n.GetMTime(), n.GetDisplayNode().GetMTime(), world_matrix(n)) for n in inputs.values()}
    nodes = show_study(truth.folder, application.scene, inputs)
    volume = nodes.timepoints["day 30"].volume
    assert volume.GetImageData() is inputs["day 30"].GetImageData()
    assert nodes.baseline.volume is not inputs["baseline"]
    for node, (time, display_time, matrix) in before.items():
        assert (node.GetMTime(), node.GetDisplayNode().GetMTime()) == (time, display_time), node.GetName()
        assert node.GetParentTransformNode() is None
        assert np.array_equal(world_matrix(node), matrix)
    remove_study(application.scene)
    assert inputs["day 30"].GetImageData().GetDimensions() == truth.scans["day 30"].GetSize()


def test_an_input_under_a_linear_transform_lies_where_that_puts_it(application, truth):
    """The scan was analysed where it lies in the world; its copy must not need the parent transform."""
    import vtk

    from LungRecoveryLib.scene import show_study
    from LungRecoveryLib.scene.volumes import vtk_matrix, world_matrix

    node = application.add(truth.scans["day 30"], "moved")
    to_world = np.eye(4)
    to_world[:3, 3] = 12.0, -7.0, 30.0
    local = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(local)
    target = world_matrix(node)
    node.SetIJKToRASMatrix(vtk_matrix(np.linalg.inv(to_world) @ target))
    parent = application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    parent.SetMatrixTransformToParent(vtk_matrix(to_world))
    node.SetAndObserveTransformNodeID(parent.GetID())
    nodes = show_study(truth.folder, application.scene, {"day 30": node})
    volume = nodes.timepoints["day 30"].volume
    volume.SetAndObserveTransformNodeID(None)
    assert np.abs(world_matrix(volume) - target).max() < 1e-9
    assert node.GetParentTransformNode() is parent


def test_inputs_that_are_not_what_was_analysed_are_refused(application, truth):
    import vtk

    from LungRecoveryLib.scene import show_study

    scene = application.scene
    before = None

    def refused(node, match, label="day 30"):
        nonlocal before
        before = application.nodes()
        with pytest.raises(BadInput, match=match):
            show_study(truth.folder, scene, {label: node})
        assert application.nodes() == before

    shifted = sitk.Image(truth.scans["day 30"])
    shifted.SetOrigin((np.array(shifted.GetOrigin()) + np.array([0, 0, 3])).tolist())
    refused(application.add(shifted, "shifted"), "shifted is not where the scan of day 30 was")
    refused(application.add(truth.scans["baseline"], "another"), "another is not where")
    refused(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow"), "hollow has no voxels")
    refused(application.add(truth.scans["day 30"], "scan"), "the study has no time point day 31", "day 31")
    bent = application.add(truth.scans["day 30"], "bent")
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    spline = vtk.vtkThinPlateSplineTransform()
    ends = [vtk.vtkPoints(), vtk.vtkPoints()]
    for corner in [*np.eye(3).tolist(), [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]:
        ends[0].InsertNextPoint([100 * c for c in corner])
        ends[1].InsertNextPoint([100 * c + 3 * corner[0] * corner[1] for c in corner])
    spline.SetSourceLandmarks(ends[0])
    spline.SetTargetLandmarks(ends[1])
    warp.SetAndObserveTransformToParent(spline)
    bent.SetAndObserveTransformNodeID(warp.GetID())
    refused(bent, "bent lies under a transform that is not linear")


def test_threads_that_read_collect_no_garbage(truth):
    """It may hold widgets and nodes that only the main thread may end; afterwards it is collected as before."""
    import gc

    from LungRecoveryLib.scene.volumes import Layers

    path = truth.folder / "baseline" / "ct.nii.gz"
    assert gc.isenabled()
    with Layers([path]) as layers:
        assert not gc.isenabled()
        assert layers.take(path).GetSize() == truth.grid.size
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), Layers([path]):
        1 / 0  # noqa: B018
    assert gc.isenabled()
