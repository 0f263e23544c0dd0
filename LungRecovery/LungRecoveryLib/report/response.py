"""The response map as a figure: densities of corresponding voxels of baseline and follow-up against each other."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter

from LungRecoveryLib.recovery.change_classes import EDGES_HU
from LungRecoveryLib.report import style, text
from LungRecoveryLib.report.tables import band_title
from LungRecoveryLib.results import StudyResult, TimePointResult

RESPONSE_HEIGHT = 3.6
_LEAST_PERCENT = 0.0005
_CHANGED_HU = 100.0


def denser_and_lighter(shares: np.ndarray) -> tuple[float, float]:
    """The shares (percent) of a joint histogram that are denser, and less dense, than before by over 100 HU."""
    middles = 0.5 * (EDGES_HU[1:] + EDGES_HU[:-1])
    change = middles[None, :] - middles[:, None]
    return float(shares[change > _CHANGED_HU].sum()), float(shares[change < -_CHANGED_HU].sum())


def draw_response(
    figure: FigureBase, study: StudyResult, timepoint: TimePointResult, shares: np.ndarray, theme: style.Theme
) -> None:
    """The joint histogram (rows the baseline's bins, columns the follow-up's, percent) with the density bands."""
    figure.set_facecolor(theme.background)
    side = 2.75
    axes = figure.add_axes((0.1, 0.155, side / style.PAGE_WIDTH, side / RESPONSE_HEIGHT))
    shown = np.ma.masked_less(shares.T, _LEAST_PERCENT)
    top = max(float(shares.max()), 10 * _LEAST_PERCENT)
    image = axes.pcolormesh(
        EDGES_HU, EDGES_HU, shown, norm=LogNorm(_LEAST_PERCENT, top), cmap="cividis", rasterized=True
    )
    _frame(axes, study, theme)
    bar = figure.add_axes((0.1 + side / style.PAGE_WIDTH + 0.02, 0.155, 0.015, side / RESPONSE_HEIGHT))
    figure.colorbar(image, cax=bar, format=FuncFormatter(lambda value, _: f"{value:g}"))
    bar.tick_params(colors=theme.ink, labelsize=6.5)
    bar.set_title("% of the lung", fontsize=6.5, color=theme.ink, pad=7, loc="left")
    denser, lighter = denser_and_lighter(shares)
    words = [
        ("Above the diagonal: denser than before", "bold"),
        (f"{text.percent(denser, 1)} of the lung by more than 100 HU", "normal"),
        ("", "normal"),
        ("Below it: less dense, as where lesions clear", "bold"),
        (f"{text.percent(lighter, 1)} of the lung by more than 100 HU", "normal"),
        ("", "normal"),
        ("" if timepoint.reliable else text.UNRELIABLE, "bold"),
    ]
    for i, (line, weight) in enumerate(words):
        figure.text(0.62, 0.84 - 0.06 * i, line, fontsize=7.0, color=theme.ink, weight=weight)
    figure.text(0.995, 0.02, style.NOTICE, fontsize=6.0, color=theme.muted, ha="right", va="bottom")


def _frame(axes: Axes, study: StudyResult, theme: style.Theme) -> None:
    """Axes, the diagonal, and the limits of the density bands with their names."""
    low, high = float(EDGES_HU[0]), float(EDGES_HU[-1])
    axes.set_facecolor(theme.panel)
    axes.plot((low, high), (low, high), color=theme.ink, linewidth=0.8)
    bands = study.settings.get("bands", [])
    for limit in {band["low"] for band in bands} | {band["high"] for band in bands}:
        if low < limit < high:
            for line in (axes.axvline, axes.axhline):
                line(limit, color=theme.muted, linewidth=0.6, linestyle=(0, (2, 2)))
    for band in bands:
        start, end = max(band["low"], low), min(band["high"], high)
        if end - start > 150:
            axes.text((start + end) / 2, high + 18, band_title(band), fontsize=6.2, color=theme.muted, ha="center")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.tick_params(colors=theme.ink, labelsize=6.8, width=0.6, length=2.5)
    for spine in axes.spines.values():
        spine.set_color(theme.muted)
    axes.set_xlabel("Baseline, HU", fontsize=7.5, color=theme.ink)
    axes.set_ylabel("Follow-up at the baseline's volume, HU", fontsize=7.5, color=theme.ink)
