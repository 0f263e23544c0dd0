"""The process that writes a study as DICOM objects: ``python -m LungRecoveryLib.gui.dicom_child job.json PID``.

It prints JSON lines as the worker does. The job is {"study", "output", "scans": {a time point's folder: its scan}}; the
objects are written in a copy beside the job, so that the study stays as it is and `output` appears whole or not at all.
"""

import os
import sys
from pathlib import Path

from LungRecoveryLib.child import do_job
from LungRecoveryLib.progress import Progress


def write_objects(job: dict, folder: Path, progress: Progress) -> None:
    """Write the objects of a job; `folder` takes the copy of the study."""
    from LungRecoveryLib.files import copy_folder
    from LungRecoveryLib.report.dicom import Origin, write_dicom
    from LungRecoveryLib.results import DICOM

    copy = folder / "copy"
    copy_folder(Path(job["study"]), copy, without=[DICOM])
    write_dicom(copy, {folder: Origin(Path(path)) for folder, path in job["scans"].items()}, progress=progress)
    os.replace(copy / DICOM, job["output"])


if __name__ == "__main__":
    sys.exit(do_job(sys.argv[1:], write_objects))
