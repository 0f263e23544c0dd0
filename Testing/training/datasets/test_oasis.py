"""OASIS by Neurite, imitated: brains that pair with one another, with labels."""

import numpy as np
import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.images import write_image
from LungRecoveryTrainingLib.datasets import prepare


@pytest.fixture
def oasis(tmp_path):
    """Four subjects of OASIS with both segmentations."""
    grid = Grid((16, 19, 22), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 0, 0, 0, 0, 1.0, 0, -1.0, 0))
    names = [f"OASIS_OAS1_{i:04d}_MR1" for i in range(1, 5)]
    for name in names:
        labels = np.zeros(grid.shape, np.float32)
        labels[5:15, 5:15, 5:12] = 17.0
        for file, array in (("norm", labels / 20), ("seg4", np.minimum(labels, 2)), ("seg35", labels)):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(to_image(array, grid), tmp_path / name / f"aligned_{file}.nii.gz")
    (tmp_path / "subjects.txt").write_text("\n".join(names) + "\n")
    return tmp_path


def test_oasis(oasis):
    """Subjects pair with one another, with the brain as mask and the labels that were asked for."""
    manifest = prepare("oasis", oasis)
    assert {row.labels.name for row in manifest.rows} == {"aligned_seg35.nii.gz"}
    assert {row.mask.name for row in manifest.rows} == {"aligned_seg4.nii.gz"}
    assert [row.split for row in manifest.rows].count("train") == 2
    assert len(manifest.pairs("train", "subjects")) == 1
    assert prepare("oasis", oasis, labels=4).rows[0].labels.name == "aligned_seg4.nii.gz"


def test_oasis_incomplete(oasis):
    """Subjects of subjects.txt that are missing, another grid, another number of labels and a missing list are told."""
    other = Grid((16, 19, 21), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    path = oasis / "OASIS_OAS1_0003_MR1" / "aligned_seg35.nii.gz"
    write_image(to_image(np.ones(other.shape, np.float32), other), path)
    with pytest.raises(BadInput, match=r"OASIS_OAS1_0003_MR1/aligned_seg35.nii.gz: does not lie on the grid"):
        prepare("oasis", oasis)
    path.unlink()
    with pytest.raises(BadInput, match=r"1 of 12 files are missing: OASIS_OAS1_0003_MR1/aligned_seg35.nii.gz"):
        prepare("oasis", oasis)
    with pytest.raises(BadInput, match="with 5 labels; choose 4 or 35"):
        prepare("oasis", oasis, labels=5)
    (oasis / "subjects.txt").unlink()
    with pytest.raises(BadInput, match=r"subjects.txt: is missing"):
        prepare("oasis", oasis)
