"""The command line as its users and other programs meet it; bad input has its own file."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.cli.common import spread_numbers
from LungRecoveryLib.cli.display import shown_progress
from LungRecoveryLib.errors import BadInput, Cancelled, MissingDependency, OutOfMemory
from LungRecoveryLib.grids import grid_of, to_array

COMMANDS = tuple(command.name for command in app.registered_commands)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    """The example is a whole line that can be copied, and its options exist."""
    result = run(command, "--help")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    example = lines[lines.index("Example:") + 1]
    assert example.startswith(f"lungrecovery {command}")
    for word in example.split():
        if word.startswith("--"):
            assert any(line.startswith(word) for line in lines), word
    assert ("--json" in result.stdout) != (command == "view")  # which shows and prints an address


def test_only_the_commands_that_exist_are_offered():
    """The help lists every command once; any other word is a wrong call."""
    listed = run("--help").stdout.split("Commands:")[1]
    names = [line.split()[0] for line in listed.split("\n\n")[0].splitlines() if line.strip()]
    assert names == [*COMMANDS]
    assert {"demo", "analyze", "register", "evaluate", "segment", "phantom", "send", "info"} <= set(names)
    assert run("diagnose").exit_code == 2


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        (["a", "--days", "0", "30", "90"], ["a", "--days", "0", "--days", "30", "--days", "90"]),
        (["--days", "0", "30", "a", "b"], ["--days", "0", "--days", "30", "a", "b"]),
        (["--days", "0,30.5", "--json"], ["--days", "0", "--days", "30.5", "--json"]),
        (["--days=0,30", "90"], ["--days", "0", "--days", "30", "--days", "90"]),
        (["--days", "0", "--days", "30"], ["--days", "0", "--days", "30"]),
        (["--days", "-3", "--seed", "5"], ["--days", "-3", "--seed", "5"]),
        (["--days", "soon"], ["--days", "soon"]),
        (["--days"], ["--days"]),
        (["--", "--days", "1"], ["--", "--days", "1"]),
    ],
)
def test_days_may_stand_in_a_row(given, spread):
    """--days takes the numbers that follow it and nothing else."""
    assert spread_numbers(given, "--days") == spread


def test_a_failed_gate_keeps_the_results_and_ends_with_6(strict_run):
    """Machine output on standard output, progress and the sentence on standard error, exit code 6."""
    result, folder = strict_run
    assert result.exit_code == 6
    content = json.loads(result.stdout)
    assert content["output"] == str(folder)
    assert content["reliable"] is False
    assert Path(content["report"]).is_file()
    assert [t["label"] for t in content["timepoints"]] == ["baseline", "follow-up 1"]
    assert content["timepoints"][1]["verdict"] == "fail"
    progress = [line for line in result.stderr.splitlines() if line.startswith("[")]
    percents = [int(line[1:4]) for line in progress]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert any("follow-up 1" in line and "left)" in line for line in progress)
    assert "failed its quality gate" in result.stderr
    assert "follow-up 1" in result.stderr.splitlines()[-1]


def test_a_job_file_is_analysed_and_options_override_it(small_job, tmp_path, monkeypatch):
    """--job takes everything from the file; what is also given as an option wins."""
    taken = []

    def analyze(job, progress):
        taken.append(job)
        raise Cancelled("enough")

    monkeypatch.setattr("LungRecoveryLib.study.analyze", analyze)
    file = tmp_path / "job.json"
    file.write_text(json.dumps({**small_job, "output": "out"}), encoding="utf-8")
    changes = ("--seed", 5, "--score", "complete=0.9", "--bands", "low=-1024:-900,high=-900:100", "--native-maps")
    assert run("analyze", "--job", file, *changes).exit_code == 5
    (job,) = taken
    assert job.output == tmp_path / "out"
    assert (job.seed, job.native_maps, job.preset) == (5, True, "fast")
    assert job.score_thresholds.complete == 0.9
    assert [(band.name, band.low, band.high) for band in job.bands] == [("low", -1024, -900), ("high", -900, 100)]
    assert [t.label for t in job.timepoints] == [None, None, "Kontrolle"]
    assert [t.days for t in job.timepoints] == [0, 30, 90]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("x"), 2),
        (MissingDependency("x"), 3),
        (OutOfMemory("x"), 4),
        (MemoryError(), 4),
        (Cancelled("x"), 5),
        (KeyboardInterrupt(), 5),
        (KeyError("x"), 1),
    ],
)
def test_exit_codes(tmp_path, monkeypatch, error, code):
    """Every kind of failure has its code, one sentence on standard error, and JSON for programs where asked."""

    def fail(job, progress):
        raise error

    monkeypatch.setattr("LungRecoveryLib.study.analyze", fail)
    result = run("analyze", "a.mha", "b.mha", "--output", tmp_path / "out", "--json")
    assert result.exit_code == code
    assert len(result.stderr.strip().splitlines()) == 1
    assert json.loads(result.stdout)["error"]["code"] == code
    if code == 1:
        assert "LUNGRECOVERY_TRACE=1" in result.stderr
        monkeypatch.setenv("LUNGRECOVERY_TRACE", "1")
        assert "Traceback" in run("analyze", "a.mha", "b.mha", "--output", tmp_path / "out").stderr


def test_without_its_packages_the_command_line_says_what_to_install():
    """A plain `pip install lungrecovery` has no typer: exit code 3 and the command that brings it."""
    code = "import sys; sys.modules['typer'] = None; from LungRecoveryLib.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment())
    assert result.returncode == 3
    assert "pip install 'lungrecovery[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that only one process gets")
def test_ctrl_c_ends_with_5_and_leaves_nothing(tmp_path):
    """In the middle of the demo: one sentence, exit code 5, and not even a hidden folder."""
    command = [
        sys.executable,
        "-m",
        "LungRecoveryLib.cli",
        "demo",
        "--output",
        str(tmp_path / "demo"),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env=environment())
    for line in process.stderr:
        if line.startswith("["):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    assert "Traceback" not in err
    assert "stopped on request" in err
    assert not list(tmp_path.iterdir())


def test_plain_progress_is_a_line_for_each_stage_and_tenth(capsys):
    """Where standard error is no terminal nothing is drawn over, and repeated calls stay silent."""
    with shown_progress() as progress:
        for i in range(1001):
            progress("refine" if i < 500 else "report", i / 1000)
    lines = capsys.readouterr().err.splitlines()
    assert 11 <= len(lines) <= 13
    assert lines[0].startswith("[  0%] refine")
    assert any(line.startswith("[ 50%] report") for line in lines)


def test_info_tells_versions_devices_and_presets():
    """For people and for programs."""
    content = json.loads(run("info", "--json", "--threads", 1).stdout)
    assert {"lungrecovery", "python", "torch", "numpy", "SimpleITK"} <= set(content["versions"])
    assert content["presets"] == ["preview", "fast", "standard", "accurate"]
    assert "cpu" in content["devices"]
    assert content["threads"] == 1
    assert "not for diagnosis" in run("info").stdout
    assert run("--version").stdout.startswith("lungrecovery ")


def test_segment_writes_a_mask_once(small_scans, small_patient, tmp_path):
    """1 right and 2 left on the scan's grid; an existing file is only replaced when asked."""
    output = tmp_path / "lungs.nii.gz"
    result = run("segment", small_scans / "0.mha", "--output", output, "--json", "--threads", 1)
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    truth = to_array(small_patient.visits[0].lungs)
    mask = to_array(sitk.ReadImage(str(output)))
    voxel_ml = grid_of(small_patient.visits[0].lungs).voxel_ml
    for name, label in (("right", 1), ("left", 2)):
        found, true = mask == label, truth == label
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.93
        assert content["volume_ml"][name] == pytest.approx(found.sum() * voxel_ml)
    again = run("segment", small_scans / "0.mha", "--output", output)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run("segment", small_scans / "0.mha", "--output", tmp_path / "lungs.txt").exit_code == 2


