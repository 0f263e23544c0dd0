"""PySide6 made to speak PythonQt's dialect, as far as the panel uses it.

In Slicer, Qt is reached through PythonQt: a Q_PROPERTY is an attribute (``button.enabled = False``, ``spin.value``),
``button.connect("clicked(bool)", f)`` connects a signal by its C++ signature, and ``name`` is the object's name. What a
property hides in PythonQt (``label.text()``) is hidden here too. It is stricter than PythonQt, which only prints on an
unknown signal: here that is an error.
"""

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from slicer_standin import ui_file

_MODULES = (QtCore, QtGui, QtWidgets)
# Names that PythonQt offers as a static function although a property is called so too.
_NOT_ATTRIBUTES = {("QTimer", "singleShot")}
# Virtual functions: Qt asks Python for an override of that name and would find the attribute.
_VIRTUAL = {"sizeHint", "minimumSizeHint"}


def qt_module() -> types.ModuleType:
    """A module ``qt`` with the classes of QtCore, QtGui and QtWidgets, in PythonQt's dialect."""
    module = types.ModuleType("qt")
    for source in _MODULES:
        for name in dir(source):
            if not name.startswith("_"):
                setattr(module, name, getattr(source, name))
    for cls in _qobject_classes():
        properties_as_attributes(cls)
    _signals_by_signature()
    QtCore.QObject.name = property(lambda self: self.property("objectName"), QtCore.QObject.setObjectName)
    QtCore.QObject.className = lambda self: type(self).__name__
    QtCore.QObject.delete = QtCore.QObject.deleteLater
    for cls in (QtCore.QEventLoop, QtWidgets.QDialog):
        cls.exec_ = cls.exec  # so PythonQt calls it, `exec` having been a keyword of Python 2
    return module


def properties_as_attributes(cls: type) -> None:
    """Put every Q_PROPERTY that a class itself declares on it as an attribute."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if (cls.__name__, name) not in _NOT_ATTRIBUTES and name not in _VIRTUAL:
            setattr(cls, name, _attribute(name))


def _attribute(name: str) -> property:
    def read(self: QtCore.QObject) -> Any:
        return QtCore.QObject.property(self, name)

    def write(self: QtCore.QObject, value: Any) -> None:
        if not QtCore.QObject.setProperty(self, name, value):
            raise ValueError(f"{type(self).__name__}.{name} does not take {value!r}")

    return property(read, write)


def _qobject_classes() -> Iterator[type]:
    for module in _MODULES:
        for name in dir(module):
            cls = getattr(module, name)
            if inspect.isclass(cls) and issubclass(cls, QtCore.QObject):
                yield cls


def _signals_by_signature() -> None:
    """Let every QObject have PythonQt's ``connect`` and ``disconnect``.

    Setting these as attributes does not do: PySide finds its own first. Each class is looked up in its own way, which
    is kept for all other names.
    """
    own = {cls: cls.__getattribute__ for cls in _qobject_classes()}
    for cls, plain in own.items():
        cls.__getattribute__ = _with_signals(plain)


def _with_signals(plain: Callable) -> Callable:
    def get(self: QtCore.QObject, name: str) -> Any:
        if name == "connect":
            return lambda *arguments: _connect(self, plain, *arguments)
        if name == "disconnect":
            return lambda signature, slot: _signal(self, signature).disconnect(slot)
        return plain(self, name)

    return get


def _connect(sender: QtCore.QObject, plain: Callable, *arguments: Any) -> Any:
    """PythonQt's connect of a signature and a slot; PySide's own calls, as in QTimer.singleShot, go to PySide."""
    if len(arguments) == 2 and callable(arguments[1]) and arguments[0][:1].isalpha():
        return _signal(sender, arguments[0]).connect(_taking(*arguments))
    return plain(sender, "connect")(*arguments)


def _taking(signature: str, slot: Callable) -> Callable:
    """A slot for a signal without arguments: PySide would give it the default ones, as `clicked()` has."""
    return (lambda *_ignored: slot()) if signature.endswith("()") else slot


def _signal(sender: QtCore.QObject, signature: str) -> Any:
    """The bound signal of a C++ signature such as "clicked(bool)"; AttributeError where the class has none of it."""
    name, _, arguments = signature.partition("(")
    meta = sender.metaObject()
    declared = [
        bytes(meta.method(i).methodSignature()).decode()
        for i in range(meta.methodCount())
        if meta.method(i).methodType() == QtCore.QMetaMethod.Signal
    ]
    # Signals that a stand-in declares in Python carry any object; their documented signatures are kept beside them.
    documented = {text for cls in type(sender).__mro__ for text in getattr(cls, "SIGNALS", ())}
    if signature.replace(" ", "") not in {text.replace(" ", "") for text in documented | set(declared)}:
        raise AttributeError(f"{type(sender).__name__} has no signal {signature}; it has {sorted(declared)}")
    signal = getattr(sender, name)
    if arguments != ")" and signature in declared and sum(text.startswith(f"{name}(") for text in declared) > 1:
        return signal[arguments.rstrip(")")]
    return signal


class UiLoader(QtUiTools.QUiLoader):
    """A QUiLoader that makes the stand-ins of ctk and MRML widgets, and their connections."""

    classes: ClassVar[dict[str, type]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._made: list[QtWidgets.QWidget] = []

    def createWidget(self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> Any:
        if class_name in self.classes:
            widget = self.classes[class_name](parent)
            widget.setObjectName(name)
        else:
            widget = super().createWidget(class_name, parent, name)
        self._made.append(widget)
        return widget

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        path = file.fileName()
        buffer = QtCore.QBuffer()
        buffer.setData(ui_file.without_mrml_connections(path))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        widget.kept = self._made  # Qt owns them, but their Python halves would be collected
        for sender, signal, receiver, slot in ui_file.connections(path):
            source, target = _find(widget, sender), _find(widget, receiver)
            _signal(source, signal).connect(getattr(target, slot.partition("(")[0]))
        return widget


def _find(widget: QtWidgets.QWidget, name: str) -> QtWidgets.QWidget:
    found = widget if widget.name == name else widget.findChild(QtWidgets.QWidget, name)
    if found is None:
        raise ValueError(f"the .ui file connects {name}, which it does not have")
    return found
