"""Draw the panel of the Slicer module and its slice views, to be looked at and for the tutorial.

    python Testing/figures/slicer_panel.py STUDY SCAN SCAN ... --days 0 30 90 180 --output FOLDER

needs a study that `lungrecovery analyze` left and the scans that it was made of, the baseline first. It leaves

    panel-timepoints.png  panel-running.png  panel-results.png  panel-quality.png  panel-export.png
    panel.png             time points and results side by side, for the Extensions Index
    overlay.png           axial, sagittal and coronal views with the maps over the CT; the legend is drawn beside them

The panel is the real one, its .ui file and the scene too; around it stands Testing/slicer_standin and not Slicer, whose
own widgets look somewhat different. Views need EGL or OSMesa. What shows patients is for the screen, not for a
repository.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TESTING = Path(__file__).resolve().parents[1]
MODULE = TESTING.parent / "LungRecovery" / "LungRecovery.py"
WORKER = TESTING / "gui" / "fake_worker.py"
WIDTH = 600
VIEW = (360, 330)
LEGEND = (140, 330)
FIELD_MM = 330.0
MAPS = ("jacobian", "density_change")
COLOURS = 256


class Panel:
    """The module's panel under the stand-in, on the scans of a patient."""

    def __init__(self, study: Path, scans: list[Path], days: list[float]):
        import slicer_standin

        self.application = slicer_standin.install()
        self.study = study
        module = slicer_standin.load_module(MODULE)
        from LungRecoveryLib.gui.devices import DeviceProbe
        from LungRecoveryLib.gui.rows import Row

        DeviceProbe.start = lambda self: None
        self.views = {}
        self.slices = {}
        self.logic = self.application.logic
        self.slice_views()
        self.widget = module.LungRecoveryWidget()
        self.ui = self.widget.ui
        volumes = [self.load(path, day) for path, day in zip(scans, days, strict=True)]
        rows = [Row(volume, "", f"{day:g}") for volume, day in zip(volumes, days, strict=True)]
        self.widget.panel.time_points.set_rows(rows)

    def load(self, path: Path, day: float):
        """A scan in the scene."""
        import slicer

        node = slicer.util.loadVolume(path)
        node.SetName("CT baseline" if day == 0 else f"CT day {day:g}")
        return node

    def slice_views(self) -> None:
        """The three slice views of the layout."""
        from slice_view import SliceView

        for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
            self.slice_logic(name, orientation)
        for name, logic in self.slices.items():
            self.views[name] = SliceView(self, name, logic.GetSliceNode().GetOrientation(), VIEW)

    def slice_logic(self, name: str, orientation: str):
        """The logic of a slice view, as `SliceView` asks for it."""
        import slicer

        if name not in self.slices:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(slicer.mrmlScene)
            logic.AddSliceNode(name)
            self.slices[name] = logic
        getattr(self.slices[name].GetSliceNode(), f"SetOrientationTo{orientation}")()
        return self.slices[name]

    def work_until(self, condition) -> None:
        """Let Qt work."""
        end = time.monotonic() + 600
        while not condition() and time.monotonic() < end:
            self.application.processEvents()
            time.sleep(0.02)

    def apply(self, behaviour: str) -> None:
        """Press Apply; the worker is one that brings the study at once ("good") or stays at work ("hang")."""
        os.environ["FAKE_WORKER_CHILDREN"] = str(Path(self.application.temporaryPath) / "children")
        self.widget.logic.worker_command = [sys.executable, str(WORKER), behaviour, str(self.study)]
        self.ui.applyButton.click()
        if behaviour == "hang":
            self.work_until(lambda: "refine" in self.ui.stageLabel.text)
        else:
            self.work_until(lambda: not self.widget.panel.run.running)
            if self.widget.panel.shown is None:
                raise SystemExit(f"the study is not that of these scans: {self.application.messages}")

    def picture(self, *sections: str):
        """The panel with some of its sections open, as a PIL image."""
        for name in ("timePoints", "settings", "run", "results", "quality", "correction", "export"):
            getattr(self.ui, f"{name}Section").collapsed = name not in sections
        whole = self.widget.parent
        whole.resize(WIDTH, 200)
        for _turn in range(5):
            self.application.processEvents()
            whole.resize(WIDTH, whole.sizeHint().height())
        return image_of(whole.grab().toImage())


def image_of(grabbed):
    """A QImage as a PIL image."""
    import qt
    from PIL import Image

    rgb = grabbed.convertToFormat(qt.QImage.Format_RGB888)
    rows = np.frombuffer(rgb.constBits(), np.uint8).reshape(rgb.height(), rgb.bytesPerLine())
    return Image.fromarray(rows[:, : rgb.width() * 3].reshape(rgb.height(), rgb.width(), 3).copy())


