"""Charts of an evaluation: how each case fared, and the curves of the training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.report import style
from LungRecoveryLib.report.render import save_png

from .draw import image_of

_THEME = style.LIGHT
_COLOURS = (_THEME.normalised, _THEME.jacobian, _THEME.recovery, "#2f7d4f")
_MARKS = "osD^"
_LOWEST_MM = 1e-3  # where a logarithmic axis puts an error of 0
_TICKS_MM = [m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5)]
_ROW_INCHES = 1.7

Curve = tuple[np.ndarray, np.ndarray]


def save_cases(names: Sequence[str], values: Mapping[str, Sequence[float | None]], measure: str, path: Path) -> None:
    """A `measure` in mm, named in words, of every case by method, in the order of the first method, as PNG."""
    methods = list(values)
    order = np.argsort([np.inf if v is None else v for v in values[methods[0]]], kind="stable")
    height = min(8.0, 1.1 + 0.14 * len(names))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.3, 0.62 / height, 0.66, 1 - 1.0 / height))
        _frame(axes)
        for number, method in enumerate(methods):
            found = [(values[method][case], place) for place, case in enumerate(order)]
            shown = [(max(v, _LOWEST_MM), place) for v, place in found if v is not None]
            x, y = zip(*shown, strict=True) if shown else ((), ())
            colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
            axes.plot(x, y, mark, color=colour, markersize=3.5, linestyle="none", label=method)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = [t for t in _TICKS_MM if low <= t <= high]
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel(f"{measure}, mm", fontsize=7, color=_THEME.ink)
        if len(names) <= 50:
            axes.set_yticks(range(len(names)), [names[case] for case in order], fontsize=5.5)
        else:
            axes.set_yticks([])
            axes.set_ylabel("cases, by their start", fontsize=7, color=_THEME.ink)
        figure.legend(loc="upper center", ncols=4, frameon=False, fontsize=7)
        figure.text(0.5, 0.1 / height, style.NOTICE, fontsize=6, color=_THEME.muted, ha="center")

    save_png(image_of(draw, height), path)


def save_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """The curves of a run as PNG: one panel a quantity, what was trained on and what was held out together."""
    panels: dict[str, list[str]] = {}
    for name in sorted(curves, key=lambda n: (not n.endswith("loss"), n)):
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    rows = -(-len(panels) // 2)
    height = rows * _ROW_INCHES + 0.3

    def draw(figure: Figure) -> None:
        for number, (quantity, names) in enumerate(panels.items()):
            row, column = divmod(number, 2)
            bottom = 1 - (row + 1) * _ROW_INCHES / height + 0.38 / height
            axes = figure.add_axes((0.08 + 0.5 * column, bottom, 0.39, (_ROW_INCHES - 0.65) / height))
            _frame(axes)
            for k, name in enumerate(names):
                steps, values = curves[name]
                axes.plot(steps, values, color=_COLOURS[(k + 1) % len(_COLOURS)], linewidth=1.0, label=name)
            axes.set_title(quantity, fontsize=7.5, color=_THEME.ink, loc="left")
            axes.set_xlabel("step", fontsize=6, color=_THEME.muted)
            axes.legend(fontsize=5.5, frameon=False)
        figure.text(0.5, 0.08 / height, style.NOTICE, fontsize=6, color=_THEME.muted, ha="center")

    save_png(image_of(draw, height), path)


def _frame(axes: Axes) -> None:
    axes.grid(color=_THEME.grid, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=6, colors=_THEME.ink, length=2, width=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def read_curves(run: Path) -> dict[str, Curve]:
    """The scalars that a training run logged, by name: (steps, values), without what is not finite.

    `run` is a folder with TensorBoard event files or a `metrics.csv`, in it or below it, or such a file itself. Raises
    BadInput where there is none or it holds no curve.
    """
    if not run.exists():
        raise BadInput(f"{run}: does not exist; give the folder of a training run")
    places = [run] if run.is_file() else sorted(run.rglob("events.out.tfevents.*")) or sorted(run.rglob("metrics.csv"))
    if not places:
        raise BadInput(f"{run}: holds no TensorBoard events and no metrics.csv; give the folder of a training run")
    points: dict[str, dict[int, float]] = {}
    for place in places:
        for name, step, value in _csv_points(place) if place.suffix == ".csv" else _event_points(place):
            if np.isfinite(value):
                points.setdefault(name, {})[step] = value
    # A single point is no curve; the epoch's own number tells nothing.
    kept = {name: sorted(line.items()) for name, line in points.items() if len(line) > 1 and name != "epoch"}
    if not kept:
        raise BadInput(f"{run}: its log has no curve yet; let the run finish at least two epochs")
    return {name: tuple(np.array(v) for v in zip(*line, strict=True)) for name, line in kept.items()}


def _event_points(path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            yield name, event.step, event.value


def _csv_points(path: Path):
    import csv

    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "step" not in (rows.fieldnames or []):
            raise BadInput(f"{path}: has no column step; give the metrics.csv of a training run")
        for row in rows:
            for name, text in row.items():
                if name not in ("step", "epoch") and text:
                    yield name, int(float(row["step"])), float(text)
