"""An analysis from a script, without the panel."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.gui import rows
from LungRecoveryLib.gui.inputs import analysis
from LungRecoveryLib.gui.study_run import StudyRun

if TYPE_CHECKING:
    from LungRecovery import LungRecoveryLogic


class Script:
    """A run's listener that shows its results when nobody waits for them, and writes to Slicer's log."""

    def __init__(self, logic: "LungRecoveryLogic", waiting: bool):
        self.logic, self.waiting = logic, waiting

    def progressed(self, stage: str, fraction: float, message: str) -> None:
        logging.debug("LungRecovery: %s %s", stage, message)

    def logged(self, text: str) -> None:
        logging.debug("LungRecovery: %s", text)

    def ended(self, run: StudyRun) -> None:
        if run.failure is not None:
            logging.error("LungRecovery: %s\n%s", run.failure.message, run.failure.detail)
        elif run.state == "done" and not self.waiting:
            self.logic.show(run)


def process(
    logic: "LungRecoveryLogic",
    volumes: Sequence[Any],
    labels: Sequence[str] | None,
    when: Sequence[str] | None,
    lungs: Sequence[Any] | None,
    settings: dict[str, Any],
    keep_in: str | os.PathLike | None,
    wait: bool,
) -> Any:
    """See LungRecoveryLogic.process."""
    for name, given in (("labels", labels), ("when", when), ("lungs", lungs)):
        if given is not None and len(given) != len(volumes):
            raise BadInput(f"{name} has {len(given)} entries for {len(volumes)} volumes: give one for each volume")
    listed = [
        rows.Row(
            volume,
            (labels[i] or "") if labels else "",
            str(when[i]) if when else rows.study_date(volume),
            lungs[i] if lungs else None,
        )
        for i, volume in enumerate(volumes)
    ]
    rows.check_rows(listed, bool(settings.get("allow_different_patients")))
    request = analysis(listed, dict(settings), Path(keep_in) if keep_in else None)
    if not wait:
        return logic.start(request, Script(logic, False))
    run = logic.run(request, Script(logic, True))
    if run.state != "done":
        raise RuntimeError(run.failure.message if run.failure is not None else "cancelled")
    return logic.show(run).nodes
