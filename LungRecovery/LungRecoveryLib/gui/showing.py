"""The results of a run into the scene: shown as a whole, or the scene as it was."""

from typing import Any

from LungRecoveryLib.gui import shown
from LungRecoveryLib.gui.shown import ShownStudy
from LungRecoveryLib.gui.study_run import StudyRun


def show_run(run: StudyRun, scene: Any) -> ShownStudy:
    """Show the study of a run that ended well, under the name that its baseline had before, or under a new one.

    Raises BadInput where its files cannot be used.
    """
    from LungRecoveryLib.scene import show_study

    inputs = {label: node for label, node in run.request.inputs.items() if node is not None}
    baseline = next(iter(run.request.inputs.values()))
    name = shown.name_for(scene, baseline)
    nodes = show_study(run.study, scene, inputs, name=name, dates=run.request.dates)
    return shown.remember(nodes, run.study, run.request.inputs, run.request.dates)
