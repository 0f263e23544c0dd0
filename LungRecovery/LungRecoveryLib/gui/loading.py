"""Scans from files and DICOM folders into the scene, read with the same checks as by the command line."""

from pathlib import Path
from typing import Any

import slicer

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.gui.rows import PATIENT_HASH

DATE = "DICOM.StudyDate"


def load_scan(path: str | Path) -> tuple[Any, list[str]]:
    """A new volume node with the scan of a file or a DICOM folder, and warnings about it.

    Of several series in a folder the one that suits the analysis best is taken. Raises BadInput.
    """
    from LungRecoveryLib.grids import grid_of, to_array
    from LungRecoveryLib.images import read_scan
    from LungRecoveryLib.scene import volumes

    scan = read_scan(path)
    name = _name(Path(path), scan.source)
    node = volumes.add_volume(slicer.mrmlScene, name, to_array(scan.image), grid_of(scan.image))
    volumes.show_as_ct(node)
    hierarchy, item = item_of(node)
    if scan.date is not None:
        hierarchy.SetItemAttribute(item, DATE, scan.date.isoformat())
    if scan.patient_id is not None:
        hierarchy.SetItemAttribute(item, PATIENT_HASH, scan.patient_id)
    return node, list(scan.warnings)


def item_of(node: Any) -> tuple[Any, int]:
    """The subject hierarchy and the item of a node in it, made where there is none yet."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node)
    if item == hierarchy.GetInvalidItemID():
        item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    return hierarchy, item


def _name(path: Path, source: dict[str, Any]) -> str:
    """What the node is called: the series' description where there is one, else the file's name."""
    described = f"{source.get('series_number') or ''} {source.get('series_description') or ''}".strip()
    return slicer.mrmlScene.GenerateUniqueName(described or path.name.split(".")[0] or "CT")


def load_scans(paths: list[str]) -> tuple[list[Any], list[str]]:
    """The volumes of several files or folders; those loaded before one that fails are removed again."""
    nodes: list[Any] = []
    warnings: list[str] = []
    try:
        for path in paths:
            node, said = load_scan(path)
            nodes.append(node)
            warnings += said
    except BadInput:
        for node in nodes:
            slicer.mrmlScene.RemoveNode(node)
        raise
    return nodes, warnings
