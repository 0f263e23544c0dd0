"""Where a study's nodes stand in the subject hierarchy: the patient, the study's folder, a folder for each date."""

from __future__ import annotations

from collections.abc import Mapping

import slicer

from LungRecoveryLib.report import text
from LungRecoveryLib.results import StudyResult
from LungRecoveryLib.scene.nodes import LABEL, STUDY, Node, StudyNodes
from LungRecoveryLib.scene.texts import _


def arrange(nodes: StudyNodes, result: StudyResult, inputs: Mapping[str, Node], dates: Mapping[str, str]) -> None:
    """Put every node into a folder under the patient: the baseline's own patient if it has one, else a new one."""
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(nodes.scene)
    patient = _patient_of(hierarchy, inputs.get(nodes.baseline.label))
    if patient is None:
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), nodes.name)
        hierarchy.SetItemAttribute(patient, STUDY, nodes.name)
    folder = hierarchy.CreateFolderItem(patient, nodes.name)
    hierarchy.SetItemAttribute(folder, STUDY, nodes.name)
    for timepoint in result.timepoints:
        own = nodes.timepoints[timepoint.label]
        date = dates.get(timepoint.label) or _date_of(hierarchy, inputs.get(timepoint.label))
        title = " · ".join(filter(None, (text.title(timepoint), date)))
        item = hierarchy.CreateStudyItem(folder, title)
        hierarchy.SetItemAttribute(item, STUDY, nodes.name)
        hierarchy.SetItemAttribute(item, LABEL, timepoint.label)
        if date:
            hierarchy.SetItemAttribute(item, constants.GetDICOMStudyDateAttributeName(), date)
        for node in (own.volume, own.transform, own.lungs, own.lesions, own.table):
            _put(hierarchy, item, node)
    for node in (*nodes.maps.values(), nodes.regions, *nodes.tables.values(), *nodes.charts.values()):
        _put(hierarchy, folder, node)
    behind = hierarchy.CreateFolderItem(folder, _("Sequences and data of the charts"))
    hierarchy.SetItemAttribute(behind, STUDY, nodes.name)
    hierarchy.SetItemExpanded(behind, False)
    for node in (nodes.browser, *nodes.sequences.values(), *nodes.others):
        if not node.IsA("vtkMRMLColorNode") and not node.GetHideFromEditors():
            _put(hierarchy, behind, node)


def _put(hierarchy: Node, parent: int, node: Node | None) -> None:
    if node is None:
        return
    item = hierarchy.GetItemByDataNode(node)
    if item == hierarchy.GetInvalidItemID():
        hierarchy.CreateItem(parent, node)
    else:
        hierarchy.SetItemParent(item, parent)


def _patient_of(hierarchy: Node, node: Node | None) -> int | None:
    return _ancestor(hierarchy, node, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient())


def _date_of(hierarchy: Node, node: Node | None) -> str:
    """The date of a scan as the hierarchy knows it from DICOM; empty where it does not."""
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    study = _ancestor(hierarchy, node, constants.GetDICOMLevelStudy())
    name = constants.GetDICOMStudyDateAttributeName()
    return hierarchy.GetItemAttribute(study, name) if study is not None else ""


def _ancestor(hierarchy: Node, node: Node | None, level: str) -> int | None:
    invalid = hierarchy.GetInvalidItemID()
    item = invalid if node is None else hierarchy.GetItemByDataNode(node)
    found = invalid if item == invalid else hierarchy.GetItemAncestorAtLevel(item, level)
    return None if found == invalid else found
