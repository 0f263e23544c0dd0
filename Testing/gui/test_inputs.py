"""What the user gives: checked in words a radiologist knows, and written as files that lie where the nodes lie."""

import numpy as np
import pytest
import SimpleITK as sitk


@pytest.fixture
def add_volume(scene):
    """The function that adds a volume with HU like a chest's, or an array (z, y, x[, c])."""
    import slicer

    def add(name: str = "CT", array=None):
        if array is None:
            array = np.full((8, 9, 10), -850, np.int16)
            array[:, :3] = 40
        ijk_to_ras = np.diag([-0.8, -0.7, 2.5, 1.0])
        ijk_to_ras[:3, 3] = (100.0, -50.0, -920.0)
        turned = np.eye(4)
        turned[:3, :3] = _rotation(20.0)
        return slicer.util.addVolumeFromArray(array, turned @ ijk_to_ras, name)

    return add


def _rotation(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])


def _transform(scene, matrix: np.ndarray):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "table")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def ras(volume, index) -> np.ndarray:
    """Where a voxel (i, j, k) lies in the world, RAS mm."""
    import vtk

    matrix, place = vtk.vtkMatrix4x4(), [0.0, 0.0, 0.0]
    volume.GetIJKToRASMatrix(matrix)
    local = matrix.MultiplyPoint((*index, 1.0))[:3]
    volume.TransformPointToWorld(local, place)
    return np.array(place)


def check(*rows, **options) -> str:
    """What is said of rows; empty where nothing is wrong."""
    from LungRecoveryLib.errors import BadInput
    from LungRecoveryLib.gui.rows import check_rows

    try:
        check_rows(list(rows), **options)
    except BadInput as error:
        return str(error)
    return ""


@pytest.fixture
def row(add_volume):
    """The function that makes a row of a good volume."""
    from LungRecoveryLib.gui.rows import Row

    def make(name="CT", when="", label="", array=None, lungs=None):
        return Row(add_volume(name, array), label, when, lungs)

    return make


# ---------------------------------------------------------------------------------------------------------- checking


def test_two_good_volumes_are_good(row):
    assert check(row("a"), row("b")) == ""


def test_too_few(row):
    assert "Add the baseline CT" in check()
    assert "at least one follow-up" in check(row())


def test_the_same_volume_twice(row):
    one = row("Thorax")
    assert check(one, one) == "Thorax is listed twice: remove one of its rows."


def test_volumes_without_voxels(row, scene):
    from LungRecoveryLib.gui.rows import Row

    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    assert "nothing has no voxels" in check(row(), Row(empty))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((8, 9, 10), np.uint8) + np.arange(10, dtype=np.uint8), "not a chest CT in Hounsfield units"),
        (np.full((8, 9, 10), 7, np.int16), "not a chest CT in Hounsfield units"),
        (np.full((1, 9, 10), -900, np.int16), "too few slices (1)"),
        (np.full((8, 9, 10, 3), -900, np.int16), "colour or vector image"),
    ],
)
def test_images_that_are_no_ct(row, add_volume, scene, array, words):
    import slicer

    if array.ndim == 4:
        bad = row("b")
        image = slicer.util.addVolumeFromArray(array, name="rgb", nodeClassName="vtkMRMLVectorVolumeNode")
        bad.volume = image
    else:
        bad = row("b", array=array)
    said = check(row("a"), bad)
    assert words in said
    assert bad.volume.GetName() in said


def test_transforms_over_a_volume(row, scene):
    """A linear one is fine; one that bends is refused, and the message names it."""
    import slicer

    one = row("a")
    one.volume.SetAndObserveTransformNodeID(_transform(scene, np.eye(4)).GetID())
    assert check(one, row("b")) == ""
    bent = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "breath")
    grid = slicer.vtkOrientedGridTransform()
    bent.SetAndObserveTransformToParent(grid)
    one.volume.SetAndObserveTransformNodeID(bent.GetID())
    assert "a lies under the transform breath, which is not linear" in check(one, row("b"))


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (("2021-01-01", "2021-02-01"), ""),
        (("0", "day 30"), ""),
        (("", ""), ""),
        (("2021-01-01", ""), "give all of them, or none"),
        (("2021-01-01", "30"), "use one of the two"),
        (("2021-13-01", "2021-02-01"), "neither a date nor a day"),
        (("30", "0"), "press “Order by date”"),
        (("2022-01-01", "2021-02-01"), "press “Order by date”"),
    ],
)
def test_dates_and_days(row, when, words):
    said = check(row("a", when[0]), row("b", when[1]))
    assert (words in said) if words else said == ""


