"""Which nodes a study makes, where they stand, and that showing, replacing and removing touch nothing else."""

import json
import shutil

import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import to_array


def children(hierarchy, item: int) -> list[int]:
    import vtk

    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, ids, False)
    return [ids.GetId(i) for i in range(ids.GetNumberOfIds())]


def folders(hierarchy, item: int) -> dict:
    """The tree of names below an item."""
    return {hierarchy.GetItemName(child): folders(hierarchy, child) for child in children(hierarchy, item)}


def named(application) -> list[str]:
    """The names of the nodes that have one of their own, not one that was numbered."""
    return sorted(name for name in application.nodes().values() if "Display" not in name)


def hierarchy_of(scene):
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def test_every_layer_of_the_study_has_its_node(shown, truth):
    _application, nodes = shown
    assert nodes.labels == list(truth.labels)
    assert list(nodes.maps) == ["ct", "jacobian", "jacobian_normalized", "density_change", "similarity"]
    assert set(nodes.legends) == set(nodes.maps) - {"ct"}
    assert list(nodes.charts) == ["scores", "abnormal_percent", "mean_hu", "histogram"]  # no volume in this study
    assert set(nodes.tables) == {"scores", "comparisons"}
    for label, timepoint in nodes.timepoints.items():
        assert timepoint.label == label
        assert timepoint.baseline == (label == "baseline")
        assert (timepoint.transform is None) == timepoint.baseline
        for name in ("volume", "lungs", "table"):
            assert getattr(timepoint, name) is not None, (label, name)
        assert timepoint.lesions is None


def test_layers_of_later_versions_appear_as_soon_as_the_study_holds_them(application, study_writer, tmp_path):
    from LungRecoveryLib.scene import overlays, set_overlay, show_study

    labels = ("baseline", "day 30")
    extra = {"baseline": ("lesions", "enhanced"), "day 30": ("lesions", "uncertainty", "novelty")}
    nodes = show_study(study_writer(tmp_path / "study", extra).folder, application.scene)
    offered = [overlay.name for overlay in overlays(nodes)]
    assert offered[:3] == ["jacobian", "jacobian_normalized", "density_change"]
    assert offered[-4:] == ["enhanced", "lesions", "uncertainty", "novelty"]
    for label in labels:
        kinds = ("ground_glass", "consolidation", "reticulation")
        assert nodes.timepoints[label].lesions.GetSegmentation().GetSegmentIDs() == kinds
    assert nodes.timepoints["day 30"].lesions.GetParentTransformNode() is nodes.timepoints["day 30"].transform
    set_overlay(nodes, "day 30", "lesions", 0.4)
    visible = {label: nodes.timepoints[label].lesions.GetDisplayNode().GetVisibility() for label in labels}
    assert visible == {"baseline": 0, "day 30": 1}
    assert nodes.timepoints["day 30"].lesions.GetDisplayNode().GetOpacity2DFill() == pytest.approx(0.4)
    with pytest.raises(KeyError):
        set_overlay(nodes, "day 30", "no such map")


def test_a_layer_on_the_followups_own_grid_is_laid_on_the_baseline(application, study_writer, tmp_path):
    """The enhanced image of a follow-up comes at its own resolution; over the baseline it must fit the lungs."""
    from LungRecoveryLib.scene import show_study
    from LungRecoveryLib.scene.sequences import item
    from LungRecoveryLib.scene.volumes import voxels

    truth = study_writer(tmp_path / "study", {"day 30": ("enhanced",)})
    nodes = show_study(truth.folder, application.scene)
    laid = voxels(item(nodes, "enhanced", "day 30")) > 250
    lungs = to_array(truth.layer("baseline", "lungs", truth.lung_box)) != 0
    assert 2 * (laid & lungs).sum() / (laid.sum() + lungs.sum()) > 0.9
    assert item(nodes, "enhanced", "baseline") is None


def test_layers_that_the_study_lacks_are_left_out(application, truth, tmp_path):
    from LungRecoveryLib.scene import overlays, region_point, set_overlay, show_in_views, show_region, show_study

    folder = tmp_path / "study"
    shutil.copytree(truth.folder, folder)
    content = json.loads((folder / "study.json").read_text("utf-8"))
    for timepoint in content["timepoints"]:
        kept = ("ct", "warped", "lungs", "density_change") if timepoint["label"] != "day 30" else ("warped",)
        timepoint["files"] = {name: path for name, path in timepoint["files"].items() if name in kept}
    content["comparisons"], content["trajectory"]["series"] = [], {}
    (folder / "study.json").write_text(json.dumps(content), encoding="utf-8")
    nodes = show_study(folder, application.scene, {"day 30": application.add(truth.scans["day 30"], "scan")})
    assert [overlay.name for overlay in overlays(nodes)] == ["density_change"]
    assert list(nodes.charts) == ["histogram"]
    assert list(nodes.tables) == ["scores"]
    assert nodes.regions is None
    assert nodes.timepoints["day 30"].transform is nodes.timepoints["day 30"].lungs is None
    assert nodes.timepoints["day 30"].volume.GetParentTransformNode() is None
    show_in_views(nodes)
    show_region(nodes, "lungs")
    set_overlay(nodes, "day 30", "density_change")
    with pytest.raises(BadInput):
        region_point(nodes, "lungs", "day 30")


