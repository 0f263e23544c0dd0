"""Windows for the CT: lung, mediastinum, and the optimal one of each scan where the study holds it."""

from LungRecoveryLib.results import StudyResult
from LungRecoveryLib.scene import StudyNodes

_LUNG = {"name": "lung", "title": "Lung", "width": 1500.0, "level": -600.0}
_MEDIASTINUM = {"name": "mediastinum", "title": "Mediastinum", "width": 350.0, "level": 40.0}


def presets(result: StudyResult, label: str) -> list[dict]:
    """The windows that are offered at a time point, in HU: the optimal one is that scan's own, where it has one."""
    found = next((t.parenchyma or {}).get("window") for t in result.timepoints if t.label == label)
    own = found or (result.baseline.parenchyma or {}).get("window")
    if own is None:
        return [_LUNG, _MEDIASTINUM]
    optimal = {"name": "optimal", "title": "Optimal", "width": own["width_hu"], "level": own["level_hu"]}
    return [_LUNG, optimal, _MEDIASTINUM]


def show(nodes: StudyNodes, window: dict, baseline: dict, checkerboard: bool = False) -> None:
    """Show the time point's CT in one window and the baseline beside or under it in its own of the same name.

    The checkerboard is CT too, and in the time point's window; the other comparisons are not.
    """
    nodes.baseline.volume.GetDisplayNode().SetWindowLevel(baseline["width"], baseline["level"])
    for volume in (nodes.maps["ct"], *([nodes.comparison] if checkerboard else [])):
        volume.GetDisplayNode().SetWindowLevel(window["width"], window["level"])