def side_by_side(images: list, gap: int = 12):
    """Images in a row, their tops in line, on light grey."""
    from PIL import Image

    width = sum(image.width for image in images) + gap * (len(images) + 1)
    whole = Image.new("RGB", (width, max(image.height for image in images) + 2 * gap), (225, 225, 225))
    left = gap
    for image in images:
        whole.paste(image, (left, gap))
        left += image.width + gap
    return whole


def save(image, path: Path, colours: int | None = COLOURS) -> None:
    """Write a picture, with a palette of so many colours: a third of the size, and no difference to the eye."""
    (image if colours is None else image.quantize(colours)).save(path, optimize=True)
    print(path.name, *image.size, f"{path.stat().st_size / 1000:.0f} kB")


def overlays(panel: Panel):
    """The slice views with each map over the CT of the first follow-up, in its most abnormal region."""
    from PIL import Image

    from LungRecoveryLib import scene
    from LungRecoveryLib.gui.results import worst_region

    shown = panel.widget.panel.shown
    nodes, label = shown.nodes, shown.nodes.labels[1]
    worst = worst_region(shown.timepoint(label), shown.least_abnormal_percent) or "lungs"
    place = scene.region_point(nodes, worst, label, MAPS[-1])
    bounds = [0.0] * 6
    nodes.baseline.volume.GetRASBounds(bounds)
    middle = tuple((bounds[i] + bounds[i + 1]) / 2 for i in (0, 2, 4))
    rows = []
    for name in MAPS:
        for _turn in range(3):  # a view fits itself to what it shows at first, and shows a new place the next time
            scene.set_overlay(nodes, label, name, 0.6)
            for view, axis in zip(panel.views.values(), (2, 0, 1), strict=True):
                view.show([place[i] if i == axis else middle[i] for i in range(3)], FIELD_MM)
            pictures = [view.picture() for view in panel.views.values()]
        chosen = next(overlay for overlay in scene.overlays(nodes) if overlay.name == name)
        rows.append(np.concatenate([*pictures, legend(chosen, *scene.range_now(nodes, name))], axis=1))
    return Image.fromarray(np.concatenate(rows))


def legend(overlay, low: float, high: float) -> np.ndarray:
    """A legend as tall as a view in the map's own colours, drawn here and not by Slicer."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    from LungRecoveryLib.scene.maps import colours, label_count

    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 13)
    image = Image.new("RGB", LEGEND)
    draw = ImageDraw.Draw(image)
    draw.multiline_text((8, 10), f"{overlay.title}\n({overlay.unit})", "white", font, spacing=5)
    top, bottom = 66, LEGEND[1] - 24
    for row in range(top, bottom):
        share = (bottom - 1 - row) / (bottom - 1 - top)
        red, green, blue, opacity = colours(overlay, low, high)[round(share * 255)]
        grey = 0.25 * (1 - opacity)  # of the lung, which shows through
        fill = tuple(round(255 * (c * opacity + grey)) for c in (red, green, blue))
        draw.line([(12, row), (34, row)], fill)
    for share in np.linspace(0.0, 1.0, label_count(overlay, low, high)):
        draw.text((42, bottom - 9 - share * (bottom - top)), f"{low + share * (high - low):g}", "white", font)
    return np.asarray(image)


def main() -> None:
    """Draw everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--days", type=float, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(TESTING), str(TESTING / "scene")]
    panel = Panel(given.study.resolve(), given.scans, given.days)
    timepoints = panel.picture("timePoints", "settings", "run")
    save(timepoints, given.output / "panel-timepoints.png")
    panel.apply("hang")
    save(panel.picture("run"), given.output / "panel-running.png")
    panel.ui.applyButton.click()
    panel.work_until(lambda: not panel.widget.panel.run.running)
    panel.apply("good")
    panel.ui.timePointSlider.setValue(1)
    results = panel.picture("results")
    save(results, given.output / "panel-results.png")
    save(panel.picture("quality", "correction"), given.output / "panel-quality.png")
    panel.ui.exportFolderEdit.currentPath = str(Path(tempfile.gettempdir()) / "results")
    save(panel.picture("export"), given.output / "panel-export.png")
    save(side_by_side([timepoints, results]), given.output / "panel.png")
    save(overlays(panel), given.output / "overlay.png", None)
    panel.widget.cleanup()
    panel.application.remove_files()
    sys.stdout.flush()
    os._exit(0)  # the interpreter's end would destroy scene and views in an order that they do not survive


if __name__ == "__main__":
    main()
