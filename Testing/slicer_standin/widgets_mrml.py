"""Stand-ins of the MRML widgets that the panel uses, with their documented properties, methods and signals."""

from typing import Any

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal
from shiboken6 import isValid

_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent")


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene and hands it on."""

    SIGNALS = ("mrmlSceneChanged(vtkMRMLScene*)",)
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qSlicerWidget(qMRMLWidget):
    """As qMRMLWidget."""


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A choice of one of the scene's nodes."""

    SIGNALS = ("currentNodeChanged(vtkMRMLNode*)", "currentNodeChanged(bool)", "currentNodeIDChanged(QString)")
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._combo.setMinimumContentsLength(8)
        self._scene, self._observers, self._ids = None, [], []
        self._types: list[str] = []
        self._flags = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
        }
        self._none = "None"
        self._combo.currentIndexChanged.connect(self._chosen)
        self.setFocusProxy(self._combo)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._observers = []
        if scene is not None:
            self._observers = [scene.AddObserver(getattr(scene, event), self._refresh) for event in _EVENTS]
        self._refresh()

    def currentNode(self) -> Any:
        index = self._combo.property("currentIndex")
        node_id = self._ids[index] if 0 <= index < len(self._ids) else ""
        return self._scene.GetNodeByID(node_id) if node_id and self._scene else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        if node_id in self._ids:
            self._combo.setCurrentIndex(self._ids.index(node_id))

    def _node_id(self) -> str:
        node = self.currentNode()
        return node.GetID() if node is not None else ""

    def _refresh(self, *_: Any) -> None:
        if not isValid(self):  # Qt has deleted it, the scene still knows it
            return
        before = self._node_id() if self._ids else ""
        nodes = []
        for kind in self._types if self._scene is not None else ():
            nodes += [self._scene.GetNthNodeByClass(i, kind) for i in range(self._scene.GetNumberOfNodesByClass(kind))]
        nodes = [n for n in nodes if self._flags["showHidden"] or not n.GetHideFromEditors()]
        if not self._flags["showChildNodeTypes"]:
            nodes = [n for n in nodes if n.GetClassName() in self._types]
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        self._ids = ([""] if self._flags["noneEnabled"] else []) + [n.GetID() for n in nodes]
        self._combo.addItems(([self._none] if self._flags["noneEnabled"] else []) + [n.GetName() for n in nodes])
        if before in self._ids:
            self._combo.setCurrentIndex(self._ids.index(before))
        self._combo.blockSignals(blocked)
        if self._node_id() != before:
            self._chosen()

    def _chosen(self, *_: Any) -> None:
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(self._node_id())

    def _flag(name: str) -> Property:
        def write(self: "qMRMLNodeComboBox", value: bool) -> None:
            self._flags[name] = value
            self._refresh()

        return Property(bool, lambda self: self._flags[name], write)

    def _set_types(self, types: list[str]) -> None:
        self._types = [kind for kind in types if kind]
        self._refresh()

    def _set_none(self, text: str) -> None:
        self._none = text
        self._refresh()

    noneEnabled = _flag("noneEnabled")
    addEnabled = _flag("addEnabled")
    removeEnabled = _flag("removeEnabled")
    editEnabled = _flag("editEnabled")
    renameEnabled = _flag("renameEnabled")
    showHidden = _flag("showHidden")
    showChildNodeTypes = _flag("showChildNodeTypes")
    selectNodeUponCreation = _flag("selectNodeUponCreation")
    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    noneDisplay = Property(str, lambda self: self._none, _set_none)
    currentNodeID = Property(str, _node_id, setCurrentNodeID)


CLASSES = {cls.__name__: cls for cls in (qMRMLWidget, qSlicerWidget, qMRMLNodeComboBox)}
