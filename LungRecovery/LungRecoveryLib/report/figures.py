"""Pictures of CT slices on black: baseline and follow-up with their maps, before and after registration, the course.

A film draws on a matplotlib figure or subfigure that is `style.PAGE_WIDTH` inches wide and `Film.height` high, so that
the same drawing serves as a PNG and as part of a page. Arrays are (rows, columns) as cut by `slices.Plane`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import FigureBase
from matplotlib.patheffects import withStroke

from LungRecoveryLib.report import style
from LungRecoveryLib.report.slices import Plane, checkerboard
from LungRecoveryLib.report.style import FILM, NOTICE, Theme

_TOP, _BOTTOM, _LEFT, _GAP = 0.42, 0.24, 0.62, 0.05  # inches
_BARS, _BANNER = 0.52, 0.24  # inches for the colour bars and for the warning above unreliable pictures


@dataclass(frozen=True)
class Scale:
    """What a colour stands for: a map of values to -1..1, ticks, and words for both ends."""

    title: str
    colours: LinearSegmentedColormap
    ticks: tuple[tuple[float, str], ...]  # position in -1..1 and text
    low: str
    high: str


VOLUME_SCALE = Scale(
    "Jacobian, 1 = same volume",
    style.VOLUME_MAP,
    tuple((float(np.log2(v)), f"{v:g}") for v in (0.5, 0.7, 1.0, 1.4, 2.0)),
    "smaller",
    "larger",
)
DENSITY_LIMIT = 300.0  # mg/ml at the ends of the scale
DENSITY_SCALE = Scale(
    "mg/ml, 0 = same density",
    style.DENSITY_MAP,
    tuple((v / DENSITY_LIMIT, f"{v:+d}".replace("-", "−") if v else "0") for v in (-300, -150, 0, 150, 300)),
    "less dense",
    "denser",
)


def volume_to_unit(jacobian: np.ndarray) -> np.ndarray:
    """Jacobian values on the scale -1 (a half or less) .. 0 (unchanged) .. 1 (double or more), by their logarithm."""
    return np.log2(np.clip(np.nan_to_num(jacobian, nan=1.0), 0.5, 2.0))


def density_to_unit(change: np.ndarray) -> np.ndarray:
    """Density changes in mg/ml on the scale -1..1."""
    return np.clip(np.nan_to_num(change) / DENSITY_LIMIT, -1, 1)


@dataclass(frozen=True)
class Series:
    """Pictures of one thing, one for each plane: its heading, the scale of its colours, whether to stamp them."""

    title: str
    pictures: tuple[np.ndarray, ...]
    scale: Scale | None = None
    subtitle: str = ""
    unreliable: bool = False


@dataclass(frozen=True)
class _Tile:
    picture: np.ndarray
    plane: Plane
    x: float
    y: float
    width: float
    height: float
    first: bool  # of its plane: carries the letters of the sides
    unreliable: bool


@dataclass(frozen=True)
class Film:
    """Pictures in a grid: a column for each series and a row for each plane, or the other way round.

    `point` (LPS mm) is marked at the borders of the first pictures; `unreliable`, where not empty, is said above all.
    """

    planes: tuple[Plane, ...]
    series: tuple[Series, ...]
    point: np.ndarray | None = None
    unreliable: str = ""
    planes_across: bool = False
    highest: float = 5.6  # inches: limit of the pictures' height together

    @property
    def _lines(self) -> tuple[list[float], list[float]]:
        """Widths of the columns and heights of the rows in mm of the patient."""
        widths, heights = zip(*(plane.size_mm for plane in self.planes), strict=True)
        if self.planes_across:
            return list(widths), [max(heights)] * len(self.series)
        return [max(widths)] * len(self.series), list(heights)

    @property
    def _scale(self) -> float:
        """Inches per mm: as wide as the page allows, and the pictures together no higher than the limit."""
        widths, heights = self._lines
        room = style.PAGE_WIDTH - _LEFT - _GAP * len(widths)
        return min(room / sum(widths), self.highest / sum(heights))

    @property
    def _top(self) -> float:
        return _TOP + (_BANNER if self.unreliable else 0.0)

    @property
    def height(self) -> float:
        """Height of the drawing in inches."""
        heights = self._lines[1]
        body = sum(heights) * self._scale + _GAP * (len(heights) - 1)
        return self._top + body + (_BARS if any(s.scale for s in self.series) else 0.06) + _BOTTOM

    def _tiles(self) -> Iterator[tuple[int, int, _Tile]]:
        """Row, column and place in inches of every picture."""
        widths, heights = self._lines
        room = (style.PAGE_WIDTH - _LEFT - _GAP * len(widths)) / sum(widths)
        y = self._top
        for row, height in enumerate(heights):
            x = _LEFT
            for column, width in enumerate(widths):
                p, s = (column, row) if self.planes_across else (row, column)
                w, h = (mm * self._scale for mm in self.planes[p].size_mm)
                left = x + (width * room - w) / 2
                top = y + (height * self._scale - h) / 2
                yield (
                    row,
                    column,
                    _Tile(
                        self.series[s].pictures[p], self.planes[p], left, top, w, h, s == 0, self.series[s].unreliable
                    ),
                )
                x += width * room + _GAP
            y += height * self._scale + _GAP

    def draw(self, figure: FigureBase, theme: Theme = FILM) -> None:
        """Draw on a figure of `PAGE_WIDTH` x `height` inches; always on black."""
        figure.set_facecolor(FILM.background)
        canvas = _Canvas(figure, style.PAGE_WIDTH, self.height)
        if self.unreliable:
            canvas.banner(self.unreliable)
        heads = [(s.title, s.subtitle) for s in self.series], [(p.name.capitalize(), p.position) for p in self.planes]
        side, above = heads if self.planes_across else heads[::-1]
        for row, column, tile in self._tiles():
            centre, middle = tile.x + tile.width / 2, tile.y + tile.height / 2
            if row == 0:
                canvas.head(centre, self._top - 0.25, *above[column], ha="center")
            if column == 0:
                canvas.head(0.08, middle - 0.08, *side[row])
            axes = canvas.axes(tile.x, tile.y, tile.width, tile.height)
            _picture(axes, tile.picture)
            if tile.first:
                _sides(axes, tile.plane.sides)
                if self.point is not None:
                    _marks(axes, tile.plane, self.point)
            if tile.unreliable:
                _stamp(axes)
            scale = None if self.planes_across else self.series[column].scale
            if scale and row == len(self.planes) - 1:
                room = (style.PAGE_WIDTH - _LEFT) / len(self.series)
                canvas.colour_bar(scale, centre, self.height - _BOTTOM - _BARS + 0.1, room * 0.84)
        canvas.notice()


def overlay(grey: np.ndarray, change: np.ndarray, inside: np.ndarray, colours: LinearSegmentedColormap) -> np.ndarray:
    """A change in -1..1 in colour over grey values, only where `inside`; RGB (rows, columns, 3)."""
    return style.blend(grey, np.where(inside, change, 0.0), colours)


def checker_picture(first: np.ndarray, second: np.ndarray, square: int = 22) -> np.ndarray:
    """Squares of two grey pictures in turn, the first tinted warm and the second cool; RGB (rows, columns, 3)."""
    pattern = checkerboard(first.shape, square)[..., None]
    warm, cool = np.array([1.0, 0.97, 0.91]), np.array([0.9, 0.96, 1.0])
    return np.where(pattern, first[..., None] * warm, second[..., None] * cool)


class _Canvas:
    """Places text and axes in inches from the top left corner."""

    def __init__(self, figure: FigureBase, width: float, height: float):
        self.figure, self.width, self.height = figure, width, height

    def text(self, x: float, y: float, words: str, size: float = 7, color: str = FILM.ink, **options) -> None:
        options.setdefault("va", "center")
        self.figure.text(x / self.width, 1 - y / self.height, words, fontsize=size, color=color, **options)

    def head(self, x: float, y: float, title: str, subtitle: str, **options) -> None:
        self.text(x, y, title, size=7.5, weight="bold", **options)
        self.text(x, y + 0.15, subtitle, size=6.3, color=FILM.muted, **options)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def banner(self, words: str) -> None:
        axes = self.axes(0, 0, self.width, _BANNER)
        axes.set_facecolor("#f4c542")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.text(0.5, 0.48, words, ha="center", va="center", fontsize=7.5, weight="bold", color="#1c1400")

    def notice(self) -> None:
        self.text(self.width / 2, self.height - 0.12, NOTICE, size=6.3, color=FILM.muted, ha="center")

    def colour_bar(self, scale: Scale, centre: float, y: float, width: float) -> None:
        axes = self.axes(centre - width / 2, y, width, 0.1)
        values = np.linspace(-1, 1, 256)
        # Over the grey of healthy lung, as the colours stand in the picture.
        grey = np.full((1, 256), style.grey_levels(-850.0))
        axes.imshow(
            style.blend(grey, values[None], scale.colours), extent=(-1, 1, 0, 1), aspect="auto", rasterized=True
        )
        axes.set_yticks([])
        axes.set_xticks([t for t, _ in scale.ticks], [words for _, words in scale.ticks])
        axes.tick_params(labelsize=5.8, colors=FILM.ink, length=2, width=0.5, pad=1.5)
        for spine in axes.spines.values():
            spine.set_color(FILM.muted)
        self.text(centre, y + 0.32, f"← {scale.low}    {scale.high} →", size=5.8, color=FILM.muted, ha="center")


def _picture(axes: Axes, picture: np.ndarray) -> None:
    picture = np.clip(picture, 0, 1)
    rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    axes.imshow((rgb * 255 + 0.5).astype(np.uint8), aspect="auto", interpolation="bilinear")
    axes.set_xlim(-0.5, picture.shape[1] - 0.5)
    axes.set_ylim(picture.shape[0] - 0.5, -0.5)
    axes.axis("off")


def _sides(axes: Axes, sides: str) -> None:
    places = ((0.03, 0.5, "left", "center"), (0.97, 0.5, "right", "center"), (0.5, 0.97, "center", "top"),
              (0.5, 0.03, "center", "bottom"))  # fmt: skip
    for letter, (x, y, ha, va) in zip(sides, places, strict=True):
        axes.text(
            x,
            y,
            letter,
            ha=ha,
            va=va,
            fontsize=6.5,
            color="#ffd166",
            weight="bold",
            transform=axes.transAxes,
            path_effects=[withStroke(linewidth=1.6, foreground="#1a1a1a")],
        )


def _marks(axes: Axes, plane: Plane, point: np.ndarray) -> None:
    """Short lines at the picture's border where the other two planes cut this one."""
    column, row = plane.pixel(point)
    columns, rows = plane.grid.size[:2]
    look = {"color": "#ffd166", "linewidth": 0.8, "path_effects": [withStroke(linewidth=1.8, foreground="#1a1a1a")]}
    short = 0.045 * max(rows, columns)
    for x in ((0, short), (columns - 1 - short, columns - 1)):
        axes.plot(x, (row, row), **look)
    for y in ((0, short), (rows - 1 - short, rows - 1)):
        axes.plot((column, column), y, **look)


def _stamp(axes: Axes) -> None:
    """Write on a picture that it is unreliable, so that no crop of the figure hides it."""
    axes.annotate(
        "unreliable",
        (0, 1),
        (2.5, -2.5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize=5.8,
        weight="bold",
        color="#1c1400",
        bbox={"facecolor": "#f4c542", "edgecolor": "none", "pad": 1.3},
    )
