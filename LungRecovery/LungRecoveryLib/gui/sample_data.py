"""The synthetic patient in Slicer's module Sample Data, made on this computer: nothing is downloaded."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.errors import LungRecoveryError
from LungRecoveryLib.gui import requirements
from LungRecoveryLib.gui.loading import item_of

CATEGORY = "Lung Recovery"
SAMPLE = "LungRecoveryPatient"
"""The name by which `SampleData.downloadSample` knows the patient: a baseline CT and three follow-ups."""
SPACING_MM, SEED, DAYS = 2.0, 0, (0, 30, 90, 180)
_FIRST_DATE = "2021-01-08"
_LOOK_MS = 100


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
        customDownloader=lambda _source: make_patient(requirements_path),
    )


def make_patient(
    requirements_path: Path | None = None, spacing_mm: float = SPACING_MM, days: tuple[int, ...] = DAYS
) -> list[Any]:
    """Make the patient's scans in a process of its own and load them, dated; none where the user cancels.

    Raises LungRecoveryError where the process fails.
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
    """Run `phantom_child` and show its progress; False where the user cancels."""
    from LungRecoveryLib.gui.process import WorkerProcess, python_program

    job = folder / "phantom.json"
    job.write_text(
        json.dumps({"output": str(folder / "patient"), "seed": SEED, "spacing_mm": spacing_mm, "days": days}),
        encoding="utf-8",
    )
    dialog = slicer.util.createProgressDialog(labelText=_("Making the synthetic patient…"), maximum=100)
    errors: list[str] = []
    codes: list[int | None] = []

    def heard(event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            dialog.setValue(round(100 * event["fraction"]))
        elif event["event"] == "error":
            errors.append(event["message"])

    command = [python_program(), "-u", "-m", "LungRecoveryLib.gui.phantom_child"]
    process = WorkerProcess(heard, errors.append, codes.append, command)
    process.start(job)
    loop = qt.QEventLoop()
    watch = qt.QTimer()
    watch.setInterval(_LOOK_MS)

    def look() -> None:
        if dialog.wasCanceled:
            process.abort()
        if not process.running:
            loop.quit()

    watch.connect("timeout()", look)
    watch.start()
    loop.exec_()
    watch.stop()
    cancelled = bool(dialog.wasCanceled)
    dialog.close()
    if codes != [0] and not cancelled:
        reason = errors[-1] if errors else ""
        raise LungRecoveryError(_("The synthetic patient could not be made. {reason}").format(reason=reason))
    return codes == [0]


def _load(folder: Path) -> list[Any]:
    import datetime

    about = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    first = datetime.date.fromisoformat(_FIRST_DATE)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), _("Synthetic patient"))
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    nodes = []
    for scan in about["scans"]:
        node = slicer.util.loadVolume(str(folder / scan["path"]))
        node.SetName(_("Synthetic {label}").format(label=scan["label"]))
        date = (first + datetime.timedelta(days=scan["days"])).isoformat()
        study = hierarchy.CreateStudyItem(patient, scan["label"])
        hierarchy.SetItemAttribute(study, constants.GetDICOMStudyDateAttributeName(), date)
        hierarchy.SetItemParent(item_of(node)[1], study)
        nodes.append(node)
    return nodes
