"""What the study says at a point: HU of the baseline and of the time point, every map in its unit, the regions."""

import numpy as np
import vtk

from LungRecoveryLib.scene import Overlay, StudyNodes, overlays
from LungRecoveryLib.scene.nodes import Node
from LungRecoveryLib.scene.segmentations import BINARY

Point = tuple[float, float, float]

_CT = "ct"
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
_WHOLE = "lungs"  # said of every point in the lung, so it tells nothing beside a part


def read(nodes: StudyNodes, point: Point) -> dict:
    """The place (RAS mm), HU, maps and regions at a point, as text for the page.

    Maps tell something in the lungs alone, where these are known.
    """
    regions = regions_at(nodes, point)
    outside = nodes.regions is not None and not regions
    baseline = value_at(nodes.baseline.volume, point)
    shown = baseline if nodes.timepoints[nodes.selected].baseline else value_at(nodes.maps[_CT], point)
    values = [_entry("HU, baseline", baseline, 0, "")]
    if not nodes.timepoints[nodes.selected].baseline:
        values.append(_entry(f"HU, {nodes.selected}", shown, 0, ""))
        for overlay in overlays(nodes):
            if overlay.name in nodes.maps:
                value = None if outside else value_at(nodes.maps[overlay.name], point)
                values.append(_entry(overlay.title, value, overlay.decimals, _unit(overlay)))
    where = "outside the lungs" if outside else ", ".join(_finest(regions))
    return {"place": place(point), "values": values, "region": where}


def place(point: Point) -> str:
    """A point of RAS mm as a reader says it: how far to the right or left, in front or behind, above or below."""
    return "  ".join(along(axis, point).removesuffix(" mm") for axis in range(3)) + " mm"


def along(axis: int, point: Point) -> str:
    """How far a point of RAS mm lies along one of the axes."""
    value = round(point[axis], 1)
    return f"{_LETTERS[axis][value < 0]} {abs(value):.1f} mm"


def value_at(volume: Node, point: Point) -> float | None:
    """The voxel of a volume node that holds a point of RAS mm; None outside."""
    image = volume.GetImageData()
    if image is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    index = np.rint(matrix.MultiplyPoint((*point, 1.0))[:3]).astype(int)
    if (index < 0).any() or (index >= image.GetDimensions()).any():
        return None
    return image.GetScalarComponentAsDouble(*map(int, index), 0)


def regions_at(nodes: StudyNodes, point: Point) -> dict[str, str]:
    """The regions, names by id, that a point of RAS mm lies in."""
    found: dict[str, str] = {}
    if nodes.regions is None:
        return found
    segmentation = nodes.regions.GetSegmentation()
    values: dict[str, float | None] = {}  # regions that do not overlap share one image
    for region in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(region)
        image = segment.GetRepresentation(BINARY)
        if image is None:
            continue
        key = image.GetAddressAsString("vtkDataObject")
        if key not in values:
            values[key] = _voxel(image, point)
        if values[key] == segment.GetLabelValue():
            found[region] = segment.GetName()
    return found


def _voxel(image: vtk.vtkImageData, point: Point) -> float | None:
    """The voxel of an oriented image that holds a point; its extent need not start at 0."""
    matrix = vtk.vtkMatrix4x4()
    image.GetWorldToImageMatrix(matrix)
    index = np.rint(matrix.MultiplyPoint((*point, 1.0))[:3]).astype(int)
    low, high = np.array(image.GetExtent()).reshape(3, 2).T
    if (index < low).any() or (index > high).any():
        return None
    return image.GetScalarComponentAsDouble(*map(int, index), 0)


def _finest(regions: dict[str, str]) -> list[str]:
    """The regions' names without those of which a part is named too."""
    parts = [region for region in regions if region != _WHOLE]
    finest = [region for region in parts if not any(other.startswith(f"{region}_") for other in parts)]
    return [regions[region] for region in finest or regions]


def _entry(title: str, value: float | None, decimals: int, unit: str) -> dict:
    shown = "–" if value is None else f"{value:.{decimals}f}".replace("-", "−")
    return {"title": title, "value": shown, "unit": unit if value is not None else ""}


def _unit(overlay: Overlay) -> str:
    return {"ratio": "×", "likeness": ""}.get(overlay.kind, overlay.unit)
