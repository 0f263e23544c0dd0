"""What the views show of a study: the CT with an overlay, comparisons with the baseline, charts, tables, places."""

from __future__ import annotations

import numpy as np
import slicer
from scipy import ndimage

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.scene import layout, maps
from LungRecoveryLib.scene.maps import Overlay
from LungRecoveryLib.scene.nodes import Node, StudyNodes
from LungRecoveryLib.scene.segmentations import segment_mask, show_filled
from LungRecoveryLib.scene.sequences import CT, item, select_timepoint
from LungRecoveryLib.scene.texts import _
from LungRecoveryLib.scene.volumes import numpy_matrix, voxels, vtk_matrix

_OPACITY_3D = 0.4
_SMOOTH_MM = 5.0  # a place stands out by its surroundings, not by one voxel


def overlays(nodes: StudyNodes) -> list[Overlay]:
    """The maps that can be laid over the CT, those first that are most asked for."""
    held = set(nodes.maps) - {CT}
    if any(timepoint.lesions is not None for timepoint in nodes.timepoints.values()):
        held.add("lesions")
    known = [name for name in maps.known_overlays() if name in held]
    return [maps.overlay_of(name) for name in [*known, *sorted(held - set(known))]]


def set_overlay(
    nodes: StudyNodes,
    label: str,
    map_name: str | None,
    opacity: float = 0.6,
    range: tuple[float, float] | None = None,
) -> None:
    """Show a time point's CT on the baseline's grid in the slices, with a map over it and the map's legend.

    `map_name` None shows the CT alone. `range` in the map's unit is what the colours span (default: as it was); a ratio
    keeps 1, a difference 0 within it. Where a time point lacks the map, nothing lies over the CT. KeyError for an
    unknown label or map.
    """
    select_timepoint(nodes, label)
    if map_name is not None and map_name not in {overlay.name for overlay in overlays(nodes)}:
        raise KeyError(map_name)
    for timepoint in nodes.timepoints.values():
        if timepoint.lesions is not None:
            show_filled(timepoint.lesions, opacity if (map_name, label) == ("lesions", timepoint.label) else 0.0)
    volume = nodes.maps.get(map_name or "")
    if volume is not None:
        set_range(nodes, map_name, *(range or range_now(nodes, map_name)))
    show_layers(nodes, nodes.maps[CT], volume, opacity)
    show_legend(nodes, map_name)


def range_now(nodes: StudyNodes, map_name: str) -> tuple[float, float]:
    """The range that a map's colours span, in the map's unit."""
    display = nodes.maps[map_name].GetDisplayNode()
    return display.GetWindowLevelMin(), display.GetWindowLevelMax()


def set_range(nodes: StudyNodes, map_name: str, low: float, high: float) -> tuple[float, float]:
    """Let a map's colours and its legend span a range, in the map's unit; returns the range that came of it."""
    overlay = maps.overlay_of(map_name)
    low, high = maps.set_range(nodes.maps[map_name].GetDisplayNode(), overlay, low, high)
    if map_name in nodes.legends:
        maps.update_legend(nodes.legends[map_name], overlay, low, high)
    return low, high


def set_foreground_opacity(nodes: StudyNodes, opacity: float) -> None:
    """How opaque what lies over the CT is, 0 to 1: for fading, and for flicker between 0 and 1."""
    for composite in _composites(nodes.scene):
        composite.SetForegroundOpacity(opacity)


def set_linked(nodes: StudyNodes, linked: bool) -> None:
    """Let the slice views move together or not."""
    for composite in _composites(nodes.scene):
        composite.SetLinkedControl(linked)
        composite.SetHotLinkedControl(linked)


def show_in_views(nodes: StudyNodes, label: str | None = None) -> None:
    """Show a time point (default: the last one) in all views of the layout: Jacobian over CT, lungs in 3D,
    scores as a chart, the region table."""
    label = label or nodes.labels[-1]
    names = [overlay.name for overlay in overlays(nodes)]
    set_overlay(nodes, label, names[0] if names else None)
    if nodes.charts:
        show_chart(nodes, next(iter(nodes.charts)))
    show_table(nodes, label)
    show_lungs_in_3d(nodes)


def show_lungs_in_3d(nodes: StudyNodes, visible: bool = True) -> None:
    """Show the baseline's lungs in the 3D views, half transparent, or hide them; at first it takes about a second."""
    lungs = nodes.baseline.lungs
    if lungs is None:
        return
    if visible:
        lungs.CreateClosedSurfaceRepresentation()
        lungs.GetDisplayNode().SetPreferredDisplayRepresentationName3D("Closed surface")
        lungs.GetDisplayNode().SetOpacity3D(_OPACITY_3D)
    lungs.GetDisplayNode().SetVisibility3D(visible)


def show_chart(nodes: StudyNodes, key: str) -> None:
    """Show a chart in the plot view. KeyError for a chart that the study does not have."""
    chart = nodes.charts[key]
    view = nodes.scene.GetSingletonNode(layout.PLOT_VIEW, "vtkMRMLPlotViewNode")
    if view is not None:
        view.SetPlotChartNodeID(chart.GetID())
    for selection in _nodes(nodes.scene, "vtkMRMLSelectionNode"):
        selection.SetActivePlotChartID(chart.GetID())


