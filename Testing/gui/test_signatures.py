"""What the panel asks of Slicer, Qt and CTK exists there: every name and call is held against the original.

`slicer.util` and MRML are Slicer's own in the package slicer-core, Qt's classes are PySide6's; what only the Slicer
application has is held against the list below, and the stand-ins of its widgets against what their headers declare.
"""

import ast
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "LungRecovery" / "LungRecoveryLib"
UI_FILE = ROOT / "LungRecovery" / "Resources" / "UI" / "LungRecovery.ui"
SOURCES = [
    *sorted((LIBRARY / "gui").glob("*.py")),
    *sorted((LIBRARY / "scene").glob("*.py")),
    ROOT / "LungRecovery" / "LungRecovery.py",
    ROOT / "LungRecoveryTraining" / "LungRecoveryTraining.py",
]

# From the sources of Slicer (qSlicerApplication, qSlicerExtensionsManagerModel, qMRMLLayoutManager, the modules Sample
# Data and Segment Editor) and of the extension PyTorch: the arguments of each call; None for what is no call.
APPLICATION = {
    "slicer.app": None,
    "slicer.app.connect": "(signal, slot)",
    "slicer.app.extensionsManagerModel": "()",
    "slicer.app.extensionsManagerModel().installExtensionFromServer": "(extensionName, restart=True, update=False)",
    "slicer.app.extensionsManagerModel().interactive": None,
    "slicer.app.layoutManager": "()",
    "slicer.app.layoutManager().layoutLogic": "()",
    "slicer.app.layoutManager().layoutLogic().GetLayoutNode": "()",
    "slicer.app.layoutManager().setLayout": "(layout)",
    "slicer.app.processEvents": "()",
    "slicer.app.temporaryPath": None,
    "slicer.modules.segmenteditor.widgetRepresentation": "()",
    "slicer.modules.segmenteditor.widgetRepresentation().self": "()",
    "slicer.modules.segmenteditor.widgetRepresentation().self().editor": None,
    "slicer.modules.segmenteditor.widgetRepresentation().self().editor.setSegmentationNode": "(node)",
    "slicer.modules.segmenteditor.widgetRepresentation().self().editor.setSourceVolumeNode": "(node)",
    "slicer.mrmlScene": None,
    "PyTorchUtils.PyTorchUtilsLogic": "(parent=None)",
    "PyTorchUtils.PyTorchUtilsLogic().installTorch": (
        "(askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None, "
        "torchvisionVersionRequirement=None)"
    ),
    "SampleData.SampleDataLogic.registerCustomSampleDataSource": (
        "(category='Custom', sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None, "
        "thumbnailFileName=None, loadFileType='VolumeFile', loadFiles=None, loadFileProperties={}, checksums=None)"
    ),
}

# From the headers of CTK and of Slicer's MRML widgets, as far as PythonQt gives them to Python.
WIDGETS = {
    "ctkCollapsibleButton": "collapsed setCollapsed contentsCollapsed(bool)",
    "ctkCollapsibleGroupBox": "collapsed setCollapsed",
    "ctkSliderWidget": "value minimum maximum singleStep decimals suffix setValue valueChanged(double)",
    "ctkRangeWidget": (
        "minimum maximum minimumValue maximumValue singleStep decimals suffix setRange setValues "
        "valuesChanged(double,double)"
    ),
    "ctkPathLineEdit": "currentPath setCurrentPath filters settingKey Dirs Files currentPathChanged(QString)",
    "ctkMessageBox": "",
    "qMRMLWidget": "mrmlScene setMRMLScene mrmlSceneChanged(vtkMRMLScene*)",
    "qSlicerWidget": "mrmlScene setMRMLScene mrmlSceneChanged(vtkMRMLScene*)",
    "qMRMLNodeComboBox": (
        "mrmlScene setMRMLScene currentNode setCurrentNode setCurrentNodeID currentNodeID nodeTypes noneEnabled "
        "noneDisplay addEnabled removeEnabled editEnabled renameEnabled showHidden showChildNodeTypes "
        "selectNodeUponCreation currentNodeChanged(vtkMRMLNode*) currentNodeChanged(bool) "
        "currentNodeIDChanged(QString)"
    ),
}


@pytest.fixture
def interface(standin):
    """What there is in Slicer, Qt and CTK."""
    from slicer_standin import calls, ui_file

    return calls.Interface(APPLICATION, ui_file.widgets(UI_FILE))


def problems(interface, source: str) -> list[str]:
    """What is wrong with the names and calls of a source text."""
    from slicer_standin import calls

    found = ((node.lineno, interface.problem(name, call)) for node, name, call in calls.used(source))
    return [f"line {line}: {problem}" for line, problem in found if problem]


