"""Label maps of the study as segmentations: lungs, lesions, and the regions, which overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import slicer
from vtk.util import numpy_support

from LungRecoveryLib.anatomy.lesions import LESION_NAMES
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import grid_from_ras, grid_of, resample_mask, to_array, to_image
from LungRecoveryLib.scene.nodes import Node, add_node
from LungRecoveryLib.scene.texts import _
from LungRecoveryLib.scene.volumes import ijk_to_ras, image_data, numpy_matrix, vtk_matrix

BINARY = "Binary labelmap"
_LUNG_TERM = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~"
    "SCT^39607008^Lung~{side}~Anatomic codes - DICOM master list~^^~^^"
)
_TERMS = {1: _LUNG_TERM.format(side="SCT^24028007^Right"), 2: _LUNG_TERM.format(side="SCT^7771000^Left")}
LUNG_VALUES = {"right": 1, "left": 2}  # as the study's label maps have them
_LUNGS = {1: (0.44, 0.71, 0.94), 2: (0.56, 0.84, 0.66)}
LESION_VALUES = {name.replace(" ", "_"): value for value, name in LESION_NAMES.items()}
"""The kinds of lesion, segment ids of `add_lesions`, with their values in the study's label maps."""
_LESIONS = {
    "ground_glass": (0.98, 0.76, 0.28),
    "consolidation": (0.90, 0.27, 0.22),
    "reticulation": (0.52, 0.60, 0.98),
}
# One hue for each region that shares a layer with others; neighbours differ in lightness too.
_REGION_COLOURS = (
    (0.62, 0.79, 0.88),
    (0.91, 0.64, 0.24),
    (0.18, 0.61, 0.94),
    (0.55, 0.29, 0.12),
    (0.79, 0.72, 0.85),
    (0.18, 0.70, 0.42),
)


@dataclass(frozen=True)
class Segment:
    """A segment to be: its id and name, its value in the label map, its colour and the code of what it is."""

    id: str
    name: str
    value: int
    colour: tuple[float, float, float]
    term: str = ""


def add_lungs(scene: Node, name: str, labels: sitk.Image) -> Node:
    """A segmentation of the right (1) and left (2) lung, shown as outlines."""
    names = {1: ("right", _("Right lung")), 2: ("left", _("Left lung"))}
    array = sitk.GetArrayViewFromImage(labels)
    segments = [Segment(*names[v], v, _LUNGS[v], _TERMS[v]) for v in (1, 2) if (array == v).any()]
    return _segmentation(scene, name, labels, [(array, segments)])


def add_lesions(scene: Node, name: str, labels: sitk.Image) -> Node:
    """A segmentation of the lesions, hidden until they are asked for.

    Every kind has its segment, also where none was found, so that a reader can draw it.
    """
    array = sitk.GetArrayViewFromImage(labels)
    titles = lesion_titles()
    segments = [Segment(kind, titles[kind], value, _LESIONS[kind]) for kind, value in LESION_VALUES.items()]
    node = _segmentation(scene, name, labels, [(array, segments)])
    node.GetDisplayNode().SetVisibility(False)
    return node


def lesion_titles() -> dict[str, str]:
    """The kinds of lesion in words, by segment id."""
    return {
        "ground_glass": _("Ground glass"),
        "consolidation": _("Consolidation"),
        "reticulation": _("Reticulation"),
    }


def lesion_colours() -> dict[str, tuple[float, float, float]]:
    """The colours of the kinds of lesion, RGB in 0..1, by segment id."""
    return dict(_LESIONS)


def lesion_labels(node: Node) -> sitk.Image:
    """The label map of a segmentation of lesions that has been edited, see `labels_of`; it may be empty.

    A segment that the reader added counts by its name. Raises BadInput where that is no kind of lesion.
    """
    kinds = {title.lower(): kind for kind, title in lesion_titles().items()}
    values = {}
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        title = node.GetSegmentation().GetSegment(segment_id).GetName()
        kind = segment_id if segment_id in LESION_VALUES else kinds.get(title.strip().lower())
        if kind is not None:
            values[segment_id] = LESION_VALUES[kind]
        elif segment_mask(node, segment_id) is not None:
            raise BadInput(
                _("The segment {name} is no kind of lesion: call it {kinds}, or delete it.").format(
                    name=title, kinds=", ".join(lesion_titles().values())
                )
            )
    return labels_of(node, values)


