"""Stand-ins of ``slicer.ScriptedLoadableModule`` and ``slicer.i18n``: what a scripted module inherits and imports."""

import contextlib
import types
import unittest
from pathlib import Path
from typing import Any

import slicer


class ScriptedLoadableModule:
    """What Slicer reads of a module; `parent` takes title, categories, ..."""

    def __init__(self, parent: Any):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / name)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return ""


class ScriptedLoadableModuleWidget:
    """The panel of a module: a parent widget and its layout."""

    def __init__(self, parent: Any = None):
        import qt

        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            parent = slicer.qMRMLWidget()
            parent.setLayout(qt.QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
            self.parent, self.layout = parent, parent.layout()
            self.setup()
            parent.show()
        else:
            self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass


class ModuleWidget:
    """``slicer.qSlicerScriptedLoadableModuleWidget``: what Slicer shows of a scripted module's panel."""

    def __init__(self, panel: ScriptedLoadableModuleWidget):
        self._panel = panel

    def self(self) -> ScriptedLoadableModuleWidget:
        return self._panel


class ScriptedLoadableModuleLogic:
    """What a module computes, and its parameter node."""

    def __init__(self, parent: Any = None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's own test; `runTest` runs every method whose name starts with test_."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.messageDelay = 100

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        pass

    def runTest(self) -> None:
        raise NotImplementedError


def scripted_module() -> types.ModuleType:
    """The module ``slicer.ScriptedLoadableModule``."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for cls in classes:
        setattr(module, cls.__name__, cls)
    module.__all__ = [cls.__name__ for cls in classes]
    return module


_LANGUAGE: dict[str, str] = {}


def i18n_module() -> types.ModuleType:
    """The module ``slicer.i18n``; `pseudo_language` makes it answer in another language."""
    module = types.ModuleType("slicer.i18n")
    module.tr = lambda text: _LANGUAGE.get(text, text) if "*" not in _LANGUAGE else f"[{text}]"
    module.translate = lambda context, text: module.tr(text)
    return module


@contextlib.contextmanager
def pseudo_language():
    """Within the block every translated text stands in brackets, so that an untranslated one shows."""
    _LANGUAGE["*"] = "*"
    try:
        yield
    finally:
        _LANGUAGE.clear()
