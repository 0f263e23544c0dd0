"""Apply and Cancel: the progress of a run, its log, and its results in the scene when it ended well."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import qt
from slicer.i18n import tr as _

from LungRecoveryLib.gui import inputs, messages, requirements
from LungRecoveryLib.gui.inputs import Request
from LungRecoveryLib.gui.messages import Failure
from LungRecoveryLib.gui.remaining import Remaining
from LungRecoveryLib.gui.shown import ShownStudy
from LungRecoveryLib.gui.study_run import COMPUTED, StudyRun

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel

_STEPS = 1000
_LOOK_MS = 1000
SILENT_SECONDS = 120


class RunSection:
    """The section "Run"; also what a recomputation reports to. At most one run goes on at a time."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        self.current: StudyRun | None = None
        self._loading: Generator[float, None, ShownStudy] | None = None
        self._remaining = Remaining()
        self.ui.progressBar.setRange(0, _STEPS)
        self.ui.applyButton.connect("clicked()", self._apply_or_cancel)
        self._watch = qt.QTimer()
        self._watch.setInterval(_LOOK_MS)
        self._watch.connect("timeout()", self._look)

    @property
    def running(self) -> bool:
        """Whether a run goes on, be it one that is being cancelled or whose results are being loaded."""
        return self.current is not None

    def start(self, request: Request) -> None:
        """Start a run; the panel shows how it goes."""
        self._remaining = Remaining()
        self.ui.logEdit.clear()
        self.ui.progressBar.setVisible(True)
        self.progressed(_("Preparing"), 0.0, "")
        run = self.panel.logic.start(request, self)
        if run.running:  # else it failed at once, and said so
            self.current = run
            self._watch.start()
            self.panel.refresh_enabled()

    def abort(self) -> None:
        """End a run before returning; nothing is left of it."""
        if self._loading is not None:
            self._withdraw()
        elif self.current is not None:
            self.current.abort()

    def log(self, text: str) -> None:
        """Add a line to the log."""
        self.ui.logEdit.appendPlainText(text)

    def refresh(self) -> None:
        """Show whether Apply can be pressed, or Cancel."""
        button = self.ui.applyButton
        if self.current is not None:
            cancelling = not self.current.running and self._loading is None
            button.setText(_("Cancelling…") if cancelling else _("&Cancel"))
            button.setToolTip(_("End the analysis; nothing in the scene is changed."))
            button.setEnabled(not cancelling)
            return
        problem = self.panel.time_points.problem()
        button.setText(_("&Apply"))
        button.setEnabled(not problem)
        button.setToolTip(
            problem
            or _("Register every follow-up onto the baseline, measure volume and density change and write the report.")
        )

    # ---------------------------------------------------------------------------------------------- as a run's listener

    def progressed(self, stage: str, fraction: float, message: str) -> None:
        """Show how far the run is; a negative fraction leaves the bar where it is."""
        if fraction >= 0:
            self.ui.progressBar.setValue(round(_STEPS * fraction))
            self.ui.remainingLabel.setText(self._remaining.words(fraction))
        text = stage if not message else f"{stage}: {message}"
        if text != self.ui.stageLabel.text:
            self.log(f"{time.strftime('%H:%M:%S')}  {text}")
        self.ui.stageLabel.setText(text)

    def logged(self, text: str) -> None:
        """Note what the worker printed."""
        self.log(text)

    def ended(self, run: StudyRun) -> None:
        """Show the results of a run that ended well, or say why there are none."""
        self._watch.stop()
        if run.state == "done":
            self._loading = self.panel.logic.show_in_steps(run)
            self._load_on()
        else:
            self._finish(run, _outcome(run))

    # --------------------------------------------------------------------------------------------------------- private

    def _load_on(self) -> None:
        """Bring the next part of the results into the scene and go on from the event loop: a cancel is never late."""
        if self._loading is None:  # cancelled meanwhile
            return
        loading = self._loading
        found = self.panel.attempt(lambda: _next_of(loading))
        if self._loading is not loading:  # Slicer closed while a message was shown
            return
        if isinstance(found, float):
            self.progressed(_("Loading the results"), COMPUTED + (1.0 - COMPUTED) * found, "")
            qt.QTimer.singleShot(0, self._load_on)
            return
        self._loading = None
        shown = found is not None and self.panel.attempt(lambda: self.panel.show_results(found) or True)
        self._finish(self.current, _outcome(self.current) if shown else nothing_done())

    def _withdraw(self) -> None:
        """End the loading; neither nodes nor files are left of the results."""
        loading, self._loading = self._loading, None
        loading.close()
        self.current.withdraw()
        self._finish(self.current, _outcome(self.current))

    def _finish(self, run: StudyRun, outcome: str) -> None:
        """Show that a run is over and what came of it."""
        self.ui.remainingLabel.setText("")
        self.current = None
        self.ui.progressBar.setVisible(False)
        self.ui.stageLabel.setText(outcome)
        self.log(outcome)
        self.panel.refresh_enabled()
        if run.failure is not None:
            messages.show(run.failure)

    def _apply_or_cancel(self) -> None:
        if self._loading is not None:
            self._withdraw()
            return
        if self.current is not None:
            self.current.cancel()
            self.refresh()
            return
        problem = self.panel.time_points.problem()
        if problem:
            messages.show(Failure(problem, "", messages.BAD_INPUT))
            return
        if self.panel.attempt(lambda: requirements.ensure(self.panel.logic.requirements_path())):
            folder = self.panel.parameters.resultsFolder.strip()
            settings, keep_in = self.panel.settings.job_settings(), Path(folder) if folder else None
            self.start(inputs.analysis(self.panel.time_points.rows, settings, keep_in))

    def _look(self) -> None:
        """Say so when the worker has been silent for long: it may be stuck, and the user may cancel."""
        if self.current is None or not self.current.running:
            return
        silent = time.monotonic() - self.current.last_sign
        if silent > SILENT_SECONDS:
            self.ui.remainingLabel.setText(
                _("no news for {minutes} min; Cancel ends it").format(minutes=round(silent / 60))
            )


def _next_of(loading: Generator[float, None, ShownStudy]) -> float | ShownStudy:
    """The share that is loaded by now, or, at the end, the study."""
    try:
        return next(loading)
    except StopIteration as end:
        return end.value


def _outcome(run: StudyRun) -> str:
    if run.state == "done":
        done = _("Done.") if run.reliable else _("Done; a registration did not pass its quality check, see Quality.")
        return done
    return _("Cancelled; nothing was changed.") if run.state == "cancelled" else nothing_done()


def nothing_done() -> str:
    """What a run that failed leaves."""
    return _("Not done; nothing was changed.")
