"""Transforms as DICOM registrations: the baseline's frame of reference is the registered, the follow-up's the source.

The source point of a registered point is M_post (M_pre x + D(x)) (PS3.3 C.20.3.1.1). All of the displacement is in
the grid D and both matrices are left out, so that no reader can take them in another order; outside the grid nothing
is said. A transform without a deformation becomes a spatial registration with its matrix.
"""

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import DeformableSpatialRegistrationStorage, SpatialRegistrationStorage

from LungRecoveryLib import grids
from LungRecoveryLib.report.dicom.identity import Identity, body_part, equipment

GRID_MM = 3.0


def registration(
    transform: sitk.Transform, grid: grids.Grid, fixed: list[Dataset], moving: list[Dataset], identity: Identity,
    number: int, label: str, folder: str,
) -> Dataset:  # fmt: skip
    """A transform from baseline points to follow-up points as an object; `grid` is where it is defined."""
    made = _common(fixed, moving, identity)
    identity.series(made, number, f"{label}: registration onto the baseline", "registration", folder)
    made.ContentLabel, made.ContentCreatorName = "REGISTRATION", ""
    made.ContentDescription = f"{label} registered onto the baseline"[:64]
    if _is_linear(transform):
        made.SOPClassUID = SpatialRegistrationStorage
        made.RegistrationSequence = [_unmoved(fixed), _matrix_item(transform, moving)]
    else:
        made.SOPClassUID = DeformableSpatialRegistrationStorage
        made.DeformableRegistrationSequence = [_grid_item(transform, grid, moving)]
    return made


def _common(fixed: list[Dataset], moving: list[Dataset], identity: Identity) -> Dataset:
    made = Dataset()
    identity.describe(made)
    equipment(made)
    body_part(made)
    made.Modality = "REG"
    made.FrameOfReferenceUID = fixed[0].FrameOfReferenceUID
    made.PositionReferenceIndicator = fixed[0].get("PositionReferenceIndicator", "")
    _refer(made, [*fixed, *moving], identity)
    return made


def _refer(made: Dataset, images: list[Dataset], identity: Identity) -> None:
    """Name every image, by study and series (common instance reference)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for image in images:
        studies.setdefault(image.StudyInstanceUID, {}).setdefault(image.SeriesInstanceUID, []).append(_reference(image))
    others = []
    for study, series in studies.items():
        items = []
        for series_uid, references in series.items():
            item = Dataset()
            item.SeriesInstanceUID, item.ReferencedInstanceSequence = series_uid, references
            items.append(item)
        if study == identity.study_uid:
            made.ReferencedSeriesSequence = items
        else:
            other = Dataset()
            other.StudyInstanceUID, other.ReferencedSeriesSequence = study, items
            others.append(other)
    if others:
        made.StudiesContainingOtherReferencedInstancesSequence = others


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _is_linear(transform: sitk.Transform) -> bool:
    parts = [transform]
    if transform.GetName() == "CompositeTransform":
        composite = sitk.CompositeTransform(transform)
        parts = [composite.GetNthTransform(i) for i in range(composite.GetNumberOfTransforms())]
    return all(part.IsLinear() for part in parts)


def _grid_item(transform: sitk.Transform, grid: grids.Grid, moving: list[Dataset]) -> Dataset:
    nodes = _nodes(grid)
    axes = nodes.axes
    field = np.moveaxis(grids.transform_to_field(transform, nodes), 0, -1)  # (z, y, x, 3), x fastest
    vectors = Dataset()
    vectors.ImagePositionPatient = [f"{v:.10g}" for v in nodes.origin]
    vectors.ImageOrientationPatient = [f"{v:.10g}" for v in (*axes[:, 0], *axes[:, 1])]
    vectors.GridDimensions = list(nodes.size)
    vectors.GridResolution = list(nodes.spacing)
    vectors.VectorGridData = np.ascontiguousarray(field, "<f4").tobytes()
    item = Dataset()
    item.SourceFrameOfReferenceUID = moving[0].FrameOfReferenceUID
    item.ReferencedImageSequence = [_reference(image) for image in moving]
    item.RegistrationTypeCodeSequence = []
    item.DeformableRegistrationGridSequence = [vectors]
    return item


def _nodes(grid: grids.Grid) -> grids.Grid:
    """A right-handed grid over the box of `grid` and a voxel around it, with nodes `GRID_MM` apart."""
    box = sitk.DICOMOrient(grids.to_image(np.zeros(grid.shape, np.uint8), grid), "LPS")
    size = tuple(n + 2 for n in box.GetSize())
    return grids.isotropic_grid(grids.crop(grids.grid_of(box), (-1, -1, -1), size), GRID_MM)


def _matrix_item(transform: sitk.Transform, moving: list[Dataset]) -> Dataset:
    """The matrix from follow-up points to baseline points, as a spatial registration holds it (PS3.3 C.20.2.1.1)."""
    points = np.vstack([np.zeros(3), np.eye(3)])
    moved = np.array([transform.TransformPoint(point.tolist()) for point in points])
    forward = np.eye(4)
    forward[:3, :3], forward[:3, 3] = (moved[1:] - moved[0]).T, moved[0]
    item = _with_matrix(np.linalg.inv(forward))
    item.FrameOfReferenceUID = moving[0].FrameOfReferenceUID
    item.ReferencedImageSequence = [_reference(image) for image in moving]
    return item


def _unmoved(fixed: list[Dataset]) -> Dataset:
    item = _with_matrix(np.eye(4))
    item.FrameOfReferenceUID = fixed[0].FrameOfReferenceUID
    item.ReferencedImageSequence = [_reference(image) for image in fixed]
    return item


def _with_matrix(matrix: np.ndarray) -> Dataset:
    rotation = matrix[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) and np.linalg.det(rotation) > 0
    inner = Dataset()
    inner.FrameOfReferenceTransformationMatrixType = "RIGID" if rigid else "AFFINE"
    inner.FrameOfReferenceTransformationMatrix = [f"{v:.10g}" for v in matrix.ravel()]
    outer = Dataset()
    outer.MatrixSequence = [inner]
    outer.RegistrationTypeCodeSequence = []
    item = Dataset()
    item.MatrixRegistrationSequence = [outer]
    return item
