"""Can the registration be trusted: the verdict with its reasons, figures of merit, comparisons, landmark errors."""

import html
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from LungRecoveryLib.gui.colours import colour_of

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel

_FLICKER_MS = 500


def modes() -> dict[str, str]:
    """How two scans can be compared: {mode: title}."""
    return {
        "": _("Off"),
        "fade": _("Fade"),
        "flicker": _("Flicker"),
        "checkerboard": _("Checkerboard"),
        "difference": _("Difference (HU)"),
        "edges": _("Edges of the follow-up"),
    }


def verdicts() -> dict[str, str]:
    """The verdicts of the quality check, in words."""
    return {"pass": _("passed"), "review": _("to be reviewed"), "fail": _("failed")}


def reader_words() -> dict[str, str]:
    """What a reader has said of a verdict, in words beside it."""
    return {
        "accepted": _("accepted by the reader"),
        "usable": _("used on the reader's word"),
        "not usable": _("rejected by the reader"),
    }


class QualitySection:
    """The section "Quality"; it shows the time point that the results show."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        self._filling = False
        header = self.ui.qualityTable.horizontalHeader()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for mode, title in modes().items():
            self.ui.compareComboBox.addItem(title, mode)
        self.ui.compareComboBox.connect("currentIndexChanged(int)", lambda _i: self._compare())
        self.ui.fadeSlider.connect("valueChanged(int)", self._fade)
        self.ui.landmarkButton.connect("clicked()", self._measure_landmarks)
        self._flicker = qt.QTimer()
        self._flicker.setInterval(_FLICKER_MS)
        self._flicker.connect("timeout()", self._flick)
        self._lit = False

    def refresh(self) -> None:
        """Show the verdict and the measures of the selected follow-up."""
        shown = self.panel.shown
        self.ui.landmarkLabel.setText("")
        timepoint = shown.timepoint(self.panel.results.label) if shown is not None else None
        quality = timepoint.get("quality") if timepoint is not None else None
        for widget in (self.ui.compareComboBox, self.ui.landmarkButton):
            widget.setEnabled(quality is not None)
        self.ui.verdictLabel.setText(_verdict_text(timepoint, quality, self.panel.widget))
        self._show_warnings(shown.warnings(timepoint["label"]) if timepoint is not None else [])
        rows = measures(quality) if quality is not None else []
        table = self.ui.qualityTable
        table.setRowCount(len(rows))
        for row, (title, value, tip) in enumerate(rows):
            for column, text in enumerate((title, value)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(tip)
                table.setItem(row, column, item)
        self._update_fade()

    def _show_warnings(self, warnings: list[str]) -> None:
        colour = colour_of("review", self.panel.widget)
        lines = [f'<span style="color: {colour}">{html.escape(warning)}</span>' for warning in warnings]
        self.ui.warningsLabel.setText("<br>".join(lines))
        self.ui.warningsLabel.setVisible(bool(lines))

    def stop_comparing(self) -> None:
        """Go back to the overlay; the caller shows it."""
        self._flicker.stop()
        self._filling = True
        self.ui.compareComboBox.setCurrentIndex(0)
        self._filling = False
        self._update_fade()

    def close(self) -> None:
        """Stop what goes on by itself."""
        self._flicker.stop()

    @property
    def _mode(self) -> str:
        combo = self.ui.compareComboBox
        return combo.itemData(combo.currentIndex) if combo.currentIndex >= 0 else ""

    def _compare(self) -> None:
        from LungRecoveryLib import scene

        if self._filling or self.panel.shown is None:
            return
        self._flicker.stop()
        mode, nodes, label = self._mode, self.panel.shown.nodes, self.panel.results.label
        self._update_fade()
        if not mode:
            self.panel.results.show_overlay()
            return
        self.panel.attempt(lambda: scene.set_comparison(nodes, label, "fade" if mode == "flicker" else mode))
        if mode == "flicker":
            self._flicker.start()
        elif mode == "fade":
            self._fade(self.ui.fadeSlider.value)

    def _update_fade(self) -> None:
        for widget in (self.ui.fadeSlider, self.ui.fadeLabel):
            widget.setEnabled(self._mode == "fade")
        meaning = _meaning(self._mode)
        self.ui.compareHint.setText(meaning)
        self.ui.compareHint.setVisible(bool(meaning))

    def _fade(self, value: int) -> None:
        from LungRecoveryLib import scene

        if self.panel.shown is not None and self._mode == "fade":
            scene.set_foreground_opacity(self.panel.shown.nodes, value / 100)

    def _flick(self) -> None:
        from LungRecoveryLib import scene

        if self.panel.shown is None:
            self._flicker.stop()
            return
        self._lit = not self._lit
        scene.set_foreground_opacity(self.panel.shown.nodes, float(self._lit))

    def _measure_landmarks(self) -> None:
        from LungRecoveryLib import scene

        lists = [self.ui.baselinePointsSelector.currentNode(), self.ui.followupPointsSelector.currentNode()]
        problem = landmarks_problem(*lists)
        if problem:
            self.ui.landmarkLabel.setText(problem)
            return
        nodes, label = self.panel.shown.nodes, self.panel.results.label
        errors = self.panel.attempt(lambda: scene.landmark_errors(nodes, label, *lists))
        if errors is not None:
            text = _("{count} points: mean {mean:.2f} mm, SD {sd:.2f} mm, largest {largest:.2f} mm")
            self.ui.landmarkLabel.setText(
                text.format(count=len(errors), mean=errors.mean(), sd=errors.std(), largest=errors.max())
            )


def _meaning(mode: str) -> str:
    """What a comparison shows, in a sentence; empty for none."""
    if mode == "flicker":
        return _("The baseline and the follow-up in turn: what fits lies still.")
    if not mode:
        return ""
    from LungRecoveryLib.scene.comparison import meanings

    return meanings()[mode]


def landmarks_problem(baseline: Any, followup: Any) -> str:
    """What is wrong with two lists of points; empty where nothing is."""
    if baseline is None or followup is None:
        return _("Choose both lists of points.")
    if baseline is followup:
        return _("Choose two different lists.")
    counts = [node.GetNumberOfDefinedControlPoints() for node in (baseline, followup)]
    if min(counts) == 0:
        return _("Place points in both lists first.")
    if counts[0] != counts[1]:
        return _("The lists have {a} and {b} points: give each point in both, in the same order.").format(
            a=counts[0], b=counts[1]
        )
    return ""


def measures(quality: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The figures of merit: (title, value with unit, what it means)."""
    rows = (
        ("folds_percent", _("Folds"), "{:.3g} %", _("Share of the lung where the deformation folds (J ≤ 0)")),
        ("lung_dice", _("Lung overlap (Dice)"), "{:.3f}", _("1: the lungs cover each other")),
        ("lung_hd95_mm", _("Lung surfaces apart (HD95)"), "{:.1f} mm", _("95th percentile of the surface distance")),
        ("inverse_mean_mm", _("Inverse consistency, mean"), "{:.2f} mm", _("Forth and back again misses by this much")),
        ("inverse_p95_mm", _("Inverse consistency, 95th percentile"), "{:.2f} mm", _("95th percentile of that miss")),
        ("similarity_before", _("Similarity before"), "{:.3f}", _("Local correlation in the lung, 1 is alike")),
        ("similarity_after", _("Similarity after"), "{:.3f}", _("Local correlation in the lung, 1 is alike")),
        ("volume_ratio", _("Lung volume ratio"), "{:.3f}", _("Follow-up / baseline, from the lung masks")),
        ("mean_jacobian", _("Mean Jacobian"), "{:.3f}", _("The volume ratio that the deformation gives")),
    )
    found = [(title, pattern.format(quality[key]), tip) for key, title, pattern, tip in rows if _known(quality, key)]
    tre = quality.get("tre") or {}
    if isinstance(tre.get("mean"), int | float):
        found.append((_("Landmark error, mean"), f"{tre['mean']:.2f} mm", _("Of the landmarks given with the scan")))
    return found


