"""A small study whose truth is known (see known_study), a scene as Slicer sets one up, slice views without a window."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from known_study import CENTRE, Truth, write_small_study
from LungRecoveryLib.grids import grid_of, to_array
from skips import skip_or_fail


@pytest.fixture(scope="session", autouse=True)
def _slicer_core() -> None:
    """Without slicer-core the tests of this folder are skipped, saying so."""
    try:
        import slicer
    except ImportError:
        skip_or_fail("slicer-core is not installed: pip install slicer-core==5.11.0.6")
    if not hasattr(slicer, "vtkMRMLScene"):
        skip_or_fail("the package slicer that is installed is not slicer-core: pip install slicer-core==5.11.0.6")


@pytest.fixture(scope="session")
def truth(tmp_path_factory) -> Truth:
    """The small study."""
    return write_small_study(tmp_path_factory.mktemp("scene") / "study")


@pytest.fixture(scope="session")
def study_writer() -> Callable[..., Truth]:
    """`write_small_study`."""
    return write_small_study


class Application:
    """What Slicer sets up around a scene, as far as it matters here: node classes, colours, sequences, archives."""

    _LOGICS = (
        "vtkSlicerSequencesLogic",
        "vtkSlicerSegmentationsModuleLogic",
        "vtkSlicerTransformLogic",
        "vtkSlicerVolumesLogic",
        "vtkSlicerTablesLogic",
        "vtkSlicerPlotsLogic",
        "vtkSlicerMarkupsLogic",
    )

    def __init__(self, folder: Path):
        import slicer

        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkMRMLApplicationLogic()
        self.logic.SetHomeDirectory(str(folder))
        self.logic.SetShareDirectory("share")
        (folder / "share" / "ColorFiles").mkdir(parents=True, exist_ok=True)
        self.colours = slicer.vtkSlicerColorLogic()
        self.colours.SetMRMLApplicationLogic(self.logic)
        self.colours.SetMRMLScene(self.scene)
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetColorLogic(self.colours)
        self.logics = [getattr(slicer, name)() for name in self._LOGICS]
        for logic in self.logics:
            logic.SetMRMLApplicationLogic(self.logic)
            logic.SetMRMLScene(self.scene)
        self.cache = slicer.vtkCacheManager()
        self.cache.SetRemoteCacheDirectory(str(folder))
        self.cache.SetMRMLScene(self.scene)
        self.files = slicer.vtkDataIOManager()
        self.files.SetCacheManager(self.cache)
        self.scene.SetCacheManager(self.cache)
        self.scene.SetDataIOManager(self.files)
        self.slices: dict[str, object] = {}
        self._always = {self.scene.GetNthNode(i) for i in range(self.scene.GetNumberOfNodes())}

    def add(self, image: sitk.Image, name: str):
        """A volume as if the user had loaded it."""
        from LungRecoveryLib.scene.volumes import add_volume

        return add_volume(self.scene, name, to_array(image), grid_of(image))

    def nodes(self) -> dict[str, str]:
        """What is in the scene: names by id, without the colour tables that are always there."""
        every = [self.scene.GetNthNode(i) for i in range(self.scene.GetNumberOfNodes())]
        return {node.GetID(): node.GetName() for node in every if node not in self._always}

    def save(self, path: Path) -> None:
        """Write the scene as an archive."""
        self.scene.SetRootDirectory(str(path.parent))
        assert self.scene.WriteToMRB(str(path), None)

    def load(self, path: Path) -> None:
        """Read a scene from an archive."""
        assert self.scene.ReadFromMRB(str(path), True)

    def slice_logic(self, name: str = "Red", orientation: str = "Axial"):
        """The logic of a slice view: it makes the view's picture without a window."""
        import slicer

        if name not in self.slices:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(self.scene)
            logic.AddSliceNode(name)
            self.slices[name] = logic
        node = self.slices[name].GetSliceNode()
        getattr(node, f"SetOrientationTo{orientation}")()
        return self.slices[name]

    def picture(self, name: str = "Red", centre_ras=None, millimetres: float = 220.0, pixels: int = 220) -> np.ndarray:
        """The slice view's picture (rows from the top, columns, RGB), its centre at a RAS point."""
        from vtk.util import numpy_support

        centre_ras = CENTRE * (-1, -1, 1) if centre_ras is None else np.asarray(centre_ras)
        logic = self.slices[name]
        node = logic.GetSliceNode()
        node.SetDimensions(pixels, pixels, 1)
        node.SetFieldOfView(millimetres, millimetres, 1)
        node.JumpSliceByCentering(*map(float, centre_ras))
        logic.UpdatePipeline()
        producer = logic.GetImageDataConnection().GetProducer()
        producer.Update()
        scalars = producer.GetOutputDataObject(0).GetPointData().GetScalars()
        rgba = numpy_support.vtk_to_numpy(scalars).reshape(pixels, pixels, 4)[::-1].astype(float)
        return (rgba[..., :3] * rgba[..., 3:] / 255.0).round().astype(np.uint8)  # on black, as in Slicer


@pytest.fixture(scope="session")
def shown(truth, tmp_path_factory):
    """(application, nodes) of the small study with its scans as inputs and three slice views; not to be changed but by
    choosing what is shown."""
    from LungRecoveryLib.scene import show_study

    application = Application(tmp_path_factory.mktemp("shown"))
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        application.slice_logic(name, orientation)
    inputs = {label: application.add(scan, f"scan {label}") for label, scan in truth.scans.items()}
    return application, show_study(truth.folder, application.scene, inputs)


@pytest.fixture
def application(tmp_path) -> Application:
    """A fresh scene with what belongs around it."""
    (tmp_path / "cache").mkdir()
    return Application(tmp_path / "cache")


@pytest.fixture
def new_application(tmp_path) -> Callable[[], Application]:
    """Makes further scenes."""

    def make() -> Application:
        folder = tmp_path / f"cache{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return Application(folder)

    return make
