"""`lungrecovery rigid` and `register --task brain`: what they leave, what they say, what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from abdomens import mean_error_mm, small_abdomen
from brains import small_brains
from LungRecoveryLib.cli.application import app
from LungRecoveryLib.images import write_image
from LungRecoveryLib.registration.motion6 import matrix_4x4

QUICK = ["--spacing", "4.0", "--threads", "1"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with the scans and livers of a small abdomen, and two brains with labels."""
    folder = tmp_path_factory.mktemp("rigid")
    for scan in small_abdomen():
        write_image(scan.ct, folder / f"{scan.phase}.nii.gz")
        write_image(scan.liver, folder / f"{scan.phase}_liver.nii.gz")
    for name, brain in zip("ab", small_brains(), strict=True):
        write_image(brain.image, folder / f"brain_{name}.nii.gz")
        write_image(brain.labels, folder / f"labels_{name}.nii.gz")
    return folder


def rigid(folder: Path, output: Path, *options: str, moving: str = "arterial.nii.gz"):
    words = ["rigid", "--fixed", str(folder / "venous.nii.gz"), "--moving", str(folder / moving)]
    return CliRunner().invoke(app, [*words, "--output", str(output), *QUICK, *options])


def masks(folder: Path) -> list[str]:
    return [w for which, phase in (("fixed", "venous"), ("moving", "arterial"))
            for w in (f"--{which}-mask", str(folder / f"{phase}_liver.nii.gz"))]  # fmt: skip


def test_leaves_the_transform_its_matrices_the_warped_scan_and_the_parameters(files, tmp_path):
    venous, arterial = small_abdomen()
    done = rigid(files, tmp_path / "out", *masks(files), "--json")
    assert done.exit_code == 0, done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "transform.tfm", "matrix_lps.txt", "matrix_ras.txt", "warped.nii.gz", "rigid.json", "overlay.png",
    }  # fmt: skip
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.tfm"))
    assert mean_error_mm(transform, arterial.from_body, venous.liver) < 0.6
    found = json.loads((tmp_path / "out" / "rigid.json").read_text(encoding="utf-8"))
    again = sitk.Euler3DTransform(found["centre_mm"], *np.radians(found["rotation_degrees"]), found["translation_mm"])
    assert np.allclose(matrix_4x4(again), matrix_4x4(transform), atol=1e-6)
    lps, ras = (np.loadtxt(tmp_path / "out" / f"matrix_{frame}.txt") for frame in ("lps", "ras"))
    assert np.allclose(lps, matrix_4x4(transform), atol=1e-6)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ lps @ np.diag([-1, -1, 1, 1]), ras)
    assert abs(found["determinant"] - 1) < 1e-6
    warped = sitk.ReadImage(str(tmp_path / "out" / "warped.nii.gz"))
    assert warped.GetSize() == venous.ct.GetSize()
    assert json.loads(done.stdout)["rotation_degrees"] == found["rotation_degrees"]


def test_a_short_scan_is_reported_and_cropped_or_skipped(files, tmp_path):
    cropped = rigid(files, tmp_path / "crop", *masks(files), "--roi-mm", "400")
    assert cropped.exit_code == 0, cropped.output
    assert "of the 400 mm asked for: the scan ends there" in cropped.stderr
    assert json.loads((tmp_path / "crop" / "rigid.json").read_text(encoding="utf-8"))["organ"]["fixed"]["short"]
    skipped = rigid(files, tmp_path / "skip", *masks(files), "--roi-mm", "400", "--short", "skip")
    assert skipped.exit_code == 0, skipped.output
    assert "venous.nii.gz: skipped" in skipped.stderr
    assert not (tmp_path / "skip").exists()


def test_a_matrix_of_an_affine_estimate_is_a_start(files, tmp_path):
    venous, arterial = small_abdomen()
    estimate = matrix_4x4(arterial.from_body) @ np.diag([1.06, 0.97, 1.02, 1.0])
    np.savetxt(tmp_path / "estimate.txt", estimate)
    given = ["--initial", str(tmp_path / "estimate.txt"), "--roi-slices", "20"]
    done = rigid(files, tmp_path / "out", *masks(files), *given)
    assert done.exit_code == 0, done.output
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.tfm"))
    assert mean_error_mm(transform, arterial.from_body, venous.liver) < 0.8


def test_bad_input_is_one_sentence_and_leaves_nothing(files, tmp_path):
    write_image(small_abdomen()[0].liver * 0, tmp_path / "empty.nii.gz")
    flat = sitk.JoinSeries([sitk.Image([20, 20, 20], sitk.sitkInt16)] * 2)
    sitk.WriteImage(flat, str(tmp_path / "4d.nii.gz"))
    (tmp_path / "words.txt").write_text("no matrix", encoding="utf-8")
    cases = {
        "empty": ["--fixed-mask", str(tmp_path / "empty.nii.gz")],
        "4D": ["--moving", str(tmp_path / "4d.nii.gz")],
        "words.txt: cannot be read": ["--initial", str(tmp_path / "words.txt")],
        "--short keep": ["--short", "keep"],
        "no metric 'sad'": ["--metric", "sad"],
        "alone needs a network": ["--network-only", "--weights", "none"],
    }
    for said, options in cases.items():
        done = rigid(files, tmp_path / "out", *options)
        assert done.exit_code == 2, (options, done.output)
        assert said in done.stderr, options
        assert len(done.stderr.strip().splitlines()[-1]) < 300
        assert not (tmp_path / "out").exists()


def brain(folder: Path, output: Path, *options: str):
    words = ["register", "--task", "brain", "--fixed", str(folder / "brain_a.nii.gz")]
    words += ["--moving", str(folder / "brain_b.nii.gz"), "--output", str(output)]
    return CliRunner().invoke(app, [*words, "--preset", "fast", "--spacing", "3", "--threads", "1", *options])


def test_brains_are_registered_with_dice_before_and_after(files, tmp_path):
    labels = sitk.ReadImage(str(files / "labels_b.nii.gz"))
    labels[24, 30, 26] = 77
    sitk.WriteImage(labels, str(tmp_path / "more.nii.gz"))
    given = ["--fixed-labels", str(files / "labels_a.nii.gz"), "--moving-labels", str(tmp_path / "more.nii.gz")]
    done = brain(files, tmp_path / "pair", *given)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "pair" / "registration.json").read_text(encoding="utf-8"))
    assert found["labels"]["after"]["mean_dice"] > 0.85 > found["labels"]["before"]["mean_dice"]
    assert "labels that only the moving map has are not scored: 77" in done.stderr
    assert {p.name for p in (tmp_path / "pair").iterdir()} == {
        "transform.h5", "inverse_transform.h5", "jacobian.nii.gz", "warped.nii.gz", "registration.json",
        "labels_warped.nii.gz", "overlay.png",
    }  # fmt: skip
    measured = CliRunner().invoke(app, ["evaluate", "--transform", str(tmp_path / "pair"), *given, "--json"])
    assert json.loads(measured.stdout)["labels"]["mean_dice"] == pytest.approx(found["labels"]["after"]["mean_dice"])


def test_options_of_lungs_and_brains_are_told_apart(files, tmp_path):
    label = str(files / "labels_a.nii.gz")
    for options, said in (
        (["--fixed-lungs", label], "are for lungs"),
        (["--fixed-labels", label], "give both"),
        (["--task", "liver"], "use lung or brain"),
        (["--task", "lung", "--fixed-labels", label], "need --task brain"),
    ):
        done = brain(files, tmp_path / "pair", *options)
        assert done.exit_code == 2, done.output
        assert said in done.stderr
        assert not (tmp_path / "pair").exists()
