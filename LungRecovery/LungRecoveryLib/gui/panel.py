"""The panel: its sections, what they share, and what happens when the scene changes under them."""

import contextlib
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import qt
import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.gui import messages, shown
from LungRecoveryLib.gui.correction import CorrectionSection
from LungRecoveryLib.gui.export import ExportSection
from LungRecoveryLib.gui.messages import Failure
from LungRecoveryLib.gui.quality import QualitySection
from LungRecoveryLib.gui.results import ResultsSection
from LungRecoveryLib.gui.run import RunSection
from LungRecoveryLib.gui.settings import SettingsSection
from LungRecoveryLib.gui.shown import ShownStudy
from LungRecoveryLib.gui.timepoints import TimePointsSection

if TYPE_CHECKING:
    from LungRecovery import LungRecoveryLogic

Result = TypeVar("Result")


class Panel:
    """Puts the sections together. `parameters` is the module's typed parameter node, None while the scene closes."""

    def __init__(self, widget: Any, ui: Any, logic: "LungRecoveryLogic"):
        self.widget, self.ui, self.logic = widget, ui, logic
        self.parameters: Any = None
        self.studies: list[ShownStudy] = []
        self.shown: ShownStudy | None = None
        self._gui_tag: Any = None
        self._looked_for_devices = self._looks_again = False
        self._observed: list[tuple[Any, int]] = []
        self.run = RunSection(self)
        self.time_points = TimePointsSection(self)
        self.settings = SettingsSection(self)
        self.results = ResultsSection(self)
        self.quality = QualitySection(self)
        self.correction = CorrectionSection(self)
        self.export = ExportSection(self)
        self.ui.allowDifferentPatientsCheckBox.connect("toggled(bool)", lambda _on: self.inputs_changed())

    def set_parameters(self, parameters: Any) -> None:
        """Show another parameter node, or none while there is no scene to work on."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self._stop_observing()
        self.parameters = parameters
        if parameters is None:
            self.shown, self.studies = None, []
        else:
            self._gui_tag = parameters.connectGui(self.ui)
            self._observe()
        self.refresh()

    def refresh(self) -> None:
        """Show everything as it is now."""
        self.time_points.refresh()
        self.settings.refresh()
        self._find_studies()
        self.refresh_enabled()

    def refresh_enabled(self) -> None:
        """Enable what can be used now: nothing that changes the inputs while a run goes on."""
        running, has_results = self.run.running, self.shown is not None
        for contents in (self.ui.timePointsContents, self.ui.settingsContents):
            contents.setEnabled(not running)
        for contents in (self.ui.resultsContents, self.ui.qualityContents, self.ui.exportContents):
            contents.setEnabled(has_results)
        self.ui.correctionContents.setEnabled(has_results and not running)
        self.run.refresh()

    def inputs_changed(self) -> None:
        """The time points or what is asked of them changed."""
        self.time_points.show_problem()
        self.run.refresh()

    def regions_changed(self) -> None:
        """Other regions are to be shown."""
        self.results.fill_regions()

    def time_point_changed(self) -> None:
        """The results show another time point."""
        self.quality.refresh()
        self.correction.follow(self.results.label)

    def show_results(self, found: ShownStudy) -> None:
        """Show a study that was brought into the scene just now in the views, at the time point shown before."""
        before = self.results.label if self.shown is not None else None
        self._find_studies(found.name)
        for section in (self.ui.resultsSection, self.ui.qualitySection, self.ui.exportSection):
            section.collapsed = False
        self.results.show(before if before in found.nodes.labels else None)

    def choose_study(self, study: ShownStudy) -> None:
        """Show another study of the scene."""
        self.shown = study
        self._show_study()

    def attempt(self, action: Callable[[], Result]) -> Result | None:
        """Do something that can go wrong; None, and a message with details behind a button, where it does."""
        try:
            return action()
        except Exception as error:
            detail = traceback.format_exc()
            messages.show(messages.of_error(error, detail))
            return None

    def show_problem(self, text: str) -> None:
        """Tell the user of a mistake."""
        messages.show(Failure(text, "", messages.BAD_INPUT))

    def show_information(self, text: str) -> None:
        """Tell the user that something is done."""
        slicer.util.infoDisplay(text, windowTitle=_("Lung Recovery"))

    @contextlib.contextmanager
    def busy(self):
        """Show the wait cursor within the block."""
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            yield
        finally:
            qt.QApplication.restoreOverrideCursor()

    def entered(self) -> None:
        """The user opened the module: look again at the scene, and for graphics cards once."""
        self.refresh()
        if not self._looked_for_devices:
            self._looked_for_devices = True
            self.settings.probe.start()

    def left(self) -> None:
        """The user left the module; a run goes on, flicker does not."""
        self.quality.stop_comparing()

    def close(self) -> None:
        """End all that goes on, as the module, the scene or Slicer closes; nothing is left of a run."""
        self.run.abort()
        self.quality.close()
        self.settings.probe.abort()
        self.set_parameters(None)

    # --------------------------------------------------------------------------------------------------------- private

    def _find_studies(self, name: str | None = None) -> None:
        """Find the studies in the scene and show the one of that name, the one shown before, or the last."""
        name = name or (self.shown.name if self.shown is not None else None)
        self.studies, self.shown = [], None
        if self.parameters is not None and shown.any_in(slicer.mrmlScene):
            self.studies = self.attempt(lambda: shown.find(slicer.mrmlScene)) or []
        named = [study for study in self.studies if study.name == name]
        if self.studies:
            self.shown = named[0] if named else self.studies[-1]
        self._show_study()

    def _show_study(self) -> None:
        self.correction.refresh()
        self.results.refresh()
        self.quality.refresh()

    def _observe(self) -> None:
        scene = slicer.mrmlScene
        for event in (scene.NodeRemovedEvent, scene.EndImportEvent):
            self._observed.append((scene, scene.AddObserver(event, self._scene_changed)))

    def _stop_observing(self) -> None:
        for scene, tag in self._observed:
            scene.RemoveObserver(tag)
        self._observed = []

    def _scene_changed(self, _caller: Any, _event: str) -> None:
        """A node has gone or a scene was added: look again, once, when that is over."""
        if not self._looks_again:
            self._looks_again = True
            qt.QTimer.singleShot(0, self._look_again)

    def _look_again(self) -> None:
        self._looks_again = False
        if self.parameters is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.refresh()