def test_a_study_without_its_scans_is_refused(application, truth, tmp_path):
    from LungRecoveryLib.scene import show_study

    folder = tmp_path / "study"
    shutil.copytree(truth.folder, folder)
    content = json.loads((folder / "study.json").read_text("utf-8"))
    del content["timepoints"][1]["files"]["warped"]
    (folder / "study.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BadInput, match="no warped image of day 30"):
        show_study(folder, application.scene)


def test_nodes_stand_in_folders_for_patient_study_and_dates(application, truth):
    from LungRecoveryLib.scene import show_study

    nodes = show_study(truth.folder, application.scene, dates={"day 30": "2020-04-05"}, name="Case 7")
    hierarchy = hierarchy_of(application.scene)
    tree = folders(hierarchy, hierarchy.GetSceneItemID())
    assert list(tree) == ["Case 7"]
    study = tree["Case 7"]["Case 7"]
    assert {"baseline", "day 30 · 2020-04-05", f"{truth.labels[2]} (day\u202f90)"} < set(study)
    assert "day 30: transform onto the baseline" in study["day 30 · 2020-04-05"]
    item = hierarchy.GetItemByDataNode(nodes.timepoints["day 30"].lungs)
    assert hierarchy.GetItemLevel(hierarchy.GetItemParent(item)) == "Study"


def test_a_patient_from_dicom_keeps_its_place_and_gives_the_dates(application, truth):
    import slicer

    from LungRecoveryLib.scene import remove_study, show_study

    hierarchy = hierarchy_of(application.scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "DOE^JANE")
    study = hierarchy.CreateStudyItem(patient, "Thorax")
    hierarchy.SetItemAttribute(
        study, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMStudyDateAttributeName(), "20200305"
    )
    scan = application.add(truth.scans["baseline"], "scan")
    hierarchy.CreateItem(study, scan)
    show_study(truth.folder, application.scene, {"baseline": scan})
    tree = folders(hierarchy, hierarchy.GetSceneItemID())
    assert list(tree) == ["DOE^JANE"]
    assert list(tree["DOE^JANE"]) == ["Thorax", "Lung recovery"]
    assert "baseline · 20200305" in tree["DOE^JANE"]["Lung recovery"]
    remove_study(application.scene)
    assert folders(hierarchy, hierarchy.GetSceneItemID()) == {"DOE^JANE": {"Thorax": {"scan": {}}}}


def test_showing_again_replaces_own_nodes_and_nothing_else(application, truth):
    from LungRecoveryLib.scene import show_study

    user = application.add(truth.scans["baseline"], "Jacobian")  # a user's node by the same name
    first = show_study(truth.folder, application.scene)
    other = show_study(truth.folder, application.scene, name="Another patient")
    count, names = len(application.nodes()), named(application)
    again = show_study(truth.folder, application.scene)
    assert len(application.nodes()) == count
    assert named(application) == names
    assert not application.scene.IsNodePresent(first.maps["jacobian"])
    assert application.scene.IsNodePresent(again.maps["jacobian"])
    assert application.scene.IsNodePresent(user)
    for node in (*other.maps.values(), other.regions, *other.charts.values(), *other.others):
        assert application.scene.IsNodePresent(node), node.GetName()
    hierarchy = hierarchy_of(application.scene)
    assert sorted(folders(hierarchy, hierarchy.GetSceneItemID())) == ["Another patient", "Lung recovery"]


def test_removing_leaves_the_scene_as_it_was(application, truth):
    from LungRecoveryLib.scene import find_studies, remove_study, set_comparison, show_study

    scene = application.scene
    hierarchy_of(scene)  # Slicer has one from the start
    application.add(truth.scans["baseline"], "the user's")
    before = application.nodes()
    nodes = show_study(truth.folder, scene, {"day 30": application.add(truth.scans["day 30"], "input")})
    set_comparison(nodes, "day 30", "difference")
    assert [study.name for study in find_studies(scene)] == ["Lung recovery"]
    remove_study(scene)
    left = application.nodes()
    assert {key: name for key, name in left.items() if key not in before and "Display" not in name} == {
        key: name for key, name in left.items() if name == "input"
    }
    assert find_studies(scene) == []
    assert folders(hierarchy_of(scene), hierarchy_of(scene).GetSceneItemID()) == {}


def test_a_users_node_in_the_studys_folder_is_kept(application, truth):
    from LungRecoveryLib.scene import remove_study, show_study

    nodes = show_study(truth.folder, application.scene)
    hierarchy = hierarchy_of(application.scene)
    mine = application.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "my landmarks")
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.timepoints["day 30"].lungs))
    hierarchy.CreateItem(folder, mine)
    remove_study(application.scene)
    assert application.scene.IsNodePresent(mine)
    tree = folders(hierarchy, hierarchy.GetSceneItemID())
    assert tree == {"Lung recovery": {"Lung recovery": {"day 30": {"my landmarks": {}}}}}


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("study.json", "holds no study.json"),
        ("kontrolle/density_change.nii.gz", "is gone: analyse"),
        ("day-30/transform.h5", "is gone: analyse"),
    ],
)
def test_a_missing_file_leaves_the_scene_as_before(application, truth, tmp_path, file, match):
    """The first result stays, complete, when a second one cannot be shown."""
    from LungRecoveryLib.scene import find_studies, show_study

    show_study(truth.folder, application.scene)
    before = application.nodes()
    broken = tmp_path / "broken"
    shutil.copytree(truth.folder, broken)
    (broken / file).unlink()
    with pytest.raises(BadInput, match=match):
        show_study(broken, application.scene)
    assert application.nodes() == before
    assert find_studies(application.scene)[0].labels == list(truth.labels)


