"""Which nodes of a scene belong to a study: marked by attributes, found again by them, and removed by them.

Every node that `show_study` makes carries the study's name in the attribute `STUDY`, what it is for in `ROLE`, and the
time point and the layer it shows in `LABEL` and `LAYER`. The attributes are saved with the scene, so the same nodes are
found after loading it; nodes without `STUDY` are never touched. The volumes that a browser fills lose their attributes
whenever it does: they are found through the browser.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import slicer
import vtk

STUDY = "LungRecovery.Study"
ROLE = "LungRecovery.Role"
LABEL = "LungRecovery.Label"
LAYER = "LungRecovery.Layer"
LABELS = "LungRecovery.Labels"  # on the browser: the labels in their order, the baseline first
UNRELIABLE = "LungRecovery.Unreliable"  # on the table of a time point whose registration cannot be trusted

Node = Any  # a vtkMRMLNode

# Which field of StudyNodes or of TimePointNodes the nodes of a role go into.
_BY_LAYER = {"sequence": "sequences", "legend": "legends", "table": "tables", "chart": "charts"}
_OF_STUDY = {"browser": "browser", "regions": "regions", "comparison": "comparison"}
_OF_TIMEPOINT = {
    "volume": "volume",
    "transform": "transform",
    "lungs": "lungs",
    "lesions": "lesions",
    "region table": "table",
}


@dataclass
class TimePointNodes:
    """The nodes of one time point.

    `volume` is the follow-up at its own resolution under `transform` (not hardened): an own node that shares the voxels
    of the input it was made for, None where no input was given. The baseline has no transform; its `volume` is the
    study's baseline CT. `table` holds what was measured in each region.
    """

    label: str
    baseline: bool
    volume: Node | None = None
    transform: Node | None = None
    lungs: Node | None = None
    lesions: Node | None = None
    table: Node | None = None

    @property
    def reliable(self) -> bool:
        """Whether what rests on the registration may be relied on."""
        return self.table is None or self.table.GetAttribute(UNRELIABLE) is None


@dataclass
class StudyNodes:
    """Every node that shows a study.

    `timepoints` by label, the baseline first. `browser` moves `sequences` over the time points; `maps` are the volumes
    it puts the selected one's layers into: "ct" (the baseline, then the follow-ups laid on it), "jacobian", ...; where
    a time point lacks a layer, as the baseline lacks the changes, it says no change all over. `legends` by the map's
    name. `tables`: "scores", "comparisons". `charts`: "scores", "abnormal_percent", "mean_hu", "volume_ml",
    "histogram". `regions` is the segmentation of the regions, its segment ids being the regions' ids. `comparison` is
    the volume of `set_comparison`. `others` are the nodes that these rest on: colour tables, plot series, their tables.
    """

    name: str
    scene: Node
    timepoints: dict[str, TimePointNodes] = field(default_factory=dict)
    browser: Node | None = None
    sequences: dict[str, Node] = field(default_factory=dict)
    maps: dict[str, Node] = field(default_factory=dict)
    legends: dict[str, Node] = field(default_factory=dict)
    regions: Node | None = None
    tables: dict[str, Node] = field(default_factory=dict)
    charts: dict[str, Node] = field(default_factory=dict)
    comparison: Node | None = None
    others: list[Node] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The labels of the time points, the baseline first."""
        return list(self.timepoints)

    @property
    def baseline(self) -> TimePointNodes:
        """The baseline's nodes."""
        return next(t for t in self.timepoints.values() if t.baseline)

    @property
    def followups(self) -> dict[str, TimePointNodes]:
        """The other time points' nodes by label."""
        return {label: t for label, t in self.timepoints.items() if not t.baseline}

    @property
    def selected(self) -> str:
        """The label of the time point that the sequences show."""
        return self.labels[max(self.browser.GetSelectedItemNumber(), 0)]


def add_node(scene: Node, class_name: str, name: str) -> Node:
    """A new node in a scene, of a class that the scene need not know yet.

    Undo leaves it alone, also where the application lets undo take back nodes of that class: a study is whole or gone.
    """
    if not scene.IsNodeClassRegistered(class_name):
        scene.RegisterNodeClass(getattr(slicer, class_name)())
    node = scene.AddNewNodeByClass(class_name, name)
    node.SetUndoEnabled(False)
    return node


def module_logic(module: str, class_name: str) -> Any:
    """The logic of a module of Slicer; without the application, one of its own, which serves calls on nodes."""
    modules = getattr(slicer, "modules", None)
    return getattr(modules, module).logic() if hasattr(modules, module) else getattr(slicer, class_name)()


def mark(node: Node, study: str, role: str, label: str | None = None, layer: str | None = None) -> Node:
    """Mark a node as this study's; returns the node."""
    for key, value in ((STUDY, study), (ROLE, role), (LABEL, label), (LAYER, layer)):
        if value is not None:
            node.SetAttribute(key, value)
    return node


