"""An analysis for the page: the worker in a process group of its own, listened to line by line, ended when asked."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from LungRecoveryLib.errors import BadInput, Cancelled, LungRecoveryError
from LungRecoveryLib.files import remove_unfinished
from LungRecoveryLib.system import end_process_tree

Event = dict[str, Any]
_GRACE_SECONDS = 3.0
_LONGEST_LINE = 1_000_000
_STUDY = "study"


class Analysis:
    """One run of a job. Its study lies in a folder that `discard` removes, unless the job names its own `output`."""

    def __init__(self, job: dict[str, Any], report: Callable[[str, float, str], None]):
        self._report = report
        self._folder = Path(tempfile.mkdtemp(prefix="LungRecovery-"))
        self.output = Path(job.get("output") or self._folder / _STUDY).resolve()
        self._job = {**job, "output": str(self.output)}
        self._process: asyncio.subprocess.Process | None = None
        self._last: Event | None = None
        self._cancelled = False

    async def run(self) -> Path:
        """Analyse; returns the study's folder.

        Raises Cancelled, or the error that the worker reported; then nothing is left on disk.
        """
        job = self._folder / "job.json"
        job.write_text(json.dumps(self._job), encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "LungRecoveryLib.child", str(job), str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=_environment(), limit=_LONGEST_LINE,
        )  # fmt: skip
        if self._cancelled:  # before there was a process to end
            await self.cancel()
        async for line in self._process.stdout:
            self._take(line)
        code = await self._process.wait()
        end_process_tree(self._process.pid, force=True)
        if self._cancelled:
            remove_unfinished(self.output)
            raise Cancelled("stopped on request; nothing was written")
        if self._last is not None and self._last["event"] == "result":
            return self.output
        message = self._last["message"] if self._last else f"the analysis ended with code {code} and without a word"
        raise _error(code, str(message))

    async def cancel(self) -> None:
        """End the process and all that it started."""
        self._cancelled = True
        if self._process is None or self._process.returncode is not None:
            return
        end_process_tree(self._process.pid)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE_SECONDS)
            return
        end_process_tree(self._process.pid, force=True)

    def discard(self) -> None:
        """Remove the private folder; call when the study is no longer shown."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, line: bytes) -> None:
        """Report progress, and keep how it ended; what is no event is let go."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            if event["event"] == "progress":
                self._report(str(event["stage"]), float(event["fraction"]), str(event.get("message", "")))
            elif event["event"] in ("result", "error"):
                self._last = event


def _environment() -> dict[str, str]:
    package = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    path = package + (os.pathsep + known if known else "")
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}


def _error(code: int, message: str) -> LungRecoveryError:
    """The error of the kind that the exit code names."""
    kinds = [BadInput, *LungRecoveryError.__subclasses__()]
    return next((kind for kind in kinds if kind.exit_code == code), LungRecoveryError)(message)
