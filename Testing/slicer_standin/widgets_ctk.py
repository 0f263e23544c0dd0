"""Stand-ins of the CTK widgets that the panel uses, with their documented properties, methods and signals."""

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

_HEADER = 24


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A titled box whose contents a click on the title hides."""

    SIGNALS = ("contentsCollapsed(bool)",)
    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._collapsed = False
        self.setContentsMargins(1, _HEADER + 2, 1, 1)
        self.setFocusPolicy(QtCore.Qt.StrongFocus)
        self.clicked.connect(lambda: self.setCollapsed(not self._collapsed))

    def _is_collapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, value: bool) -> None:
        if value == self._collapsed:
            return
        self._collapsed = bool(value)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not self._collapsed)
        self.setMaximumHeight(_HEADER + 4 if self._collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(self._collapsed)

    collapsed = Property(bool, _is_collapsed, setCollapsed)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        if self._collapsed and event.added() and event.child().isWidgetType():
            event.child().setVisible(False)

    def sizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        inner = layout.sizeHint() if layout is not None and not self._collapsed else QtCore.QSize(120, 0)
        return QtCore.QSize(inner.width() + 2, inner.height() + _HEADER + 4)

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        inner = layout.minimumSize() if layout is not None and not self._collapsed else QtCore.QSize(120, 0)
        return QtCore.QSize(inner.width() + 2, inner.height() + _HEADER + 4)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        palette = self.palette
        header = QtCore.QRect(0, 0, self.width, _HEADER)
        painter.fillRect(header, palette.color(QtGui.QPalette.Button).darker(106))
        painter.setPen(palette.color(QtGui.QPalette.Mid))
        painter.drawRect(self.rect.adjusted(0, 0, -1, -1))
        painter.setPen(palette.color(QtGui.QPalette.ButtonText))
        arrow = "▸" if self._collapsed else "▾"
        painter.drawText(header.adjusted(8, 0, -8, 0), QtCore.Qt.AlignVCenter, f"{arrow}  {self.text}")
        if self.hasFocus():
            option = QtWidgets.QStyleOptionFocusRect()
            option.initFrom(self)
            option.rect = header.adjusted(1, 1, -1, -1)
            self.style().drawPrimitive(QtWidgets.QStyle.PE_FrameFocusRect, option, painter, self)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that can be folded."""

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self.setCheckable(True)
        self.toggled.connect(self._show)

    def _show(self, expanded: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(expanded)
        self.setFlat(not expanded)
        self.setMaximumHeight(16777215 if expanded else self.fontMetrics().height() + 6)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        if not self.isChecked() and event.added() and event.child().isWidgetType():
            event.child().setVisible(False)

    def _is_collapsed(self) -> bool:
        return not self.isChecked()

    def setCollapsed(self, value: bool) -> None:
        self.setChecked(not value)
        self._show(not value)

    collapsed = Property(bool, _is_collapsed, setCollapsed)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box."""

    SIGNALS = ("valueChanged(double)",)
    valueChanged = Signal(float)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        self._slider.setRange(0, 1000)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self._from_spin)
        self._slider.valueChanged.connect(self._from_slider)
        self.setFocusProxy(self._spin)

    def _from_spin(self, value: float) -> None:
        low, high = self._spin.property("minimum"), self._spin.property("maximum")
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round(1000 * (value - low) / (high - low or 1)))
        self._slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    def _from_slider(self, position: int) -> None:
        low, high = self._spin.property("minimum"), self._spin.property("maximum")
        self._spin.setValue(low + (high - low) * position / 1000)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def _spin_property(name: str, kind: type) -> Property:
        return Property(kind, lambda self: self._spin.property(name), lambda self, v: self._spin.setProperty(name, v))

    value = _spin_property("value", float)
    minimum = _spin_property("minimum", float)
    maximum = _spin_property("maximum", float)
    singleStep = _spin_property("singleStep", float)
    decimals = _spin_property("decimals", int)
    suffix = _spin_property("suffix", str)


class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes for a range."""

    SIGNALS = ("valuesChanged(double,double)",)
    valuesChanged = Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._low, self._high = QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)
        for spin in (self._low, self._high):
            layout.addWidget(spin)
            spin.valueChanged.connect(lambda _: self.valuesChanged.emit(*self._values()))
        self.setFocusProxy(self._low)

    def _values(self) -> tuple[float, float]:
        return self._low.property("value"), self._high.property("value")

    def setRange(self, low: float, high: float) -> None:
        for spin in (self._low, self._high):
            spin.setRange(low, high)

    def setValues(self, low: float, high: float) -> None:
        blocked = self.blockSignals(True)
        self._low.setValue(low)
        self._high.setValue(high)
        self.blockSignals(blocked)
        self.valuesChanged.emit(low, high)

    def _both(name: str, kind: type) -> Property:
        def write(self: "ctkRangeWidget", value: float) -> None:
            self._low.setProperty(name, value)
            self._high.setProperty(name, value)

        return Property(kind, lambda self: self._low.property(name), write)

    minimum = _both("minimum", float)
    maximum = _both("maximum", float)
    singleStep = _both("singleStep", float)
    decimals = _both("decimals", int)
    suffix = _both("suffix", str)
    minimumValue = Property(float, lambda self: self._values()[0], lambda self, v: self._low.setValue(v))
    maximumValue = Property(float, lambda self: self._values()[1], lambda self, v: self._high.setValue(v))


class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path with a button to choose it."""

    SIGNALS = ("currentPathChanged(QString)",)
    currentPathChanged = Signal(str)
    Files, Dirs = 0x002, 0x001

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._line, self._button = QtWidgets.QLineEdit(self), QtWidgets.QToolButton(self)
        self._button.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(self._button)
        self._line.textChanged.connect(self.currentPathChanged)
        self._filters, self._setting = 0, ""
        self.setFocusProxy(self._line)

    def _path(self) -> str:
        return self._line.property("text")

    def setCurrentPath(self, path: str) -> None:
        self._line.setText(path)

    currentPath = Property(str, _path, setCurrentPath)
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
    settingKey = Property(str, lambda self: self._setting, lambda self, value: setattr(self, "_setting", value))


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box."""


CLASSES = {
    cls.__name__: cls
    for cls in (
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkSliderWidget,
        ctkRangeWidget,
        ctkPathLineEdit,
        ctkMessageBox,
    )
}
