"""The process that computes, as the panel runs it: its lines, its end, and that it can be ended with all it started."""

import os
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def start(scene, tmp_path):
    """The function that starts Python code as a worker; returns it and what it reported."""
    from LungRecoveryLib.gui.process import WorkerProcess

    started = []

    def run(code: str):
        heard = {"events": [], "log": [], "ended": []}
        process = WorkerProcess(
            heard["events"].append, heard["log"].append, heard["ended"].append, [sys.executable, "-u", "-c", code]
        )
        job = tmp_path / "job.json"
        job.write_text("{}")
        process.start(job)
        started.append(process)
        return process, heard

    yield run
    for process in started:
        process.abort()


def alive(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except OSError:
        return False


TREE = """
import json, os, subprocess, sys, time
os.setsid()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(json.dumps({"event": "started", "pid": os.getpid()}), flush=True)
print(json.dumps({"event": "progress", "child": child.pid}), flush=True)
time.sleep(60)
"""


def test_lines_become_events_and_other_text_goes_to_the_log(start):
    """JSON objects with an event are events, whatever else is printed is log; the exit code comes once."""
    process, heard = start(
        "import sys\n"
        "print('hello')\n"
        'print(\'{"event": "progress", "stage": "read"}\')\n'
        "print('[1]'); print('{\"event\": 3}')\n"
        "print('to stderr', file=sys.stderr)\n"
        "print('without an end of line', end='')\n"
        "sys.exit(6)"
    )
    process.wait()
    assert heard["events"] == [{"event": "progress", "stage": "read"}]
    assert sorted(heard["log"]) == sorted(["hello", "[1]", '{"event": 3}', "to stderr", "without an end of line"])
    assert heard["ended"] == [6]


def test_bytes_that_are_no_text_and_endless_lines_do_no_harm(start):
    """Broken UTF-8 is replaced and a line without an end is cut, so that memory does not grow."""
    process, heard = start(
        "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe broken\\n' + b'x' * 5_000_000 + b'\\n')\nprint('last')"
    )
    process.wait()
    assert "broken" in heard["log"][0]
    assert heard["log"][-1] == "last"
    assert max(len(line) for line in heard["log"]) <= 2000
    assert heard["ended"] == [0]


def test_a_crash_is_no_exit_code(start):
    process, heard = start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    process.wait()
    assert heard["ended"] == [None]


def test_a_program_that_does_not_exist_is_told(scene, tmp_path):
    """Not an exception: the end, once, without an exit code."""
    from LungRecoveryLib.gui.process import WorkerProcess

    ended, log = [], []
    process = WorkerProcess(lambda event: None, log.append, ended.append, [str(tmp_path / "nothing")])
    process.start(tmp_path / "job.json")
    process.wait()
    assert ended == [None]
    assert "nothing" in log[0]
    assert not process.started


@pytest.mark.skipif(os.name == "nt", reason="looks into /proc")
def test_abort_ends_the_whole_tree_before_it_returns(start, process_events):
    process, heard = start(TREE)
    assert process_events(lambda: bool(heard["events"]), 60)
    child = heard["events"][0]["child"]
    assert alive(child)
    process.abort()
    assert heard["ended"] == [None]
    time.sleep(0.2)
    assert not alive(child)


@pytest.mark.skipif(os.name == "nt", reason="looks into /proc")
def test_the_child_process_ends_itself_when_its_folder_goes(scene, tmp_path):
    """As when Slicer is gone before it knew the process's id: the real child watches its folder."""
    import subprocess

    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "job.json").write_text('{"output": "study"}')
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = (
        "import sys, time\n"
        "import LungRecoveryLib.worker as worker\n"
        "worker.main = lambda arguments: time.sleep(60)\n"
        "from LungRecoveryLib import child\n"
        "sys.exit(child.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(folder / "job.json"), str(os.getpid())]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")
    assert '"started"' in process.stdout.readline()
    (tmp_path / ".study.unfinished-1").mkdir()
    (folder / "job.json").unlink()
    folder.rmdir()
    assert process.wait(30) != 0


def test_qt_cannot_use_up_none(standin):
    """PySide6 releases a reference to None with each call; under Python 3.11 a long session would end the process."""
    import qt

    for _turn in range(100_000):  # more than a fresh interpreter has
        qt.QThread.msleep(0)
    assert sys.version_info >= (3, 12) or sys.getrefcount(None) > 1 << 30