def test_segment_writes_every_structure_into_a_folder(small_scans, small_patient, tmp_path):
    """Four masks with their volumes, lesions as the phantom has them, and no method that is not there."""
    folder = tmp_path / "masks"
    result = run("segment", small_scans / "0.mha", "--output", folder, "--json", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{n}.nii.gz" for n in ("airways", "lesions", "lungs", "vessels")
    ]
    baseline = small_patient.visits[0]
    found = sitk.ReadImage(str(folder / "lesions.nii.gz"))
    a, b = to_array(found) > 0, to_array(baseline.lesions) > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.75
    assert sum(content["volume_ml"]["lesions"].values()) == pytest.approx(a.sum() * grid_of(found).voxel_ml)
    assert set(content["absent"]) == {"lobes"}
    airways = to_array(sitk.ReadImage(str(folder / "airways.nii.gz"))) > 0
    assert airways[to_array(baseline.airways) > 0].mean() > 0.3
    other = run("segment", small_scans / "0.mha", "--output", tmp_path / "other", "--method", "magic")
    assert other.exit_code == 2
    assert "network" in other.stderr
    assert not (tmp_path / "other").exists()


def test_register_then_evaluate(small_scans, tmp_path):
    """The pair's folder holds the contract's files and its verdict; its landmarks and labels are measured."""
    pair = tmp_path / "pair"
    masks = ("--fixed-lungs", small_scans / "lungs0.mha", "--moving-lungs", small_scans / "lungs1.mha")
    scans = ("--fixed", small_scans / "0.mha", "--moving", small_scans / "1.mha")
    result = run("register", *scans, *masks, "--output", pair, "--preset", "fast", "--spacing", 3.5, "--json")
    assert result.exit_code == 0, result.stderr
    files = {"transform.h5", "inverse_transform.h5", "jacobian.nii.gz", "warped.nii.gz", "registration.json"}
    assert {path.name for path in pair.iterdir()} == files
    written = json.loads((pair / "registration.json").read_text(encoding="utf-8"))
    named = {"seconds", "folding_percent", "similarity_before", "similarity_after", "lung_dice", "settings", "versions"}
    assert named <= set(written)
    assert written["quality"]["verdict"] in ("pass", "review")
    assert json.loads(result.stdout)["quality"] == written["quality"]
    assert str(tmp_path) not in json.dumps(written)

    landmarks = ("--landmarks", small_scans / "landmarks1.csv", "--moving", small_scans / "1.mha")
    labels = ("--fixed-labels", small_scans / "lungs0.mha", "--moving-labels", small_scans / "lungs1.mha")
    measured = json.loads(run("evaluate", "--transform", pair, *landmarks, *labels, "--json").stdout)
    before = json.loads(run("evaluate", *landmarks, "--json").stdout)
    assert measured["landmarks"]["mean_mm"] < 0.6 * before["landmarks"]["mean_mm"]
    assert measured["landmarks"]["initial"]["mean_mm"] == pytest.approx(before["landmarks"]["mean_mm"])
    assert measured["landmarks"]["snapped"]["mean_mm"] > 0
    assert measured["labels"]["mean_dice"] > 0.9
    table = run("evaluate", "--transform", pair / "transform.h5", *landmarks, *labels).stdout
    assert "sub-voxel" in table
    assert "HD95" in table