@pytest.mark.parametrize("file", ["baseline/ct.nii.gz", "day-30/transform.h5"])
def test_a_damaged_file_is_named(application, truth, tmp_path, file):
    from LungRecoveryLib.scene import show_study

    broken = tmp_path / "broken"
    shutil.copytree(truth.folder, broken)
    (broken / file).write_bytes(b"no image at all")
    before = application.nodes()
    with pytest.raises(BadInput, match=r"cannot be read: analyse"):
        show_study(broken, application.scene)
    assert set(application.nodes().values()) - set(before.values()) <= {"SubjectHierarchy"}


def test_the_folder_is_not_needed_afterwards(application, truth, tmp_path):
    """A study of the panel lies in a private folder that is removed; no node may read from it or write to it."""
    from LungRecoveryLib.scene import select_timepoint, show_study
    from LungRecoveryLib.scene.volumes import voxels

    folder = tmp_path / "private"
    shutil.copytree(truth.folder, folder)
    nodes = show_study(folder, application.scene)
    shutil.rmtree(folder)
    select_timepoint(nodes, "day 30")
    assert voxels(nodes.maps["jacobian"]).max() == pytest.approx(1.25)
    application.scene.SetURL("")
    assert str(tmp_path) not in _as_xml(application.scene, tmp_path)


def _as_xml(scene, folder) -> str:
    path = folder / "scene.mrml"
    scene.Commit(str(path))
    return path.read_text("utf-8")


def test_undo_after_a_run_leaves_the_study_whole(application, truth):
    """Also where the application lets undo take back volumes, tables, ...; an undo after running again likewise."""
    import slicer

    from LungRecoveryLib.scene import find_studies, select_timepoint, show_study

    scene = application.scene
    scene.SetUndoOn()
    for kind in ("ScalarVolume", "Segmentation", "Table", "Transform", "ColorTable", "Sequence", "PlotSeries"):
        name = f"vtkMRML{kind}Node"
        default = getattr(slicer, name)()
        default.SetUndoEnabled(True)
        scene.AddDefaultNode(default)
    mine = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    for _run in range(2):
        show_study(truth.folder, scene)
        before = application.nodes()
        scene.SaveStateForUndo()
        mine.SetName("changed")
        for _undo in range(3):
            scene.Undo()
            (nodes,) = find_studies(scene)
            assert set(application.nodes()) >= set(before) - {mine.GetID()}
            select_timepoint(nodes, "day 30")
            assert nodes.maps["jacobian"].GetImageData().GetNumberOfPoints() > 0
        assert scene.GetFirstNodeByName("changed") is None


def test_undo_takes_back_what_the_user_did_and_leaves_the_study(application, truth):
    from LungRecoveryLib.scene import select_timepoint, show_study

    scene = application.scene
    scene.SetUndoOn()
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.SetUndoEnabled(True)
    nodes = show_study(truth.folder, scene)
    scene.SaveStateForUndo()
    points.AddControlPoint((1.0, 2.0, 3.0))
    scene.Undo()
    assert scene.GetFirstNodeByName("points").GetNumberOfControlPoints() == 0
    select_timepoint(nodes, "day 30")
    assert scene.IsNodePresent(nodes.maps["jacobian"])
    assert nodes.selected == "day 30"
