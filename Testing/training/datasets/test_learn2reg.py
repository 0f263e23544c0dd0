"""The layout of Learn2Reg, imitated: pairs, masks and keypoints as the dataset JSON says."""

import json

import numpy as np
import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import grid_of
from LungRecoveryLib.images import read_image
from LungRecoveryLib.landmarks import read_points
from LungRecoveryTrainingLib.datasets import prepare

NO_MASKS = {"masks": False}


@pytest.fixture
def learn2reg(tmp_path, write_ct):
    """Two pairs to train on (one of them for validation) with masks and keypoints, and a test image."""
    content = {
        "name": "NLST",
        "modality": {"0": "CT"},
        "tensorImageShape": {"0": [28, 24, 12]},
        "numTraining": 4,
        "training": [],
        "training_paired_images": [],
        "test": ["./imagesTs/NLST_0009_0000.nii.gz"],
    }
    for subject in ("NLST_0001", "NLST_0002"):
        for number in (0, 1):
            name = f"{subject}_{number:04d}"
            write_ct(tmp_path / "imagesTr" / f"{name}.nii.gz", (2.0, 2.0, 3.0), (10.0, 20.0, -30.0))
            write_ct(tmp_path / "masksTr" / f"{name}.nii.gz", (2.0, 2.0, 3.0), (10.0, 20.0, -30.0))
            (tmp_path / "keypointsTr").mkdir(exist_ok=True)
            (tmp_path / "keypointsTr" / f"{name}.csv").write_text("0,0,0\n27,23,11\n1.5,2.0,3.0\n")
            content["training"].append({"image": f"./imagesTr/{name}.nii.gz", "mask": f"./masksTr/{name}.nii.gz"})
        pair = {"fixed": f"./imagesTr/{subject}_0000.nii.gz", "moving": f"./imagesTr/{subject}_0001.nii.gz"}
        content["training_paired_images"].append(pair)
    content["registration_val"] = [content["training_paired_images"][1]]
    write_ct(tmp_path / "imagesTs" / "NLST_0009_0000.nii.gz", (2.0, 2.0, 3.0))
    (tmp_path / "NLST_dataset.json").write_text(json.dumps(content))
    return tmp_path, content


def test_learn2reg(learn2reg, by_time):
    """Pairs, splits, masks and keypoints are taken over; keypoints in voxels become LPS mm by the image's geometry."""
    root, _ = learn2reg
    rows = by_time(prepare("learn2reg", root, **NO_MASKS))
    splits = {key: row.split for key, row in rows.items()}
    assert splits == {
        ("NLST_0001", 0.0): "train", ("NLST_0001", 1.0): "train", ("NLST_0002", 0.0): "val",
        ("NLST_0002", 1.0): "val", ("NLST_0009", 0.0): "test",
    }  # fmt: skip
    row = rows["NLST_0001", 1.0]
    assert row.mask.parent.name == "masksTr"
    assert rows["NLST_0009", 0.0].mask is None
    grid = grid_of(read_image(row.image))
    found = read_points(row.landmarks).points
    assert found == pytest.approx(grid.points(np.array([[0, 0, 0], [27, 23, 11], [1.5, 2.0, 3.0]])), abs=1e-3)
    assert all(r.landmarks is None for r in prepare("learn2reg", root, keypoints=False, **NO_MASKS).rows)


def test_learn2reg_other_direction(learn2reg):
    """Where the JSON fixes the later image, that one becomes the manifest's baseline."""
    root, content = learn2reg
    for key in ("training_paired_images", "registration_val"):
        content[key] = [{"fixed": pair["moving"], "moving": pair["fixed"]} for pair in content[key]]
    (root / "NLST_dataset.json").write_text(json.dumps(content))
    manifest = prepare("learn2reg", root, **NO_MASKS)
    fixed, moving = manifest.pairs("train")[0]
    assert fixed.image.name == "NLST_0001_0001.nii.gz"
    assert moving.image.name == "NLST_0001_0000.nii.gz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numTraining": 5}, "promises 5 training images and lists 4"),
        ({"tensorImageShape": {"0": [28, 24, 13]}}, "which the dataset JSON does not say"),
        ({"training": [{"image": "./imagesTr/scan.nii.gz"}], "numTraining": 1}, "imagesTr/scan.nii.gz"),
        ({"training": []}, "lists no training image"),
        ({"registration_val": [{"fixed": "a"}]}, "'registration_val' in the dataset JSON is no list"),
    ],
)
def test_learn2reg_contradictions(learn2reg, change, message):
    """Counts, shapes and names that do not agree with the JSON are told."""
    root, content = learn2reg
    (root / "NLST_dataset.json").write_text(json.dumps(content | change))
    with pytest.raises(BadInput, match=message):
        prepare("learn2reg", root, **NO_MASKS)


def test_learn2reg_incomplete(learn2reg):
    """A mask that the JSON names, keypoints outside their image, and a second JSON are told."""
    root, _ = learn2reg
    (root / "keypointsTr" / "NLST_0001_0001.csv").write_text("28,0,0\n" * 3)
    with pytest.raises(BadInput, match="keypoints do not lie in their image"):
        prepare("learn2reg", root, **NO_MASKS)
    (root / "keypointsTr" / "NLST_0001_0001.csv").write_text("2,0,0\n")
    with pytest.raises(BadInput, match="NLST_0001 have different numbers of keypoints"):
        prepare("learn2reg", root, **NO_MASKS)
    (root / "masksTr" / "NLST_0002_0001.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"NLST_0002_0001\.nii\.gz: is named by the dataset JSON and missing"):
        prepare("learn2reg", root, **NO_MASKS)
    (root / "X_dataset.json").write_text("{}")
    with pytest.raises(BadInput, match="has 2 files"):
        prepare("learn2reg", root, **NO_MASKS)
