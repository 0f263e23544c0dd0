"""A study's DICOM objects for the export: those that the analysis wrote, or made now in a process of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from LungRecoveryLib.errors import BadInput, LungRecoveryError
from LungRecoveryLib.gui import inputs, requirements
from LungRecoveryLib.gui.waiting import wait_for

if TYPE_CHECKING:
    from LungRecoveryLib.gui.shown import ShownStudy

DICOM = "dicom"


def objects_of(shown: "ShownStudy", packages: Path, workplace: Path) -> Path | None:
    """The folder with a study's DICOM objects, made in the folder `workplace` where the study has none.

    `packages` lists what making them needs. None where the user declines an installation or cancels. Raises BadInput
    where a scan has left the scene, MissingDependency where an installation fails, LungRecoveryError where the objects
    cannot be made.
    """
    study = shown.folder
    if (study / DICOM).is_dir():
        return study / DICOM
    scans = {}
    for label, volume in shown.inputs.items():
        if volume is None:
            text = _("The scan of {label}, which the DICOM objects refer to, is no longer in the scene: load it again.")
            raise BadInput(text.format(label=label))
        folder = shown.timepoint(label)["folder"]
        scans[folder] = workplace / f"{folder}.nrrd"
    if not requirements.ensure(packages, torch=False):
        return None
    inputs.check_space(sum(inputs.volume_bytes(volume) for volume in shown.inputs.values()), workplace)
    for path, volume in zip(scans.values(), shown.inputs.values(), strict=True):
        inputs.write_volume(volume, path)
    output = workplace / DICOM
    content = {"study": str(study), "output": str(output), "scans": {name: str(path) for name, path in scans.items()}}
    try:
        done = wait_for(
            "LungRecoveryLib.gui.dicom_child", workplace / "job.json", content, _("Writing the DICOM objects…")
        )
    except LungRecoveryError as error:
        text = _("The DICOM objects could not be written. {reason}")
        raise LungRecoveryError(text.format(reason=error)) from error
    return output if done else None