def _known(quality: dict[str, Any], key: str) -> bool:
    return isinstance(quality.get(key), int | float)


def _verdict_text(timepoint: dict[str, Any] | None, quality: dict[str, Any] | None, widget: Any) -> str:
    if timepoint is None:
        return _("There are no results yet.")
    if quality is None:
        return _("The baseline is not registered; choose a follow-up under Results.")
    from LungRecoveryLib.results import standing_verdict

    counts = standing_verdict(quality, timepoint["reliable"])
    reader = quality.get("reader") or {}
    words = [verdicts()[quality["verdict"]], *([reader_words()[reader["verdict"]]] if reader else [])]
    text = f'<b style="color: {colour_of(counts, widget)}">' + _("{label}: {verdict}").format(
        label=html.escape(timepoint["label"]), verdict=", ".join(words)
    )
    comment = _("Reader: “{comment}”.").format(comment=reader["comment"]) if reader.get("comment") else ""
    said = [*quality["reasons"], comment, _consequence(counts)]
    return f"{text}</b><br>" + " ".join(html.escape(sentence) for sentence in said if sentence)


def _consequence(verdict: str) -> str:
    """What follows from a verdict for the reader, in a sentence; empty for a pass."""
    return {
        "review": _("Look at the scans under Compare before relying on maps and scores."),
        "fail": _("Every result that rests on this registration is marked unreliable."),
    }.get(verdict, "")
