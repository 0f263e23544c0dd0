"""Nodes of the scene as the files that the worker reads; no node is changed.

A linear transform over a node goes into the file's geometry, so what is computed is in world coordinates (RAS in the
scene, LPS in the file).
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vtk
from slicer.i18n import tr as _

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.gui.rows import Row, check_transform, days_of, labels_of

_RAS_TO_LPS = (-1.0, -1.0, 1.0)
_RESULT_BYTES_PER_INPUT_BYTE = 2.0
_RIGHT_ANGLE = 1e-3


@dataclass(frozen=True)
class InputFile:
    """A file that the worker reads: its name in the run's folder, what the user calls it, and what writes it."""

    name: str
    title: str
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Request:
    """What to compute: the content of the job file but its output, the files it names, and whose results they are.

    `inputs` are the volumes by the labels of the time points, the baseline first, `dates` their dates where they are
    known; `size` how many bytes the inputs have; `keep_in` where to keep the study (None: in a temporary folder).
    """

    job: dict[str, Any]
    files: tuple[InputFile, ...]
    inputs: dict[str, Any]
    dates: dict[str, str]
    size: int
    keep_in: Path | None = None


def analysis(rows: Sequence[Row], settings: dict[str, Any], keep_in: Path | None = None) -> Request:
    """The request to analyse the rows of the table, which have been checked."""
    files: list[InputFile] = []
    timepoints = []
    labels = labels_of(rows)
    for index, (row, label, day) in enumerate(zip(rows, labels, days_of(rows), strict=True)):
        files.append(volume_file(f"scan-{index}.nrrd", row.volume))
        timepoint: dict[str, Any] = {"path": files[-1].name, "label": label}
        if day is not None:
            timepoint["days"] = day
        if row.lungs is not None:
            files.append(mask_file(f"lungs-{index}.nrrd", row.lungs))
            timepoint["lungs"] = files[-1].name
        timepoints.append(timepoint)
    dates = {label: row.date.isoformat() for label, row in zip(labels, rows, strict=True) if row.date}
    inputs = dict(zip(labels, (row.volume for row in rows), strict=True))
    size = sum(volume_bytes(row.volume) for row in rows)
    return Request({"timepoints": timepoints, **settings}, tuple(files), inputs, dates, size, keep_in)


def volume_file(name: str, node: Any) -> InputFile:
    """A volume node as a file."""
    return InputFile(name, node.GetName(), lambda path: write_volume(node, path))


def mask_file(name: str, node: Any) -> InputFile:
    """A segmentation or label map node as a file."""
    return InputFile(name, node.GetName(), lambda path: write_mask(node, path))


def lesions_file(name: str, node: Any) -> InputFile:
    """A segmentation node of lesions as a file that keeps their kinds."""
    return InputFile(name, node.GetName(), lambda path: write_lesions(node, path))


def volume_bytes(node: Any) -> int:
    """How many bytes the voxels of a volume have."""
    return node.GetImageData().GetActualMemorySize() * 1024


def check_results_folder(folder: Path) -> None:
    """Raise BadInput where no results can be kept in a folder, as when its disk was taken out."""
    if not folder.is_dir():
        text = _("The folder {folder} is not there: choose another one under “{option}”, or leave that empty.")
    elif not os.access(folder, os.W_OK):
        text = _("Nothing can be written into {folder}: choose another folder under “{option}”, or leave that empty.")
    else:
        return
    raise BadInput(text.format(folder=folder, option=_("Keep results in")))


def check_space(size: int, folder: Path, keep_in: Path | None = None) -> None:
    """Raise BadInput where there is no room for inputs of `size` bytes in a folder, or for the results.

    These lie in the folder `keep_in`, which may be on a disk of its own, or with the inputs.
    """
    results = size * _RESULT_BYTES_PER_INPUT_BYTE
    if keep_in is None or keep_in.stat().st_dev == folder.stat().st_dev:
        _check_free(size + results, keep_in or folder)
    else:
        _check_free(size, folder)
        _check_free(results, keep_in)