def test_evaluate_says_what_is_missing(small_scans, tmp_path):
    """Half a question is bad input."""
    points = tmp_path / "points.csv"
    np.savetxt(points, np.zeros((2, 3)), delimiter=",")
    for arguments, words in (
        ((), "nothing to measure"),
        (("--fixed-landmarks", points), "--moving-landmarks"),
        (("--fixed-labels", small_scans / "lungs0.mha"), "--moving-labels"),
        (("--landmarks", points), "points.csv"),
        (("--transform", tmp_path, "--landmarks", small_scans / "landmarks1.csv"), "transform.h5"),
        (("--transform", points, "--landmarks", small_scans / "landmarks1.csv"), "points.csv"),
    ):
        result = run("evaluate", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr


def test_demo_prints_the_scores_beside_the_truth_and_replaces_itself(tmp_path):
    """A coarse demo from end to end: patient, study and report in one folder; a second demo takes its place."""
    output = tmp_path / "demo"
    arguments = ("demo", "--output", output, "--days", 0, 60, "--spacing", 4, "--preset", "fast", "--threads", 1)
    result = run(*arguments)
    assert result.exit_code in (0, 6), result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["scan", "volume", "ml"]
    assert [line.split("  ")[0] for line in lines[1:3]] == ["baseline", "day 60"]
    assert lines[3] == f"report: {output / 'report.html'}"
    assert (output / "report.html").is_file()
    assert len(list((output / "patient").glob("day-*.nii.gz"))) == 2
    (output / "patient" / "phantom.json").unlink()
    assert run(*arguments).exit_code == 2  # no longer a demo: never replaced unasked


def test_phantom_writes_a_patient(tmp_path):
    """Scans and truth of the days asked for; unknown kinds and falling days leave nothing."""
    output = tmp_path / "patient"
    result = run("phantom", "--output", output, "--days", 0, 45, "--spacing", 5, "--seed", 3, "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert [visit["days"] for visit in content["truth"]["visits"]] == [0, 45]
    about = json.loads((output / "phantom.json").read_text(encoding="utf-8"))
    assert (about["kind"], about["seed"]) == ("recovering", 3)
    for scan in about["scans"]:
        image = sitk.ReadImage(str(output / scan["path"]))
        assert image.GetSpacing() == pytest.approx((5.0, 5.0, 5.0))
    assert run("phantom", "--output", output).exit_code == 2
    assert run("phantom", "--output", output, "--days", 0, "--spacing", 8, "--overwrite").exit_code == 0
    for wrong in (("--kind", "happy"), ("--days", 30, 0)):
        result = run("phantom", "--output", tmp_path / "none", "--spacing", 8, *wrong)
        assert result.exit_code == 2
        assert not (tmp_path / "none").exists()
