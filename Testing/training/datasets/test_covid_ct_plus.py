"""COVID-CT+, imitated: single slices give density histograms and nothing else."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import prepare, read_manifest
from LungRecoveryTrainingLib.datasets.covid_ct_plus import EDGES


def slice_picture(value: float) -> np.ndarray:
    """A slice of 96x96 in HU: two lungs of `value` in a body in air."""
    y, x = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96), indexing="ij")
    hu = np.where(x**2 / 0.8 + y**2 / 0.6 < 1, 40.0, -1000.0)
    hu[(np.abs(x) - 0.4) ** 2 / 0.08 + y**2 / 0.25 < 1] = value
    return hu


@pytest.fixture
def slices(tmp_path):
    """Ten slices of one patient with dense lungs as 8-bit pictures, and of a healthy one as 16-bit."""
    for number in range(10):
        for name, value in (("COVID/p1", -500.0), ("normal/p2", -850.0)):
            folder = tmp_path / name
            folder.mkdir(parents=True, exist_ok=True)
            hu = slice_picture(value)
            if name.startswith("COVID"):
                grey = np.clip(np.rint((hu + 1350.0) / 1500.0 * 255.0), 0, 255).astype(np.uint8)
                sitk.WriteImage(sitk.GetImageFromArray(grey), str(folder / f"{number}.png"))
            else:
                sitk.WriteImage(sitk.GetImageFromArray(hu.astype(np.int16)), str(folder / f"{number}.tif"))
    return tmp_path


def test_covid_ct_plus(slices):
    """Slices give histograms of the lungs' density, and no row: they cannot be registered."""
    manifest = prepare("covid-ct-plus", slices)
    assert manifest.rows == ()
    with pytest.raises(BadInput, match="single slices"):
        read_manifest(manifest.path)
    content = json.loads((slices / "density_histograms.json").read_text())
    assert "cannot be registered" in content["use"]
    centres = EDGES[:-1] + 12.5
    for name, value in (("COVID", -500.0), ("normal", -850.0)):
        found = content["classes"][name]
        assert (found["patients"], found["slices"]) == (1, 10)
        assert found["pixels"] == 10 * int((slice_picture(value) == value).sum())
        assert sum(found["shares"]) == pytest.approx(1.0, abs=1e-4)
        assert centres[np.argmax(found["shares"])] == pytest.approx(value, abs=13)


def test_covid_ct_plus_incomplete(slices):
    """Too few slices, a class without patients, an impossible window and pictures without lungs are told."""
    with pytest.raises(BadInput, match="window from 0 to 0 HU is empty"):
        prepare("covid-ct-plus", slices, window=(0.0, 0.0))
    with pytest.raises(BadInput, match="no lung is seen in the slices of COVID"):
        prepare("covid-ct-plus", slices, window=(0.0, 255.0))
    (slices / "COVID" / "p1" / "3.png").unlink()
    with pytest.raises(BadInput, match="fewer than 10 slices of p1"):
        prepare("covid-ct-plus", slices)
    (slices / "other").mkdir()
    with pytest.raises(BadInput, match="other: has no folder of a patient"):
        prepare("covid-ct-plus", slices)
