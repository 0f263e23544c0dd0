"""The synthetic patient in Slicer's module Sample Data, made on this computer: nothing is downloaded."""

import datetime
import json
import shutil
import tempfile
import traceback
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.errors import LungRecoveryError
from LungRecoveryLib.gui import messages, requirements
from LungRecoveryLib.gui.loading import item_of
from LungRecoveryLib.gui.waiting import wait_for

CATEGORY = "Lung Recovery"
SAMPLE = "LungRecoveryPatient"
"""The patient's name in the module Sample Data: a baseline CT and three follow-ups."""
SPACING_MM, SEED, DAYS = 2.0, 0, (0, 30, 90, 180)
_FIRST_DATE = "2021-01-08"


def register(icons: Path, requirements_path: Path) -> None:
    """Offer the patient in Sample Data; what making it needs is listed in a requirements.txt."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE,
        thumbnailFileName=str(icons / "LungRecovery.png"),
        uris=[],
        fileNames=[],
        nodeNames=[],
        customDownloader=lambda _source: offer(requirements_path),
    )


def offer(requirements_path: Path) -> list[Any]:
    """Make the patient at the press of Sample Data's button; what goes wrong is told in a dialog."""
    try:
        return make_patient(requirements_path)
    except Exception as error:
        messages.show(messages.of_error(error, traceback.format_exc()))
        return []


def make_patient(
    requirements_path: Path | None = None, spacing_mm: float = SPACING_MM, days: tuple[int, ...] = DAYS
) -> list[Any]:
    """Make the patient's scans in a process of its own and load them, dated; none where the user cancels.

    Raises LungRecoveryError where the process fails. What is left then, or of a cancelled one, is nothing.
    """
    if requirements_path is not None and not requirements.ensure(requirements_path):
        return []
    folder = Path(tempfile.mkdtemp(prefix="LungRecovery-", dir=slicer.app.temporaryPath or None))
    try:
        if not _make_files(folder, spacing_mm, days):
            return []
        return _load(folder / "patient")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_files(folder: Path, spacing_mm: float, days: tuple[int, ...]) -> bool:
    """Run `phantom_child`; False where the user cancels."""
    content = {"output": str(folder / "patient"), "seed": SEED, "spacing_mm": spacing_mm, "days": days}
    title = _("Making the synthetic patient…")
    try:
        return wait_for("LungRecoveryLib.gui.phantom_child", folder / "phantom.json", content, title)
    except LungRecoveryError as error:
        text = _("The synthetic patient could not be made. {reason}")
        raise LungRecoveryError(text.format(reason=error)) from error


def _load(folder: Path) -> list[Any]:
    """The scans of a patient's folder under a patient of the subject hierarchy, all or none."""
    about = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), _("Synthetic patient"))
    nodes: list[Any] = []
    try:
        for scan in about["scans"]:
            nodes.append(slicer.util.loadVolume(str(folder / scan["path"])))
            _place(nodes[-1], scan, hierarchy, patient)
    except Exception:
        for node in nodes:
            slicer.mrmlScene.RemoveNode(node)
        hierarchy.RemoveItem(patient)
        raise
    return nodes


def _place(node: Any, scan: dict[str, Any], hierarchy: Any, patient: int) -> None:
    """Name a scan and put it under its dated study."""
    node.SetName(_("Synthetic {label}").format(label=scan["label"]))
    date = datetime.date.fromisoformat(_FIRST_DATE) + datetime.timedelta(days=scan["days"])
    study = hierarchy.CreateStudyItem(patient, scan["label"])
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMStudyDateAttributeName()
    hierarchy.SetItemAttribute(study, name, date.isoformat())
    hierarchy.SetItemParent(item_of(node)[1], study)