def marked(scene: Node, study: str | None = None) -> list[Node]:
    """The nodes of a scene that belong to a study, or to any."""
    every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    names = [(node, node.GetAttribute(STUDY)) for node in every]
    own = [node for node, name in names if name is not None and study in (None, name)]
    return own + [volume for node in own if node.GetAttribute(ROLE) == "browser" for volume in _browsed(node).values()]


def rename(scene: Node, before: str, after: str) -> None:
    """Give a study another name."""
    for node in marked(scene, before):
        if node.GetAttribute(STUDY) is not None:  # a browser's volume is known by the browser
            node.SetAttribute(STUDY, after)


def study_names(scene: Node) -> list[str]:
    """The names of the studies that a scene shows."""
    own = [node for node in marked(scene) if node.GetAttribute(ROLE) == "browser"]
    return list(dict.fromkeys(node.GetAttribute(STUDY) for node in own))


def collect(scene: Node, name: str) -> StudyNodes:
    """The nodes of the study of that name."""
    study = StudyNodes(name, scene)
    own = marked(scene, name)
    labels = next((json.loads(node.GetAttribute(LABELS)) for node in own if node.GetAttribute(LABELS)), [])
    study.timepoints = {label: TimePointNodes(label, index == 0) for index, label in enumerate(labels)}
    for node in own:
        role, label, layer = (node.GetAttribute(key) for key in (ROLE, LABEL, LAYER))
        if role in _BY_LAYER:
            getattr(study, _BY_LAYER[role])[layer] = node
        elif role in _OF_STUDY:
            setattr(study, _OF_STUDY[role], node)
        elif role in _OF_TIMEPOINT and label in study.timepoints:
            setattr(study.timepoints[label], _OF_TIMEPOINT[role], node)
        elif role is not None:
            study.others.append(node)
    study.maps = _browsed(study.browser) if study.browser is not None else {}
    return study


def remove_study(scene: Node, name: str | None = None) -> None:
    """Remove what `show_study` made under a name (or under any), and nothing else.

    Folders that hold something of the user's by now stay, with that in them.
    """
    scene.SaveStateForUndo()
    with batch(scene):
        remove_nodes(scene, marked(scene, name))
        remove_folders(scene, own_folders(scene, name))


def remove_nodes(scene: Node, own: Iterable[Node]) -> None:
    """Remove nodes with their display and storage nodes, as far as no other node uses these."""
    own = [node for node in own if scene.IsNodePresent(node)]
    parts = [part for node in own for part in _parts(node) if part is not None]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for node in own:
        item = hierarchy.GetItemByDataNode(node)
        if item != hierarchy.GetInvalidItemID():
            hierarchy.RemoveItem(item, False, False)
        scene.RemoveNode(node)
    for part in parts:
        if scene.IsNodePresent(part) and not _used(scene, part):
            scene.RemoveNode(part)


def own_folders(scene: Node, name: str | None = None) -> list[int]:
    """The items without a node that `show_study` made in the subject hierarchy, parents before their children."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    items = _children(hierarchy, hierarchy.GetSceneItemID(), recursive=True)
    own = [(item, hierarchy.GetItemAttribute(item, STUDY)) for item in items if hierarchy.HasItemAttribute(item, STUDY)]
    return [item for item, study in own if name in (None, study)]


def remove_folders(scene: Node, folders: list[int]) -> None:
    """Remove own folders that are empty by now."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for item in reversed(folders):
        if not _children(hierarchy, item):
            hierarchy.RemoveItem(item, False, False)


@contextmanager
def batch(scene: Node) -> Iterator[None]:
    """Change a scene with one update of the views at the end."""
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        yield
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)


def _browsed(browser: Node) -> dict[str, Node]:
    """The volumes that a browser fills, by layer."""
    found = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(found, True)
    sequences = [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]
    volumes = {sequence.GetAttribute(LAYER): browser.GetProxyNode(sequence) for sequence in sequences}
    return {layer: volume for layer, volume in volumes.items() if volume is not None}


def _parts(node: Node) -> list[Node]:
    parts = []
    if node.IsA("vtkMRMLDisplayableNode"):
        parts += [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]
    if node.IsA("vtkMRMLStorableNode"):
        parts += [node.GetNthStorageNode(i) for i in range(node.GetNumberOfStorageNodes())]
    return parts


def _used(scene: Node, part: Node) -> bool:
    """Whether any node of the scene refers to a display or storage node."""
    every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
    users = [node for node in every if node.IsA("vtkMRMLDisplayableNode") or node.IsA("vtkMRMLStorableNode")]
    return any(node.HasNodeReferenceID(role, part.GetID()) for node in users for role in ("display", "storage"))


def _children(hierarchy: Node, item: int, recursive: bool = False) -> list[int]:
    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, ids, recursive)
    return [ids.GetId(i) for i in range(ids.GetNumberOfIds())]