@pytest.mark.parametrize(
    ("labels", "words"),
    [(("x", "X"), "used twice"), (("first", "Baseline"), "Only the first"), (("", "a" * 61), "too long")],
)
def test_labels(row, labels, words):
    assert words in check(*(row(label=label) for label in labels))


def test_lungs(row, scene):
    """Without a segment they are refused before anything starts."""
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    assert "The lungs drawn are empty" in check(row(), row(lungs=empty))


def test_different_patients(row, scene):
    """By the patient ID that DICOM gives; a tick in the settings accepts it; unknown ones are no difference."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    rows = [row("a"), row("b"), row("c")]
    for item, identity in zip(rows, ("1", "2", ""), strict=True):
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "somebody")
        if identity:
            hierarchy.SetItemAttribute(patient, "DICOM.PatientID", identity)
        hierarchy.CreateItem(patient, item.volume)
    assert "different patients" in check(*rows)
    assert "1" not in check(*rows)
    assert check(*rows, allow_different_patients=True) == ""
    assert check(rows[0], rows[2]) == ""


def test_labels_and_days_are_made_as_the_job_makes_them(row):
    """The panel's names are those of the study, so that its inputs are found again."""
    from pathlib import Path

    from LungRecoveryLib.gui.rows import days_of, labels_of
    from LungRecoveryLib.job import TimePoint, with_labels

    for whens in (("", "", ""), ("0", "30", "30"), ("2021-01-01", "2021-01-31", "2021-03-02")):
        rows = [row(when=when) for when in whens]
        points = tuple(TimePoint(Path("x"), None, day) for day in days_of(rows))
        assert labels_of(rows) == [point.label for point in with_labels(points)]


# ----------------------------------------------------------------------------------------------------------- writing


def test_a_volume_lies_in_its_file_where_it_lies_in_the_scene(add_volume, scene, tmp_path):
    """Oblique, anisotropic, under a rotation and a shift; the voxels are the same and the node is not changed."""
    import slicer

    from LungRecoveryLib.gui.inputs import write_volume

    array = np.random.default_rng(0).integers(-1000, 400, (8, 9, 10)).astype(np.int16)
    volume = add_volume(array=array)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = _rotation(-35.0)[:, [1, 2, 0]], (7.0, -12.0, 30.0)
    volume.SetAndObserveTransformNodeID(_transform(scene, matrix).GetID())
    before = volume.GetMTime()
    write_volume(volume, tmp_path / "scan.nrrd")
    image = sitk.ReadImage(str(tmp_path / "scan.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), slicer.util.arrayFromVolume(volume))
    for index in ((0, 0, 0), (9, 8, 7), (3, 5, 1)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(lps * (-1, -1, 1), ras(volume, index), atol=1e-4)
    assert volume.GetMTime() == before


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32, np.float64, np.uint8])
def test_every_kind_of_voxel_can_be_written(add_volume, tmp_path, kind):
    from LungRecoveryLib.gui.inputs import write_volume

    array = np.arange(8 * 9 * 10).reshape(8, 9, 10).astype(kind)
    write_volume(add_volume(array=array), tmp_path / "scan.nrrd")
    image = sitk.ReadImage(str(tmp_path / "scan.nrrd"))
    found = sitk.GetArrayFromImage(image)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, array)


