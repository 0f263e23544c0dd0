"""Transforms of the study as transform nodes, and what they do to points.

A transform file takes a baseline point to the follow-up (ITK's resampling transform). In MRML that is the follow-up's
transform FROM its parent, the baseline's space: a follow-up under the node is laid on the baseline.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import slicer
import vtk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.scene.nodes import Node, StudyNodes, add_node

HDF5 = threading.Lock()
"""To be held while a transform's file is read: the library beneath is not made for threads."""


def add_transform(scene: Node, name: str, path: Path) -> Node:
    """A transform node from a study's file; raises BadInput where it is gone or damaged."""
    if not path.is_file():
        raise BadInput(f"{path} is gone: analyse the scans again")
    node = add_node(scene, "vtkMRMLTransformNode", name)
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    with HDF5:
        read = storage.ReadData(node)
    if not read:
        scene.RemoveNode(node)
        raise BadInput(f"{path} cannot be read: analyse the scans again")
    interpolate_linearly(node)
    return node


def interpolate_linearly(node: Node) -> None:
    """Interpolate displacements between their grid's points linearly, as they were computed and as ITK does.

    MRML does not store this, so it is repeated when a scene was loaded.
    """
    for part in _parts(node.GetTransformFromParent()):
        if part.IsA("vtkGridTransform"):
            part.SetInterpolationModeToLinear()


def to_followup(node: Node, points: np.ndarray) -> np.ndarray:
    """Where the tissue at baseline points (N, 3), RAS mm, lies in the follow-up."""
    transform = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(transform)
    return np.array([transform.TransformPoint(p) for p in np.asarray(points, float).tolist()]).reshape(-1, 3)


def landmark_errors(nodes: StudyNodes, label: str, baseline_points: Node, followup_points: Node) -> np.ndarray:
    """Target registration error in mm (N,) of the i-th points of two markup lists, both where they lie in the world.

    The second list marks the same places in the follow-up as it was loaded. Where it stands under the follow-up's
    transform, its points are taken as they were before it. Raises BadInput for lists of unequal length or none.
    """
    count = baseline_points.GetNumberOfControlPoints()
    if count == 0 or count != followup_points.GetNumberOfControlPoints():
        raise BadInput(
            f"{baseline_points.GetName()} has {count} points and {followup_points.GetName()} "
            f"{followup_points.GetNumberOfControlPoints()}: mark the same places in both, in the same order"
        )
    transform = nodes.timepoints[label].transform
    if transform is None:
        raise BadInput(f"{label} is the baseline: choose a follow-up")
    fixed = _points(baseline_points)
    if followup_points.GetParentTransformNode() is transform:
        moving = _points(followup_points, world=False)
    else:
        moving = _points(followup_points)
    return np.linalg.norm(to_followup(transform, fixed) - moving, axis=1)


def _points(markups: Node, world: bool = True) -> np.ndarray:
    get = markups.GetNthControlPointPositionWorld if world else markups.GetNthControlPointPosition
    points = []
    for index in range(markups.GetNumberOfControlPoints()):
        point = [0.0, 0.0, 0.0]
        get(index, point)
        points.append(point)
    return np.array(points)


def _parts(transform: vtk.vtkAbstractTransform | None) -> list[vtk.vtkAbstractTransform]:
    if transform is None:
        return []
    if not transform.IsA("vtkGeneralTransform"):
        return [transform]
    every = [transform.GetConcatenatedTransform(i) for i in range(transform.GetNumberOfConcatenatedTransforms())]
    return [part for whole in every for part in _parts(whole)]
