"""Writing what the user ticks into a folder: transforms, maps, tables, the report, the scene."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.gui.dicom_export import DICOM, objects_of

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel
    from LungRecoveryLib.gui.shown import ShownStudy

_TRANSFORMS = ("transform", "inverse_transform")
_TABLES = ("scores.csv", "regions.csv", "trajectory.csv")
_TABLES_IF_ASKED_FOR = ("radiomics.csv",)
_SCENE = "scene.mrb"


def choices() -> dict[str, tuple[str, str]]:
    """What can be exported: {key: (title, tooltip)}, in the order shown."""
    return {
        "report": (_("Report (HTML and PDF)"), _("report.html, report.pdf and their figures")),
        "tables": (_("Tables (CSV)"), _("scores.csv, regions.csv, trajectory.csv: one row a measure")),
        "study": (_("Everything measured (JSON)"), _("study.json, with its schema's name in it")),
        "maps": (_("Maps (NIfTI)"), _("The baseline, the follow-ups laid on it, the Jacobian and every other map")),
        "masks": (
            _("Lungs, regions and lesions (NIfTI)"),
            _("Label maps of the lungs, their regions and lobes, and lesions"),
        ),
        "h5": (_("Transforms (.h5)"), _("Baseline point to follow-up point and back, for ITK and Slicer")),
        "tfm": (_("Transforms (.tfm)"), _("The same as text")),
        "nrrd": (_("Displacements (.nrrd)"), _("The same as a vector image in mm (LPS) on the baseline's grid")),
        "dicom": (
            _("DICOM objects"),
            _("For a PACS, without the patient's name: scans, registrations, masks, maps, measurements and report"),
        ),
        "scene": (_("The whole scene (.mrb)"), _("Every node of the scene in one file")),
    }


class ExportSection:
    """The section "Export"."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        for key, (title, tip) in choices().items():
            item = qt.QListWidgetItem(title)
            item.setData(qt.Qt.UserRole, key)
            item.setToolTip(tip)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            item.setCheckState(qt.Qt.Checked if key in ("report", "tables") else qt.Qt.Unchecked)
            self.ui.exportList.addItem(item)
        for edit in (self.ui.exportFolderEdit, self.ui.resultsFolderEdit):
            edit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.exportButton.connect("clicked()", self._export)
        self.ui.openReportButton.connect("clicked()", self._open_report)

    @property
    def ticked(self) -> list[str]:
        """The keys of what is ticked."""
        items = [self.ui.exportList.item(i) for i in range(self.ui.exportList.count)]
        return [item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Checked]

    def _export(self) -> None:
        folder = self.ui.exportFolderEdit.currentPath.strip()
        written = self.panel.attempt(lambda: self._write(folder))
        if written is not None:
            self.panel.show_information(
                _("{count} files were written into {folder}.").format(count=len(written), folder=folder)
            )

    def _write(self, folder: str) -> list[Path] | None:
        if not folder:
            raise BadInput(_("Choose a folder to export into."))
        if not self.ticked:
            raise BadInput(_("Tick what is to be exported."))
        wants_dicom = DICOM in self.ticked
        with tempfile.TemporaryDirectory(prefix="LungRecovery-", dir=slicer.app.temporaryPath or None) as workplace:
            steps = plan(self.panel.shown, self.ticked, Path(folder))
            objects = Path(folder) / DICOM
            if not self._may_replace([*[path for path, _write in steps], *([objects] if wants_dicom else [])]):
                return None
            if wants_dicom:
                made = objects_of(self.panel.shown, self.panel.logic.dicom_requirements_path(), Path(workplace))
                if made is None:
                    return None
                steps.append(_copy(made, objects))
            with self.panel.busy():
                return carry_out(steps, Path(folder))

    def _may_replace(self, paths: list[Path]) -> bool:
        """Ask whether files that exist may be replaced."""
        there = [path.name for path in paths if path.exists()]
        return not there or slicer.util.confirmOkCancelDisplay(
            _("These files exist and will be replaced:\n\n{names}").format(names="\n".join(there[:20])),
            windowTitle=_("Lung Recovery"),
        )

    def _open_report(self) -> None:
        report = self.panel.attempt(lambda: self.panel.shown.folder / "report.html")
        if report is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(report)))


