"""A computation of a minute or so that the user waits for: a process of its own behind a dialog with Cancel."""

import json
from pathlib import Path
from typing import Any

import qt
import slicer

from LungRecoveryLib.errors import LungRecoveryError
from LungRecoveryLib.gui import messages
from LungRecoveryLib.gui.process import WorkerProcess, python_program

_LOOK_MS = 100


def wait_for(program: str, job: Path, content: dict[str, Any], title: str) -> bool:
    """Run a module as a process on a job file, which is written here, and show its progress; False for a cancel.

    Raises LungRecoveryError with what the process said where it fails.
    """
    job.write_text(json.dumps(content), encoding="utf-8")
    dialog = slicer.util.createProgressDialog(labelText=title, maximum=100)
    errors: list[str] = []
    codes: list[int | None] = []

    def heard(event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            dialog.setValue(round(100 * event["fraction"]))
        elif event["event"] == "error":
            errors.append(event["message"])

    process = WorkerProcess(heard, errors.append, codes.append, [python_program(), "-u", "-m", program])
    process.start(job)
    loop = qt.QEventLoop()
    watch = qt.QTimer()
    watch.setInterval(_LOOK_MS)

    def look() -> None:
        if dialog.wasCanceled:
            process.abort()
        if not process.running:
            loop.quit()

    watch.connect("timeout()", look)
    watch.start()
    try:
        loop.exec_()
    finally:
        watch.stop()
        process.abort()  # where Slicer itself ends the loop
        cancelled = bool(dialog.wasCanceled)
        dialog.close()
    if codes != [0] and not cancelled:
        raise LungRecoveryError(messages.plain(errors[-1], {}) if errors else "")
    return not cancelled
