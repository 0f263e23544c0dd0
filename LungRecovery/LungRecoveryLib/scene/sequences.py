"""Layers over the time points as sequences, and one browser that moves them all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from LungRecoveryLib.scene.nodes import LABELS, Node, StudyNodes, add_node, mark, module_logic
from LungRecoveryLib.scene.texts import _

CT = "ct"  # the layer of the scans themselves
EMPTY = "LungRecovery.Empty"  # on the item of a time point that has nothing to show in a layer


def add_browser(scene: Node, study: str, labels: list[str]) -> Node:
    """A browser over the time points, without a sequence yet."""
    browser = mark(add_node(scene, "vtkMRMLSequenceBrowserNode", _("Time points")), study, "browser")
    browser.SetAttribute(LABELS, json.dumps(labels))
    browser.SetIndexDisplayMode(browser.IndexDisplayAsIndexValue)
    browser.SetPlaybackRateFps(1.0)
    return browser


def add_sequence(scene: Node, study: str, browser: Node, layer: str, title: str, items: Mapping[str, Node]) -> Node:
    """A sequence for a layer; returns the volume that the browser puts the selected time point's image into.

    `items` are volume nodes in no scene by label, for every time point, in order; their voxels become the sequence's.
    """
    sequence = add_node(scene, "vtkMRMLSequenceNode", _("{layer} over time").format(layer=title))
    mark(sequence, study, "sequence", layer=layer)
    sequence.SetIndexType(sequence.TextIndex)
    sequence.SetIndexName(_("time point"))
    sequence.SetIndexUnit("")
    for value, volume in zip(_index_values(items), items.values(), strict=True):
        image = volume.GetImageData()
        volume.SetAndObserveImageData(None)  # a sequence copies what it is given
        sequence.SetDataNodeAtValue(volume, value).SetAndObserveImageData(image)
    volume = add_node(scene, "vtkMRMLScalarVolumeNode", title)
    volume.CreateDefaultDisplayNodes()
    browser.AddSynchronizedSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volume, sequence, False)
    browser.SetSaveChanges(sequence, False)
    browser.SetOverwriteProxyName(sequence, False)
    return volume


def select_timepoint(nodes: StudyNodes, label: str) -> None:
    """Let every map show a time point; KeyError for a label that the study does not have."""
    if label not in nodes.timepoints:
        raise KeyError(label)
    nodes.browser.SetSelectedItemNumber(nodes.labels.index(label))
    update_maps(nodes.browser)


def update_maps(browser: Node) -> None:
    """Copy the selected items into the browser's volumes, which Slicer's own logic may do later only."""
    module_logic("sequences", "vtkSlicerSequencesLogic").UpdateProxyNodesFromSequences(browser)


def item(nodes: StudyNodes, layer: str, label: str) -> Node | None:
    """The volume of a layer at a time point as the sequence holds it (not in the scene); None where there is none."""
    sequence = nodes.sequences.get(layer)
    return None if sequence is None else filled_item(sequence, nodes.labels.index(label))


def filled_item(sequence: Node, index: int) -> Node | None:
    """The volume at a place of a sequence; None where there is nothing to show."""
    volume = sequence.GetNthDataNode(index)
    return None if volume is None or volume.GetAttribute(EMPTY) else volume


def _index_values(labels: Iterable[str]) -> list[str]:
    """The texts by which a browser shows the time points: the labels without the signs that part values in a scene's
    file, numbered where that leaves two of them alike."""
    values: list[str] = []
    for label in labels:
        plain = " ".join(re.sub(r"[^-+.,()/ \w]", " ", label).split()) or "visit"
        alike = sum(value == plain or value.startswith(f"{plain} (") for value in values)
        values.append(f"{plain} ({alike + 1})" if alike else plain)
    return values
