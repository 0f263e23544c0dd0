"""The slice views: Slicer's own, drawn on the server and sent as pictures, and what the pointer does in them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer
import vtk
from trame_rca.schedulers import RcaImageRenderScheduler
from trame_rca.utils import RcaViewAdapter
from trame_slicer.core import SlicerApp
from trame_slicer.rca_view.rca_view_factory import RcaRenderStrategy, RcaWindow
from trame_slicer.views import SliceView
from trame_slicer.views.render_scheduler import NoScheduleRendering

from LungRecoveryLib.scene.nodes import Node

Point = tuple[float, float, float]

PLANES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
BASELINE = "Baseline"
"""The view beside the others that always shows the baseline, in the plane of the view that it accompanies."""
EDGES = {"Axial": "RLAP", "Sagittal": "APSI", "Coronal": "RLSI"}
"""What lies at the left, right, top and bottom of a view."""
AXES = {"Axial": 2, "Sagittal": 0, "Coronal": 1}
"""The axis of RAS across which the slices of a plane lie."""

_MOVING_QUALITY, _STILL_QUALITY = 80, 95  # of JPEG
_PICTURES_PER_SECOND = 30.0
_LARGEST_PICTURE = 1_200_000  # pixels: beyond, drawing on a processor is too slow to scroll


class _Window(RcaWindow):
    """A view's window as the page sees it; `resized` is called when the page has given it another size."""

    resized: Callable[[], None]
    drawn = False

    @property
    def img_cols_rows(self) -> Any:
        self.drawn = self.drawn or min(self._vtk_render_window.GetSize()) > 10
        return super().img_cols_rows

    def process_resize_event(self, width: int, height: int) -> None:
        super().process_resize_event(width, height)
        self.resized()


class View:
    """One slice view: `slices` is trame-slicer's, `area` sends its pictures and takes the pointer's events."""

    def __init__(self, server: Any, app: SlicerApp, name: str, orientation: str):
        self.name = name
        with _silent():  # trame-slicer uses an event that VTK is about to drop
            self.slices = SliceView(
                app.scene, app.app_logic, name, scheduled_render_strategy=NoScheduleRendering()
            )  # without a strategy it would draw forty times before there is anything to see
        self.slices.render_window().SetMultiSamples(0)  # it would draw every pixel eight times, for lines alone
        self.node: Node = self.slices.get_view_node()
        self.slices.set_orientation(orientation)
        self.slices.set_background_color([0, 0, 0])
        self.window = _Window(self.slices.render_window(), state=server.state, active_view_cursor=f"cursor_{name}")
        scheduler = RcaImageRenderScheduler(
            self.window,
            target_fps=_PICTURES_PER_SECOND,
            interactive_quality=_MOVING_QUALITY,
            still_quality=_STILL_QUALITY,
            rca_encoder="jpeg",
        )
        self.area = RcaViewAdapter(self.window, name, scheduler=scheduler, do_schedule_render_on_interaction=False)
        self.area.max_pixel_count = _LARGEST_PICTURE
        self.slices.set_scheduled_render(RcaRenderStrategy(scheduler))

    @property
    def orientation(self) -> str:
        """Axial, Sagittal or Coronal."""
        return self.node.GetOrientation()

    @property
    def centre(self) -> Point:
        """The point, RAS mm, in the middle of the view."""
        matrix = self.node.GetSliceToRAS()
        return matrix.GetElement(0, 3), matrix.GetElement(1, 3), matrix.GetElement(2, 3)

    def point_at(self, x: int, y: int) -> Point:
        """The point, RAS mm, at a pixel of the view, counted from its lower left."""
        return self.node.GetXYToRAS().MultiplyPoint((float(x), float(y), 0.0, 1.0))[:3]

    def fit(self, point: Point) -> None:
        """Show the whole volume, in the slice through a point."""
        width, height = self.slices.render_window().GetSize()
        if width > 10 and height > 10:  # a hidden view has no size
            self.slices.fit_view_to_content()
            self.node.JumpSliceByOffsetting(*point)


