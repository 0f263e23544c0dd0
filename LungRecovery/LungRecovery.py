"""Lung Recovery, a scripted module of 3D Slicer: is this lung recovering, where, and how fast?

A shell: what the panel does is in LungRecoveryLib.gui, what the scene shows in LungRecoveryLib.scene, and what is
computed in LungRecoveryLib, which a process of its own runs. Nothing heavy is imported here.
"""

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated, Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class LungRecovery(ScriptedLoadableModule):
    """What Slicer shows of the module."""

    def __init__(self, parent: Any):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Lung Recovery")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Chest Imaging Platform")]
        self.parent.dependencies = []
        self.parent.contributors = ["The LungRecovery developers"]
        self.parent.helpText = _(
            "Compares a patient's chest CTs after COVID-19: every follow-up is registered onto the baseline, and maps, "
            "scores and a report show where the lung has recovered. Research use only; not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "The registration follows VoxelMorph (Balakrishnan 2019, Dalca 2019) refined on each pair of scans."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data() -> None:
    """Offer the synthetic patient in the module Sample Data."""
    from LungRecoveryLib.gui.sample_data import register

    resources = Path(__file__).parent / "Resources"
    register(resources / "Icons", resources / "requirements.txt")


@parameterNodeWrapper
class LungRecoveryParameterNode:
    """What the panel keeps in the scene; the time points are kept beside it, see LungRecoveryLib.gui.rows."""

    preset: str = "standard"
    device: str = "auto"
    spacingMm: Annotated[float, WithinRange(0.5, 10.0)] = 1.5
    nativeMaps: bool = False
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    allowDifferentPatients: bool = False
    resultsFolder: str = ""
    bands: str = ""
    limits: str = ""
    hiddenRegions: str = "[]"


class LungRecoveryWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; see LungRecoveryLib.gui.panel."""

    def __init__(self, parent: Any = None):
        self.panel: Any = None
        self.logic: LungRecoveryLogic | None = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from LungRecoveryLib.gui.panel import Panel

        widget = slicer.util.loadUI(self.resourcePath("UI/LungRecovery.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = LungRecoveryLogic()
        self.panel = Panel(widget, self.ui, self.logic)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self._take_parameter_node()

    def enter(self) -> None:
        """The user opened the module."""
        self._take_parameter_node()
        self.panel.entered()

    def exit(self) -> None:
        """The user left the module; a run goes on."""
        self.panel.left()

    def cleanup(self) -> None:
        """The module or Slicer closes: nothing may go on."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
        if self.logic is not None:
            self.logic.close()

    def onSceneStartClose(self, caller: Any, event: str) -> None:
        self.panel.close()
        self.logic.close()

    def onSceneEndClose(self, caller: Any, event: str) -> None:
        self._take_parameter_node()

    def _take_parameter_node(self) -> None:
        if self.panel.parameters is None:
            self.panel.set_parameters(self.logic.getParameterNode())


class LungRecoveryLogic(ScriptedLoadableModuleLogic):
    """Runs analyses and shows their results, with or without the panel.

    From a script, for volumes that are in the scene (the baseline first)::

        from LungRecovery import LungRecoveryLogic

        nodes = LungRecoveryLogic().process(
            [baseline, month1, month3], when=["2021-01-08", "2021-02-09", "2021-04-12"], waitForCompletion=True
        )
        print(nodes.tables["scores"].GetTable())
        slicer.util.saveNode(nodes.timepoints["day 32"].transform, "month1.h5")
    """

    def __init__(self, parent: Any = None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self.worker_command: list[str] | None = None
        self._kept: list[Any] = []

    def getParameterNode(self) -> LungRecoveryParameterNode:
        return LungRecoveryParameterNode(super().getParameterNode())

    @staticmethod
    def requirements_path() -> Path:
        """The Python packages that the analysis needs."""
        return Path(__file__).parent / "Resources" / "requirements.txt"

    @staticmethod
    def dicom_requirements_path() -> Path:
        """The Python packages that writing DICOM objects needs."""
        return Path(__file__).parent / "Resources" / "requirements-dicom.txt"

    def process(
        self,
        volumes: Sequence[Any],
        labels: Sequence[str] | None = None,
        when: Sequence[str] | None = None,
        lungs: Sequence[Any] | None = None,
        settings: dict[str, Any] | None = None,
        keep_in: str | os.PathLike | None = None,
        waitForCompletion: bool = True,
    ) -> Any:
        """Analyse volumes of the scene and show the study.

        `volumes`, the baseline first; `labels` (default: baseline, day N or follow-up N), `when` (dates as YYYY-MM-DD
        or numbers of days) and `lungs` (segmentation or label map nodes, None: found automatically) one for each;
        `settings` as in a job file (`LungRecoveryLib/job.schema.json`): preset, device, spacing_mm, ...; `keep_in` a
        folder that exists, to keep the study's files in.

        Returns the StudyNodes when the study is in the scene, or, with `waitForCompletion` False, the run that goes on
        (see its `state`). Raises BadInput, or RuntimeError where the analysis ended without a result; the scene is
        then as it was.
        """
        from LungRecoveryLib.gui.scripting import process

        return process(self, volumes, labels, when, lungs, settings or {}, keep_in, waitForCompletion)

    def start(self, request: Any, listener: Any) -> Any:
        """Start a run that goes on while the panel stays usable; returns it."""
        from LungRecoveryLib.gui.study_run import StudyRun

        run = StudyRun(request, listener, self.worker_command)
        self._kept.append(run)
        run.start()
        return run

    def run(self, request: Any, listener: Any) -> Any:
        """Do a run before returning; returns it."""
        from LungRecoveryLib.gui.study_run import StudyRun

        run = StudyRun(request, listener, self.worker_command)
        self._kept.append(run)
        run.run()
        return run

    def show(self, run: Any) -> Any:
        """Show the study of a run that ended well; returns the ShownStudy. The scene is as it was where that fails."""
        from LungRecoveryLib.scene import all_at_once

        return all_at_once(self.show_in_steps(run))

    def show_in_steps(self, run: Any) -> Generator[float, None, Any]:
        """As `show`, a step at a time: yields the share that is done, and the scene is as it was when it is closed."""
        from LungRecoveryLib.gui.showing import show_run

        found = yield from show_run(run, slicer.mrmlScene)
        for other in [kept for kept in self._kept if kept is not run and not kept.running]:
            if other.request.inputs == run.request.inputs:  # its results were replaced just now
                other.discard()
                self._kept.remove(other)
        return found

    def close(self) -> None:
        """End every run and remove the temporary studies."""
        for run in self._kept:
            run.abort()
            run.discard()
        self._kept = []


class LungRecoveryTest(ScriptedLoadableModuleTest):
    """The module's own test, also in a real Slicer; see LungRecoveryLib.gui.self_test."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        from LungRecoveryLib.gui import self_test

        for name in self_test.TESTS:
            self.setUp()
            getattr(self_test, name)(self)
