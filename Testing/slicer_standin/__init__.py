"""What a scripted module of 3D Slicer needs of Slicer's application, so that its panel runs where only the package
slicer-core and PySide6 are: real MRML, real Qt, the real .ui file; ctk and qMRML widgets and PythonQt are stand-ins.

It is honest for names, wiring, enabling, error paths, the parameter node and the scene. It is not Slicer: nothing that
passes here has been tested there.

    from slicer_standin import install
    application = install()      # once per process; then `import LungRecovery` works as in Slicer
"""

import ctypes
import os
import sys
import types
from pathlib import Path
from typing import Any

_installed: Any = None


def install() -> Any:
    """Put the stand-ins in place; returns the stand-in of ``slicer.app``."""
    global _installed
    if _installed is not None:
        return _installed
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    keep_none()
    import slicer
    import slicer.util  # noqa: F401

    from slicer_standin import application, parameter_node, pythonqt, scripted, widgets_ctk, widgets_mrml

    qt, ctk = pythonqt.qt_module(), types.ModuleType("ctk")
    qt.QUiLoader = pythonqt.UiLoader
    for module, classes in ((ctk, widgets_ctk.CLASSES), (slicer, widgets_mrml.CLASSES)):
        for name, cls in classes.items():
            setattr(module, name, cls)
            pythonqt.UiLoader.classes[name] = cls
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
    for name, module in (
        ("ScriptedLoadableModule", scripted.scripted_module()),
        ("i18n", scripted.i18n_module()),
        ("parameterNodeWrapper", parameter_node.wrapper_module()),
    ):
        setattr(slicer, name, module)
        sys.modules[f"slicer.{name}"] = module
    qt_application = qt.QApplication.instance() or qt.QApplication([])
    qt_application.setStyle("Fusion")
    slicer.qSlicerScriptedLoadableModuleWidget = scripted.ModuleWidget
    app = application.Application()
    app.qt_application = qt_application
    slicer.app = app
    slicer.modules = application.modules(app)
    application.patch_util(app)
    new_scene(app)
    _installed = app
    return app


def keep_none() -> None:
    """Give None so many references that Qt cannot use them up.

    PySide6 releases one with every call that returns nothing. Python 3.12 does not count them any more; 3.11 ends the
    process, after some ten thousand calls, with "deallocating None".
    """
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


def new_scene(app: Any = None) -> Any:
    """Start with a new empty scene, as a new Slicer has it; returns it."""
    import slicer

    from slicer_standin import application

    app = app or slicer.app
    scene = slicer.vtkMRMLScene()
    app.set_scene(scene)
    slicer.mrmlScene = scene
    application.connect_logics(slicer.modules, scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    app.messages.clear()
    app.answers.clear()
    app.selected_modules.clear()
    return scene


def load_module(path: Path) -> types.ModuleType:
    """Import a scripted module's file and make ``slicer.modules.<name>`` for it, as Slicer does when it starts."""
    import importlib

    import slicer

    from slicer_standin.application import Module

    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    setattr(slicer.modules, path.stem.lower(), Module(str(path)))
    return importlib.import_module(path.stem)
