"""The process that writes a study as DICOM objects: ``python -m LungRecoveryLib.gui.dicom_child job.json PID``.

It prints JSON lines as the worker does. The job is {"study", "output", "scans": {a time point's folder: its scan}}; the
objects are written in a copy beside the job, so that the study stays as it is and `output` appears whole or not at all.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from LungRecoveryLib.child import begin


def main(arguments: list[str]) -> int:
    """Write the objects of a job file."""
    begin(arguments)
    try:
        from LungRecoveryLib.report.dicom import Origin, write_dicom
        from LungRecoveryLib.results import DICOM

        job_file = Path(arguments[0])
        job = json.loads(job_file.read_text(encoding="utf-8"))
        copy = job_file.parent / "copy"
        shutil.copytree(job["study"], copy, ignore=shutil.ignore_patterns(DICOM))
        origins = {folder: Origin(Path(path)) for folder, path in job["scans"].items()}
        write_dicom(
            copy,
            origins,
            progress=lambda stage, fraction, message="": _say(
                event="progress", stage=stage, fraction=fraction, message=message
            ),
        )
        os.replace(copy / DICOM, job["output"])
    except Exception as error:
        from LungRecoveryLib.worker import describe

        code, message = describe(error)
        _say(event="error", code=code, message=message)
        return code
    return 0


def _say(**event: object) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
