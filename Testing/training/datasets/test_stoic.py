"""STOIC, imitated with five tiny scans: what is read, and what is missed when it is missing."""

import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import prepare, read_manifest

NO_MASKS = {"masks": False}


@pytest.fixture
def stoic(tmp_path, write_ct):
    """Five patients of STOIC, three of them with COVID-19."""
    lines = ["PatientID,probCOVID,probSevere"] + [f"{10 + i},{float(i < 3)},0.0" for i in range(5)]
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "reference.csv").write_text("\n".join(lines) + "\n")
    for i in range(5):
        write_ct(tmp_path / "data" / "mha" / f"{10 + i}.mha")
    return tmp_path


def test_stoic(stoic, tmp_path):
    """Patients become rows of one scan; positives can be chosen; a JSON manifest elsewhere points back to them."""
    manifest = prepare("stoic", stoic, partial=True, **NO_MASKS)
    assert {row.subject for row in manifest.rows} == {"10", "11", "12", "13", "14"}
    assert {row.split for row in manifest.rows} == {"train", "val", "test"}
    elsewhere = tmp_path / "other" / "stoic.json"
    positive = prepare("stoic", stoic, elsewhere, partial=True, positive=True, **NO_MASKS)
    assert {row.subject for row in positive.rows} == {"10", "11", "12"}
    assert read_manifest(elsewhere).rows[0].image.samefile(positive.rows[0].image)


def test_stoic_incomplete(stoic):
    """Too few patients, a missing scan, a broken scan and a missing column are told."""
    with pytest.raises(BadInput, match="lists 5 patients, not 2000"):
        prepare("stoic", stoic, **NO_MASKS)
    scan = stoic / "data" / "mha" / "11.mha"
    scan.write_bytes(b"cut short")
    with pytest.raises(BadInput, match=r"11\.mha: cannot be read as an image"):
        prepare("stoic", stoic, partial=True, **NO_MASKS)
    scan.unlink()
    assert len(prepare("stoic", stoic, partial=True, **NO_MASKS).rows) == 4
    (stoic / "metadata" / "reference.csv").write_text("PatientID,probSevere\n10,0\n")
    with pytest.raises(BadInput, match="has no column probCOVID"):
        prepare("stoic", stoic, partial=True, **NO_MASKS)