def test_a_transform_that_shears_is_refused(add_volume, scene, tmp_path):
    from LungRecoveryLib.errors import BadInput
    from LungRecoveryLib.gui.inputs import write_volume

    volume, matrix = add_volume("Thorax"), np.eye(4)
    matrix[0, 1] = 0.2
    volume.SetAndObserveTransformNodeID(_transform(scene, matrix).GetID())
    with pytest.raises(BadInput, match="axes of Thorax are not at right angles"):
        write_volume(volume, tmp_path / "scan.nrrd")
    assert not (tmp_path / "scan.nrrd").exists()


def test_segmentations_and_label_maps_become_masks(add_volume, scene, tmp_path):
    """Two segments together, in their own place; a label map's labels as one mask."""
    import slicer

    from LungRecoveryLib.gui.inputs import write_mask
    from LungRecoveryLib.images import read_mask

    volume = add_volume()
    truth = np.zeros((8, 9, 10), np.uint8)
    truth[1:6, 2:7, 1:4], truth[2:7, 3:8, 6:9] = 1, 2
    image = slicer.util.addVolumeFromArray(truth, name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode")
    image.CopyOrientation(volume)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lungs")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(image, node)
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    grid = sitk.GetImageFromArray(slicer.util.arrayFromVolume(volume))
    from LungRecoveryLib.gui.inputs import write_volume

    write_volume(volume, tmp_path / "scan.nrrd")
    grid = sitk.ReadImage(str(tmp_path / "scan.nrrd"))
    for source in (node, image):
        write_mask(source, tmp_path / "mask.nrrd")
        mask = sitk.GetArrayFromImage(read_mask(tmp_path / "mask.nrrd", grid))
        np.testing.assert_array_equal(mask, truth > 0)


def test_a_mask_drawn_elsewhere_is_said_with_its_name(listed, scene, standin, process_events):
    """By the worker itself, whose sentence names the node and no file: the real process, up to its first checks."""
    import slicer

    far = np.zeros((8, 9, 10), np.uint8)
    far[2:5, 3:7, 1:9] = 1
    labels = slicer.util.addVolumeFromArray(far, name="drawn", nodeClassName="vtkMRMLLabelMapVolumeNode")
    labels.SetOrigin(5000.0, 0.0, 0.0)
    rows = listed.panel.time_points.rows
    rows[1].lungs = labels
    listed.panel.time_points.set_rows(rows)
    listed.logic.worker_command = None
    listed.ui.applyButton.click()
    assert process_events(lambda: not listed.panel.run.running, 400)
    assert standin.messages[0]["text"] == (
        "drawn: the mask does not overlap its scan; give the mask drawn on that scan."
    )


# ---------------------------------------------------------------------------------------------------------- messages


def test_messages_speak_of_the_users_names(scene):
    from LungRecoveryLib.gui import messages

    files = {"/tmp/x/scan-1.nrrd": "Thorax", "/tmp/x/scan-10.nrrd": "Later"}
    said = messages.plain("/tmp/x/scan-10.nrrd: too small, unlike scan-1.nrrd; choose --preset fast", files)
    assert said == "Later: too small, unlike Thorax; choose the preset Fast."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "disk is full"),
        (PermissionError(13, "Permission denied"), "could not be read or written: Permission denied"),
        (MemoryError(), "ran out of memory"),
        (KeyError("lungs"), "Something unexpected"),
    ],
)
def test_every_error_of_the_panel_itself_has_a_sentence(scene, error, words):
    from LungRecoveryLib.gui import messages

    failure = messages.of_error(error, "trace")
    assert words in failure.message
    assert failure.detail == "trace"


def test_the_remaining_time_is_steady_and_comes_late(scene):
    """Nothing at first, then an estimate that follows slowly, in rounded words."""
    from LungRecoveryLib.gui.remaining import Remaining, in_words

    now = [0.0]
    remaining = Remaining(lambda: now[0])
    now[0] = 2.0
    assert remaining.words(0.5) == ""
    now[0] = 60.0
    assert remaining.words(0.01) == ""
    assert remaining.words(0.5) == "about 60 s left"
    now[0] = 61.0
    assert remaining.seconds(0.1) < 0.3 * 61 * 9
    assert [in_words(s) for s in (3, 44, 170)] == ["a few seconds left", "about 40 s left", "about 3 min left"]
