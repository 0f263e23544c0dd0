"""A process and all that it started end together, and whether a process lives is known."""

import os
import signal
import subprocess
import sys
import time

import pytest

from LungRecoveryLib.system import end_process_tree, process_alive

PARENT = """
import subprocess, sys, time
from LungRecoveryLib.system import lead_process_group
lead_process_group()
child = subprocess.Popen([sys.executable, "-c", {child!r}])
print(child.pid, flush=True)
time.sleep(60)
"""


def tree(child: str) -> tuple[subprocess.Popen, int]:
    """A process that leads a group, and the id of the process it started."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PARENT.format(child=child)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    return process, int(process.stdout.readline())


def gone(pid: int) -> bool:
    """Whether a process ended within a few seconds (a dead one whose parent has gone may stay a zombie)."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                if file.read().split()[2] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(os.name == "nt", reason="looks into /proc")
def test_the_tree_ends_when_asked():
    """SIGTERM reaches the process and its child."""
    process, child = tree("import time; time.sleep(60)")
    assert process_alive(child)
    end_process_tree(process.pid)
    assert process.wait(10) == -signal.SIGTERM
    assert gone(child)


@pytest.mark.skipif(os.name == "nt", reason="looks into /proc")
def test_a_child_that_does_not_listen_is_killed():
    """A child that ignores SIGTERM ends only by force."""
    process, child = tree("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    time.sleep(1.0)  # until it ignores the signal
    end_process_tree(process.pid)
    process.wait(10)
    assert process_alive(child)
    end_process_tree(process.pid, force=True)
    assert gone(child)


def test_ending_what_is_gone_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait(10)
    end_process_tree(process.pid, force=True)
    assert not process_alive(process.pid)
