"""The process that makes the synthetic patient of Sample Data: ``python -m LungRecoveryLib.gui.phantom_child job PID``.

It prints JSON lines as the worker does. The job is {"output", "seed", "spacing_mm", "days"}.
"""

import json
import sys
from pathlib import Path

from LungRecoveryLib.child import begin

_EXTENT_MM = (308.0, 238.0, 322.0)


def main(arguments: list[str]) -> int:
    """Make the patient of a job file."""
    begin(arguments)
    try:
        from LungRecoveryLib.phantom import make_patient, write_patient
        from LungRecoveryLib.progress import part

        def report(stage: str, fraction: float, message: str = "") -> None:
            _say(event="progress", stage=stage, fraction=fraction, message=message)

        job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        spacing = job["spacing_mm"]
        size = tuple(round(extent / spacing) for extent in _EXTENT_MM)
        made = part(report, 0.0, 0.7)
        patient = make_patient("recovering", job["seed"], size, (spacing,) * 3, days=tuple(job["days"]), progress=made)
        write_patient(patient, Path(job["output"]), progress=part(report, 0.7, 1.0))
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
