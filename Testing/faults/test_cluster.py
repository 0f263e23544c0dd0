"""A cohort whose own process, scheduler or clocks fail: it takes up where it was, every patient once.

The workers do all that they do for a real patient but the analysis itself, which a stand-in replaces.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from LungRecoveryLib.cohort.table import read_table

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")

QUICK = '''
import os, sys, time
from pathlib import Path

def quick(patient, settings, output):
    """A patient without the analysis: hash, resumption, folder and record are real."""
    from LungRecoveryLib import study
    from LungRecoveryLib.cohort import patient as module

    def written(folder, job):
        time.sleep(float(os.environ.get("PAUSE", "0.2")))
        (Path(folder) / "study.json").write_text('{"schema": "lungrecovery-study-1"}', encoding="utf-8")

    def measured(result):
        point = {"label": "day 30", "days": 30.0, "reliable": True, "verdict": "pass", "reasons": []}
        numbers = {"volume_ml": 4000.0, "mean_hu": -700.0, "abnormal_percent": 10.0, "jacobian": 0.9,
                   "jacobian_normalized": 0.9, "tissue_recovery": 0.5, "class": "partial"}
        return {"status": "done", "code": 0, "message": "", "timepoints": [{**point, **numbers}], "last": "day 30"}

    with open(Path(output) / "log.txt", "a", encoding="utf-8") as log:
        log.write(f"{patient.name}\\n")
    study.analyze_into, module._measured = written, measured
    return module.analyse_patient(patient, settings, output)
'''

COHORT = (
    QUICK
    + """
from LungRecoveryLib.cohort.manifest import Patient
from LungRecoveryLib.cohort.run import Cluster, run_cohort
from LungRecoveryLib.errors import BadInput

if __name__ == "__main__":
    import cloudpickle
    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    scans, output, count, scheduler = sys.argv[1:5]
    points = lambda i: tuple({"path": f"{scans}/{i}-{j}.mha", "days": 30.0 * j} for j in (0, 1))
    patients = [Patient(f"P{i}", f"p{i}", "", points(i)) for i in range(int(count))]
    cluster = Cluster(scheduler=scheduler or None, workers=None if scheduler else 2, timeout_s=8)
    try:
        records = run_cohort(patients, {}, Path(output), cluster, lambda s, f, m: print(m, flush=True), task=quick)
        print("resumed", sum(r["resumed"] for r in records), flush=True)
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
"""
)

SKEWED = """
import sys, time
seconds, real = float(sys.argv.pop(1)), time.time
time.time = lambda: real() + seconds
from distributed.cli.dask_worker import main
main()
"""


@pytest.fixture
def program(tmp_path) -> list[str]:
    """The command that runs the cohort of six patients; the scheduler's address follows."""
    (tmp_path / "scans").mkdir()
    for i in range(6):
        for j in (0, 1):
            (tmp_path / "scans" / f"{i}-{j}.mha").write_text(f"scan {i} {j}", encoding="utf-8")
    script = tmp_path / "cohort.py"
    script.write_text(COHORT, encoding="utf-8")
    return [sys.executable, str(script), str(tmp_path / "scans"), str(tmp_path / "out"), "6"]


@pytest.fixture
def start(tmp_path):
    """The function that starts a process in a group of its own, its errors in a file; all end with the test."""
    started: list[subprocess.Popen] = []

    def go(command: list[str], **variables: str) -> subprocess.Popen:
        log = (tmp_path / f"{len(started)}.log").open("w+", encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"} | variables
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, encoding="utf-8", env=environment, start_new_session=True
        )
        process.log = log
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.log.close()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def cluster(start, port: int, skews: tuple[float, ...] = (0.0, 0.0)) -> list[subprocess.Popen]:
    """A Dask scheduler and workers whose clocks are wrong by so many seconds, once they are there."""
    address = f"tcp://127.0.0.1:{port}"
    options = ["--port", str(port), "--no-dashboard", "--host", "127.0.0.1"]
    scheduler = start([sys.executable, "-m", "distributed.cli.dask_scheduler", *options])
    workers = [
        start([sys.executable, "-c", SKEWED, str(skew), address, "--nthreads", "1", "--no-nanny", "--no-dashboard"])
        for skew in skews
    ]
    return [scheduler, *workers]


def finish(start, program: list[str], scheduler: str = "") -> str:
    """Run the cohort to its end; returns what it printed."""
    process = start([*program, scheduler])
    text, _ = process.communicate(timeout=300)
    process.log.seek(0)
    assert process.returncode == 0, process.log.read()[-2000:]
    return text


def check(tmp_path: Path) -> Counter:
    """Six rows, each once and done, folders whole; returns how often each patient's analysis was begun."""
    rows = read_table(tmp_path / "out")
    assert sorted(row["patient"] for row in rows) == [f"P{i}" for i in range(6)]
    assert {row["status"] for row in rows} == {"done"}
    assert (tmp_path / "out" / "report.html").is_file()
    folders = sorted(path.name for path in (tmp_path / "out" / "patients").iterdir())
    assert folders == [f"p{i}" for i in range(6)], folders
    for folder in folders:
        record = json.loads((tmp_path / "out" / "patients" / folder / "patient.json").read_text(encoding="utf-8"))
        assert record["seconds"] >= 0
    return Counter((tmp_path / "out" / "log.txt").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("after", [0, pytest.param(3, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_the_cohorts_own_process_is_killed(tmp_path, program, start, after):
    """With its workers, when so many rows are there; the next run keeps what was finished."""
    process = start([*program, ""], PAUSE="0.5")
    if after == 0:
        while not (tmp_path / "out" / "log.txt").exists():
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.05)
    for _ in range(after):
        assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(list((tmp_path / "out" / "patients").glob("p*/patient.json")))
    assert kept >= after
    assert f"resumed {kept}" in finish(start, program)
    check(tmp_path)


@pytest.mark.slow
def test_the_scheduler_is_killed_and_started_again(tmp_path, program, start):
    """The first run says in one sentence that it was lost; the second finishes the patients that were left."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler, *workers = cluster(start, port)
    first = start([*program, address], PAUSE="1")
    assert "P" in first.stdout.readline()
    scheduler.kill()
    assert first.wait(120) == 2
    first.log.seek(0)
    assert "scheduler was lost; start it and run the command again" in first.log.read()
    for worker in workers:
        worker.kill()
    kept = len(list((tmp_path / "out" / "patients").glob("p*/patient.json")))
    assert kept >= 1
    cluster(start, port)
    assert f"resumed {kept}" in finish(start, program, address)
    check(tmp_path)


@pytest.mark.slow
def test_clocks_that_are_wrong_change_nothing(tmp_path, program, start):
    """One worker lives a day ahead, one a day behind, and files come from the future; resumption goes by contents."""
    port = free_port()
    cluster(start, port, (86400.0, -86400.0))
    finish(start, program, f"tcp://127.0.0.1:{port}")
    assert set(check(tmp_path).values()) == {1}
    for file in (tmp_path / "scans").iterdir():
        os.utime(file, (4e9, 4e9))
    assert "resumed 6" in finish(start, program, f"tcp://127.0.0.1:{port}")
    check(tmp_path)
