"""What the panel asks of Slicer, Qt and CTK exists there: every name and call is held against the original.

`slicer.util` and MRML are Slicer's own in the package slicer-core, Qt's classes are PySide6's; what only the Slicer
application has is held against the list below, which gives the documented signatures.
"""

import ast
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UI_FILE = ROOT / "LungRecovery" / "Resources" / "UI" / "LungRecovery.ui"
SOURCES = [
    *sorted((ROOT / "LungRecovery" / "LungRecoveryLib" / "gui").glob("*.py")),
    ROOT / "LungRecovery" / "LungRecovery.py",
    ROOT / "LungRecoveryTraining" / "LungRecoveryTraining.py",
]

# From Slicer's documentation (qSlicerApplication, qSlicerLayoutManager, ScriptedLoadableModule, extensions manager):
# how many arguments each takes; None for what is no call.
APPLICATION = {
    "slicer.app.applicationName": None,
    "slicer.app.connect": 2,
    "slicer.app.extensionsManagerModel": 0,
    "slicer.app.layoutManager": 0,
    "slicer.app.processEvents": 0,
    "slicer.app.slicerHome": None,
    "slicer.app.temporaryPath": None,
    "slicer.modules.segmenteditor.widgetRepresentation": 0,
    "slicer.app": None,
    "slicer.modules": None,
    "slicer.mrmlScene": None,
    "slicer.util": None,
    "slicer.packaging": None,
}


def dotted(node: ast.AST) -> str:
    """The dotted name of an attribute, as slicer.util.getNode; empty where it is none."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def used() -> list[tuple[Path, ast.AST, str, ast.Call | None]]:
    """Every dotted name of slicer, qt and ctk in the sources, with the call that it makes."""
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        for node in ast.walk(tree):
            name = dotted(node) if isinstance(node, ast.Attribute) and id(node) not in inner else ""
            if name.split(".")[0] in ("slicer", "qt", "ctk"):
                found.append((path, node, name, calls.get(id(node))))
    return found


@pytest.fixture(scope="module")
def original_util() -> dict[str, inspect.Signature]:
    """The functions of Slicer's own slicer/util.py with their signatures, read from its source."""
    import slicer.util

    tree = ast.parse(Path(slicer.util.__file__).read_text(encoding="utf-8"))
    names = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            given = node.args
            count = len(given.args) - len(given.defaults)
            parameters = [
                inspect.Parameter(a.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                  default=inspect.Parameter.empty if i < count else None)
                for i, a in enumerate(given.args)
            ]  # fmt: skip
            if given.vararg:
                parameters.append(inspect.Parameter(given.vararg.arg, inspect.Parameter.VAR_POSITIONAL))
            if given.kwarg:
                parameters.append(inspect.Parameter(given.kwarg.arg, inspect.Parameter.VAR_KEYWORD))
            names[node.name] = inspect.Signature(parameters)
        elif isinstance(node, ast.ClassDef):
            names[node.name] = None
    return names


def test_calls_of_slicer_util_fit_its_own_source(standin, original_util):
    """Names and arguments, as the source of Slicer's package has them."""
    checked = 0
    for path, node, name, call in used():
        if not name.startswith("slicer.util."):
            continue
        function = name.split(".")[2]
        assert function in original_util, f"{path.name}:{node.lineno} {name}"
        if call is not None and original_util[function] is not None and not any(k.arg is None for k in call.keywords):
            arguments = [None] * len(call.args)
            original_util[function].bind(*arguments, **{k.arg: None for k in call.keywords})
        checked += 1
    assert checked > 10


def test_names_of_slicer_exist(standin):
    """MRML classes and logics in slicer-core; the application's own in the list above, with as many arguments."""
    import slicer

    for path, node, name, call in used():
        parts = name.split(".")
        if parts[0] != "slicer" or name.startswith("slicer.util."):
            continue
        where = f"{path.name}:{node.lineno} {name}"
        if parts[1].startswith(("vtk", "qMRML")):
            assert hasattr(slicer, parts[1]), where
            if len(parts) > 2:
                assert hasattr(getattr(slicer, parts[1]), parts[2]), where
        elif parts[1] == "mrmlScene" and len(parts) > 2:
            assert hasattr(slicer.vtkMRMLScene, parts[2]), where
        else:
            assert name in APPLICATION, where
            if APPLICATION[name] is not None and call is not None:
                assert len(call.args) == APPLICATION[name], where


def test_names_of_qt_exist(standin):
    """Classes, functions and constants, in Qt 5 and 6 alike as far as PySide6 knows."""
    import qt

    checked = 0
    for path, node, name, _call in used():
        if name.startswith("qt."):
            found = qt
            for part in name.split(".")[1:]:
                assert hasattr(found, part), f"{path.name}:{node.lineno} {name}"
                found = getattr(found, part)
            checked += 1
    assert checked > 40


def test_every_connected_signal_is_written_with_its_signature():
    """`connect("clicked()", ...)`: the panel itself fails on one that a class does not have; none may be without it."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "connect":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    assert first.value.endswith(")"), f"{path.name}:{node.lineno}"


def test_every_property_in_the_ui_file_is_one_of_its_class(panel):
    """A misspelt property would be a dynamic one, without effect."""
    from slicer_standin import ui_file

    for widget, kind, name in ui_file.properties(UI_FILE):
        if name in ("SlicerParameterName", "buddy"):  # Qt Designer gives a label its buddy as a property
            continue
        meta = getattr(panel.ui, widget, panel.panel.widget).metaObject()
        assert meta.indexOfProperty(name) >= 0, f"{widget} ({kind}) has no property {name}"


def test_mrml_calls_exist():
    """Every method in CamelCase that is called on a node exists in slicer-core, VTK or the panel itself."""
    import slicer
    import vtk

    known = {name for cls in vars(slicer).values() if inspect.isclass(cls) for name in dir(cls)}
    known |= {name for cls in vars(vtk).values() if inspect.isclass(cls) for name in dir(cls)}
    unknown = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if (
                    (
                        name[:1].isupper()
                        and "_" not in name
                        and not dotted(node.func).startswith(("qt.", "PyTorch", "SampleData", "sitk."))
                    )
                    and name not in known
                    and not name.isupper()
                ):
                    unknown.append(f"{path.name}:{node.lineno} {name}")
    allowed = {
        "Path",
        "Popen",
        "TemporaryDirectory",
        "Grid",
        "Draft202012Validator",
        "ReadTransform",
        "Thresholds",
        "Thread",
        "Row",
    }
    assert not [item for item in unknown if item.split()[-1] not in allowed]