def add_regions(
    scene: Node, name: str, atoms: sitk.Image, regions: Mapping[str, str], codes: Mapping[str, Sequence[str]]
) -> Node:
    """A segmentation of the regions, their ids as segment ids, hidden until one is asked for.

    `codes` says which regions a voxel of `atoms` with that value belongs to. Regions that do not overlap share a layer.
    """
    array = sitk.GetArrayViewFromImage(atoms)
    layers = []
    for group in layers_of(regions, codes):
        table = np.zeros(256, np.uint8)
        for value, region in enumerate(group, start=1):
            table[[int(code) for code, members in codes.items() if region in members]] = value
        segments = [
            Segment(region, regions[region], value, _REGION_COLOURS[(value - 1) % len(_REGION_COLOURS)])
            for value, region in enumerate(group, start=1)
        ]
        layers.append((table[array], segments))
    node = _segmentation(scene, name, atoms, layers)
    node.GetDisplayNode().SetVisibility(False)
    return node


def layers_of(regions: Mapping[str, str], codes: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The regions in groups that do not overlap, in their order; regions without a voxel code are left out."""
    groups: list[tuple[list[str], set[str]]] = []
    for region in regions:
        own = {code for code, members in codes.items() if region in members}
        if not own:
            continue
        for names, taken in groups:
            if not own & taken:
                names.append(region)
                taken |= own
                break
        else:
            groups.append(([region], set(own)))
    return [names for names, _taken in groups]


def segment_mask(node: Node, segment_id: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The voxels (z, y, x), bool, of a segment and the (4, 4) matrix from their indices to RAS mm; None if empty."""
    segment = node.GetSegmentation().GetSegment(segment_id)
    image = segment.GetRepresentation(BINARY) if segment else None
    if image is None or image.GetPointData().GetScalars() is None:
        return None
    array = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    mask = array == segment.GetLabelValue()
    if not mask.any():
        return None
    matrix = vtk_matrix(np.eye(4))
    image.GetImageToWorldMatrix(matrix)
    start = np.eye(4)
    start[:3, 3] = image.GetExtent()[::2]  # a stored segment may be cropped: its first voxel is not index 0
    return mask, numpy_matrix(matrix) @ start


def labels_of(node: Node, values: Mapping[str, int] | None = None) -> sitk.Image:
    """The label map, uint8, of a segmentation as it was shown or has been edited since, on the grid it was made on.

    It lies where the scan lies, whatever transform the segmentation stands under. `values` are the labels by segment id
    (default: 1 for every segment); segments that are not named are left out.
    """
    geometry = slicer.vtkOrientedImageData()
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = node.GetSegmentation().GetConversionParameter(name)
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
    matrix = vtk_matrix(np.eye(4))
    geometry.GetImageToWorldMatrix(matrix)
    grid = grid_from_ras(numpy_matrix(matrix), geometry.GetDimensions())
    labels = np.zeros(grid.shape, np.uint8)
    ids = node.GetSegmentation().GetSegmentIDs()
    for segment_id, value in (dict.fromkeys(ids, 1) if values is None else values).items():
        found = segment_mask(node, segment_id)
        if found is not None:
            mask, to_ras = found
            image = to_image(mask, grid_from_ras(to_ras, mask.shape[::-1]))
            labels[to_array(resample_mask(image, grid)) != 0] = value
    return to_image(labels, grid)


def show_filled(node: Node, opacity: float) -> None:
    """Show a segmentation in the slices, filled with that opacity; 0 hides it."""
    display = node.GetDisplayNode()
    display.SetVisibility(opacity > 0)
    display.SetOpacity2DFill(opacity)
    display.SetOpacity2DOutline(min(1.0, opacity + 0.3))


def _segmentation(
    scene: Node, name: str, like: sitk.Image, layers: Sequence[tuple[np.ndarray, Sequence[Segment]]]
) -> Node:
    node = add_node(scene, "vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    segmentation = node.GetSegmentation()
    name_of_geometry = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    for array, segments in layers:
        image = image_data(array, slicer.vtkOrientedImageData)
        image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(grid_of(like))))
        text = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
        segmentation.SetConversionParameter(name_of_geometry, text)
        for wanted in segments:
            segment = slicer.vtkSegment()
            segment.SetName(wanted.name)
            segment.SetColor(*wanted.colour)
            segment.SetLabelValue(wanted.value)
            if wanted.term:
                segment.SetTag("TerminologyEntry", wanted.term)
            segment.AddRepresentation(BINARY, image)
            segmentation.AddSegment(segment, wanted.id)
    display = node.GetDisplayNode()
    display.SetOpacity2DFill(0.0)
    display.SetOpacity2DOutline(0.8)
    display.SetVisibility3D(False)
    return node