class SliceViews:
    """The views of the page and the scene behind them.

    `pointed` is called with the point under the pointer (None outside), `moved` when a view shows another slice, and
    `placed` with the point that a press of the left button chooses.
    """

    def __init__(
        self,
        server: Any,
        pointed: Callable[[Point | None], None],
        moved: Callable[[], None],
        placed: Callable[[Point], None],
    ):
        self.app = SlicerApp()
        self.scene = self.app.scene
        self.scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # a Slicer module's, which is not here
        self.views = {name: View(server, self.app, name, plane) for name, plane in PLANES.items()}
        self.views[BASELINE] = View(server, self.app, BASELINE, "Axial")
        self.shown: tuple[str, ...] = tuple(PLANES)
        self.companion = "Red"
        self.crosshair: Point = (0.0, 0.0, 0.0)
        self._pointed, self._moved, self._placed = pointed, moved, placed
        self._following = self._dragging = False
        self._cross = self._crosshair_node()
        for view in self.views.values():
            self._watch(view)

    def register(self, controller: Any) -> None:
        """Let the server take the views' events and send their pictures; call when it is ready."""
        for view in self.views.values():
            controller.rc_area_register(view.area)

    async def drawn(self, seconds: float) -> None:
        """Return when a view has been drawn for the page, or after so many seconds."""
        end = time.monotonic() + seconds
        while not any(view.window.drawn for view in self.views.values()) and time.monotonic() < end:
            await asyncio.sleep(0.05)

    def show(self, names: tuple[str, ...]) -> None:
        """Draw these views only; with the baseline's, it accompanies the other one."""
        self.shown = names
        if BASELINE in names:
            self.companion = next(name for name in names if name != BASELINE)
            self.views[BASELINE].slices.set_orientation(self.views[self.companion].orientation)
        for name, view in self.views.items():
            view.slices.set_mapped_in_layout(name in names)
            view.slices.set_render_blocked(name not in names)
        self.fit()

    def fit(self) -> None:
        """Show the whole volume in each view, in the slice through the crosshair."""
        for name in self.shown:
            self._fit(self.views[name])
        self.draw()

    def draw(self) -> None:
        """Send new pictures of what is shown."""
        for name in self.shown:
            self.views[name].slices.schedule_render()

    def go_to(self, point: Point) -> None:
        """Show a point, RAS mm, in every view and put the crosshair there."""
        self.crosshair = point
        slicer.vtkMRMLSliceNode.JumpAllSlices(self.scene, *point, slicer.vtkMRMLSliceNode.OffsetJumpSlice)
        self._cross.SetCrosshairRAS(*point)
        self.draw()

    def scroll(self, name: str, steps: int) -> None:
        """Move a view by so many slices."""
        view = self.views[name].slices
        low, high = view.get_slice_range()
        view.set_slice_value(min(max(view.get_slice_value() + steps * view.get_slice_step(), low), high))

    def zoom(self, factor: float) -> None:
        """Enlarge what is shown by a factor."""
        for name in self.shown:
            self.views[name].slices.zoom(1.0 - 1.0 / factor)

    def positions(self) -> dict[str, dict]:
        """For each view that is shown where its slice lies, in mm along its axis, and the range and step."""
        found = {}
        for name in self.shown:
            view = self.views[name].slices
            low, high = view.get_slice_range()
            position = {"low": low, "high": high, "step": view.get_slice_step(), "value": view.get_slice_value()}
            found[name] = {key: round(value, 3) for key, value in position.items()}
        return found

    def _crosshair_node(self) -> Node:
        node = self.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        node.SetCrosshairMode(node.ShowSmallIntersection)
        node.SetCrosshairColor(1.0, 0.85, 0.3)
        node.AddObserver(node.CursorPositionModifiedEvent, self._pointer_moved)
        return node

    def _watch(self, view: View) -> None:
        view.node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._slice_moved(view))
        interactor = view.slices.interactor()
        view.window.resized = lambda: self._fit(view)
        interactor.AddObserver("LeftButtonPressEvent", lambda *_: self._press(view))
        interactor.AddObserver("MouseMoveEvent", lambda *_: self._drag(view))
        interactor.AddObserver("LeftButtonReleaseEvent", lambda *_: self._release())

    def _fit(self, view: View) -> None:
        view.fit(self.crosshair)
        if view.name == BASELINE:
            with self._follow():
                _copy_place(self.views[self.companion].node, view.node)

    def _press(self, view: View) -> None:
        if not view.slices.interactor().GetShiftKey():
            self._dragging = True
            self._placed(view.point_at(*view.slices.interactor().GetEventPosition()))

    def _drag(self, view: View) -> None:
        if self._dragging:
            self._placed(view.point_at(*view.slices.interactor().GetEventPosition()))

    def _release(self) -> None:
        self._dragging = False

    def _pointer_moved(self, *_event: Any) -> None:
        point = [0.0, 0.0, 0.0]
        self._pointed(tuple(point) if self._cross.GetCursorPositionRAS(point) else None)

    def _slice_moved(self, view: View) -> None:
        """Let the baseline's view and the one that it accompanies show the same place."""
        if self._following or view.name not in self.shown:
            return
        if BASELINE in self.shown:
            other = self.companion if view.name == BASELINE else BASELINE
            with self._follow():
                _copy_place(view.node, self.views[other].node)
            self.views[other].slices.schedule_render()
        self._moved()

    @contextmanager
    def _follow(self) -> Iterator[None]:
        self._following = True
        try:
            yield
        finally:
            self._following = False


@contextmanager
def _silent() -> Iterator[None]:
    before = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(before)


def _copy_place(source: Node, target: Node) -> None:
    """Let a slice node show what another one shows: the plane, the field of view and the shift within it."""
    modified = target.StartModify()
    target.GetSliceToRAS().DeepCopy(source.GetSliceToRAS())
    target.SetXYZOrigin(source.GetXYZOrigin())
    width, height, depth = source.GetFieldOfView()
    columns, rows, _slices = target.GetDimensions()
    own = max(rows, 1) / max(columns, 1)
    target.SetFieldOfView(width, width * own if columns else height, depth)
    target.UpdateMatrices()
    target.EndModify(modified)
