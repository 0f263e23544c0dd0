"""The panel itself: every widget it names exists, it opens at once, and its tables do what they say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUI = ROOT / "LungRecovery" / "LungRecoveryLib" / "gui"
UI_FILE = ROOT / "LungRecovery" / "Resources" / "UI" / "LungRecovery.ui"
SOURCES = [*sorted(GUI.glob("*.py")), ROOT / "LungRecovery" / "LungRecovery.py"]


def widgets() -> dict[str, str]:
    from slicer_standin import ui_file

    return ui_file.widgets(UI_FILE)


def names_used() -> set[str]:
    """The widgets that the code asks of `self.ui`, `widget.ui` or `panel.ui`."""
    used = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "ui":
                used.add(node.attr)
    return used | {"presetComboBox", "deviceComboBox"}


def test_every_widget_the_code_names_exists(standin):
    assert names_used() <= set(widgets())


def test_every_widget_that_acts_is_used(standin):
    """No button, choice or field of the .ui file is without effect."""
    acting = {"QPushButton", "QToolButton", "QComboBox", "QCheckBox", "QSpinBox", "QDoubleSpinBox", "QSlider"}
    acting |= {"QLineEdit", "qMRMLNodeComboBox", "ctkSliderWidget", "ctkRangeWidget", "ctkPathLineEdit"}
    bound = set(re.findall(r'name="(\w+)"(?:(?!</widget>).)*?SlicerParameterName', UI_FILE.read_text(), re.DOTALL))
    unused = {name for name, kind in widgets().items() if kind in acting} - names_used()
    text = UI_FILE.read_text(encoding="utf-8")
    connected = {
        name for name in unused if f'<widget class="{widgets()[name]}" name="{name}"' in text and name in bound
    }
    parameters = set(re.findall(r"(?s)SlicerParameterName.*?<string notr=\"true\">(\w+)</string>", text))
    assert {"spacingMm", "nativeMaps", "seed", "allowDifferentPatients"} == parameters
    assert unused - connected <= {"nativeMapsCheckBox", "spacingSpinBox", "seedSpinBox"}


def test_every_field_has_a_tooltip_and_can_be_reached_by_keyboard(panel, standin):
    """Numbers say their unit; labels lead to their fields by a letter of their own."""
    import qt

    for name, kind in widgets().items():
        widget = getattr(panel.ui, name)
        if kind in ("QLabel", "QWidget", "qMRMLWidget") or kind.startswith("ctkCollapsible"):
            continue
        assert widget.toolTip, name
        assert widget.focusPolicy & qt.Qt.TabFocus or widget.focusProxy() is not None or kind == "QProgressBar", name
    for name in ("spacingSpinBox", "bandsTable", "rangeWidget", "landmarkButton", "timePointTable"):
        assert re.search(r"mm|HU|unit|date", getattr(panel.ui, name).toolTip), name
    letters = {}
    for name, kind in widgets().items():
        text = getattr(getattr(panel.ui, name), "text", "")
        if kind in ("QLabel", "QPushButton") and isinstance(text, str) and (found := re.search(r"&(\w)", text)):
            letters.setdefault(found[1].lower(), []).append(name)
    assert not {letter: names for letter, names in letters.items() if len(names) > 1}


def test_texts_are_translatable(make_panel, standin):
    """Every text that the code itself puts into the panel goes through the translator."""
    from slicer_standin import scripted

    with scripted.pseudo_language():
        widget = make_panel()
        widget.panel.refresh()
        combos = (widget.ui.presetComboBox, widget.ui.compareComboBox, widget.ui.readerVerdictComboBox)
        texts = [combo.itemText(i) for combo in combos for i in range(combo.count)]
        texts += [widget.ui.exportList.item(i).text() for i in range(widget.ui.exportList.count)]
        texts += [widget.ui.applyButton.text, widget.ui.timePointsMessage.text, widget.ui.verdictLabel.text]
    assert all(text.startswith("[") for text in texts), [text for text in texts if not text.startswith("[")]


COUNT_IMPORTS = """
import sys
sys.path.insert(0, {testing!r})
import slicer_standin
slicer_standin.install()
from pathlib import Path
before = set(sys.modules)
module = slicer_standin.load_module(Path({module!r}))
widget = module.LungRecoveryWidget()
print("AT START", *sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))

