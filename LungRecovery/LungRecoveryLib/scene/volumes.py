"""Images as volume nodes: geometry from LPS to RAS, and an input's voxels under a transform without touching it."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util import numpy_support

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import LPS_TO_RAS, Grid, grid_of, same_grid, with_spacing
from LungRecoveryLib.image_files import read_layer
from LungRecoveryLib.scene.nodes import Node, add_node

LUNG_WINDOW, LUNG_LEVEL = 1500.0, -600.0
_SAME_PLACE_MM = 0.1
_READERS = 4  # more would hold more images in memory than they save time


class Layers:
    """The images of a study's folder, read in a known order by threads that stay a few images ahead.

    Most of the time that it takes to show a study goes into decompressing, which is done outside Python's lock. The
    threads touch no node. Nor may they collect garbage, which would end widgets, processes and nodes that lie in it
    outside the thread they belong to and bring the program down: within the block nobody does.
    """

    def __init__(self, paths: Iterable[Path], read: Callable[[Path], sitk.Image] | None = None):
        self._read = read or read_layer
        self._waiting = deque(paths)
        self._workers = ThreadPoolExecutor(_READERS, thread_name_prefix="LungRecovery-read")
        self._running: dict[Path, Future] = {}
        self._collects = False

    def __enter__(self) -> Layers:
        self._collects = gc.isenabled()
        gc.disable()
        self._start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._workers.shutdown(cancel_futures=True)
        if self._collects:
            gc.enable()

    def take(self, path: Path) -> sitk.Image:
        """The image of a file; each file once. Raises BadInput where it is gone or damaged."""
        reading = self._running.pop(path, None)
        image = self._read(path) if reading is None else reading.result()
        self._start()
        return image

    def wait(self, paths: Iterable[Path]) -> None:
        """Return when the images that are read next, of these files, are there; their errors are raised by `take`."""
        wait([self._running[path] for path in paths if path in self._running])

    def _start(self) -> None:
        while self._waiting and len(self._running) < _READERS + 1:
            path = self._waiting.popleft()
            self._running[path] = self._workers.submit(self._read, path)


def ijk_to_ras(grid: Grid) -> np.ndarray:
    """(4, 4) matrix from voxel indices (i, j, k) to RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = grid.index_to_point, grid.origin
    return LPS_TO_RAS @ matrix


def vtk_matrix(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    """A (4, 4) array as VTK's."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, float).ravel().tolist())
    return result


def numpy_matrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """VTK's matrix as a (4, 4) array."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def image_data(
    array: np.ndarray, kind: type = vtk.vtkImageData, where: np.ndarray | None = None, elsewhere: float = 0.0
) -> vtk.vtkImageData:
    """Voxels (z, y, x), copied, as VTK's image without geometry, which the node holds in MRML.

    With a mask `where`, all voxels outside it become `elsewhere`.
    """
    image = kind()
    image.SetDimensions(array.shape[::-1])
    image.AllocateScalars(numpy_support.get_vtk_array_type(array.dtype), 1)
    scalars = image.GetPointData().GetScalars()
    voxels = numpy_support.vtk_to_numpy(scalars).reshape(array.shape)  # so that they are copied once
    if where is None:
        voxels[...] = array
    else:
        voxels[...] = elsewhere
        np.copyto(voxels, array, where=where)
    return image


def voxels(node: Node) -> np.ndarray:
    """A view (z, y, x) of a volume node's voxels."""
    image = node.GetImageData()
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def fill_volume(node: Node, image: vtk.vtkImageData, grid: Grid) -> Node:
    """Put an image on a grid into a volume node; returns the node."""
    node.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras(grid)))
    node.SetAndObserveImageData(image)
    return node


def loose_volume(image: vtk.vtkImageData, grid: Grid, name: str) -> Node:
    """A volume node in no scene."""
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    return fill_volume(node, image, grid)


def blank_volume(value: float, grid: Grid, name: str) -> Node:
    """A volume node in no scene that has one value all over a grid's box, in eight voxels to take no room."""
    spacing = tuple(n * s / 2 for n, s in zip(grid.size, grid.spacing, strict=True))
    return loose_volume(image_data(np.full((2, 2, 2), value, np.float32)), with_spacing(grid, spacing), name)


def add_volume(scene: Node, name: str, array: np.ndarray, grid: Grid) -> Node:
    """A volume node of a CT in a scene."""
    node = add_node(scene, "vtkMRMLScalarVolumeNode", name)
    node.CreateDefaultDisplayNodes()
    show_as_ct(node)  # before it has voxels, of which Slicer would take a histogram for a window else
    return fill_volume(node, image_data(array), grid)


def show_as_ct(node: Node) -> None:
    """Show a volume as grey values in the lung window."""
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(LUNG_WINDOW, LUNG_LEVEL)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")


def world_matrix(node: Node) -> np.ndarray:
    """(4, 4) matrix from a volume's voxel indices to RAS mm in the world, its parent transforms included.

    A follow-up is analysed, and shown under its transform, where it lies in the world. Raises BadInput where a parent
    transform is not linear.
    """
    local, to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(local)
    parent = node.GetParentTransformNode()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            raise BadInput(
                f"{node.GetName()} lies under a transform that is not linear: harden the transform or take it away"
            )
        parent.GetMatrixTransformToWorld(to_world)
    return numpy_matrix(to_world) @ numpy_matrix(local)


def check_input(node: Node, grid: Grid, label: str) -> None:
    """Raise BadInput where a volume of the scene is not the scan that a grid of the study belongs to."""
    if node.GetImageData() is None:
        raise BadInput(f"{node.GetName()} has no voxels: load the scan of {label} again")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.size])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(8)])
    apart = np.abs((world_matrix(node) - ijk_to_ras(grid)) @ corners).max()
    if node.GetImageData().GetDimensions() != tuple(grid.size) or apart > _SAME_PLACE_MM:
        raise BadInput(
            f"{node.GetName()} is not where the scan of {label} was when it was analysed: analyse the scans again"
        )


def share_input(scene: Node, name: str, source: Node) -> Node:
    """A new volume node of a CT with the voxels of another one, shared and not copied, where that lies in the world."""
    matrix = world_matrix(source)
    node = add_node(scene, "vtkMRMLScalarVolumeNode", name)
    node.CreateDefaultDisplayNodes()
    show_as_ct(node)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    node.SetAndObserveImageData(source.GetImageData())
    return node


def on_grid(image: sitk.Image, grid: Grid) -> bool:
    """Whether an image lies on a grid."""
    return same_grid(grid_of(image), grid)