def test_every_name_and_call_fits(interface):
    """Each name exists and each call has arguments that are taken; and each line of the list above is used."""
    for path in SOURCES:
        assert problems(interface, path.read_text(encoding="utf-8")) == [], path.name
    assert {name for name in APPLICATION if name not in interface.seen} == set()
    for kind, least in (("ui", 250), ("qt", 120), ("slicer.util", 15), ("slicer.vtk", 60), ("ctk", 1)):
        assert interface.seen[kind] >= least, kind


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("slicer.util.loadUI()", "missing a required"),
        ("slicer.util.showEverything()", "no showEverything"),
        ("slicer.app.quitNow()", "not documented"),
        ("slicer.app.layoutManager(3)", "too many positional"),
        ("manager = slicer.app.layoutManager()\n    manager.setLayout()", "missing a required"),
        ("manager = slicer.app.layoutManager()\n    manager.setLayuot(1)", "not documented"),
        ("model = slicer.app.extensionsManagerModel()\n    model.installExtensionFromServer()", "extensionName"),
        ("import SampleData\n    SampleData.SampleDataLogic.registerCustomSampleDataSource(name=1)", "name"),
        ("self._process = qt.QProcess()\n    self._process.launch()", "QProcess has no launch"),
        ("process = qt.QProcess()\n    process.setWorkingDirectory()", "missing a required"),
        ("qt.QTimer.singleShot(0)", "missing a required"),
        ("qt.QNothing()", "qt has no QNothing"),
        ("a = qt.Qt.UserRoles", "Qt has no UserRoles"),
        ("self.ui.applyButton.setTextt(1)", "no setTextt"),
        ("self.ui.applyButton.text()", "is a property in PythonQt"),
        ("self.ui.aplyButton.setText(1)", "no aplyButton"),
        ("self.ui.rangeWidget.setLimits(0, 1)", "no setLimits"),
        ("self.ui.rangeWidget.setRange(0)", "missing a required"),
        ("for button in (self.ui.upButton, self.ui.downButton):\n        button.shine()", "no shine"),
        ("node = slicer.vtkMRMLTextNode()\n    node.SetWords(1)", "no SetWords"),
        ("slicer.vtkMRMLNothingNode()", "no vtkMRMLNothingNode"),
        ("slicer.mrmlScene.AddNewNode()", "no AddNewNode"),
        ("ctk.ctkPathLineEdit.Folders", "no Folders"),
    ],
)
def test_the_check_itself_finds_mistakes(interface, line, words):
    """Of every kind, also behind a name that was assigned before: a check that finds nothing would be worthless."""
    found = problems(interface, f"class A:\n  def f(self):\n    {line}\n")
    assert len(found) >= 1
    assert any(words in problem for problem in found), found


def test_the_stand_ins_offer_nothing_that_the_originals_lack(standin):
    """Properties, methods and signals of the widgets that Testing/slicer_standin replaces."""
    from slicer_standin import widgets_ctk, widgets_mrml

    classes = widgets_ctk.CLASSES | widgets_mrml.CLASSES
    assert set(classes) == set(WIDGETS)
    for name, cls in classes.items():
        documented = set(WIDGETS[name].split())
        base = next(c for c in cls.__mro__ if not c.__module__.startswith("slicer_standin"))
        signals = {text for c in cls.__mro__ for text in getattr(c, "SIGNALS", ())}
        offered = {n for c in cls.__mro__ if c.__module__.startswith("slicer_standin") for n in vars(c)}
        offered = {n for n in offered if not n.startswith("_") and not hasattr(base, n)} - {
            "SIGNALS",
            "staticMetaObject",
        }
        offered -= {text.partition("(")[0] for text in signals}
        assert offered | signals <= documented, name


def test_every_connected_signal_is_written_with_its_signature():
    """`connect("clicked()", ...)`: the panel itself fails on one that a class does not have; none may be without it."""
    checked = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "connect":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    assert first.value.endswith(")"), f"{path.name}:{node.lineno}"
                    checked += 1
    assert checked > 30


def test_every_property_in_the_ui_file_is_one_of_its_class(panel):
    """A misspelt property would be a dynamic one, without effect."""
    from slicer_standin import ui_file

    checked = 0
    for widget, kind, name in ui_file.properties(UI_FILE):
        if name in ("SlicerParameterName", "buddy"):  # Qt Designer gives a label its buddy as a property
            continue
        meta = getattr(panel.ui, widget, panel.panel.widget).metaObject()
        assert meta.indexOfProperty(name) >= 0, f"{widget} ({kind}) has no property {name}"
        checked += 1
    assert checked > 150


def test_methods_in_camel_case_exist():
    """Also where it is not known what they are called on: nodes that came as arguments, VTK's objects."""
    import slicer
    import vtk

    known = {name for cls in vars(slicer).values() if inspect.isclass(cls) for name in dir(cls)}
    known |= {name for cls in vars(vtk).values() if inspect.isclass(cls) for name in dir(cls)} | set(dir(vtk))
    checked, unknown = set(), []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            if name[:1].isupper() and not name.isupper() and "_" not in name and not _elsewhere(node.func):
                (checked.add if name in known else unknown.append)(name)
    assert unknown == []
    assert len(checked) > 60


def _elsewhere(function: ast.Attribute) -> bool:
    """Whether a function in CamelCase is none of MRML's or VTK's."""
    root = ast.unparse(function.value).split(".")[0].split("(")[0]
    return root in (
        "qt",
        "sitk",
        "PyTorchUtils",
        "SampleData",
        "subprocess",
        "tempfile",
        "threading",
        "grids",
        "score",
        "quality",
        "jsonschema",
        "dataclasses",
        "model",
        "rows",
    )
