"""Charts over the dates: the scores with their intervals, density and volume, and what the lung is made of.

Each function draws on a matplotlib figure or subfigure of `style.PAGE_WIDTH` x its `..._HEIGHT` inches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv
from matplotlib.figure import FigureBase
from matplotlib.patches import Polygon

from LungRecoveryLib.report import style, text, trends
from LungRecoveryLib.report.style import NOTICE, Theme
from LungRecoveryLib.report.tables import band_range, band_title
from LungRecoveryLib.results import StudyResult

TRAJECTORY_HEIGHT = 3.0
_MEASURES_ROW, _MEASURES_ACROSS = 2.0, 4
BANDS_HEIGHT = 2.5
REGIONS_HEIGHT = 2.3
MOST_SCHEMES = 6  # lungs side by side in the picture of the regions
SMALL_MULTIPLES = (
    *("abnormal_percent", "lesion_volume_ml", "severity_points", "band_well_aerated"),
    *("mean_hu", "volume_ml", "mass_g"),
)
_Z = 1.96  # of a 95 % interval


def series_of(study: StudyResult, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The whole lung's series with these names, in that order, as far as they exist and hold a value."""
    every = [s for s in study.trajectory.get("series", {}).values() if s["region"] == text.WHOLE]
    found = {n: next((s for s in every if s["name"] == n), None) for n in names}
    return {n: s for n, s in found.items() if s and any(p["value"] is not None for p in s["points"])}


