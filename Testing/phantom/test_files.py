"""A patient on disk holds what the patient in memory holds, and appears whole or not at all."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import same_grid, to_array
from LungRecoveryLib.phantom import make_patient, write_patient


@pytest.fixture(scope="module")
def patient():
    return make_patient("recovering", 1, (48, 38, 50), (6.5,) * 3, (0, 30))


def test_written_patient(patient, tmp_path):
    """Scans, labels, displacement, landmarks and truth are read back as they were."""
    folder = tmp_path / "patient"
    write_patient(patient, folder)
    visit = patient.visits[1]
    ct = sitk.ReadImage(str(folder / "day-030.nii.gz"))
    assert np.array_equal(to_array(ct), to_array(visit.ct))
    assert same_grid(ct, visit.ct)
    displacement = sitk.ReadImage(str(folder / "day-030" / "displacement.nii.gz"))
    assert np.allclose(to_array(displacement), to_array(visit.displacement))
    lungs = sitk.ReadImage(str(folder / "day-030" / "lungs.nii.gz"))
    assert np.array_equal(to_array(lungs), to_array(visit.lungs))
    with open(folder / "day-030" / "landmarks.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(visit.landmarks)
    moved = [[float(row[f"followup_{axis}"]) for axis in "xyz"] for row in rows]
    assert np.allclose(moved, visit.landmarks, atol=1e-4)
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["visits"][1]["tissue_recovery"] == pytest.approx(patient.truth()["visits"][1]["tissue_recovery"])


def test_written_patient_can_be_replaced(patient, tmp_path):
    """A folder that holds a patient is known as such, and another patient takes its place when asked to."""
    folder = tmp_path / "patient"
    write_patient(patient, folder)
    about = json.loads((folder / "phantom.json").read_text())
    assert about["schema"] == "lungrecovery-phantom-1"
    assert [scan["path"] for scan in about["scans"]] == ["day-000.nii.gz", "day-030.nii.gz"]
    assert all((folder / scan["path"]).is_file() for scan in about["scans"])
    (folder / "note.txt").write_text("old")
    with pytest.raises(BadInput):
        write_patient(patient, folder)
    write_patient(patient, folder, overwrite=True)
    assert not (folder / "note.txt").exists()


def test_existing_folder_is_kept(patient, tmp_path):
    """An existing folder is refused and left alone."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep me")
    with pytest.raises(BadInput):
        write_patient(patient, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["note.txt"]
