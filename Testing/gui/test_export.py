"""Export: every kind of file, asked before anything is replaced, and nothing half done."""

import shutil

import numpy as np
import pytest


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


def export(widget, folder, *keys: str) -> None:
    """Tick what is named and press Export."""
    tick(widget, *keys)
    widget.ui.exportFolderEdit.setCurrentPath(str(folder))
    widget.ui.exportButton.click()


def test_radiomics_are_exported_where_the_study_has_them(shown, tmp_path):
    export(shown, tmp_path / "without", "tables")
    assert not (tmp_path / "without" / "radiomics.csv").exists()
    (shown.panel.shown.folder / "radiomics.csv").write_text("timepoint\n", encoding="utf-8")
    export(shown, tmp_path / "with", "tables")
    assert (tmp_path / "with" / "radiomics.csv").read_text(encoding="utf-8") == "timepoint\n"


def test_dicom_objects_that_the_analysis_wrote_are_copied(shown, standin, tmp_path):
    """And replace those of an earlier export as a whole, after a question."""
    objects = shown.panel.shown.folder / "dicom"
    objects.mkdir()
    (objects / "report.dcm").write_bytes(b"DICM")
    old = tmp_path / "export" / "dicom" / "other.dcm"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"DICM")
    standin.answers = [True]
    export(shown, tmp_path / "export", "dicom")
    assert standin.messages[0]["kind"] == "confirm"
    assert [file.name for file in old.parent.iterdir()] == ["report.dcm"]


@pytest.mark.slow
def test_dicom_objects_are_made_where_there_are_none(shown, standin, tmp_path):
    """In a process of their own, from the scans in the scene; neither study nor scene changes, and no file is left."""
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    study = shown.panel.shown.folder
    before = {path for path in study.rglob("*")}
    export(shown, tmp_path / "export", "dicom", "tables")
    assert [message["kind"] for message in standin.messages] == ["info"]
    written = sorted((tmp_path / "export" / "dicom").rglob("*.dcm"))
    kinds = {pydicom.dcmread(path, stop_before_pixels=True).Modality for path in written}
    assert {"CT", "SEG", "REG", "SR", "DOC"} <= kinds
    assert {path for path in study.rglob("*")} == before
    assert (tmp_path / "export" / "scores.csv").is_file()


def test_packages_for_dicom_are_asked_for(shown, standin, tmp_path, monkeypatch):
    """One question that names them, and not torch; declined, nothing is written."""
    from LungRecoveryLib.gui import requirements

    def version(name: str) -> str:
        raise requirements.PackageNotFoundError(name)

    monkeypatch.setattr(requirements, "version", version)
    standin.answers = [False]
    export(shown, tmp_path / "export", "dicom", "tables")
    (question,) = standin.messages
    assert question["kind"] == "confirm"
    assert "pydicom" in question["text"]
    assert "highdicom" in question["text"]
    assert "torch" not in question["text"]
    assert not (tmp_path / "export").exists()


def test_dicom_objects_need_the_scans(shown, standin, scene, tmp_path):
    """One of which has left the scene: a sentence, and nothing is written."""
    scene.RemoveNode(shown.panel.shown.inputs["day 30"])
    export(shown, tmp_path / "export", "dicom")
    assert "The scan of day 30" in standin.messages[-1]["text"]
    assert not (tmp_path / "export").exists()


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


@pytest.mark.parametrize("keys", [("report",), ("maps",), ("h5",), ("nrrd",), ("scene",)])
def test_an_export_onto_a_full_disk_keeps_the_earlier_one(shown, standin, small_disk, keys):
    """The disk runs full in the middle: that is said, the earlier files are whole, and nothing else is there."""
    disk = small_disk(200)
    export(shown, disk, *keys)
    earlier = contents(disk)
    assert earlier
    filler = disk / "other.bin"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - sum(map(len, earlier.values())) // 2))
    standin.messages.clear()
    standin.answers = [True]
    export(shown, disk, *keys)
    assert [message["kind"] for message in standin.messages] == ["confirm", "error"]
    assert "disk" in standin.messages[1]["text"]
    assert "unexpected" not in standin.messages[1]["text"]
    assert "/.LungRecovery-" not in standin.messages[1]["text"]
    filler.unlink()
    assert contents(disk) == earlier


def contents(folder) -> dict[str, bytes]:
    """Every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("key", ["h5", "tfm", "nrrd"])
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_transform_that_the_study_has_lost_is_named(shown, standin, tmp_path, key, damage):
    path = shown.panel.shown.folder / "day-30" / "inverse_transform.h5"
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:500])
    export(shown, tmp_path / "export", key)
    if key == "h5" and damage == "cut short":
        return  # copied as it is
    assert "inverse_transform.h5" in standin.messages[-1]["text"]
    assert contents(tmp_path / "export") == {}


def test_a_study_whose_folder_has_gone_is_not_exported(shown, standin, tmp_path):
    """Nor corrected, nor judged; the scene itself still is: what it shows is complete."""
    shutil.rmtree(shown.panel.shown.folder)
    export(shown, tmp_path / "export", "report", "scene")
    assert "no longer on the disk" in standin.messages[-1]["text"]
    assert not (tmp_path / "export").exists()
    shown.ui.readerButton.click()
    assert "no longer on the disk" in standin.messages[-1]["text"]
    assert not shown.panel.run.running
    export(shown, tmp_path / "export", "scene")
    assert list(contents(tmp_path / "export")) == ["scene.mrb"]


def test_a_study_is_exported_into_its_own_folder(shown, standin):
    """Where the results were kept there, say: what lies there already stays whole."""
    folder = shown.panel.shown.folder
    before = contents(folder)
    standin.answers = [True]
    export(shown, folder, "report", "tables", "study")
    assert standin.messages[-1]["kind"] == "info"
    assert contents(folder) == before


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


def test_exporting_the_scene_does_not_change_where_it_is_saved(shown, scene, tmp_path):
    """It is a copy: Slicer goes on to save the scene where the user did."""
    scene.SetURL("/home/reader/mine.mrb")
    scene.SetRootDirectory("/home/reader")
    export(shown, tmp_path, "scene")
    assert (tmp_path / "scene.mrb").is_file()
    assert (scene.GetURL(), scene.GetRootDirectory()) == ("/home/reader/mine.mrb", "/home/reader")
