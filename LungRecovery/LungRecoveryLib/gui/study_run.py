"""One run: inputs written to a private folder, the worker watched, and a study's folder at the end, or nothing.

Nothing in the scene is touched here: whoever starts a run shows its results, and only when it ended well.
"""

import json
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import qt
from slicer.i18n import tr as _

from LungRecoveryLib.gui import inputs, messages
from LungRecoveryLib.gui.inputs import Request
from LungRecoveryLib.gui.messages import Failure
from LungRecoveryLib.gui.process import Event, WorkerProcess

PREPARED, COMPUTED = 0.05, 0.95
"""Shares of the progress at which the inputs are written and the worker has ended; showing the results is the rest."""
_STUDY, _PREFIX = "study", "LungRecovery-"
_LOG_LINES = 200


def is_temporary(study: Path) -> bool:
    """Whether a study lies in the private folder of a run."""
    return study.name == _STUDY and study.parent.name.startswith(_PREFIX)


class Listener(Protocol):
    """Who wants to know how a run goes."""

    def progressed(self, stage: str, fraction: float, message: str) -> None: ...

    def logged(self, text: str) -> None: ...

    def ended(self, run: "StudyRun") -> None: ...


class StudyRun:
    """Runs a request. `state` is "running", then "done" (see `study`), "failed" (see `failure`) or "cancelled"."""

    def __init__(self, request: Request, listener: Listener, command: list[str] | None = None):
        self.request, self.listener = request, listener
        self.state = "running"
        self.study: Path | None = None
        self.failure: Failure | None = None
        self.reliable = True
        self.last_sign = time.monotonic()
        self._log: list[str] = []
        self._error: Event | None = None
        self._result: Event | None = None
        self._done = 0
        self._told = False
        self.folder: Path | None = None
        self._output: Path | None = None
        self._files: dict[str, str] = {}
        self._process = WorkerProcess(self._take, self._note, self._worker_ended, command)

    @property
    def running(self) -> bool:
        """Whether the run has not ended."""
        return self.state == "running"

    @property
    def log(self) -> str:
        """The last lines that the worker printed beside its events."""
        return "\n".join(self._log)

    def start(self) -> None:
        """Make the private folder and go on from the event loop: a file at a time, so that a cancel is never late."""
        try:
            self._prepare()
        except Exception as error:
            self._fail(messages.of_error(error))
            return
        qt.QTimer.singleShot(0, self._next_step)

    def run(self) -> None:
        """Do everything before returning, for scripts."""
        try:
            self._prepare()
        except Exception as error:
            self._fail(messages.of_error(error))
        while self.running and not self._process.running:
            self._step()
        self._process.wait()

    def cancel(self) -> None:
        """End the run within seconds; nothing is left of it."""
        if not self.running:
            return
        self.listener.progressed(_("Cancelling"), -1.0, "")
        self.state = "cancelled"
        if self._process.running:
            self._process.cancel()
        else:
            self._end()

    def abort(self) -> None:
        """End the run before returning, as Slicer, the scene or the module closes."""
        if self.running or self._process.running:
            self.state = "cancelled"
            self._process.abort()
            self._end()  # where no process had been started yet

    def withdraw(self) -> None:
        """Cancel a run whose results were being shown: nothing is left of them either."""
        self.state = "cancelled"
        self._remove_output()
        self.discard()

    def discard(self) -> None:
        """Remove the private folder, and with it the study unless it lies where the user wanted to keep it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _prepare(self) -> None:
        import slicer

        keep_in = self.request.keep_in
        if keep_in is not None:
            inputs.check_results_folder(keep_in)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=slicer.app.temporaryPath or None))
        output = self._new_output()
        inputs.check_space(self.request.size, self.folder, keep_in)
        self._output = output
        job = {**self.request.job, "output": str(output)}
        (self.folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")
        self._files = {str(self.folder / file.name): file.title for file in self.request.files}

    def _new_output(self) -> Path:
        """Where the study will lie: a folder that does not exist yet."""
        if self.request.keep_in is None:
            return self.folder / _STUDY
        stem = time.strftime(f"{_PREFIX}%Y%m%d-%H%M%S")
        output, number = self.request.keep_in / stem, 2
        while output.exists():
            output, number = self.request.keep_in / f"{stem}-{number}", number + 1
        return output

    def _next_step(self) -> None:
        if self.running:
            self._step()
            if self.running and not self._process.running:
                qt.QTimer.singleShot(0, self._next_step)

    def _step(self) -> None:
        """Write the next input, or start the worker when all are written."""
        try:
            files = self.request.files
            if self._done < len(files):
                file = files[self._done]
                self._report(_("Preparing {name}").format(name=file.title), PREPARED * self._done / len(files))
                file.write(self.folder / file.name)
                self._done += 1
            else:
                self._report(_("Starting"), PREPARED)
                self._process.start(self.folder / "job.json")
        except Exception as error:
            self._fail(messages.of_error(error))

    def _take(self, event: Event) -> None:
        kind = event["event"]
        self.last_sign = time.monotonic()
        if kind == "progress" and self.running:
            with suppress(KeyError, TypeError, ValueError):
                fraction = min(max(float(event["fraction"]), 0.0), 1.0)
                share = PREPARED + (COMPUTED - PREPARED) * fraction
                self._report(str(event["stage"]), share, str(event.get("message", "")))
        elif kind == "error":
            self._error = event
        elif kind == "result":
            self._result = event

    def _note(self, text: str) -> None:
        self._log = [*self._log, text][-_LOG_LINES:]
        self.listener.logged(text)

    def _report(self, stage: str, fraction: float, message: str = "") -> None:
        self.listener.progressed(stage, fraction, message)

    def _worker_ended(self, code: int | None) -> None:
        """Judge how the worker ended: only a clean end with a result whose files are there is a success."""
        if self.state == "cancelled":
            self._end()
            return
        if code in (0, 6) and self._result is not None:
            study = Path(str(self._result.get("path", "")))
            if (study / "study.json").is_file():
                self.study, self.reliable = study, bool(self._result.get("reliable", True))
                self.state = "done"
                self._end()
                return
            self._fail(Failure(_("The results of the analysis have vanished from the disk: run it again."), self.log))
        elif self._error is not None:
            texts = [str(self._error.get(key, "")) for key in ("message", "detail")]
            self._fail(messages.of_worker(self._error_code(), *texts, self._files))
        elif code is None and not self._process.started:
            self._fail(messages.not_started(self.log))
        else:
            self._fail(messages.of_silence(code, self.log))

    def _error_code(self) -> int:
        code = self._error.get("code")
        return code if isinstance(code, int) else messages.BUG

    def _fail(self, failure: Failure) -> None:
        self.failure, self.state = failure, "failed"
        self._end()

    def _end(self) -> None:
        """Remove what is no longer needed and tell the listener, once."""
        if self._told:
            return
        self._told = True
        if self.state == "done" and self._output.parent == self.folder:
            for file in self.folder.glob("*.nrrd"):
                file.unlink(missing_ok=True)
        else:
            if self.state != "done":
                self._remove_output()
            self.discard()
        self.listener.ended(self)

    def _remove_output(self) -> None:
        """Leave nothing of the results of a run that did not end well; their folder was new."""
        from LungRecoveryLib.files import remove_unfinished

        if self._output is not None:
            with suppress(OSError):
                remove_unfinished(self._output)
            shutil.rmtree(self._output, ignore_errors=True)
