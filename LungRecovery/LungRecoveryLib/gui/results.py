"""The results: time point, overlay, legend, chart, and the table of regions that leads to where the lung changed."""

import contextlib
import html
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.gui.colours import colour_of

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel

_REACH = 4.0
_UNDEFINED = "–"


class ResultsSection:
    """The section "Results"."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        self._filling = False
        self.ui.studyComboBox.connect("currentIndexChanged(int)", self._study_chosen)
        self.ui.layoutButton.connect("clicked()", self.show_layout)
        self.ui.timePointSlider.connect("valueChanged(int)", self._time_point_moved)
        self.ui.overlayComboBox.connect("currentIndexChanged(int)", lambda _i: self._overlay_chosen())
        self.ui.opacitySlider.connect("valueChanged(double)", lambda _v: self.show_overlay())
        self.ui.rangeWidget.connect("valuesChanged(double,double)", self._range_changed)
        self.ui.autoRangeButton.connect("clicked()", self._default_range)
        self.ui.legendCheckBox.connect("toggled(bool)", lambda _on: self._show_legend())
        self.ui.linkViewsCheckBox.connect("toggled(bool)", self._link_views)
        self.ui.chartComboBox.connect("currentIndexChanged(int)", lambda _i: self._show_chart())
        self.ui.regionTable.connect("cellClicked(int,int)", lambda row, _column: self.jump_to_row(row))
        self.ui.regionTable.connect("cellActivated(int,int)", lambda row, _column: self.jump_to_row(row))

    @property
    def label(self) -> str:
        """The label of the time point that the slider stands at."""
        labels = self.panel.shown.nodes.labels
        return labels[min(self.ui.timePointSlider.value, len(labels) - 1)]

    @property
    def overlay(self) -> Any:
        """The overlay that is chosen; None for none."""
        combo = self.ui.overlayComboBox
        name = combo.itemData(combo.currentIndex) if combo.currentIndex >= 0 else None
        return next((o for o in self._overlays() if o.name == name), None)

    def refresh(self) -> None:
        """Fill the choices for the study that is shown, at the time point that the scene shows."""
        self._fill_studies()
        shown = self.panel.shown
        if shown is None:
            self.ui.regionTable.setRowCount(0)
            self.ui.cautionLabel.setVisible(False)
            return
        labels = shown.nodes.labels
        with self._filled():
            self.ui.timePointSlider.setRange(0, len(labels) - 1)
            self.ui.timePointSlider.setValue(labels.index(shown.nodes.selected))
            before = self.ui.overlayComboBox
            kept = before.itemData(before.currentIndex) if before.currentIndex >= 0 else "jacobian"
            self.ui.overlayComboBox.clear()
            self.ui.overlayComboBox.addItem(_("None"), "")
            for overlay in self._overlays():
                self.ui.overlayComboBox.addItem(overlay.title, overlay.name)
                index = self.ui.overlayComboBox.count - 1
                self.ui.overlayComboBox.setItemData(index, overlay.tooltip, qt.Qt.ToolTipRole)
            self.ui.overlayComboBox.setCurrentIndex(max(self.ui.overlayComboBox.findData(kept), 0))
            self.ui.chartComboBox.clear()
            for key, chart in shown.nodes.charts.items():
                self.ui.chartComboBox.addItem(chart.GetName(), key)
            self._show_range()
        self._time_point_shown()

    def show(self, label: str | None = None) -> None:
        """Show the study in the views, in its own layout, at a time point (default: the last one)."""
        from LungRecoveryLib import scene

        self.show_layout()
        scene.show_in_views(self.panel.shown.nodes, label)
        self.refresh()
        self._link_views(self.ui.linkViewsCheckBox.checked)

    def show_layout(self) -> None:
        """Switch to the layout "Lung recovery"."""
        from LungRecoveryLib import scene

        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(scene.add_layout(manager.layoutLogic().GetLayoutNode()))

    def jump_to_row(self, row: int) -> None:
        """Go to where the region of a row changed most, and outline the region."""
        from LungRecoveryLib import scene

        if self.panel.shown is None or not 0 <= row < self.ui.regionTable.rowCount:
            return
        nodes, region = self.panel.shown.nodes, self.ui.regionTable.item(row, 0).data(qt.Qt.UserRole)
        change = scene.change_map(nodes, self.overlay.name if self.overlay is not None else None)
        point = self.panel.attempt(lambda: scene.region_point(nodes, region, self.label, change))
        if point is not None:
            scene.jump_to(nodes.scene, point)
            scene.show_region(nodes, region)

    def fill_regions(self) -> None:
        """Fill the table of regions for the selected time point."""
        from LungRecoveryLib import scene

        shown, table = self.panel.shown, self.ui.regionTable
        if shown is None:
            return
        node, hidden = shown.nodes.timepoints[self.label].table, self.panel.settings.hidden_regions()
        rows = [(i, scene.region_of_row(node, i)) for i in range(node.GetNumberOfRows())]
        rows = [(i, region) for i, region in rows if region is not None and region not in hidden]
        worst = worst_region(shown.timepoint(self.label), shown.least_abnormal_percent)
        table.setColumnCount(node.GetNumberOfColumns())
        table.setHorizontalHeaderLabels([node.GetColumnName(c) for c in range(node.GetNumberOfColumns())])
        table.setRowCount(len(rows))
        for row, (source, region) in enumerate(rows):
            for column in range(node.GetNumberOfColumns()):
                item = qt.QTableWidgetItem(node.GetCellText(source, column) or _UNDEFINED)
                if column == 0:
                    item.setData(qt.Qt.UserRole, region)
                else:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                font = item.font()
                font.setBold(region == worst)
                item.setFont(font)
                table.setItem(row, column, item)
        table.resizeColumnsToContents()
        name = next((table.item(r, 0).text() for r, (_s, region) in enumerate(rows) if region == worst), "")
        hints = [_("Click a region to go to where it changed most.")]
        if name:
            hints.append(_("Most abnormal: {name}.").format(name=name))
        if "lobes" in shown.content["absent"]:
            hints.append(_("No lobes: {reason}.").format(reason=shown.content["absent"]["lobes"]))
        self.ui.regionHint.setText(" ".join(hints))

    # --------------------------------------------------------------------------------------------------------- private

    @contextlib.contextmanager
    def _filled(self):
        """Change widgets without acting on it."""
        before, self._filling = self._filling, True
        try:
            yield
        finally:
            self._filling = before

    def _overlays(self) -> list[Any]:
        from LungRecoveryLib import scene

        return scene.overlays(self.panel.shown.nodes) if self.panel.shown is not None else []

    def _fill_studies(self) -> None:
        with self._filled():
            combo = self.ui.studyComboBox
            combo.clear()
            for shown in self.panel.studies:
                combo.addItem(shown.name)
            if self.panel.shown is not None:
                combo.setCurrentIndex([s.name for s in self.panel.studies].index(self.panel.shown.name))

    def _study_chosen(self, index: int) -> None:
        if not self._filling and 0 <= index < len(self.panel.studies):
            self.panel.choose_study(self.panel.studies[index])
            self.show_overlay()

    def _time_point_moved(self, _value: int) -> None:
        if self._filling or self.panel.shown is None:
            return
        self.panel.quality.stop_comparing()
        self.show_overlay()
        self._time_point_shown()

    def _time_point_shown(self) -> None:
        from LungRecoveryLib import scene

        labels = self.panel.shown.nodes.labels
        self.ui.timePointLabel.setText(self.label if len(labels) < 2 else f"{self.label} ")
        self._show_caution()
        self.fill_regions()
        scene.show_table(self.panel.shown.nodes, self.label)
        self.panel.time_point_changed()

    def _show_caution(self) -> None:
        """Say beside maps and scores that the registration they rest on cannot be trusted."""
        timepoint = self.panel.shown.timepoint(self.label)
        reader = (timepoint.get("quality") or {}).get("reader") or {}
        why = _("the registration failed its quality check")
        if reader.get("verdict") == "not usable":
            why = _("the reader rejected the registration")
        text = _("Unreliable: {why}. Do not rely on maps and scores of {label}.").format(why=why, label=self.label)
        self.ui.cautionLabel.setText(text)
        self.ui.cautionLabel.setStyleSheet(f"font-weight: bold; color: {colour_of('fail', self.panel.widget)};")
        self.ui.cautionLabel.setVisible(not timepoint["reliable"])

    def _overlay_chosen(self) -> None:
        if self._filling or self.panel.shown is None:
            return
        self.panel.quality.stop_comparing()
        with self._filled():
            self._show_range()
        self.show_overlay()

    def show_overlay(self) -> None:
        """Show the chosen overlay at the chosen time point, with its opacity and range."""
        from LungRecoveryLib import scene

        if self._filling or self.panel.shown is None:
            return
        overlay = self.overlay
        name = overlay.name if overlay is not None else None
        scene.set_overlay(self.panel.shown.nodes, self.label, name, self.ui.opacitySlider.value)
        self._show_legend()

    def _show_range(self) -> None:
        """Let the range's widget stand at what the overlay's colours span; kinds of lesion have their colours there."""
        from LungRecoveryLib import scene

        overlay, shown = self.overlay, self.panel.shown
        has_range = overlay is not None and overlay.name in shown.nodes.maps
        kinds = overlay is not None and overlay.kind == "segments"
        for widget in (self.ui.rangeWidget, self.ui.autoRangeButton):
            widget.setEnabled(has_range)
            widget.setVisible(not kinds)
        self.ui.rangeUnitLabel.setText(_kinds_of_lesion() if kinds else overlay.unit if has_range else "")
        if has_range:
            low, high = scene.range_now(shown.nodes, overlay.name)
            self.ui.rangeWidget.decimals = overlay.decimals
            self.ui.rangeWidget.singleStep = overlay.step
            self.ui.rangeWidget.setRange(*reach(overlay, low, high))
            self.ui.rangeWidget.setValues(low, high)

    def _range_changed(self, low: float, high: float) -> None:
        from LungRecoveryLib import scene

        overlay = self.overlay
        if not self._filling and overlay is not None and low < high:
            scene.set_range(self.panel.shown.nodes, overlay.name, low, high)

    def _default_range(self) -> None:
        from LungRecoveryLib import scene

        overlay = self.overlay
        if overlay is not None and overlay.range is not None:
            scene.set_range(self.panel.shown.nodes, overlay.name, *overlay.range)
            with self._filled():
                self._show_range()

    def _show_legend(self) -> None:
        overlay = self.overlay
        if self._filling or self.panel.shown is None:
            return
        for name, legend in self.panel.shown.nodes.legends.items():
            legend.SetVisibility(overlay is not None and name == overlay.name and self.ui.legendCheckBox.checked)

    def _link_views(self, linked: bool) -> None:
        from LungRecoveryLib import scene

        if self.panel.shown is not None and not self._filling:
            scene.set_linked(self.panel.shown.nodes, linked)

    def _show_chart(self) -> None:
        from LungRecoveryLib import scene

        combo = self.ui.chartComboBox
        if not self._filling and self.panel.shown is not None and combo.currentIndex >= 0:
            scene.show_chart(self.panel.shown.nodes, combo.itemData(combo.currentIndex))


def _kinds_of_lesion() -> str:
    """The kinds of lesion beside their colours, as rich text."""
    from LungRecoveryLib.scene import segmentations

    titles = segmentations.lesion_titles()
    return "&nbsp; ".join(
        '<span style="color: #{:02x}{:02x}{:02x}">■</span>&nbsp;{}'.format(
            *(round(255 * c) for c in colour), html.escape(titles[kind])
        )
        for kind, colour in segmentations.lesion_colours().items()
    )


def reach(overlay: Any, low: float, high: float) -> tuple[float, float]:
    """How far the range of an overlay can be moved: some times what its colours span at first, and what they do now."""
    first = overlay.range or (low, high)
    highest = max(_REACH * max(abs(value) for value in first), high)
    if overlay.kind == "likeness":
        return 0.0, 1.0
    return (0.0 if overlay.kind in ("ratio", "amount") else min(-highest, low)), highest


def worst_region(timepoint: dict[str, Any], least_percent: float) -> str | None:
    """The region, smaller than a lung, with the largest abnormal share at a time point; None where none has enough."""
    shares = {
        region: measures.get("abnormal_percent") or 0.0
        for region, measures in timepoint["density"].items()
        if region not in ("lungs", "right", "left")
    }
    worst = max(shares, key=shares.get, default=None)
    return worst if worst is not None and shares[worst] >= least_percent else None
