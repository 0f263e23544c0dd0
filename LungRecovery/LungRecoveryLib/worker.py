"""The worker: a job file in, one JSON object a line out; what a user interface runs as a process of its own.

A job is an analysis (`job.schema.json`) or a study to be measured again (`corrections`).

``python -m LungRecoveryLib.worker job.json`` prints ``{"event": "progress", "stage", "fraction", "message"}`` lines,
then ``{"event": "result", "path", "code", "reliable"}`` or ``{"event": "error", "code", "message", "detail"}``, and
ends with that exit code. SIGTERM and SIGINT cancel it; a cancelled or failed job leaves nothing on disk.
"""

import errno
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from LungRecoveryLib.errors import (
    BadInput,
    Cancelled,
    LungRecoveryError,
    MissingDependency,
    OutOfMemory,
    QualityGateFailed,
    is_out_of_memory,
)

TRACE_VARIABLE = "LUNGRECOVERY_TRACE"


def describe(error: BaseException) -> tuple[int, str]:
    """The exit code and the one sentence for the user of an exception that ended the work."""
    if isinstance(error, LungRecoveryError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt | BrokenPipeError):
        return Cancelled.exit_code, "stopped on request; nothing was written"
    if is_out_of_memory(error):
        return (
            OutOfMemory.exit_code,
            "not enough memory: close other programs or choose --preset fast",
        )
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("LungRecoveryLib"):
        return MissingDependency.exit_code, f"the Python package {error.name} is missing: pip install {error.name}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return BadInput.exit_code, "the disk is full: free some space or choose another --output"
    kind = type(error).__name__
    return LungRecoveryError.exit_code, (
        f"unexpected {kind}: {str(error).strip()[:200] or 'no message'}; this is a bug: run again with the environment "
        f"variable {TRACE_VARIABLE}=1 to see where, and report it"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the job file named by the only argument; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    lines, sys.stdout = sys.stdout, sys.stderr  # nothing but JSON lines may reach standard output
    try:
        if len(arguments) != 1:
            raise BadInput("the worker takes one argument: python -m LungRecoveryLib.worker job.json")
        return _run(Path(arguments[0]), lines)
    except (Exception, KeyboardInterrupt) as error:
        code, message = describe(error)
        if os.environ.get(TRACE_VARIABLE):
            traceback.print_exc()
        try:
            detail = "".join(traceback.format_exception(error)) if code == LungRecoveryError.exit_code else ""
            _emit(lines, event="error", code=code, message=message, detail=detail)
        except OSError:  # nobody listens any more
            pass
        return code
    finally:
        sys.stdout = lines


def _run(path: Path, lines: TextIO) -> int:
    from LungRecoveryLib.system import cancellable

    def report(stage: str, fraction: float, message: str = "") -> None:
        _emit(lines, event="progress", stage=stage, fraction=round(fraction, 4), message=message)

    with cancellable(report) as progress:
        from LungRecoveryLib.corrections import correct, read_correction
        from LungRecoveryLib.job import job_from, read_job_file
        from LungRecoveryLib.study import analyze

        job = read_correction(path)
        if job is not None:
            result = correct(job, progress)
        else:
            job = job_from(read_job_file(path), str(path))
            result = analyze(job, progress)
    code = 0 if result.reliable else QualityGateFailed.exit_code
    _emit(lines, event="result", path=str(job.output.resolve()), code=code, reliable=result.reliable)
    return code


def _emit(lines: TextIO, **event: Any) -> None:
    print(json.dumps(event), file=lines, flush=True)


if __name__ == "__main__":
    sys.exit(main())
