"""A plain folder of CTs: names, dates, masks and DICOM."""

import numpy as np
import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import to_array
from LungRecoveryLib.images import read_image
from LungRecoveryTrainingLib.datasets import prepare, read_manifest

NO_MASKS = {"masks": False}


def test_folder(tmp_path, write_ct, write_series, chest, by_time):
    """Scans of patients by date, number or order, DICOM among them, masks beside them, and lone scans."""
    write_ct(tmp_path / "anna" / "ct_2021-03-05.nii.gz", (9.0, 9.0, 9.0))
    write_ct(tmp_path / "anna" / "ct_20210105.mha", (9.0, 9.0, 9.0))
    write_ct(tmp_path / "anna" / "ct_20210105-lungs.mha", (9.0, 9.0, 9.0))
    for name in ("day-000", "day-030", "day-030_mask"):
        write_ct(tmp_path / "ben" / f"{name}.nii.gz")
    write_series(tmp_path / "cleo" / "second", chest, AcquisitionDate="20200305")
    write_series(tmp_path / "cleo" / "first", chest, AcquisitionDate="20200401")
    write_ct(tmp_path / "dan.nrrd")
    (tmp_path / "notes.txt").write_text("nothing")
    rows = by_time(prepare("folder", tmp_path, **NO_MASKS))
    assert set(rows) == {
        ("anna", 0.0), ("anna", 59.0), ("ben", 0.0), ("ben", 30.0), ("cleo", 0.0), ("cleo", 27.0), ("dan", 0.0),
    }  # fmt: skip
    assert rows["anna", 0.0].mask.name == "ct_20210105-lungs.mha"
    assert rows["anna", 59.0].mask is None
    assert rows["cleo", 0.0].image.name == "second"
    assert len(read_manifest(tmp_path / "manifest.csv").rows) == 7


def test_folder_with_what_is_no_ct(tmp_path, write_ct, chest):
    """A scan that is no CT in HU is named before anything is written."""
    write_ct(tmp_path / "anna.nii.gz")
    write_ct(tmp_path / "ben.nii.gz", array=np.full_like(chest, 7))
    with pytest.raises(BadInput, match=r"ben\.nii\.gz: all its voxels are 7"):
        prepare("folder", tmp_path, **NO_MASKS)
    assert not (tmp_path / "manifest.csv").exists()


def test_lungs_are_segmented_once(tmp_path, phantoms):
    """Without a mask the lungs are segmented beside the manifest, and a second run keeps what is there."""
    source = phantoms.of("train")[0]
    root = tmp_path / "root"
    root.mkdir()
    (root / "p1.nii.gz").write_bytes(source.image.read_bytes())
    row = prepare("folder", root, tmp_path / "manifest.csv").rows[0]
    assert row.mask == tmp_path / "masks" / "p1-0.nii.gz"
    found, truth = (to_array(read_image(path)) > 0 for path in (row.mask, source.mask))
    assert (found & truth).sum() > 0.75 * truth.sum()
    before = row.mask.stat().st_mtime_ns
    assert prepare("folder", root, tmp_path / "manifest.csv").rows[0].mask.stat().st_mtime_ns == before
