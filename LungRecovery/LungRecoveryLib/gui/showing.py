"""The results of a run into the scene: shown as a whole, or the scene as it was."""

from collections.abc import Generator
from typing import Any

from LungRecoveryLib.gui import shown
from LungRecoveryLib.gui.shown import ShownStudy
from LungRecoveryLib.gui.study_run import StudyRun


def show_run(run: StudyRun, scene: Any) -> Generator[float, None, ShownStudy]:
    """Show the study of a run that ended well, under the name that its baseline had before, or under a new one.

    Yields the share that is done before each step and returns the study; closed before, it leaves the scene as it was.
    Raises BadInput where its files cannot be used.
    """
    from LungRecoveryLib.scene import show_in_steps

    inputs = {label: node for label, node in run.request.inputs.items() if node is not None}
    baseline = next(iter(run.request.inputs.values()))
    name = shown.name_for(scene, baseline)
    nodes = yield from show_in_steps(run.study, scene, inputs, name=name, dates=run.request.dates)
    return shown.remember(nodes, run.study, run.request.inputs, run.request.dates)