def draw_trajectory(figure: FigureBase, study: StudyResult, theme: Theme) -> None:
    """The scores over the dates with their 95 % intervals, the classes as lines, unreliable points crossed out."""
    figure.set_facecolor(theme.background)
    series = series_of(study, tuple(text.SCORES))
    axes = figure.add_axes((0.065, 0.19, 0.715, 0.69))
    _frame(axes, theme)
    limits = text.thresholds(study)
    partial, complete = limits["partial"], limits["complete"]
    values = [p["value"] for s in series.values() for p in s["points"] if p["value"] is not None]
    axes.set_ylim(min(-0.05, min(values, default=0) - 0.08), max(1.06, max(values, default=1) + 0.05))
    _time_axis(axes, study, theme, room=0.22)  # for the names of the classes, clear of the data
    right = axes.get_xlim()[1]
    for level, above in ((partial, "partial"), (complete, "complete")):
        axes.axhline(level, color=theme.muted, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
        words = f"{above} from {level:.2f}"
        axes.text(right, level + 0.012, words, color=theme.muted, fontsize=6.2, va="bottom", ha="right")
    looks = {
        "tissue_recovery": (theme.recovery, "o", "-"),
        "jacobian": (theme.jacobian, "s", "--"),
        "jacobian_normalized": (theme.normalised, "^", ":"),
    }
    shift = 0.006 * (axes.get_xlim()[1] - axes.get_xlim()[0])
    ends = []
    for i, (name, s) in enumerate(series.items()):
        colour, marker, line = looks[name]
        _draw_series(axes, s, colour, marker, line, theme, shift * (i - 1), band=name == "tissue_recovery")
        last = [p for p in s["points"] if p["value"] is not None][-1]
        mark = "" if last["reliable"] else " ⚠"
        ends.append(
            [
                last["value"],
                text.SCORES[name].title.replace(", ", ",\n") + mark,
                text.number(last["value"], 2),
                colour,
                marker,
            ]
        )
    _end_labels(figure, axes, ends)
    axes.set_ylabel("Score (0 to 1)", fontsize=7.5, color=theme.ink)
    _legend_of_marks(figure, study, theme)
    _notice(figure, theme)


def measures_height(count: int) -> float:
    """The height in inches of the picture of so many small charts."""
    return _MEASURES_ROW * -(-count // _MEASURES_ACROSS)


def draw_measures(figure: FigureBase, study: StudyResult, theme: Theme) -> None:
    """Small charts of abnormal lung, lesions, severity, aeration, mean density, volume and mass over the dates."""
    figure.set_facecolor(theme.background)
    series = series_of(study, SMALL_MULTIPLES)
    rows = max(-(-len(series) // _MEASURES_ACROSS), 1)
    across = -(-len(series) // rows) or 1
    for i, s in enumerate(series.values()):
        measure = trends.measure_of(s)
        left, bottom = 0.065 + i % across / across * 0.95, (rows - 1 - i // across + 0.3) / rows
        axes = figure.add_axes((left, bottom, 0.95 / across - 0.075, 0.52 / rows))
        _frame(axes, theme)
        _time_axis(axes, study, theme, few=True)
        _draw_series(axes, s, theme.recovery, "o", "-", theme, band=True)
        axes.margins(y=0.25)
        axes.set_title(f"{measure.title}, {measure.unit}", fontsize=7.2, color=theme.ink, loc="left", pad=6)
    _notice(figure, theme)


def draw_bands(figure: FigureBase, study: StudyResult, theme: Theme) -> None:
    """What the lung is made of at each date: its density bands as shares of the lung, with their percentages."""
    figure.set_facecolor(theme.background)
    bands = study.settings.get("bands", [])
    axes = figure.add_axes((0.15, 0.2, 0.83, 0.52))
    labels = [_short(text.title(t)) for t in study.timepoints]
    left = [0.0] * len(labels)
    for i, band in enumerate(bands):
        shares = [
            (text.get(t.density, text.WHOLE, "bands_percent") or {}).get(band["name"]) or 0.0 for t in study.timepoints
        ]
        colour = style.BAND_COLOURS[i % len(style.BAND_COLOURS)]
        axes.barh(
            labels,
            shares,
            left=left,
            height=0.62,
            color=colour,
            edgecolor=theme.background,
            linewidth=1.0,
            label=f"{band_title(band)}\n{band_range(band)}",
        )
        for row, (start, share) in enumerate(zip(left, shares, strict=True)):
            if share >= 4:
                ink = "#ffffff" if i % len(style.BAND_COLOURS) in (3, 4) else "#1c2630"
                axes.text(start + share / 2, row, f"{share:.0f}", ha="center", va="center", fontsize=6.8, color=ink)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.set_xlim(0, max(100.0, *left) if left else 100)
    axes.invert_yaxis()
    _frame(axes, theme)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=7.2)
    axes.set_xlabel("Share of the lung, %", fontsize=7, color=theme.ink)
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.17, 1.03),
        ncols=max(len(bands), 1),
        frameon=False,
        fontsize=6.5,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.6,
        alignment="left",
    )
    for entry in legend.get_texts():
        entry.set_color(theme.ink)
    _notice(figure, theme)


def draw_regions(figure: FigureBase, study: StudyResult, theme: Theme) -> None:
    """The abnormal share of each third of each lung at each date, as numbers in a scheme of the lungs."""
    figure.set_facecolor(theme.background)
    shown = some(study.timepoints, MOST_SCHEMES)
    for i, timepoint in enumerate(shown):
        axes = figure.add_axes((0.02 + i * 0.96 / len(shown), 0.12, 0.96 / len(shown), 0.76))
        axes.set_xlim(-1.32, 1.32)
        axes.set_ylim(-0.08, 3.08)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_title(_short(text.title(timepoint)), fontsize=7.8, weight="bold", color=theme.ink, pad=5)
        for side, sign in (("right", -1), ("left", 1)):  # the patient's right on the left of the picture
            for third, top in (("upper", 3.0), ("middle", 2.0), ("lower", 1.0)):
                value = text.get(timepoint.density, f"{side}_{third}", "abnormal_percent")
                if value is not None:  # a crop may show one lung only
                    _third(axes, sign, top, value, theme)
        axes.text(-1.25, 2.9, "R", fontsize=6.5, color=theme.muted, ha="left", va="top")
        axes.text(1.25, 2.9, "L", fontsize=6.5, color=theme.muted, ha="right", va="top")
    _notice(figure, theme)


def _third(axes: Axes, sign: int, top: float, value: float, theme: Theme) -> None:
    """A third of a lung: wider below, darker the more of it is abnormal, with the percentage."""

    def outer(height: np.ndarray) -> np.ndarray:
        return 0.1 + 1.08 * (1 - (height / 3) ** 3) ** 0.55

    heights = np.linspace(top - 0.95, top, 40)
    along = np.linspace(0, 1, 20)
    base = heights[0] + (0.2 * np.sin(np.pi * along) if top == 1 else 0 * along)  # the dome of the diaphragm
    x = np.concatenate([0.1 + along * (outer(heights[0]) - 0.1), outer(heights), [0.1]])
    edge = np.stack([sign * x, np.concatenate([base, heights, heights[-1:]])], axis=1)
    colour = style.ABNORMAL_MAP(min(value, 50.0) / 50.0)
    axes.add_patch(
        Polygon(edge, closed=True, facecolor=colour, edgecolor=theme.muted, linewidth=0.7, joinstyle="round")
    )
    ink = "#ffffff" if rgb_to_hsv(colour[:3])[2] < 0.72 else "#1c2630"
    axes.text(
        sign * (0.46 if top == 3 else 0.6),
        top - {3: 0.6, 2: 0.5, 1: 0.42}[top],
        text.percent(value, 0 if value >= 9.95 else 1),
        ha="center",
        va="center",
        fontsize=8,
        color=ink,
    )


def some(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly spread, the first and the last always among them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))]


def _draw_series(
    axes: Axes,
    series: Mapping[str, Any],
    colour: str,
    marker: str,
    line: str,
    theme: Theme,
    shift: float = 0.0,
    band: bool = False,
) -> None:
    curve = [p for p in series.get("curve") or [] if p["mid"] is not None]
    points = [p for p in series["points"] if p["value"] is not None]
    if curve:
        x = [p["x"] for p in curve]
        axes.plot(x, [p["mid"] for p in curve], color=colour, linestyle=line, linewidth=1.3, zorder=3)
        if band and all(p["low"] is not None and p["high"] is not None for p in curve):
            axes.fill_between(
                x, [p["low"] for p in curve], [p["high"] for p in curve], color=colour, alpha=0.13, linewidth=0
            )
    else:
        axes.plot([p["x"] for p in points], [p["value"] for p in points], color=colour, linestyle=line, linewidth=0.9)
    for p in points:
        error = None
        if p["error"] is not None:  # cut to what the measure can be
            measure = trends.measure_of(series)
            ends = (max(p["value"] - _Z * p["error"], measure.low), min(p["value"] + _Z * p["error"], measure.high))
            error = [[max(p["value"] - ends[0], 0.0)], [max(ends[1] - p["value"], 0.0)]]
        face = colour if p["reliable"] else theme.background
        axes.errorbar(
            p["x"] + shift,
            p["value"],
            error,
            color=colour,
            marker=marker,
            markersize=5,
            markerfacecolor=face,
            markeredgewidth=1.1,
            elinewidth=0.9,
            capsize=2,
            zorder=4,
            clip_on=False,
        )
        if not p["reliable"]:
            axes.plot(
                p["x"] + shift, p["value"], marker="x", markersize=9, color=theme.ink, markeredgewidth=1.2, zorder=5
            )


def _frame(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.muted)
    axes.tick_params(colors=theme.ink, labelsize=6.8, width=0.6, length=2.5)
    axes.grid(True, axis="y", color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def _time_axis(axes: Axes, study: StudyResult, theme: Theme, few: bool = False, room: float = 0.04) -> None:
    by_day = study.trajectory.get("axis") == "days" and all(t.days is not None for t in study.timepoints)
    at = [float(t.days if by_day else t.visit) for t in study.timepoints]
    span = max(at[-1] - at[0], 1.0)
    axes.set_xlim(at[0] - 0.04 * span, at[-1] + room * span)
    words = [text.number(x) if by_day else _short(t.label) for x, t in zip(at, study.timepoints, strict=True)]
    shown = _spaced(at, span * (0.16 if few else 0.05))
    axes.set_xticks([at[i] for i in shown], [words[i] for i in shown])
    axes.set_xlabel("Days since baseline" if by_day else "Visit", fontsize=6.8 if few else 7.5, color=theme.ink)


def _spaced(at: list[float], least: float) -> list[int]:
    """Which ticks to label so that neighbours keep a distance, the first and the last always among them."""
    shown = [0]
    for i in range(1, len(at) - 1):
        if at[i] - at[shown[-1]] >= least and at[-1] - at[i] >= least:
            shown.append(i)
    return [*shown, len(at) - 1] if len(at) > 1 else shown


def _end_labels(figure: FigureBase, axes: Axes, ends: list[list]) -> None:
    """Name each line at its end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    box = axes.get_position()
    apart = 0.135
    at = sorted(([(value - low) / (high - low), *rest] for value, *rest in ends), key=lambda e: e[0])
    for i in range(1, len(at)):
        at[i][0] = max(at[i][0], at[i - 1][0] + apart)
    excess = max(0.0, at[-1][0] - 1.0) if at else 0.0
    for i in range(len(at) - 1, -1, -1):
        at[i][0] = min(at[i][0] - (excess if i == len(at) - 1 else 0), at[i + 1][0] - apart if i + 1 < len(at) else 9)
    glyphs = {"o": "●", "s": "■", "^": "▲"}
    for y, name, value, colour, marker in at:
        figure.text(
            box.x1 + 0.022,
            box.y0 + y * box.height,
            f"{glyphs[marker]} {value}",
            fontsize=7.6,
            weight="bold",
            color=colour,
            va="center",
        )
        figure.text(
            box.x1 + 0.083, box.y0 + y * box.height, name, fontsize=6.6, color=colour, va="center", linespacing=1.1
        )


def _legend_of_marks(figure: FigureBase, study: StudyResult, theme: Theme) -> None:
    fitted = any(s.get("curve") for s in series_of(study, tuple(text.SCORES)).values())
    lines = "Line and shade: fitted course with its 95 % interval." if fitted else "The lines only join the dates."
    words = f"Bars: 95 % interval of each measurement. {lines}"
    if not study.reliable:
        words += "\n✕ hollow: unreliable registration."
    figure.text(0.065, 0.955, words, fontsize=6.2, color=theme.muted, va="center", linespacing=1.3)


def _notice(figure: FigureBase, theme: Theme) -> None:
    figure.text(0.995, 0.02, NOTICE, fontsize=6.0, color=theme.muted, ha="right", va="bottom")


def _short(label: str, length: int = 22) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
