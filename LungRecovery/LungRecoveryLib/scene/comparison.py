"""A follow-up laid on the baseline beside the baseline itself: fade, checkerboard, difference, edges."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from LungRecoveryLib.scene.nodes import Node, StudyNodes, add_node, mark
from LungRecoveryLib.scene.sequences import CT, item, select_timepoint
from LungRecoveryLib.scene.texts import _
from LungRecoveryLib.scene.views import show_layers, show_legend
from LungRecoveryLib.scene.volumes import image_data, show_as_ct, voxels, vtk_matrix

MODES = ("fade", "checkerboard", "difference", "edges")
DIFFERENCE_HU = 400.0  # black at that much less, white at that much more
_SQUARE_MM = 25.0
_EDGE_HU = -500.0


def meanings() -> dict[str, str]:
    """What each comparison shows, in a sentence."""
    return {
        "fade": _("The follow-up over the baseline: what fits lies still while one fades into the other."),
        "checkerboard": _("Squares of both scans in turn: contours run on from one to the next where they fit."),
        "difference": _(
            "HU of the follow-up less HU of the baseline: white is denser by {hu} HU or more, black less dense."
        ).format(hu=f"{DIFFERENCE_HU:g}"),
        "edges": _("Yellow: the contours of the follow-up, over the CT of the baseline."),
    }


def set_comparison(nodes: StudyNodes, label: str, mode: str | None) -> None:
    """Compare a time point with the baseline in the slice views.

    "fade": the follow-up over the baseline, moved by `set_foreground_opacity`, which also makes the flicker.
    "checkerboard": squares of both in turn. "difference": HU of the follow-up less the baseline. "edges": the
    follow-up's contours over the baseline. None: the time point alone. It must be set again for another time point.
    """
    if mode not in (None, *MODES):
        raise KeyError(mode)
    select_timepoint(nodes, label)
    show_legend(nodes, None)
    baseline = nodes.baseline.volume
    if mode is None:
        show_layers(nodes, nodes.maps[CT], None, 0.0)
    elif mode == "fade":
        show_layers(nodes, baseline, nodes.maps[CT], 0.5)
    else:
        volume = _comparison_volume(nodes)
        make = {"checkerboard": _checkerboard, "difference": _difference, "edges": _edges}[mode]
        fixed, moving = voxels(baseline), voxels(item(nodes, CT, label))
        volume.SetAndObserveImageData(image_data(make(fixed, moving, baseline.GetSpacing()[::-1])))
        matrix = vtk_matrix(np.eye(4))
        baseline.GetIJKToRASMatrix(matrix)
        volume.SetIJKToRASMatrix(matrix)
        _display(nodes, volume, mode)
        if mode == "edges":
            show_layers(nodes, baseline, volume, 1.0)
        else:
            show_layers(nodes, volume, None, 0.0)


def _checkerboard(fixed: np.ndarray, moving: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    squares = [(np.arange(n) * s // _SQUARE_MM).astype(int) for n, s in zip(fixed.shape, spacing, strict=True)]
    odd = np.add.outer(np.add.outer(squares[0], squares[1]), squares[2]) % 2 == 1
    return np.where(odd, moving, fixed)


def _difference(fixed: np.ndarray, moving: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return moving.astype(np.float32) - fixed.astype(np.float32)


def _edges(fixed: np.ndarray, moving: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """The rim, one voxel thick, of what is denser than half lung, half tissue: pleura, airways and vessels."""
    dense = moving > _EDGE_HU
    return (dense & ~ndimage.binary_erosion(dense, border_value=1)).astype(np.uint8)


def _comparison_volume(nodes: StudyNodes) -> Node:
    if nodes.comparison is None:
        volume = add_node(nodes.scene, "vtkMRMLScalarVolumeNode", _("Comparison with the baseline"))
        nodes.comparison = mark(volume, nodes.name, "comparison")
        volume.CreateDefaultDisplayNodes()
    return nodes.comparison


def _display(nodes: StudyNodes, volume: Node, mode: str) -> None:
    show_as_ct(volume)
    display = volume.GetDisplayNode()
    display.SetInterpolate(mode != "edges")
    display.SetApplyThreshold(mode == "edges")
    if mode == "difference":
        display.SetWindowLevelMinMax(-DIFFERENCE_HU, DIFFERENCE_HU)
    elif mode == "edges":
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeYellow")
        display.SetWindowLevelMinMax(0.0, 1.0)
        display.SetThreshold(1, 1)
