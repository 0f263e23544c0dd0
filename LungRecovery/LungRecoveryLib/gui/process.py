"""A computing process as Slicer runs it: started, listened to line by line, cancelled, and gone within seconds."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

from LungRecoveryLib.system import end_process_tree

GRACE_MS = 1500
"""How long a cancelled process may take to clean up before it is killed."""
_LONGEST_LINE = 1_000_000
_KILL_WAIT_MS = 1000

Event = dict[str, Any]


class WorkerProcess:
    """Runs one job file; calls `event` for each JSON line, `log` for other text, and `ended` once.

    `ended` gets the exit code, None where the process crashed, was killed or did not start. The program is Slicer's own
    Python unless `command` names another (a list; the job file and this process's id are appended).
    """

    def __init__(
        self,
        event: Callable[[Event], None],
        log: Callable[[str], None],
        ended: Callable[[int | None], None],
        command: list[str] | None = None,
    ):
        self._event, self._log, self._ended = event, log, ended
        self._command = command or [python_program(), "-u", "-m", "LungRecoveryLib.child"]
        self._pid: int | None = None
        self._pending = {"out": b"", "err": b""}
        self._over = False
        self._process = qt.QProcess()
        self._process.connect("readyReadStandardOutput()", self._read_output)
        self._process.connect("readyReadStandardError()", self._read_errors)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)

    @property
    def running(self) -> bool:
        """Whether the process has been started and `ended` has not been called."""
        return not self._over and self._process.state() != qt.QProcess.NotRunning

    @property
    def started(self) -> bool:
        """Whether the process has given a sign of life."""
        return self._pid is not None

    def start(self, job: Path) -> None:
        """Start the process on a job file; its own folder becomes the working directory."""
        environment = qt.QProcessEnvironment.systemEnvironment()
        package = str(Path(__file__).resolve().parents[2])
        known = environment.value("PYTHONPATH", "")
        environment.insert("PYTHONPATH", package + (os.pathsep + known if known else ""))
        environment.insert("PYTHONIOENCODING", "utf-8")
        self._process.setProcessEnvironment(environment)
        self._process.setWorkingDirectory(str(job.parent))
        self._process.start(self._command[0], [*self._command[1:], str(job), str(os.getpid())])

    def cancel(self) -> None:
        """Ask the process to end; it is killed with all that it started when it takes longer than `GRACE_MS`."""
        if not self.running:
            return
        self._ask_to_end()
        qt.QTimer.singleShot(GRACE_MS, self._kill)

    def abort(self) -> None:
        """End the process and all that it started, and return only when it is gone."""
        if not self.running:
            return
        self._kill()
        self._process.waitForFinished(_KILL_WAIT_MS)

    def wait(self) -> None:
        """Return when the process has ended; its events are reported meanwhile, nothing else happens."""
        while self.running:
            self._process.waitForReadyRead(200)
            if self._process.state() != qt.QProcess.NotRunning:
                self._process.waitForFinished(10)

    def _ask_to_end(self) -> None:
        if self._pid is not None:
            end_process_tree(self._pid)
        else:
            self._process.terminate()

    def _kill(self) -> None:
        if self._over:
            return
        if self._pid is not None:
            end_process_tree(self._pid, force=True)
        self._process.kill()

    def _read_output(self) -> None:
        for line in self._lines("out", self._process.readAllStandardOutput()):
            self._take(line)

    def _read_errors(self) -> None:
        for line in self._lines("err", self._process.readAllStandardError()):
            self._log(line)

    def _lines(self, stream: str, data: Any) -> list[str]:
        """The complete lines that arrived; an endless one is cut."""
        *lines, rest = (self._pending[stream] + bytes(data.data())).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._pending[stream] = rest
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines if line.strip()]

    def _take(self, line: str) -> None:
        """Report a line as the event it is, or as text where it is none."""
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            self._log(line[:2000])
        elif event["event"] == "started":
            if isinstance(event.get("pid"), int) and event["pid"] > 1:
                self._pid = event["pid"]
        else:
            self._event(event)

    def _finished(self, code: int, status: Any) -> None:
        self._read_output()
        self._read_errors()
        for stream, rest in list(self._pending.items()):
            if rest.strip():
                self._pending[stream] = b""
                (self._take if stream == "out" else self._log)(rest.decode("utf-8", "replace"))
        if self._pid is not None and os.name != "nt":  # there the tree cannot be known any more
            end_process_tree(self._pid, force=True)
        self._end(int(code) if status == qt.QProcess.NormalExit else None)

    def _failed(self, error: Any) -> None:
        if error == qt.QProcess.FailedToStart:
            self._log(f"{self._command[0]}: {self._process.errorString()}")
            self._end(None)

    def _end(self, code: int | None) -> None:
        if not self._over:
            self._over = True
            self._ended(code)


def python_program() -> str:
    """Slicer's Python for a process of its own: PythonSlicer, which Slicer puts on the path; else this Python."""
    import slicer

    found = shutil.which("PythonSlicer")
    if found is None:
        home = Path(getattr(slicer.app, "slicerHome", "") or ".")
        beside = home / "bin" / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
        found = str(beside) if beside.is_file() else sys.executable
    return found
