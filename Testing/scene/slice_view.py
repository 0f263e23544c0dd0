"""Render a slice view of a study with its legend, outlines included, without a window: pictures for a test and to look
at. A process of its own, because VTK ends the process where there is neither EGL nor OSMesa.

    python slice_view.py STUDY_FOLDER OUTPUT_FOLDER
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import vtk
from vtk.util import numpy_support

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for known_study
WIDTH, HEIGHT = 500, 420


class SliceView:
    """A slice view as Slicer builds it: the blended slices behind, legends and segmentations over them."""

    def __init__(self, application, name: str = "Red", orientation: str = "Axial", size=(WIDTH, HEIGHT)):
        import slicer

        self.width, self.height = size
        self.logic = application.slice_logic(name, orientation)
        self.logics = vtk.vtkCollection()
        for logic in application.slices.values():
            self.logics.AddItem(logic)
        application.logic.SetSliceLogics(self.logics)
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetSize(self.width, self.height)
        self.window.SetNumberOfLayers(3)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        for name in ("vtkMRMLColorLegendDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D"):
            manager = getattr(slicer, name)()
            manager.SetMRMLApplicationLogic(application.logic)
            self.group.AddDisplayableManager(manager)
        self.group.SetMRMLDisplayableNode(self.logic.GetSliceNode())
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        slices = vtk.vtkActor2D()
        slices.SetMapper(self.mapper)
        slices.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(slices)

    def show(self, point, millimetres: float = 260.0) -> None:
        """Centre the view at a RAS point."""
        node = self.logic.GetSliceNode()
        node.SetDimensions(self.width, self.height, 1)
        node.SetFieldOfView(millimetres, millimetres * self.height / self.width, 1)
        node.JumpSliceByCentering(*point)

    def picture(self) -> np.ndarray:
        """The view (rows from the top, columns, RGB)."""
        self.logic.UpdatePipeline()
        self.mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.group.RequestRender()
        self.window.Render()
        reader = vtk.vtkWindowToImageFilter()
        reader.SetInput(self.window)
        reader.ReadFrontBufferOff()
        reader.Update()
        scalars = reader.GetOutput().GetPointData().GetScalars()
        return numpy_support.vtk_to_numpy(scalars).reshape(self.height, self.width, 3)[::-1].copy()


def _application(folder: Path):
    place = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("scene_conftest", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Application(folder)


def main(study: Path, output: Path) -> tuple:
    """Write plain.npy (no map), jacobian.npy and density_change.npy, and PNGs of them, into the output folder.

    Returns what must outlive the call.
    """
    from LungRecoveryLib.scene import region_point, set_overlay, show_study

    application = _application(output)
    view = SliceView(application)
    nodes = show_study(study, application.scene)
    view.show(region_point(nodes, "lungs", nodes.labels[-1], "jacobian"))
    for name in (None, "jacobian", "density_change"):
        set_overlay(nodes, nodes.labels[-1], name, 0.6)
        picture = view.picture()
        np.save(output / f"{name or 'plain'}.npy", picture)
        writer = vtk.vtkPNGWriter()
        image = vtk.vtkImageData()
        image.SetDimensions(WIDTH, HEIGHT, 1)
        flat = numpy_support.numpy_to_vtk(picture[::-1].reshape(-1, 3), deep=True)
        image.GetPointData().SetScalars(flat)
        writer.SetInputData(image)
        writer.SetFileName(str(output / f"{name or 'plain'}.png"))
        writer.Write()
    return application, view, nodes


if __name__ == "__main__":
    kept = main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # the interpreter's end would destroy scene and view in an order that they do not survive
