"""Windows for the CT: lung, mediastinum, and the study's own optimal one where it holds it."""

from LungRecoveryLib.results import StudyResult
from LungRecoveryLib.scene import StudyNodes

_LUNG = {"name": "lung", "title": "Lung", "width": 1500.0, "level": -600.0}
_MEDIASTINUM = {"name": "mediastinum", "title": "Mediastinum", "width": 350.0, "level": 40.0}


def presets(result: StudyResult) -> list[dict]:
    """The windows that are offered for a study, in HU; the baseline's optimal one serves every date, to compare."""
    own = (result.baseline.parenchyma or {}).get("window")
    if own is None:
        return [_LUNG, _MEDIASTINUM]
    optimal = {"name": "optimal", "title": "Optimal", "width": own["width_hu"], "level": own["level_hu"]}
    return [_LUNG, optimal, _MEDIASTINUM]


def show(nodes: StudyNodes, window: dict, checkerboard: bool = False) -> None:
    """Show the CT of every view in a window; the checkerboard is CT too, the other comparisons are not."""
    volumes = [nodes.maps["ct"], nodes.baseline.volume, *([nodes.comparison] if checkerboard else [])]
    for volume in volumes:
        volume.GetDisplayNode().SetWindowLevel(window["width"], window["level"])