def _check_free(needed: float, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(
            _(
                "There is too little room on the disk of {folder}: about {needed:.1f} GB are needed and {free:.1f} GB "
                "are free. Delete some files there, or choose a folder on another disk under “{option}”."
            ).format(folder=folder, needed=needed / 1e9, free=free / 1e9, option=_("Keep results in"))
        )


def write_volume(volume: Any, path: Path) -> None:
    """Write a volume node's voxels, under its linear transforms, as NRRD.

    Raises BadInput where its axes are sheared by a transform or its transform bends it.
    """
    check_transform(volume)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    _write(volume.GetImageData(), _to_world(volume, matrix), path, volume.GetName())


def write_mask(node: Any, path: Path) -> None:
    """Write a segmentation node (all its segments together) or a label map as NRRD with 1 inside and 0 outside."""
    import slicer

    check_transform(node)
    matrix = vtk.vtkMatrix4x4()
    if node.IsA("vtkMRMLSegmentationNode"):
        image = slicer.vtkOrientedImageData()
        if not node.GenerateMergedLabelmapForAllSegments(image) or min(image.GetDimensions()) < 1:
            raise BadInput(_("The lungs {name} are empty: draw them.").format(name=node.GetName()))
        image.GetImageToWorldMatrix(matrix)
    else:
        image = node.GetImageData()
        node.GetIJKToRASMatrix(matrix)
    _write(image, _to_world(node, matrix), path, node.GetName(), binary=True)


def write_lesions(node: Any, path: Path) -> None:
    """Write a segmentation node of lesions as NRRD: 1 ground glass, 2 consolidation, 3 reticulation, 0 elsewhere.

    Raises BadInput for a segment that is none of these.
    """
    from LungRecoveryLib.images import write_image
    from LungRecoveryLib.scene import lesion_labels

    write_image(lesion_labels(node), path)


def _to_world(node: Any, ijk_to_ras: vtk.vtkMatrix4x4) -> vtk.vtkMatrix4x4:
    """IJK to world RAS: the node's own matrix under its (linear) parent transforms."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return ijk_to_ras
    above, found = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(above)
    vtk.vtkMatrix4x4.Multiply4x4(above, ijk_to_ras, found)
    return found


def _write(image: vtk.vtkImageData, to_ras: vtk.vtkMatrix4x4, path: Path, name: str, binary: bool = False) -> None:
    """Write an image as uncompressed NRRD: at the disk's speed, and without a second copy of the voxels."""
    import numpy as np
    from vtk.util.numpy_support import vtk_to_numpy

    extent = image.GetExtent()
    columns = [[_RAS_TO_LPS[row] * to_ras.GetElement(row, column) for row in range(3)] for column in range(4)]
    axes, origin = np.array(columns[:3]), np.array(columns[3])
    origin = origin + axes.T @ np.array([extent[0], extent[2], extent[4]], float)
    lengths = np.linalg.norm(axes, axis=1)
    unit = axes / lengths[:, None]
    if np.abs(unit @ unit.T - np.eye(3)).max() > _RIGHT_ANGLE:
        raise BadInput(
            _("The axes of {name} are not at right angles, its transform shears it: take it out of it.").format(
                name=name
            )
        )
    voxels = vtk_to_numpy(image.GetPointData().GetScalars())
    if binary:
        voxels = (voxels != 0).astype(np.uint8)
    header = (
        "NRRD0004\n"
        f"type: {voxels.dtype.name.replace('float32', 'float').replace('float64', 'double')}\n"
        "dimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(str(n) for n in image.GetDimensions())}\n"
        f"space directions: {' '.join(_vector(axis) for axis in axes)}\n"
        "kinds: domain domain domain\n"
        f"endian: {'little' if voxels.dtype.newbyteorder('<') == voxels.dtype else 'big'}\n"
        f"encoding: raw\nspace origin: {_vector(origin)}\n\n"
    )
    with open(path, "wb") as file:
        file.write(header.encode("ascii"))
        file.write(voxels.data)


def _vector(values: Any) -> str:
    return "(" + ",".join(f"{value:.10g}" for value in values) + ")"