def show_table(nodes: StudyNodes, key: str) -> None:
    """Show a table in the table view: "scores", "comparisons", or the label of a time point for its regions."""
    table = nodes.tables.get(key) or nodes.timepoints[key].table
    view = nodes.scene.GetSingletonNode(layout.TABLE_VIEW, "vtkMRMLTableViewNode")
    if view is not None:
        view.SetTableNodeID(table.GetID())
    for selection in _nodes(nodes.scene, "vtkMRMLSelectionNode"):
        selection.SetActiveTableID(table.GetID())


def region_point(nodes: StudyNodes, region: str, label: str, map_name: str | None = None) -> tuple[float, float, float]:
    """The place in a region, RAS mm, where a map's change is largest at a time point, averaged over about a centimetre.

    Without a map, or at the baseline, the voxel of the region that is nearest to its centre. Raises BadInput for a
    region that the study does not have.
    """
    found = segment_mask(nodes.regions, region) if nodes.regions is not None else None
    if found is None:
        raise BadInput(f"the study has no region {region}: choose a row of its table")
    mask, to_ras = found
    inside = np.argwhere(mask)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    volume = item(nodes, map_name, label) if map_name else None
    change = None if volume is None else _change_in(volume, maps.overlay_of(map_name), mask[window], to_ras, low)
    if change is None:
        centre = inside.mean(axis=0)
        place = inside[np.argmin(((inside - centre) ** 2).sum(axis=1))]
    else:
        at, step = change
        place = np.array(np.unravel_index(np.argmax(at), at.shape)) * step + low
    point = to_ras @ np.array([*place[::-1], 1.0])
    return tuple(float(v) for v in point[:3])


def change_map(nodes: StudyNodes, chosen: str | None) -> str | None:
    """The map that says where a region changed most: the chosen one where it shows a change, else the first."""
    shown = [overlay.name for overlay in overlays(nodes) if overlay.neutral is not None]
    return chosen if chosen in shown else next(iter(shown), None)


def jump_to(scene: Node, point: tuple[float, float, float]) -> None:
    """Let all slice views show a point, RAS mm, and put the crosshair there."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *point, slicer.vtkMRMLSliceNode.OffsetJumpSlice)
    for crosshair in _nodes(scene, "vtkMRMLCrosshairNode"):
        crosshair.SetCrosshairRAS(*point)


def show_region(nodes: StudyNodes, region: str | None) -> None:
    """Outline one region in the slices, or none."""
    if nodes.regions is None:
        return
    display = nodes.regions.GetDisplayNode()
    display.SetAllSegmentsVisibility(False)
    display.SetVisibility(region is not None)
    if region is not None:
        display.SetSegmentVisibility(region, True)


def _change_in(
    volume: Node, overlay: Overlay, mask: np.ndarray, to_ras: np.ndarray, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """How strongly a map deviates (z, y, x) in a window of the regions' grid that starts at index `low`; outside -1.

    Only every n-th voxel along an axis is looked at, about half the smoothing apart; returns the steps (3,) too.
    None where the map has no "no change" to deviate from.
    """
    if overlay.neutral is None and overlay.kind != "amount":
        return None
    matrix = vtk_matrix(np.eye(4))
    volume.GetIJKToRASMatrix(matrix)
    offset = np.linalg.inv(numpy_matrix(matrix)) @ to_ras  # one grid may be a crop of the other
    start = np.rint(offset[:3, 3]).astype(int)[::-1] + low
    window = tuple(slice(a, a + n) for a, n in zip(start, mask.shape, strict=True))
    values = voxels(volume)[window]
    if values.shape != mask.shape:
        return None
    spacing = np.array([np.linalg.norm(to_ras[:3, axis]) for axis in (2, 1, 0)])
    step = np.maximum(np.round(_SMOOTH_MM / 2 / spacing).astype(int), 1)
    thinned = tuple(slice(None, None, n) for n in step)
    if mask[thinned].any():
        mask, values = mask[thinned], values[thinned]
    else:
        step = np.ones(3, int)
    at = maps.strength(values, overlay, *maps.range_of(overlay, *(overlay.range or (0.0, float(values.max())))))
    sigma = _SMOOTH_MM / (spacing * step)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="constant")
    mean = ndimage.gaussian_filter((at * mask).astype(np.float32), sigma, mode="constant") / np.maximum(weight, 1e-6)
    return np.where(mask, np.abs(mean), -1.0), step


def show_legend(nodes: StudyNodes, map_name: str | None) -> None:
    """Show the legend of one map, which must be in the slice views by now, or none.

    Its title says so where the map rests on a registration that cannot be trusted: pictures travel without words.
    """
    for name, legend in nodes.legends.items():
        legend.SetVisibility(name == map_name)
    if map_name in nodes.legends:
        title = maps.overlay_of(map_name).legend_title
        reliable = nodes.timepoints[nodes.selected].reliable
        nodes.legends[map_name].SetTitleText(title if reliable else "\n".join((title, _("unreliable"))))
        nodes.legends[map_name].Modified()  # the views look at what they show only then


def show_layers(nodes: StudyNodes, background: Node, foreground: Node | None, opacity: float) -> None:
    """Show one volume over another in the slice views of the layout."""
    for composite in _composites(nodes.scene):
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity)


def _composites(scene: Node) -> list[Node]:
    """The slice views of the layout."""
    return [c for c in _nodes(scene, "vtkMRMLSliceCompositeNode") if c.GetLayoutName() in layout.SLICE_VIEWS]


def _nodes(scene: Node, class_name: str) -> list[Node]:
    return [scene.GetNthNodeByClass(i, class_name) for i in range(scene.GetNumberOfNodesByClass(class_name))]
