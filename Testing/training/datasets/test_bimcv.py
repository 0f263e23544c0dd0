"""BIMCV-COVID19+, imitated: the right series of each examination, dated, without localisers."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import prepare

NO_MASKS = {"masks": False}


@pytest.fixture
def bimcv(tmp_path, write_ct, chest):
    """One patient with two dated examinations, one with a single one; a localiser, a coarse and an X-ray beside."""

    long = np.repeat(chest, 4, axis=0)
    scans = (
        ("sub-S1", "ses-E2", 1, 5.0, chest),  # 60 mm long: a fragment
        ("sub-S1", "ses-E2", 2, 19.0, chest),  # too thick
        ("sub-S1", "ses-E2", 3, 5.0, long),
        ("sub-S1", "ses-E2", 4, 4.0, long),
        ("sub-S1", "ses-E1", 1, 4.0, long),
        ("sub-S2", "ses-E9", 1, 4.0, long),
    )
    for subject, session, run, mm, array in scans:
        path = tmp_path / subject / session / "mod-rx" / f"{subject}_{session}_run-{run}_bp-chest_ct.nii.gz"
        write_ct(path, (0.9, 0.9, mm), array=array)
        if session == "ses-E2":
            tags = {"00080020": {"vr": "DA", "Value": ["20200310"]}}
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(tags))
    (tmp_path / "sub-S1" / "sub-S1_sessions.tsv").write_text("session_id\tstudy_date\nses-E1\t2020-04-01\n")
    (tmp_path / "sub-S1" / "ses-E2" / "mod-rx" / "sub-S1_ses-E2_run-9_bp-chest_cr.png").write_bytes(b"x-ray")
    small = sitk.Image([20, 20, 1], sitk.sitkInt16)
    sitk.WriteImage(small, str(tmp_path / "sub-S2/ses-E9/mod-rx/sub-S2_ses-E9_run-2_bp-chest_ct.nii.gz"))
    return tmp_path


def test_bimcv(bimcv, by_time):
    """Each examination gives its finest chest CT; days count from the first date, whichever file tells it."""
    rows = by_time(prepare("bimcv", bimcv, **NO_MASKS))
    assert set(rows) == {("sub-S1", 0.0), ("sub-S1", 22.0), ("sub-S2", 0.0)}
    assert rows["sub-S1", 0.0].image.name == "sub-S1_ses-E2_run-4_bp-chest_ct.nii.gz"
    assert rows["sub-S1", 22.0].image.parts[-3] == "ses-E1"
    assert len(prepare("bimcv", bimcv, longitudinal=True, **NO_MASKS).rows) == 2
    counted = by_time(prepare("bimcv", bimcv, dates=False, **NO_MASKS))
    assert counted["sub-S1", 0.0].image.parts[-3] == "ses-E1"


def test_bimcv_without_dates(bimcv):
    """A patient whose examinations have no date is named, with what to do."""
    (bimcv / "sub-S1" / "sub-S1_sessions.tsv").unlink()
    with pytest.raises(BadInput, match=r"sub-S1: the date of ses-E1 stands neither .* dates=False"):
        prepare("bimcv", bimcv, **NO_MASKS)
