"""The study that the panel shows: its nodes, what `study.json` says of it, and where its files lie."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from LungRecoveryLib.errors import BadInput

_ROLE, _FOLDER, _DATES = "study", "LungRecovery.Folder", "LungRecovery.Dates"
_STUDY = "LungRecovery.Study"


def is_result(node: Any) -> bool:
    """Whether a node was made by showing a study."""
    return node.GetAttribute(_STUDY) is not None


@dataclass
class ShownStudy:
    """A study in the scene. `content` is study.json as Python values; `note` the text node that keeps it there."""

    nodes: Any
    content: dict[str, Any]
    note: Any

    @property
    def name(self) -> str:
        """The name under which the study is in the scene."""
        return self.nodes.name

    @property
    def folder(self) -> Path:
        """Where the study's files lie; raises BadInput where they have vanished."""
        from slicer.i18n import tr as _

        text = self.note.GetAttribute(_FOLDER) or ""
        if not text or not (Path(text) / "study.json").is_file():
            raise BadInput(
                _("The files of this study are no longer on the disk; what the scene shows is complete. Run it again.")
            )
        return Path(text)

    @property
    def inputs(self) -> dict[str, Any]:
        """The volumes that were analysed, by label; None for one that has left the scene."""
        return {label: self.note.GetNodeReference(_input_role(i)) for i, label in enumerate(self.nodes.labels)}

    @property
    def dates(self) -> dict[str, str]:
        """The dates of the time points, by label, where they are known."""
        return json.loads(self.note.GetAttribute(_DATES) or "{}")

    def timepoint(self, label: str) -> dict[str, Any]:
        """What study.json says of a time point."""
        return next(t for t in self.content["timepoints"] if t["label"] == label)

    def warnings(self, label: str) -> list[str]:
        """What the reader must know of a time point's scan and of the whole study, in sentences."""
        of_scans = {f"{t['label']}: {said}" for t in self.content["timepoints"] for said in t["warnings"]}
        return [*self.timepoint(label)["warnings"], *(w for w in self.content["warnings"] if w not in of_scans)]

    @property
    def least_abnormal_percent(self) -> float:
        """The abnormal share, in %, below which a region counts as not affected."""
        from LungRecoveryLib.recovery.score import Thresholds

        return Thresholds(**self.content["settings"]["score_thresholds"]).minimum_abnormal_percent

    @property
    def followups(self) -> list[dict[str, Any]]:
        """What study.json says of the follow-ups."""
        return self.content["timepoints"][1:]


def remember(nodes: Any, folder: Path, inputs: dict[str, Any], dates: dict[str, str]) -> ShownStudy:
    """Keep with the study's nodes what study.json says, where the study lies, its input volumes and their dates."""
    from LungRecoveryLib.scene.nodes import add_node, mark

    note = add_node(nodes.scene, "vtkMRMLTextNode", f"{nodes.name}: study.json")
    note.SetHideFromEditors(True)
    mark(note, nodes.name, _ROLE)
    note.SetAttribute(_FOLDER, str(folder))
    note.SetAttribute(_DATES, json.dumps(dates))
    for label, node in inputs.items():
        if node is not None:
            note.SetNodeReferenceID(_input_role(nodes.labels.index(label)), node.GetID())
    shown = ShownStudy(nodes, {}, note)
    reread(shown, folder)
    return shown


def reread(shown: ShownStudy, folder: Path) -> None:
    """Take study.json from a folder, as after it was changed there."""
    text = (folder / "study.json").read_text(encoding="utf-8")
    shown.note.SetText(text)
    shown.content = json.loads(text)


def find(scene: Any) -> list[ShownStudy]:
    """The studies that a scene shows, also after loading it."""
    from LungRecoveryLib.scene import find_studies

    found = []
    for nodes in find_studies(scene):
        note = next((n for n in nodes.others if n.IsA("vtkMRMLTextNode") and n.GetText()), None)
        if note is not None:
            found.append(ShownStudy(nodes, json.loads(note.GetText()), note))
    return found


def _input_role(index: int) -> str:
    return f"input{index}"


def any_in(scene: Any) -> bool:
    """Whether a scene shows a study; cheap, and without importing what showing needs."""
    nodes = (
        scene.GetNthNodeByClass(i, "vtkMRMLTextNode") for i in range(scene.GetNumberOfNodesByClass("vtkMRMLTextNode"))
    )
    return any(is_result(node) for node in nodes)


def name_for(scene: Any, baseline: Any) -> str:
    """The name for a study of a baseline: the same as before where it was analysed before, else a new one."""
    from LungRecoveryLib.scene import DEFAULT_NAME

    taken = []
    for shown in find(scene):
        if baseline is not None and shown.note.GetNodeReference(_input_role(0)) is baseline:
            return shown.name
        taken.append(shown.name)
    name, number = DEFAULT_NAME, 2
    while name in taken:
        name, number = f"{DEFAULT_NAME} {number}", number + 1
    return name
