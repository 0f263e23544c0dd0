"""What the page asks for, done to the scene, and the state that it shows; every value from the page is checked."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from LungRecoveryLib import scene
from LungRecoveryLib.errors import BadInput, LungRecoveryError
from LungRecoveryLib.results import StudyResult
from LungRecoveryLib.scene import StudyNodes
from LungRecoveryLib.viewer import charts, content, downloads, readout, windows
from LungRecoveryLib.viewer.views import AXES, BASELINE, EDGES, PLANES, Point, SliceViews

_SOON = 0.04  # seconds: what changes with every move of the pointer is sent at most this often
_PATIENCE = 3.0  # seconds that reading on waits for the first picture, which it would slow down
_TO_READ = 8.0  # seconds that a message stays
_BREATH = 0.02  # seconds between two steps of reading, in which the page is answered
_VIEWS_OF = {"Axial": "Red", "Sagittal": "Yellow", "Coronal": "Green"}
LAYOUTS = ("three", "beside", "single")
COMPARISONS = ("", *scene.MODES)


class StudyPage:
    """A study in the page. State that the browser can change itself is never trusted: the truth is held here."""

    def __init__(self, server: Any, files: downloads.Downloads):
        self.state, self.server, self.files = server.state, server, files
        self.views = SliceViews(server, self._pointed, self._moved, self.place)
        self.folder: Path | None = None
        self.result: StudyResult | None = None
        self.nodes: StudyNodes | None = None
        self.overlay, self.opacity, self.compare, self.fade = "", 0.6, "", 0.5
        self.layout, self.plane, self.window = "three", "Axial", "lung"
        self._windows: dict[str, dict] = {}
        self._failed: list[str] = []
        self._under: Point | None = None
        self._waiting: set[str] = set()
        self._actions: dict[str, Callable[..., None]] = {
            "timepoint": self.choose_timepoint,
            "overlay": self.choose_overlay,
            "opacity": self.choose_opacity,
            "range": self.choose_range,
            "defaultRange": self.default_range,
            "window": self.choose_window,
            "compare": self.choose_comparison,
            "fade": self.choose_fade,
            "layout": self.choose_layout,
            "plane": self.choose_plane,
            "slice": self.choose_slice,
            "region": self.choose_region,
            "fit": self.fit,
            "key": self.key,
        }
        server.controller.trigger("act")(self.act)

    async def open(self, folder: Path, result: StudyResult) -> None:
        """Show a study's folder: its first map as soon as it can be drawn, everything else as it is read.

        Raises BadInput where what is needed for the first picture is gone or damaged; of the rest, what cannot be read
        is left out and said.
        """
        opening = scene.Opening(folder, self.views.scene, result)
        try:
            self._begin(folder, result, opening.begin())
            await self.views.drawn(_PATIENCE)
            opening.read_on()
            while opening.unfinished:
                await asyncio.sleep(_BREATH)
                await asyncio.to_thread(opening.wait)
                try:
                    self._take_in(opening.step(), opening.unfinished)
                except BadInput as error:
                    self._leave_out(str(error))
        finally:
            opening.close()
            with self.state as state:
                state.unread = 0

    def _begin(self, folder: Path, result: StudyResult, nodes: StudyNodes) -> None:
        """Show what there is at first."""
        self.folder, self.result, self.nodes = Path(folder), result, nodes
        self.files.files = downloads.study_files(folder, result)
        names = [overlay.name for overlay in scene.overlays(nodes)]
        self.overlay = names[0] if names else ""
        self.views.views[BASELINE].slices.set_background_volume_id(nodes.baseline.volume.GetID())
        with self.state as state:
            state.timepoints = content.timepoints(result)
            state.overlays = content.overlay_choices(nodes)
            state.scores = content.score_table(nodes)
            state.quality = content.quality(result)
            state.scans = content.scans(result)
            state.files = downloads.for_page(self.files.files)
            state.warnings = result.warnings
            state.absent = [f"{name.capitalize()}: {why}." for name, why in result.absent.items()]
            state.unread = 1
            state.phase = "ready"
        self.choose_timepoint(nodes.labels[-1])
        self.views.show(self._shown_views())
        self._go_to_lungs()
        self.views.fit()

    def _take_in(self, nodes: StudyNodes, unread: int) -> None:
        """Offer what has been read since."""
        self.nodes = nodes
        for legend in nodes.legends.values():
            legend.SetVisibility(False)
        with self.state as state:
            state.overlays = content.overlay_choices(nodes)
            state.unread = unread
            if nodes.charts:
                state.charts = charts.figures(nodes)
                state.chart = state.charts[0]["key"]
        self._soon("readout", self._tell_readout)

    def _leave_out(self, why: str) -> None:
        """Say that something of the study cannot be shown."""
        self._failed.append(why)
        with self.state as state:
            state.warnings = [*self.result.warnings, *self._failed]
        self.say(why)

    def act(self, name: str, *values: Any) -> None:
        """What the page asks for; what it may not ask, or with a senseless value, is ignored."""
        action = self._actions.get(name)
        if action is None or self.nodes is None:
            return
        try:
            with self.state:
                action(*values)
        except LungRecoveryError as error:
            self.say(str(error))
        except (KeyError, TypeError, ValueError):
            self.say("That cannot be shown.")

    def say(self, sentence: str) -> None:
        """A message that the page shows for a few seconds."""
        with self.state as state:
            state.message = sentence
        asyncio.get_running_loop().call_later(_TO_READ, self._unsay, sentence)

    def _unsay(self, sentence: str) -> None:
        """Take a message away, if it is still there."""
        if self.state.message == sentence:
            with self.state as state:
                state.message = ""

    # ------------------------------------------------------------------------------------------------ what is shown

    def choose_timepoint(self, label: str) -> None:
        """Show a time point of the study."""
        if label not in self.nodes.timepoints:
            raise KeyError(label)
        scene.select_timepoint(self.nodes, label)
        self.state.timepoint = label
        self.state.regions = content.region_table(self.nodes, label)
        self.state.account = content.account(self.result, label)
        self.state.caution = content.caution(self.result, label)
        self._windows = {preset["name"]: preset for preset in windows.presets(self.result, label)}
        self.window = self.window if self.window in self._windows else next(iter(self._windows))
        self.state.update({"windows": list(self._windows.values()), "window_now": self.window})
        self._show()

    def choose_overlay(self, name: str) -> None:
        """Lay a map over the CT, or none (an empty name)."""
        if name and name not in {overlay.name for overlay in scene.overlays(self.nodes)}:
            raise KeyError(name)
        self.overlay, self.compare = name, ""
        self._show()

    def choose_opacity(self, value: float) -> None:
        """How opaque the map is, 0 to 1."""
        self.opacity = _between(value, 0.0, 1.0)
        if self.compare == "":
            scene.set_foreground_opacity(self.nodes, self.opacity)
        self.state.opacity = self.opacity
        self.views.draw()

    def choose_range(self, low: float, high: float) -> None:
        """What the map's colours span, in the map's unit."""
        low, high = float(low), float(high)
        if self.overlay not in self.nodes.maps or not low < high:
            raise ValueError(low, high)
        scene.set_range(self.nodes, self.overlay, low, high)
        self._tell_legend()
        self.views.draw()

    def default_range(self) -> None:
        """Let the colours span what they spanned at first."""
        overlay = scene.maps.overlay_of(self.overlay)
        if overlay.range is not None:
            self.choose_range(*overlay.range)

    def choose_window(self, name: str) -> None:
        """Show the CT in a window by its name."""
        if name not in self._windows:
            raise KeyError(name)
        self.window = self.state.window_now = name
        self._show_window()
        self.views.draw()

    def choose_comparison(self, mode: str) -> None:
        """Compare the time point with the baseline: fade, checkerboard, difference, edges, or not (empty)."""
        if mode not in COMPARISONS:
            raise KeyError(mode)
        self.compare = "" if self._at_baseline else mode
        self._show()

    def choose_fade(self, value: float) -> None:
        """How far the follow-up covers the baseline, 0 to 1."""
        self.fade = _between(value, 0.0, 1.0)
        self.state.fade = self.fade
        if self.compare == "fade":
            scene.set_foreground_opacity(self.nodes, self.fade)
        self.views.draw()

    def choose_layout(self, name: str) -> None:
        """Three planes, the baseline beside the time point, or one plane."""
        if name not in LAYOUTS:
            raise KeyError(name)
        self.layout = name
        self._arrange()

    def choose_plane(self, orientation: str) -> None:
        """The plane of the layouts with one plane."""
        if orientation not in _VIEWS_OF:
            raise KeyError(orientation)
        self.plane = orientation
        if self.layout == "three":
            self.layout = "single"
        self._arrange()

    def choose_slice(self, name: str, value: float) -> None:
        """Let a view show the slice at a position, mm along its axis."""
        if name not in self.views.shown:
            raise KeyError(name)
        place = self.views.positions()[name]
        self.views.views[name].slices.set_slice_value(_between(value, place["low"], place["high"]))

    def choose_region(self, region: str) -> None:
        """Go to where a region changed most and outline it; the same region again lets go of it."""
        if region not in self.result.regions:
            raise KeyError(region)
        if self.state.region == region:
            self.state.region = ""
            scene.show_region(self.nodes, None)
        else:
            self._go_to_region(region)
            scene.show_region(self.nodes, region)
            self.state.region = region
        self.views.draw()

    def place(self, point: Point) -> None:
        """Put the crosshair to a point, RAS mm, and show it in every view."""
        if self.nodes is not None:
            self.views.go_to(point)
            self._soon("readout", self._tell_readout)

    def fit(self) -> None:
        """Show the whole lung again."""
        self.views.fit()

    def key(self, name: str, shift: bool = False) -> None:
        """A key that was pressed in the page."""
        labels, index = self.nodes.labels, self.nodes.labels.index(self.nodes.selected)
        first = next(name for name in self.views.shown if name != BASELINE)
        layers = ["", *(o.name for o in scene.overlays(self.nodes))]
        presets = list(self._windows)
        if name in ("ArrowLeft", "ArrowRight"):
            self.choose_timepoint(labels[max(0, min(len(labels) - 1, index + (1 if name == "ArrowRight" else -1)))])
        elif name in ("ArrowUp", "ArrowDown"):
            self.views.scroll(first, (1 if name == "ArrowUp" else -1) * (5 if shift else 1))
        elif name.isdigit() and int(name) < len(layers):
            self.choose_overlay(layers[int(name)])
        elif name in _COMPARISON_KEYS:
            mode = _COMPARISON_KEYS[name]
            self.choose_comparison("" if self.compare == mode else mode)
        elif name in _LAYOUT_KEYS:
            self.choose_layout(_LAYOUT_KEYS[name])
        elif name in _PLANE_KEYS:
            self.choose_plane(_PLANE_KEYS[name])
        elif name == "w":
            self.choose_window(presets[(presets.index(self.window) + 1) % len(presets)])
        elif name in "+-":
            self.views.zoom(1.2 if name == "+" else 1 / 1.2)
        elif name == "r":
            self.fit()

    # ------------------------------------------------------------------------------------------------------- private

    @property
    def _at_baseline(self) -> bool:
        return self.nodes.timepoints[self.nodes.selected].baseline

    def _go_to_lungs(self) -> None:
        """Go to where the lungs changed most; a study without regions is opened in its middle."""
        if self.nodes.regions is not None:
            self._go_to_region("lungs")
            return
        bounds = [0.0] * 6
        self.nodes.baseline.volume.GetRASBounds(bounds)
        self.place(tuple((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)))

    def _go_to_region(self, region: str) -> None:
        """Go to where a region changed most."""
        change = scene.change_map(self.nodes, self.overlay)
        self.place(scene.region_point(self.nodes, region, self.nodes.selected, change))

    def _show(self) -> None:
        """Show the chosen time point with the chosen map, or compared with the baseline."""
        label = self.nodes.selected
        if self.compare and not self._at_baseline:
            scene.set_comparison(self.nodes, label, self.compare)
            if self.compare == "fade":
                scene.set_foreground_opacity(self.nodes, self.fade)
        else:
            scene.set_overlay(self.nodes, label, self.overlay or None, self.opacity)
        self._show_window()
        if self.nodes.baseline.lungs is not None:  # drawing outlines takes as long as the slice, and a map shows them
            self.nodes.baseline.lungs.GetDisplayNode().SetVisibility(not self.overlay and not self.compare)
        for legend in self.nodes.legends.values():
            legend.SetVisibility(False)  # the page draws its own, which scales with the text
        self.state.update({"overlay": self.overlay, "compare": self.compare, "opacity": self.opacity})
        self._tell_legend()
        self._soon("readout", self._tell_readout)
        self.views.draw()

    def _show_window(self) -> None:
        baseline = next(w for w in windows.presets(self.result, self.nodes.labels[0]) if w["name"] == self.window)
        windows.show(self.nodes, self._windows[self.window], baseline, self.compare == "checkerboard")

    def _arrange(self) -> None:
        self.state.layout, self.state.plane = self.layout, self.plane
        self.views.show(self._shown_views())
        self._tell_panes()

    def _shown_views(self) -> tuple[str, ...]:
        one = _VIEWS_OF[self.plane]
        return {"three": tuple(PLANES), "beside": (BASELINE, one), "single": (one,)}[self.layout]

    def _tell_legend(self) -> None:
        """What the colours over the CT mean: those of the chosen map, or of the comparison."""
        state, legend = self.state, None
        state.kinds = content.lesion_kinds() if self.overlay == "lesions" and not self.compare else []
        state.explanation = content.explanation(self.nodes, self.compare, self.overlay)
        if self.compare == "difference":
            legend = content.difference_legend()
        elif self.overlay in self.nodes.maps and not state.explanation:
            overlay, ends = scene.maps.overlay_of(self.overlay), scene.range_now(self.nodes, self.overlay)
            legend = content.legend(self.nodes, overlay, *ends)
        state.legend = legend

    def _tell_readout(self) -> None:
        self.state.readout = readout.read(self.nodes, self._under or self.views.crosshair)

    def _tell_panes(self) -> None:
        """Where the slices lie, and what each pane is called."""
        panes = []
        for name, place in self.views.positions().items():
            plane = self.views.views[name].orientation
            panes.append(
                {"view": name, "plane": plane, "edges": list(EDGES[plane]), "baseline": name == BASELINE}
                | place
                | {"place": readout.along(AXES[plane], self.views.views[name].centre)}
            )
        self.state.panes = panes

    def _pointed(self, point: Point | None) -> None:
        self._under = point
        self._soon("readout", self._tell_readout)

    def _moved(self) -> None:
        self._soon("panes", self._tell_panes)

    def _soon(self, what: str, tell: Callable[[], None]) -> None:
        """Tell the page something, a little later, once for all that changes until then."""
        if self.nodes is None or what in self._waiting:
            return
        self._waiting.add(what)

        def now() -> None:
            self._waiting.discard(what)
            with self.state:
                tell()

        asyncio.get_running_loop().call_later(_SOON, now)


_COMPARISON_KEYS = {"c": "checkerboard", "d": "difference", "f": "fade", "e": "edges"}
_LAYOUT_KEYS = {"t": "three", "b": "beside"}
_PLANE_KEYS = {"x": "Sagittal", "y": "Coronal", "z": "Axial"}


def _between(value: float, low: float, high: float) -> float:
    """A number within limits; ValueError for what is none."""
    value = float(value)
    if not low <= high or value != value:
        raise ValueError(value)
    return min(max(value, low), high)
