"""A real chest as a sample: all of it is seen, and counts where it is known what is lung."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.images import read_image, write_image
from LungRecoveryTrainingLib.datasets import Row
from LungRecoveryTrainingLib.datasets.samples import make_sample

SIZE = (30, 40, 40)
OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def row(tmp_path) -> Row:
    """A chest far off and turned: a lung of 60 mm in tissue with a dense ball of 24 mm in one half of it."""
    grid = Grid((60, 60, 40), (2.0, 2.0, 3.0), (400.0, -300.0, -900.0), OBLIQUE)
    z, y, x = np.indices(grid.shape)
    lung = (np.abs(z - 20) < 10) & (np.abs(y - 30) < 15) & (np.abs(x - 30) < 15)
    dense = ((z - 20) * 3.0) ** 2 + ((y - 30) * 2.0) ** 2 + ((x - 22) * 2.0) ** 2 < 12.0**2
    hu = np.where(lung & ~dense, -850, 40).astype(np.int16)
    for name, array in (("ct", hu), ("lungs", lung.astype(np.uint8))):
        write_image(to_image(array, grid), tmp_path / f"{name}.nii.gz")
    return Row("real", 0.0, tmp_path / "ct.nii.gz", mask=tmp_path / "lungs.nii.gz")


def test_the_whole_chest_is_seen_and_counts_where_it_is_known(row):
    sample = make_sample(row, row, 4.0, SIZE, anatomy="whole_chest")
    image, lung, known = (sample[key] for key in ("fixed", "fixed_mask", "truth"))
    assert image.shape == lung.shape == known.shape == (1, *SIZE)
    assert image.dtype == torch.float32
    assert torch.equal(image, sample["moving"])
    assert lung.sum() * 64 == pytest.approx(58 * 58 * 57, rel=0.1)  # mm3
    inside, outside = lung > 0, (lung == 0) & (known > 0)
    assert 0.14 < image[inside & (known > 0)].mean() < 0.25
    assert (image[outside] > 0.9).float().mean() > 0.9  # tissue around the lung, none of it hidden
    dense = inside & (image > 0.9)
    assert dense.sum() * 64 > 3000
    assert not known[dense & (torch.nn.functional.avg_pool3d(lung.float(), 3, 1, 1) > 0.99)].any()
    assert known[inside].float().mean() > 0.4
    beyond = image < -0.01  # the scan ends, the sample does not
    assert 0.1 < beyond.float().mean() < 0.9
    assert not known[beyond].any()


def test_a_size_is_needed(row):
    with pytest.raises(BadInput, match="size"):
        make_sample(row, row, 4.0, None, anatomy="whole_chest")


def test_a_mask_without_lungs_is_refused(row, tmp_path):
    lungs = read_image(row.mask)
    write_image(lungs * 0, tmp_path / "none.nii.gz")
    with pytest.raises(BadInput, match="mask is empty"):
        make_sample(replace(row, mask=tmp_path / "none.nii.gz"), row, 4.0, SIZE, anatomy="whole_chest")
