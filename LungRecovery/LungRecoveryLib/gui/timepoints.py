"""The table of time points: adding, ordering, naming and dating scans, and the lungs that come with them."""

from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.gui import rows as model
from LungRecoveryLib.gui.colours import colour_of
from LungRecoveryLib.gui.rows import Row

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel

_SCAN, _LABEL, _WHEN, _LUNGS = range(4)


class TimePointsSection:
    """The section "Time points"; its rows live in the parameter node."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        self._filling = False
        header = self.ui.timePointTable.horizontalHeader()
        for column, mode in ((_SCAN, qt.QHeaderView.Stretch), (_LUNGS, qt.QHeaderView.Stretch)):
            header.setSectionResizeMode(column, mode)
        self.ui.timePointTable.connect("itemChanged(QTableWidgetItem*)", self._edited)
        self.ui.timePointTable.connect("itemSelectionChanged()", self._update_buttons)
        for button, slot in (
            (self.ui.addVolumeButton, self._add_chosen),
            (self.ui.addAllVolumesButton, self._add_all),
            (self.ui.addDicomButton, self._add_dicom),
            (self.ui.addFilesButton, self._add_files),
            (self.ui.upButton, lambda: self._move(-1)),
            (self.ui.downButton, lambda: self._move(1)),
            (self.ui.orderButton, self._order),
            (self.ui.removeButton, self._remove),
        ):
            button.connect("clicked()", slot)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda _node: self._update_buttons())

    @property
    def rows(self) -> list[Row]:
        """The rows as the parameter node keeps them."""
        parameters = self.panel.parameters
        return model.read_rows(parameters.parameterNode) if parameters is not None else []

    def set_rows(self, rows: list[Row]) -> None:
        """Keep other rows and show them."""
        if self.panel.parameters is not None:
            model.write_rows(self.panel.parameters.parameterNode, rows)
        self.refresh()
        self.panel.inputs_changed()

    def add(self, volumes: list[Any]) -> None:
        """Add volumes at the end, each with the date that DICOM gives."""
        self.set_rows(self.rows + [Row(volume, when=model.study_date(volume)) for volume in volumes])

    def problem(self) -> str:
        """What stands in the way of an analysis; empty where nothing does."""
        parameters = self.panel.parameters
        try:
            model.check_rows(self.rows, parameters is not None and parameters.allowDifferentPatients)
        except BadInput as error:
            return str(error)
        return ""

    def refresh(self) -> None:
        """Show the rows as they are now."""
        rows, table = self.rows, self.ui.timePointTable
        selected = table.currentRow()
        self._filling = True
        try:
            self._hide_selectors()
            table.setRowCount(len(rows))
            for index, (row, label) in enumerate(zip(rows, model.labels_of(rows), strict=True)):
                self._show_row(index, row, label)
        finally:
            self._filling = False
        if rows:
            table.selectRow(min(max(selected, 0), len(rows) - 1))
        self._update_buttons()
        self.show_problem()

    def show_problem(self) -> None:
        """Say below the table what is still missing."""
        problem = self.problem()
        self.ui.timePointsMessage.setText(problem)
        red = f"color: {colour_of('fail', self.panel.widget)};"
        self.ui.timePointsMessage.setStyleSheet(red if self.rows else "")
        self.ui.timePointsMessage.setVisible(bool(problem))

    def _show_row(self, index: int, row: Row, label: str) -> None:
        table = self.ui.timePointTable
        scan = qt.QTableWidgetItem(row.volume.GetName())
        scan.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
        scan.setToolTip(_("The baseline, which the others are compared with") if index == 0 else row.volume.GetName())
        font = scan.font()
        font.setBold(index == 0)
        scan.setFont(font)
        table.setItem(index, _SCAN, scan)
        named = qt.QTableWidgetItem(label)
        if not row.label.strip():
            named.setForeground(qt.QBrush(qt.QColor(colour_of("quiet", self.panel.widget))))
            named.setToolTip(_("Named automatically; double-click to give another name. Write no patient names."))
        table.setItem(index, _LABEL, named)
        when = qt.QTableWidgetItem(row.when)
        when.setToolTip(_("The date as YYYY-MM-DD, or the number of days since the baseline"))
        table.setItem(index, _WHEN, when)
        table.setCellWidget(index, _LUNGS, self._lungs_selector(index, row))

    def _hide_selectors(self) -> None:
        """Hide the selectors that are replaced: Qt removes them only when it next has time."""
        for index in range(self.ui.timePointTable.rowCount):
            selector = self.ui.timePointTable.cellWidget(index, _LUNGS)
            if selector is not None:
                selector.setVisible(False)

    def _lungs_selector(self, index: int, row: Row) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"]
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.noneEnabled = True
        selector.noneDisplay = _("find them")
        selector.toolTip = _("A segmentation or label map of the lungs of this scan; by default they are found.")
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setCurrentNode(row.lungs)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._choose_lungs(index, node))
        return selector

    def _choose_lungs(self, index: int, node: Any) -> None:
        rows = self.rows
        if self._filling or index >= len(rows) or rows[index].lungs is node:
            return
        rows[index].lungs = node
        model.write_rows(self.panel.parameters.parameterNode, rows)
        self.show_problem()
        self.panel.inputs_changed()

    def _edited(self, item: Any) -> None:
        if self._filling:
            return
        rows = self.rows
        row, text = rows[item.row()], item.text().strip()
        if item.column() == _LABEL:
            row.label = "" if text == model.labels_of(rows)[item.row()] and not row.label else text
        elif item.column() == _WHEN:
            row.when = text
        # The table may not be filled anew while it still edits the cell.
        model.write_rows(self.panel.parameters.parameterNode, rows)
        qt.QTimer.singleShot(0, self._refresh_after_edit)

    def _refresh_after_edit(self) -> None:
        self.refresh()
        self.panel.inputs_changed()

    def _add_chosen(self) -> None:
        node = self.ui.volumeSelector.currentNode()
        if node is not None:
            self.add([node])

    def _add_all(self) -> None:
        from LungRecoveryLib.gui.shown import is_result

        known = {row.volume.GetID() for row in self.rows}
        found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        self.add(
            [
                node
                for node in found
                if node.GetID() not in known and not node.IsA("vtkMRMLLabelMapVolumeNode") and not is_result(node)
            ]
        )

    def _add_dicom(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.panel.widget, _("Folder of a DICOM study"))
        if folder:
            self._load([folder])

    def _add_files(self) -> None:
        chosen = qt.QFileDialog.getOpenFileNames(
            self.panel.widget, _("CT scans"), "", _("Scans") + " (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd)"
        )
        # PythonQt gives the names alone, PySide the names and the filter.
        paths = list(chosen[0] if isinstance(chosen, tuple) and chosen and not isinstance(chosen[0], str) else chosen)
        if paths:
            self._load(paths)

    def _load(self, paths: list[str]) -> None:
        from LungRecoveryLib.gui.loading import load_scans

        with self.panel.busy():
            loaded = self.panel.attempt(lambda: load_scans(paths))
        if loaded is not None:
            nodes, warnings = loaded
            self.add(nodes)
            for warning in warnings:
                self.panel.run.log(warning)

    def _move(self, step: int) -> None:
        rows, index = self.rows, self.ui.timePointTable.currentRow()
        other = index + step
        if 0 <= index < len(rows) and 0 <= other < len(rows):
            rows[index], rows[other] = rows[other], rows[index]
            self.set_rows(rows)
            self.ui.timePointTable.selectRow(other)

    def _order(self) -> None:
        order = model.order_of(self.rows)
        if order is not None:
            rows = self.rows
            self.set_rows([rows[i] for i in order])

    def _remove(self) -> None:
        rows, index = self.rows, self.ui.timePointTable.currentRow()
        if 0 <= index < len(rows):
            del rows[index]
            self.set_rows(rows)

    def _update_buttons(self) -> None:
        rows, index = self.rows, self.ui.timePointTable.currentRow()
        chosen = 0 <= index < len(rows)
        self.ui.removeButton.setEnabled(chosen)
        self.ui.upButton.setEnabled(chosen and index > 0)
        self.ui.downButton.setEnabled(chosen and index < len(rows) - 1)
        self.ui.orderButton.setEnabled(model.order_of(rows) is not None and len(rows) > 1)
        self.ui.addVolumeButton.setEnabled(self.ui.volumeSelector.currentNode() is not None)