# From here on the packages that Slicer does not bring are as if they were not installed.
brought = {{"numpy", "scipy", "SimpleITK", "vtk", "vtkmodules", "pydicom", "slicer", "LungRecovery", "LungRecoveryLib"}}

class Missing:
    def find_spec(self, name, path=None, target=None):
        first = name.split(".")[0]
        if path is None and first in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for group in (widget.ui.bandsGroup, widget.ui.limitsGroup):
    group.setCollapsed(False)
from LungRecoveryLib.gui.loading import load_scan
node, _warnings = load_scan({scan!r})
widget.panel.time_points.add([node])
import LungRecoveryLib.scene
print("LATER", *sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))
"""
# Of requirements.txt and torch, what no Slicer brings.
ABSENT = {"torch", "matplotlib", "skimage", "nibabel", "jinja2", "jsonschema", "safetensors", "PIL"}


def test_the_panel_imports_nothing_heavy(standin, small_scans):
    """In a process of its own. When it opens, only the standard library and the module itself come in: no torch, no
    SimpleITK. Scans are loaded and a study of a loaded scene is shown without any package that is still to be
    installed, and torch never comes into Slicer's process."""
    code = COUNT_IMPORTS.format(
        testing=str(ROOT / "Testing"),
        module=str(ROOT / "LungRecovery" / "LungRecovery.py"),
        scan=str(small_scans / "0.mha"),
        absent=ABSENT,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    lines = {
        k: set(line.removeprefix(k).split())
        for line in done.stdout.splitlines()
        for k in ("AT START", "LATER")
        if line.startswith(k)
    }
    own = set(sys.stdlib_module_names) | {"LungRecovery", "LungRecoveryLib"}
    assert lines["AT START"] - own == set()
    assert "LungRecoveryLib" in lines["AT START"]
    assert "SimpleITK" in lines["LATER"]
    assert not lines["LATER"] & ABSENT


def contrast(one: str, other: str) -> float:
    """How far two colours, #rrggbb, stand apart, 1 to 21, as WCAG counts it."""

    def light(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", ["#ffffff", "#efefef", "#353535", "#232323"])
def test_words_in_colour_can_be_read_in_both_themes(standin, background):
    import qt

    from LungRecoveryLib.gui.colours import colour_of

    widget = qt.QLabel()
    widget.setPalette(qt.QPalette(qt.QColor(background)))
    for kind in ("pass", "review", "fail", "quiet"):
        assert contrast(colour_of(kind, widget), background) > 4.5, kind


# ------------------------------------------------------------------------------------------------------- time points


def cells(widget) -> list[tuple[str, ...]]:
    table = widget.ui.timePointTable
    return [tuple(table.item(row, column).text() for column in range(3)) for row in range(table.rowCount)]


def test_volumes_are_added_named_and_dated(panel, volumes, scene):
    """One by one or all at once; labels are made from the dates; the dates come from DICOM."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "A")
    for node, date in zip(volumes, ("20210301", "20210201", "20210501"), strict=True):
        study = hierarchy.CreateStudyItem(patient, date)
        hierarchy.SetItemAttribute(study, "DICOM.StudyDate", date)
        hierarchy.CreateItem(study, node)
    panel.ui.volumeSelector.setCurrentNode(volumes[0])
    panel.ui.addVolumeButton.click()
    assert cells(panel) == [("CT 0", "baseline", "2021-03-01")]
    panel.ui.addAllVolumesButton.click()
    assert [row[0] for row in cells(panel)] == ["CT 0", "CT 1", "CT 2"]
    assert "not the earliest" in panel.ui.timePointsMessage.text
    assert not panel.ui.applyButton.enabled
    panel.ui.orderButton.click()
    assert cells(panel) == [
        ("CT 1", "baseline", "2021-02-01"),
        ("CT 0", "day 28", "2021-03-01"),
        ("CT 2", "day 89", "2021-05-01"),
    ]
    assert panel.ui.applyButton.enabled
    assert not panel.ui.timePointsMessage.visible


def test_rows_move_and_go(listed):
    table = listed.ui.timePointTable
    table.selectRow(2)
    listed.ui.upButton.click()
    assert [row[0] for row in cells(listed)] == ["CT 0", "CT 2", "CT 1"]
    assert table.currentRow() == 1
    listed.ui.removeButton.click()
    assert [row[0] for row in cells(listed)] == ["CT 0", "CT 1"]
    table.selectRow(0)
    assert not listed.ui.upButton.enabled
    assert listed.ui.downButton.enabled


def test_cells_can_be_edited(listed, process_events):
    """A label and a date are kept; an emptied label is made again; a wrong date is said below the table."""
    table = listed.ui.timePointTable
    table.item(1, 1).setText("month 1")
    process_events(seconds=0.05)
    assert cells(listed)[1][1] == "month 1"
    table.item(1, 1).setText("")
    process_events(seconds=0.05)
    assert cells(listed)[1][1] == "day 30"
    table.item(1, 2).setText("yesterday")
    process_events(seconds=0.05)
    assert "neither a date nor a day" in listed.ui.timePointsMessage.text
    assert not listed.ui.applyButton.enabled
    assert "neither a date nor a day" in listed.ui.applyButton.toolTip


def test_a_volume_that_leaves_the_scene_leaves_the_table(listed, volumes, scene, process_events):
    scene.RemoveNode(volumes[2])
    process_events(seconds=0.05)
    assert [row[0] for row in cells(listed)] == ["CT 0", "CT 1"]


def test_the_rows_survive_saving_and_loading_the_scene(listed, volumes, scene, standin, tmp_path, make_panel):
    """Volumes and lungs are kept as references, labels and dates as text; settings too."""
    import slicer

    import slicer_standin

    rows = listed.panel.time_points.rows
    rows[1].lungs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "my lungs")
    rows[1].when = "31"
    listed.panel.time_points.set_rows(rows)
    listed.ui.presetComboBox.setCurrentIndex(listed.ui.presetComboBox.findData("accurate"))
    assert slicer.util.saveScene(tmp_path / "scene.mrb")
    slicer_standin.new_scene(standin)
    assert slicer.util.loadScene(tmp_path / "scene.mrb")
    widget = make_panel()
    again = widget.panel.time_points.rows
    assert [(r.volume.GetName(), r.label, r.when) for r in again] == [
        ("CT 0", "", "0"), ("CT 1", "", "31"), ("CT 2", "Kontrolle", "90"),
    ]  # fmt: skip
    assert again[1].lungs.GetName() == "my lungs"
    assert widget.ui.presetComboBox.currentText == "Accurate"


def test_files_and_dicom_folders_are_loaded(panel, small_scans, write_series, tmp_path, monkeypatch, standin, volumes):
    """Through the file dialogs: the scan with its date; a folder that holds none is a message and no node."""
    import numpy as np
    import qt
    import slicer

    monkeypatch.setattr(qt.QFileDialog, "getOpenFileNames", lambda *a: ([str(small_scans / "1.mha")], "filter"))
    panel.ui.addFilesButton.click()
    assert [row[0] for row in cells(panel)] == ["1"]
    array = slicer.util.arrayFromVolume(volumes[0])
    write_series(tmp_path / "dicom", array.astype(np.int16))
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *a: str(tmp_path / "dicom"))
    panel.ui.addDicomButton.click()
    assert standin.messages == []
    assert cells(panel)[1][2] == "2020-03-05"
    count = slicer.mrmlScene.GetNumberOfNodes()
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *a: str(tmp_path / "empty"))
    panel.ui.addDicomButton.click()
    assert "empty folder" in standin.messages[0]["text"]
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_lungs_are_chosen_in_the_table(listed, scene):
    import slicer

    lungs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lungs of CT 1")
    selector = listed.ui.timePointTable.cellWidget(1, 3)
    assert selector.currentNode() is None
    selector.setCurrentNode(lungs)
    assert listed.panel.time_points.rows[1].lungs is lungs
    assert "are empty" in listed.ui.timePointsMessage.text


# ---------------------------------------------------------------------------------------------------------- settings


def test_settings_become_the_jobs(listed, process_events):
    """Preset, device, voxel size, bands and limits as the job file wants them; defaults say nothing."""
    settings = listed.panel.settings
    listed.ui.presetComboBox.setCurrentIndex(listed.ui.presetComboBox.findData("fast"))
    listed.ui.spacingSpinBox.value = 2.0
    assert settings.job_settings() == {
        "preset": "fast", "device": "auto", "spacing_mm": 2.0, "native_maps": False, "seed": 0,
        "allow_different_patients": False,
    }  # fmt: skip
    listed.ui.bandsGroup.setCollapsed(False)
    assert listed.ui.bandsTable.rowCount == 4
    listed.ui.bandsTable.item(0, 2).setText("-940")
    process_events(seconds=0.05)
    assert settings.job_settings()["bands"][0]["high"] == -940
    listed.ui.addBandButton.click()
    process_events(seconds=0.05)
    assert listed.ui.bandsTable.rowCount == 5
    listed.ui.limitsGroup.setCollapsed(False)
    table = listed.ui.limitsTable
    row = next(r for r in range(table.rowCount) if "J from" in table.item(r, 0).text())
    table.item(row, 1).setText("0.7")
    process_events(seconds=0.05)
    assert settings.job_settings()["score_thresholds"] == {"jacobian_low": 0.7}
    assert table.item(row, 1).font().bold()
    listed.ui.restoreBandsButton.click()
    listed.ui.restoreLimitsButton.click()
    process_events(seconds=0.05)
    assert "bands" not in settings.job_settings()
    assert "score_thresholds" not in settings.job_settings()
    assert listed.ui.bandsTable.item(0, 2).text() == "-950"


def test_the_jobs_settings_fit_its_schema(listed, process_events):
    """What the panel writes is a job that the worker takes."""
    from LungRecoveryLib.gui import inputs
    from LungRecoveryLib.job import job_from

    listed.ui.bandsGroup.setCollapsed(False)
    listed.ui.bandsTable.item(1, 0).setText("aerated")
    process_events(seconds=0.05)
    request = inputs.analysis(listed.panel.time_points.rows, listed.panel.settings.job_settings())
    job = job_from({**request.job, "output": "study"})
    assert [t.label for t in job.timepoints] == ["baseline", "day 30", "Kontrolle"]
    assert job.bands[1].name == "aerated"


def test_wrong_bands_and_limits_are_said_and_not_kept(listed, process_events, standin):
    listed.ui.bandsGroup.setCollapsed(False)
    listed.ui.bandsTable.item(0, 1).setText("-900")
    process_events(seconds=0.05)
    assert "must begin below its end" in standin.messages[0]["text"]
    assert listed.ui.bandsTable.item(0, 1).text() == "-1024"
    listed.ui.limitsGroup.setCollapsed(False)
    listed.ui.limitsTable.item(0, 1).setText("much")
    process_events(seconds=0.05)
    assert "not a number" in standin.messages[1]["text"]
    assert listed.ui.limitsTable.item(0, 1).text() == "0.8"


def test_devices_are_looked_for_in_a_process_of_their_own(scene, process_events):
    """The answer of a computer with a card; a process that fails or prints nonsense is no device and no error."""
    from LungRecoveryLib.gui.devices import DeviceProbe

    answer = '{"devices": [{"id": "cuda:0", "name": "H200", "memory_gib": 139.8}], "problem": ""}'
    for code, expected in (
        (f"print('warning'); print('{answer}')", [{"id": "cuda:0", "name": "H200", "memory_gib": 139.8}]),
        ("print('nonsense')", []),
        ("raise SystemExit(1)", []),
    ):
        found = []
        probe = DeviceProbe(lambda devices, problem, to=found: to.append(devices), [sys.executable, "-c", code])
        probe.start()
        assert process_events(lambda to=found: bool(to), 60)
        assert found == [expected]


def test_a_device_is_shown_with_its_memory_and_chosen(listed):
    listed.panel.settings._devices_found([{"id": "cuda:1", "name": "H200", "memory_gib": 139.8}], "")
    combo = listed.ui.deviceComboBox
    assert [combo.itemText(i) for i in range(combo.count)] == ["Automatic", "CPU", "H200, 140 GiB"]
    combo.setCurrentIndex(2)
    assert listed.panel.settings.job_settings()["device"] == "cuda:1"


@pytest.mark.parametrize("name", ["LungRecovery.py", "gui"])
def test_the_shell_holds_no_algorithm(name):
    """Nothing of the module's own file or of the panel imports what computes at its top."""
    paths = [ROOT / "LungRecovery" / name] if name.endswith(".py") else sorted(GUI.glob("*.py"))
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module for n in top if isinstance(n, ast.ImportFrom)}
        heavy = {
            m
            for m in modules
            if m.split(".")[0] in ("numpy", "scipy", "torch", "SimpleITK", "matplotlib", "jsonschema")
        }
        own = {m for m in modules if m.startswith("LungRecoveryLib.")}
        light = tuple(f"LungRecoveryLib.{name}" for name in ("gui", "errors", "progress", "system", "child"))
        assert not heavy, path
        assert all(m.startswith(light) for m in own), (path, own)
