"""The worker as a user interface runs it: a process of its own, JSON lines, cancelled by a signal."""

import json
import os
import signal
import subprocess
import sys

import pytest

from LungRecoveryLib import worker
from LungRecoveryLib.errors import BadInput, MissingDependency, OutOfMemory, QualityGateFailed


def start(module: str, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"LungRecoveryLib.{module}", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)


def numbers(folder) -> dict:
    """study.json without what a clock measured."""
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    del content["seconds"]
    for timepoint in content["timepoints"][1:]:
        del timepoint["registration"]["seconds"]
    return content


def test_the_worker_does_what_the_command_does(strict_job, strict_run, tmp_path):
    """Progress lines, then one result; and the same inputs, settings and seed gave the same numbers as the command."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({**strict_job, "output": "out"}), encoding="utf-8")
    process = start("worker", str(job))
    out, err = process.communicate(timeout=500)
    events = [json.loads(line) for line in out.splitlines()]
    *progress, last = events
    assert progress, err
    assert {event["event"] for event in progress} == {"progress"}
    assert all(set(event) == {"event", "stage", "fraction", "message"} for event in progress)
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.05
    assert fractions[-1] == 1
    assert len({event["stage"] for event in progress if event["stage"].startswith("follow-up 1: ")}) >= 3
    assert last == {"event": "result", "path": str(tmp_path / "out"), "code": 6, "reliable": False}
    assert process.returncode == QualityGateFailed.exit_code
    assert numbers(tmp_path / "out") == numbers(strict_run[1])
    for table in ("scores.csv", "regions.csv", "trajectory.csv"):
        assert (tmp_path / "out" / table).read_bytes() == (strict_run[1] / table).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_cancels_and_leaves_nothing(strict_job, tmp_path, number):
    """In the middle of a registration: exit code 5, an error event, and nothing on disk but the job file."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({**strict_job, "output": "deep/out", "spacing_mm": 2.0}), encoding="utf-8")
    process = start("worker", str(job))
    for line in process.stdout:
        if "refine" in json.loads(line).get("stage", ""):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=120)
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["code"]) == ("error", 5), err
    assert process.returncode == 5
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def run(capsys, *arguments: str) -> tuple[int, dict]:
    code = worker.main(list(arguments))
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_bad_input_is_an_error_event(capsys, tmp_path):
    """A missing job file, a job that names a missing scan, and a wrong call."""
    code, event = run(capsys, str(tmp_path / "none.json"))
    assert (code, event["code"], event["event"]) == (2, 2, "error")
    assert "none.json" in event["message"]
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"timepoints": [{"path": "a.mha"}, {"path": "b.mha"}], "output": "out"}))
    code, event = run(capsys, str(job))
    assert code == 2
    assert "a.mha" in event["message"]
    assert event["detail"] == ""
    assert not (tmp_path / "out").exists()
    assert run(capsys)[0] == 2


def test_a_bug_is_told_with_its_trace(capsys, tmp_path, monkeypatch):
    """Exit code 1; the message is short, the detail holds what a developer needs."""

    def broken(path):
        raise KeyError("lungs")

    monkeypatch.setattr("LungRecoveryLib.job.read_job_file", broken)
    code, event = run(capsys, str(tmp_path / "job.json"))
    assert (code, event["code"]) == (1, 1)
    assert "KeyError" in event["message"]
    assert worker.TRACE_VARIABLE in event["message"]
    assert "in broken" in event["detail"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BadInput("scan.mha: is a 2D image; give a volume"), 2, "scan.mha: is a 2D image; give a volume"),
        (MissingDependency("no torch"), 3, "no torch"),
        (ModuleNotFoundError("No module named 'pydicom'", name="pydicom"), 3, "pip install pydicom"),
        (ModuleNotFoundError("No module named 'x'", name="LungRecoveryLib.x"), 1, "bug"),
        (OutOfMemory("too large"), 4, "too large"),
        (MemoryError(), 4, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"), 4, "not enough memory"),
        (KeyboardInterrupt(), 5, "stopped"),
        (BrokenPipeError(), 5, "stopped"),
        (OSError(28, "No space left on device"), 2, "disk is full"),
        (ValueError("x" * 1000), 1, "ValueError"),
    ],
)
def test_every_error_has_its_code_and_one_sentence(error, code, words):
    """The exit codes of the contract, and a message a user can act on."""
    found, message = worker.describe(error)
    assert found == code
    assert words in message
    assert "\n" not in message
    assert len(message) < 450
