"""A stand-in of ``slicer.parameterNodeWrapper`` for the types that the module's parameter node has.

Values live in a real vtkMRMLScriptedModuleNode, as text or as node references, so that they are saved with a scene.
"""

import dataclasses
import types
import typing
from typing import Any

import slicer
import vtk

PROPERTY = "SlicerParameterName"


@dataclasses.dataclass(frozen=True)
class WithinRange:
    """An annotation: the least and the largest value."""

    minimum: float
    maximum: float


class _Field:
    def __init__(self, name: str, kind: Any, default: Any):
        self.name, self.default, self.range = name, default, None
        if typing.get_origin(kind) is typing.Annotated:
            kind, *notes = typing.get_args(kind)
            self.range = next((note for note in notes if isinstance(note, WithinRange)), None)
        self.kind = kind

    @property
    def is_node(self) -> bool:
        return isinstance(self.kind, type) and issubclass(self.kind, slicer.vtkMRMLNode)

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.kind is bool:
            return text == "True"
        return self.kind(text)

    def write(self, node: Any, value: Any) -> None:
        if self.is_node:
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, self.kind) and not (self.kind is float and isinstance(value, int)):
            raise TypeError(f"{self.name} takes {self.kind.__name__}, not {value!r}")
        if self.range is not None and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"{self.name}: {value} lies outside {self.range}")
        node.SetParameter(self.name, str(value))

    def write_default(self, node: Any) -> None:
        if not self.is_node and self.name not in node.GetParameterNamesAsCommaSeparatedList().split(","):
            self.write(node, self.default)


_READ = {
    "QCheckBox": ("checked", "toggled(bool)"),
    "QSpinBox": ("value", "valueChanged(int)"),
    "QDoubleSpinBox": ("value", "valueChanged(double)"),
    "ctkSliderWidget": ("value", "valueChanged(double)"),
    "QLineEdit": ("text", "textChanged(QString)"),
    "ctkPathLineEdit": ("currentPath", "currentPathChanged(QString)"),
}


def parameterNodeWrapper(cls: type) -> type:
    """Make a class of annotated fields the typed view of a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    defaults = {str: "", int: 0, float: 0.0, bool: False}
    fields = {name: _Field(name, kind, getattr(cls, name, None)) for name, kind in hints.items()}
    for item in fields.values():
        item.default = defaults.get(item.kind) if item.default is None else item.default

    def init(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode, self._guis, self._tag, self._updating = parameterNode, {}, 0, False
        for item in fields.values():
            item.write_default(parameterNode)

    def changed(self: Any, *_: Any) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for mapping in self._guis.values():
                for name, widget in mapping.items():
                    setattr(widget, _READ[type(widget).__name__][0], getattr(self, name))
        finally:
            self._updating = False

    def connect(self: Any, gui: Any) -> int:
        mapping = {}
        for widget in vars(gui).values():
            name = widget.property(PROPERTY)
            if name:
                if name not in fields:
                    raise ValueError(f"Cannot find a param with the given name: {name}")
                mapping[name] = widget
                if fields[name].range is not None:
                    widget.setRange(fields[name].range.minimum, fields[name].range.maximum)
        tag, self._tag = self._tag, self._tag + 1
        self._guis[tag] = mapping
        changed(self)
        for name, widget in mapping.items():
            attribute, signal = _READ[type(widget).__name__]

            def store(*_: Any, name: str = name, widget: Any = widget, attribute: str = attribute) -> None:
                if not self._updating and tag in self._guis:
                    setattr(self, name, getattr(widget, attribute))

            widget.connect(signal, store)
        self._observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: changed(self))
        return tag

    def property_of(item: _Field) -> property:
        return property(
            lambda self: item.read(self.parameterNode), lambda self, value: item.write(self.parameterNode, value)
        )

    for item in fields.values():
        setattr(cls, item.name, property_of(item))
    cls.__init__ = init
    cls.allParameters = fields
    cls.connectGui = connect
    cls.disconnectGui = lambda self, tag: self._guis.pop(tag, None)
    cls.default = lambda self, name: types.SimpleNamespace(value=fields[name].default)
    cls.StartModify = lambda self: self.parameterNode.StartModify()
    cls.EndModify = lambda self, before: self.parameterNode.EndModify(before)
    cls.AddObserver = lambda self, event, f, priority=0.0: self.parameterNode.AddObserver(event, f, priority)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.Modified = lambda self: self.parameterNode.Modified()
    return cls


def wrapper_module() -> types.ModuleType:
    """The module ``slicer.parameterNodeWrapper``."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    module.parameterNodeWrapper, module.WithinRange = parameterNodeWrapper, WithinRange
    return module
