"""The process that makes the synthetic patient of Sample Data: ``python -m LungRecoveryLib.gui.phantom_child job PID``.

It prints JSON lines as the worker does. The job is {"output", "seed", "spacing_mm", "days"}.
"""

import sys
from pathlib import Path

from LungRecoveryLib.child import do_job
from LungRecoveryLib.progress import Progress, part

_EXTENT_MM = (308.0, 238.0, 322.0)


def make_sample(job: dict, _folder: Path, progress: Progress) -> None:
    """Make and write the patient of a job."""
    from LungRecoveryLib.phantom import make_patient, write_patient

    spacing = job["spacing_mm"]
    size = tuple(round(extent / spacing) for extent in _EXTENT_MM)
    made = part(progress, 0.0, 0.7)
    patient = make_patient("recovering", job["seed"], size, (spacing,) * 3, days=tuple(job["days"]), progress=made)
    write_patient(patient, Path(job["output"]), progress=part(progress, 0.7, 1.0))


if __name__ == "__main__":
    sys.exit(do_job(sys.argv[1:], make_sample))
