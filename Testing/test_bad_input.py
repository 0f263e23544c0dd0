"""Whatever is wrong with the input: one sentence that names it and the remedy, exit code 2, and no output directory.

Every case goes through the command line from end to end; none may reach the registration.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.grids import Grid, grid_of, to_array, to_image

GRID = Grid((28, 24, 12), (12.0, 12.0, 20.0), (-168.0, -144.0, -120.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture(autouse=True)
def no_slow_work(monkeypatch):
    """Bad input must be found before a registration starts."""

    def refuse(*args, **kwargs):
        raise AssertionError("a registration was started")

    monkeypatch.setattr("LungRecoveryLib.pairs.register", refuse)


@pytest.fixture
def scan(tmp_path, chest) -> Path:
    """A scan that can be used."""
    return write(tmp_path / "in" / "good.mha", chest)


@pytest.fixture
def refused(tmp_path):
    """Run `lungrecovery` with these arguments and require a refusal with these words."""

    def run(*arguments: object, words: tuple[str, ...], command: str = "analyze") -> str:
        before = listing(tmp_path)
        output = ["--output", str(tmp_path / "out")]
        result = CliRunner().invoke(app, [command, *map(str, arguments), *output])
        assert result.exit_code == 2, (result.output, result.exception)
        lines = [line for line in result.stderr.splitlines() if line and not line.startswith("[")]
        assert len(lines) == 1, f"not one sentence: {lines}"
        for word in words:
            assert word in lines[0], f"{word!r} is not in: {lines[0]}"
        assert len(lines[0]) < 400
        assert "Traceback" not in result.output
        assert listing(tmp_path) == before, "something was left behind"
        return lines[0]

    return run


def write(path: Path, array: np.ndarray, grid: Grid = GRID) -> Path:
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(to_image(array, grid), str(path))
    return path


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_a_missing_path(scan, refused):
    """A path that leads nowhere is named."""
    refused(scan, "nowhere.mha", words=("nowhere.mha", "does not exist"))
    refused(scan, scan, "--lungs", "baseline=nowhere.mha", words=("nowhere.mha", "does not exist"))
    refused(scan, scan, "--landmarks", "follow-up 1=nowhere.csv", words=("nowhere.csv", "does not exist"))


def test_an_empty_path(tmp_path, scan, refused):
    """No path, an empty file and an empty folder."""
    empty_file, empty_folder = tmp_path / "in" / "empty.mha", tmp_path / "in" / "folder"
    empty_file.touch()
    empty_folder.mkdir()
    refused(scan, "", words=("empty",))
    refused(scan, empty_file, words=("empty.mha", "empty file"))
    refused(scan, empty_folder, words=("folder", "empty folder"))
    refused(scan, words=("fewer than two scans",))
    refused(words=("no scans", "--job"))


def test_not_an_image(tmp_path, scan, refused):
    """A text file, and a folder without DICOM."""
    text = tmp_path / "in" / "notes.mha"
    text.write_text("the patient feels better")
    folder = tmp_path / "in" / "documents"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear colleague")
    refused(scan, text, words=("notes.mha", "cannot be read as an image"))
    refused(scan, folder, words=("documents", "DICOM"))


def test_a_2d_image(tmp_path, chest, scan, refused):
    """A picture, and a single slice."""
    picture = tmp_path / "in" / "slice.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8), np.uint8)), str(picture))
    single = write(tmp_path / "in" / "single.mha", chest[:1], Grid((28, 24, 1), *vars_of(GRID)))
    refused(scan, picture, words=("slice.png", "2D image"))
    refused(scan, single, words=("single.mha", "2D image"))


def vars_of(grid: Grid) -> tuple:
    return grid.spacing, grid.origin, grid.direction


def test_dicom_with_missing_or_duplicated_slices(tmp_path, chest, scan, write_series, refused):
    """A gap and a double are counted."""
    positions = [2.5 * i for i in range(len(chest))]
    gap = [p + (5.0 if i > 5 else 0.0) for i, p in enumerate(positions)]
    write_series(tmp_path / "in" / "gap", chest, positions=gap)
    write_series(tmp_path / "in" / "double", chest, positions=[*positions[:6], *positions[5:-1]])
    refused(scan, tmp_path / "in" / "gap", words=("gap", "missing slices"))
    refused(scan, tmp_path / "in" / "double", words=("double", "duplicated slice"))


def test_dicom_of_several_patients(tmp_path, chest, scan, write_series, refused):
    """Two people in one folder."""
    for patient in ("P1", "P2"):
        write_series(tmp_path / "in" / "mixed" / patient, chest, PatientID=patient)
    line = refused(scan, tmp_path / "in" / "mixed", words=("mixed", "2 patients"))
    assert "P1" not in line


def test_different_patients_across_dates(tmp_path, chest, write_series, refused):
    """The IDs differ between the scans: refused, with the option that allows it, and without the IDs."""
    folders = [tmp_path / "in" / name for name in ("first", "second")]
    for folder, patient in zip(folders, ("MILLER", "SMITH"), strict=True):
        write_series(folder, chest, PatientID=patient)
    line = refused(*folders, words=("second", "--allow-different-patients"))
    assert "MILLER" not in line
    assert "SMITH" not in line


def test_a_scan_that_is_not_hu(tmp_path, chest, scan, refused):
    """No air at all, and a rescale that was not applied."""
    no_air = write(tmp_path / "in" / "brain.mha", np.abs(chest) % 200)
    shifted = write(tmp_path / "in" / "raw.mha", (chest + 1024).astype(np.int16))
    refused(scan, no_air, words=("brain.mha", "Hounsfield"))
    refused(scan, shifted, words=("raw.mha", "Hounsfield"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(tmp_path, chest, scan, refused, value):
    """NaN and infinity."""
    broken = chest.astype(np.float32)
    broken[3, 4, 5] = value
    refused(scan, write(tmp_path / "in" / "broken.mha", broken), words=("broken.mha", "NaN or infinite"))


def test_no_lung_in_the_field(tmp_path, refused):
    """A body of soft tissue in air, as an abdomen is."""
    _, y, x = np.mgrid[:40, :60, :70]
    body = np.where(((x - 35) / 30) ** 2 + ((y - 30) / 24) ** 2 < 1, 50, -1000).astype(np.int16)
    body += np.random.default_rng(0).integers(-10, 10, body.shape, np.int16)
    grid = Grid((70, 60, 40), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0), GRID.direction)
    paths = [write(tmp_path / "in" / name, body, grid) for name in ("a.mha", "b.mha")]
    refused(*paths, words=("a.mha", "no lung"))
    refused("--fixed", paths[0], "--moving", paths[1], command="register", words=("a.mha", "no lung"))


def test_a_mask_that_does_not_lie_on_its_scan(tmp_path, chest, scan, refused):
    """A mask elsewhere in space, an empty one, and one that is no mask."""
    mask = (chest < -500).astype(np.uint8)
    elsewhere = Grid(GRID.size, GRID.spacing, (5000.0, 0.0, 0.0), GRID.direction)
    for name, array, grid, words in (
        ("far.mha", mask, elsewhere, "does not overlap"),
        ("none.mha", mask * 0, GRID, "empty"),
        ("ct.mha", chest, GRID, "not a mask"),
    ):
        path = write(tmp_path / "in" / name, array, grid)
        refused(scan, scan, "--lungs", f"baseline={path}", words=(name, words))
        refused("--fixed", scan, "--moving", scan, "--fixed-lungs", path, command="register", words=(name, words))


def test_crops_that_show_different_lungs(tmp_path, small_patient, refused):
    """The right lung of one date and the left lung of another, cut out of whole chests."""
    visits = small_patient.visits[:2]
    half = grid_of(visits[0].ct).size[0] // 2
    crops = {"right.mha": visits[0].ct[:half], "left.mha": visits[1].ct[half:]}
    paths = []
    for name, image in crops.items():
        paths.append(tmp_path / name)
        sitk.WriteImage(image, str(paths[-1]))
    refused(*paths, words=("left.mha", "right.mha", "same lung"))
    masks = []
    for name, image in {"m1.mha": visits[0].lungs[:half], "m2.mha": visits[1].lungs[half:]}.items():
        masks.append(tmp_path / name)
        binary = to_image((to_array(image) > 0).astype(np.uint8), image)
        sitk.WriteImage(binary, str(masks[-1]))
    lungs = ("--lungs", f"baseline={masks[0]}", "--lungs", f"follow-up 1={masks[1]}")
    refused(*paths, *lungs, words=("left.mha", "right.mha", "same lung"))


def test_output_that_cannot_be_written_or_exists(tmp_path, scan):
    """A file in the way, a folder that is not ours, a parent that refuses; nothing of it is touched."""
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("precious")
    file = tmp_path / "file"
    file.write_text("precious")
    for output, words in ((taken, "--overwrite"), (file, "is a file"), (file / "below", "cannot be created")):
        result = CliRunner().invoke(app, ["analyze", str(scan), str(scan), "--output", str(output)])
        assert result.exit_code == 2
        assert words in result.stderr
        assert str(output) in result.stderr
    result = CliRunner().invoke(app, ["analyze", str(scan), str(scan), "--output", str(taken), "--overwrite"])
    assert result.exit_code == 2
    assert "not overwritten" in result.stderr
    assert (taken / "thesis.txt").read_text() == file.read_text() == "precious"
    assert not list(tmp_path.glob(".*"))


def test_days_that_contradict_the_dates(tmp_path, chest, scan, write_series, refused):
    """Given days against DICOM dates, too few days, and days before the baseline's."""
    folders = [tmp_path / "in" / name for name in ("first", "second")]
    for folder, day in zip(folders, ("20200305", "20200404"), strict=True):
        write_series(folder, chest, AcquisitionDate=day)
    line = refused(*folders, "--days", 0, 90, words=("second", "30 days after first", "--days says 90"))
    assert "2020" not in line
    refused(scan, scan, "--days", 0, words=("--days", "1 days for 2 scans"))
    refused(scan, scan, "--days", 30, 0, words=("earliest",))
    refused(f"x={folders[1]}", f"baseline={folders[0]}", words=("first", "is not the first scan"))
    refused(f"baseline={folders[1]}", f"x={folders[0]}", words=("second", "dated after first"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "best"], "preset"),
        (["--device", "gpu"], "device"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--bands", "x=1"], "--bands"),
        (["--bands", "x=5:1"], "lower first"),
        (["--quality", "nothing=1"], "fail_dice"),
        (["--score", "complete"], "--score"),
        (["--lungs", "mask.mha"], "--lungs"),
        (["--series", "a=1", "--series", "b"], "--series"),
        (["--job", "nowhere.json"], "nowhere.json"),
    ],
)
def test_options_that_make_no_sense(scan, refused, options, words):
    """A wrong option is named."""
    refused(scan, scan, *options, words=(words,))


def test_a_job_file_that_is_wrong(tmp_path, scan, refused):
    """The key that is wrong is named, whoever reads the job."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"timepoints": [{"path": str(scan)}] * 2, "output": "out", "presets": "fast"}))
    refused("--job", job, words=("job.json", "presets"))
