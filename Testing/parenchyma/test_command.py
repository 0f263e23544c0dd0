"""`lungrecovery enhance`: files, numbers, and refusals that leave nothing."""

import json

import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.images import write_image


def run(*arguments):
    return CliRunner().invoke(app, ["enhance", *(str(a) for a in arguments)])


@pytest.fixture(scope="module")
def files(chest, balls_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("enhance")
    lesion = balls_in(chest, [(-60, 20, 5), (58, 5, 10)], 15.0)
    write_image(chest.scan(20.0 * lesion, offset=10.0), folder / "ct.mha")
    for name in ("lungs", "airways", "vessels"):
        write_image(chest.image(name), folder / f"{name}.mha")
    return folder


def masks(files):
    return [a for n in ("lungs", "airways", "vessels") for a in (f"--{n}", files / f"{n}.mha")]


def test_it_writes_the_image_and_tells_the_numbers(files, chest, tmp_path):
    out, found = tmp_path / "enhanced.nii.gz", tmp_path / "lesions.nii.gz"
    done = run(files / "ct.mha", "--output", out, "--lesions", found, "--json", *masks(files))
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["baseline"]["level_hu"] == pytest.approx(-840, abs=5)
    assert content["calibration"]["air_hu"] == pytest.approx(-988, abs=6)
    assert content["lesions"]["subtle_percent"] == pytest.approx(100 * 2 * 14.1 / content["volume_ml"], rel=0.4)
    assert content["lesions"]["subtle_mean_excess_hu"] == pytest.approx(20, abs=6)
    image = sitk.ReadImage(str(out))
    assert image.GetSize() == chest.grid.size
    assert sitk.ReadImage(str(found)).GetPixelID() == sitk.sitkUInt8


def test_numbers_for_people(files, tmp_path):
    done = run(files / "ct.mha", "--output", tmp_path / "e.nrrd", *masks(files))
    assert done.exit_code == 0, done.output
    assert "healthy parenchyma HU" in done.stdout
    assert "seen only after enhancement" in done.stdout


def test_refusals_leave_nothing(files, tmp_path):
    (tmp_path / "there.nii.gz").write_bytes(b"mine")
    for arguments, words in (
        ((files / "ct.mha", "--output", tmp_path / "there.nii.gz"), "exists already"),
        ((files / "ct.mha", "--output", tmp_path / "e.png"), "ends in .nii.gz"),
        ((files / "none.mha", "--output", tmp_path / "e.nii.gz"), "none.mha"),
        ((files / "ct.mha", "--output", tmp_path / "e.nii.gz", "--vessels", tmp_path / "no.mha"), "does not exist"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert words in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["there.nii.gz"]