Step = tuple[Path, Callable[[Path], Any]]


def plan(shown: "ShownStudy", keys: list[str], folder: Path) -> list[Step]:
    """What to write but DICOM objects: (path, the function that writes it). Raises BadInput where the study is gone."""
    steps: list[Step] = []
    study = shown.folder if set(keys) - {"scene"} else Path()
    if "report" in keys:
        steps += [_copy(study / name, folder / name) for name in ("report.html", "report.pdf", "figures")]
    if "tables" in keys:
        there = [name for name in _TABLES_IF_ASKED_FOR if (study / name).is_file()]
        steps += [_copy(study / name, folder / name) for name in (*_TABLES, *there)]
    if "study" in keys:
        steps.append(_copy(study / "study.json", folder / "study.json"))
    for timepoint in shown.content["timepoints"]:
        for layer, file in timepoint["files"].items():
            steps += _layer_steps(study / file, layer, timepoint["folder"], keys, folder, shown.content["grid"])
    if "scene" in keys:
        steps.append((folder / _SCENE, lambda path: _save_scene(path)))
    return [(path, write) for path, write in steps if write is not None]


def carry_out(steps: list[Step], folder: Path) -> list[Path]:
    """Write everything into a folder, or nothing: an earlier export stays whole where this one fails.

    It is written beside its place under another name first, and so takes the room of both for a moment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".LungRecovery-", dir=folder, ignore_cleanup_errors=True) as name:
        unfinished = Path(name)
        try:
            for path, write in steps:
                write(unfinished / path.name)
        except BadInput as error:  # the user knows the folder alone
            raise BadInput(str(error).replace(name, str(folder))) from error
        for path, _write in steps:
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(unfinished / path.name, path)
    return [path for path, _write in steps]


def _layer_steps(
    source: Path, layer: str, timepoint: str, keys: list[str], folder: Path, grid: dict[str, Any]
) -> list[Step]:
    """The steps for one layer of one time point."""
    stem = f"{timepoint}-{layer}"
    if layer in _TRANSFORMS:
        steps: list[Step] = []
        if "h5" in keys:
            steps.append(_copy(source, folder / f"{stem}.h5"))
        if "tfm" in keys:
            steps.append((folder / f"{stem}.tfm", lambda path: _convert_transform(source, path)))
        if "nrrd" in keys:
            steps.append((folder / f"{stem}.nrrd", lambda path: _displacement(source, path, grid)))
        return steps
    wanted = "masks" if layer in ("lungs", "lobes", "regions", "lesions") else "maps"
    return [_copy(source, folder / f"{stem}.nii.gz")] if wanted in keys else []


def _copy(source: Path, target: Path) -> Step:
    def write(path: Path) -> None:
        from LungRecoveryLib.files import copy_folder

        if source.is_dir():
            copy_folder(source, path)
        elif source.is_file():
            shutil.copyfile(source, path)
        else:
            raise BadInput(_("{name} is missing from the study's folder: run it again.").format(name=source.name))

    return target, write


def _convert_transform(source: Path, path: Path) -> None:
    from LungRecoveryLib.image_files import read_stored_transform, write_transform

    write_transform(read_stored_transform(source), path)


def _displacement(source: Path, path: Path, grid: dict[str, Any]) -> None:
    from LungRecoveryLib import grids
    from LungRecoveryLib.image_files import read_stored_transform, write_image

    place = grids.Grid(**{key: tuple(value) for key, value in grid.items()})
    field = grids.transform_to_field(read_stored_transform(source), place)
    write_image(grids.to_image(field, place), path)


def _save_scene(path: Path) -> None:
    """Write the scene to a file; where the user saves the scene itself stays as it was."""
    scene = slicer.mrmlScene
    address, root = scene.GetURL(), scene.GetRootDirectory()
    try:
        if not slicer.util.saveScene(str(path)):
            raise BadInput(_("The scene could not be written: check the folder and the room on its disk."))
    finally:
        scene.SetURL(address)
        scene.SetRootDirectory(root)
