"""What the Slicer application itself offers, as stand-ins: ``slicer.app``, ``slicer.modules``, dialogs, files, layouts.

They do nothing of their own: a dialog is noted in `Application.messages` and answered as a test says, a module selected
is noted, and a file is loaded by the real storage node.
"""

import importlib
import shutil
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer

LAYOUT_NODE = "vtkMRMLLayoutNodevtkMRMLLayoutNode"


class LayoutManager:
    """The layouts of views; which one is shown lies in the real layout node."""

    def __init__(self, app: "Application"):
        self._app = app

    @property
    def layout(self) -> int:
        return self.layoutLogic().GetLayoutNode().GetViewArrangement()

    def layoutLogic(self) -> Any:
        return self._app.layout_logic

    def setLayout(self, layout: int) -> None:
        self.layoutLogic().GetLayoutNode().SetViewArrangement(layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        return ("Red", "Yellow", "Green")


class Application:
    """``slicer.app``: the part of qSlicerApplication that the module touches."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.selected_modules: list[str] = []
        self.opened_urls: list[str] = []
        self.applicationName = "Slicer"
        self.majorVersion, self.minorVersion = 5, 10
        self.temporaryPath = tempfile.mkdtemp(prefix="slicer-standin-")
        self.slicerHome = ""
        self.logic = slicer.vtkSlicerApplicationLogic()
        home = Path(tempfile.mkdtemp(prefix="slicer-standin-home-"))
        (home / "share" / "ColorFiles").mkdir(parents=True)
        self._home = home
        self.logic.SetHomeDirectory(str(home))
        self.logic.SetShareDirectory("share")
        self.layout_logic = slicer.vtkMRMLLayoutLogic()
        self.slots: dict[str, list[Any]] = {"startupCompleted()": [], "aboutToQuit()": []}

    def connect(self, signal: str, slot: Any) -> None:
        self.slots[signal].append(slot)

    def set_scene(self, scene: Any) -> None:
        self.cache, self.files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        self.cache.SetRemoteCacheDirectory(str(self._home))
        self.cache.SetMRMLScene(scene)
        self.files.SetCacheManager(self.cache)
        scene.SetCacheManager(self.cache)
        scene.SetDataIOManager(self.files)
        self.logic.SetMRMLScene(scene)
        self.layout_logic.SetMRMLScene(scene)

    def applicationLogic(self) -> Any:
        return self.logic

    def layoutManager(self) -> LayoutManager:
        return LayoutManager(self)

    def moduleManager(self) -> "ModuleManager":
        return ModuleManager()

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def testingEnabled(self) -> bool:
        return False

    def processEvents(self) -> None:
        import qt

        qt.QApplication.processEvents()

    def topLevelWidgets(self) -> list[Any]:
        import qt

        return qt.QApplication.topLevelWidgets()

    def remove_files(self) -> None:
        """Delete the temporary folders, as leaving the application does."""
        for folder in (self.temporaryPath, self._home):
            shutil.rmtree(folder, ignore_errors=True)


class Module:
    """``slicer.modules.<name>``; a scripted one, which has a path, makes its panel when it is asked for first."""

    def __init__(self, path: str = "", logic: Any = None):
        self.path, self._logic, self._widget = path, logic, None

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> Any:
        if self._widget is None and self.path:
            name = Path(self.path).stem
            panel = getattr(importlib.import_module(name), f"{name}Widget")()
            self._widget = slicer.qSlicerScriptedLoadableModuleWidget(panel)
        return self._widget


class ModuleManager:
    """``slicer.app.moduleManager()``."""

    def module(self, name: str) -> Module | None:
        return getattr(slicer.modules, name.lower(), None)


def modules(app: Application) -> types.SimpleNamespace:
    """``slicer.modules`` with the real logics of the modules that the package slicer-core has."""
    found = types.SimpleNamespace()
    for name, logic in (
        ("volumes", slicer.vtkSlicerVolumesLogic),
        ("transforms", slicer.vtkSlicerTransformLogic),
        ("segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
        ("sequences", slicer.vtkSlicerSequencesLogic),
        ("colors", slicer.vtkSlicerColorLogic),
        ("markups", slicer.vtkSlicerMarkupsLogic),
        ("tables", slicer.vtkSlicerTablesLogic),
        ("plots", slicer.vtkSlicerPlotsLogic),
    ):
        made = logic()
        made.SetMRMLApplicationLogic(app.logic)
        setattr(found, name, Module(logic=made))
    return found


def connect_logics(found: types.SimpleNamespace, scene: Any) -> None:
    """Let the modules' logics work on a scene."""
    for module in vars(found).values():
        if module.logic() is not None:
            module.logic().SetMRMLScene(scene)


def patch_util(app: Application) -> None:
    """Replace what ``slicer.util`` does through the application: dialogs, loading and saving, selecting a module."""

    def note(kind: str) -> Any:
        def show(text: str, windowTitle: str | None = None, **options: Any) -> Any:
            app.messages.append({"kind": kind, "text": text, "title": windowTitle, **options})
            return app.answers.pop(0) if kind == "confirm" and app.answers else kind != "confirm"

        return show

    util = slicer.util
    util.errorDisplay, util.warningDisplay, util.infoDisplay = note("error"), note("warning"), note("info")
    util.confirmOkCancelDisplay = util.confirmYesNoDisplay = note("confirm")
    util.messageBox = note("message")
    util.selectModule = app.selected_modules.append
    util.mainWindow = lambda: None
    util.loadVolume = load_volume
    util.saveNode = save_node
    util.saveScene, util.loadScene = save_scene, load_scene


def load_volume(path: str | Path, properties: dict[str, Any] | None = None) -> Any:
    """The volume node of a file; RuntimeError where it cannot be read."""
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", Path(path).name.split(".")[0])
    if not storage.ReadData(node):
        slicer.mrmlScene.RemoveNode(node)
        raise RuntimeError(f"Failed to load node from file: {path}")
    return node


def save_node(node: Any, path: str | Path, properties: dict[str, Any] | None = None) -> bool:
    """Write a node by the storage node of its class."""
    storage = node.CreateDefaultStorageNode()
    storage.UnRegister(None)
    slicer.mrmlScene.AddNode(storage)
    storage.SetFileName(str(path))
    try:
        return bool(storage.WriteData(node))
    finally:
        slicer.mrmlScene.RemoveNode(storage)


def save_scene(path: str | Path, properties: dict[str, Any] | None = None) -> bool:
    """Write the scene as an .mrb file."""
    slicer.mrmlScene.SetRootDirectory(str(Path(path).parent))
    return bool(slicer.mrmlScene.WriteToMRB(str(path), None))


def load_scene(path: str | Path, properties: dict[str, Any] | None = None) -> bool:
    """Add what an .mrb file holds to the scene."""
    return bool(slicer.mrmlScene.ReadFromMRB(str(path), False))
