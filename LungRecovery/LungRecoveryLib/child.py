"""The process that computes for the panel or the viewer: the worker, in a process group of its own, that never
outlives the program which started it.

``python -m LungRecoveryLib.child job.json PID`` prints ``{"event": "started", "pid": ...}`` and then what the worker
prints. It ends itself and all that it started when the folder of the job file vanishes or the process PID is gone, so
that neither a crash of that program nor a lost signal leaves a computation or a file behind.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from LungRecoveryLib.progress import Progress
from LungRecoveryLib.system import end_process_tree, lead_process_group, process_alive

_LOOK_SECONDS = 0.5


def main(arguments: list[str]) -> int:
    """Run the job file named first on behalf of the process whose id is named second; returns the exit code."""
    begin(arguments)
    from LungRecoveryLib import worker

    return worker.main([arguments[0]])


def begin(arguments: list[str]) -> None:
    """Say which process this is, and let it end with the folder of its job and with the process that started it."""
    job, parent = Path(arguments[0]), int(arguments[1])
    lead_process_group()
    _say(event="started", pid=os.getpid())
    threading.Thread(target=_end_with, args=(job.resolve().parent, parent, _output(job)), daemon=True).start()


def do_job(arguments: list[str], work: Callable[[dict[str, Any], Path, Progress], None]) -> int:
    """`begin`, then `work(content of the job file, its folder, progress)`; errors are told as by the worker."""

    def report(stage: str, fraction: float, message: str = "") -> None:
        _say(event="progress", stage=stage, fraction=fraction, message=message)

    begin(arguments)
    job = Path(arguments[0])
    try:
        work(json.loads(job.read_text(encoding="utf-8")), job.parent, report)
    except Exception as error:
        from LungRecoveryLib.worker import describe

        code, message = describe(error)
        _say(event="error", code=code, message=message)
        return code
    return 0


def _say(**event: object) -> None:
    print(json.dumps(event), flush=True)


def _output(job: Path) -> Path | None:
    """Where the job's results will lie; None where the job file does not tell, which the worker will report."""
    try:
        return job.resolve().parent / json.loads(job.read_text(encoding="utf-8"))["output"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _end_with(folder: Path, parent: int, output: Path | None) -> None:
    """End this process and its children once the folder or the parent is gone, and remove what they wrote."""
    while folder.is_dir() and process_alive(parent):
        time.sleep(_LOOK_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    if output is not None:
        from LungRecoveryLib.files import remove_unfinished

        with suppress(OSError):
            remove_unfinished(output)
    end_process_tree(os.getpid(), force=True)
    os._exit(5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
