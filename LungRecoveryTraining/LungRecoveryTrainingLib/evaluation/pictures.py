"""Pictures of pairs: the fixed scan in orange and the moving one in blue, grey where they agree, before and after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from LungRecoveryLib.report import slices, style
from LungRecoveryLib.report.render import save_png
from LungRecoveryLib.report.slices import Plane

from .draw import image_of

_ORANGE, _BLUE = np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.5, 1.0])
_PIXEL_MM = 1.0
_TOP, _LEFT, _BOTTOM, _GAP = 0.55, 0.12, 0.3, 0.06  # inches


@dataclass(eq=False)
class Pictures:
    """Grey slices (rows, columns), uint8, of a pair: the fixed scan's, and the moving one's by method."""

    planes: list[Plane]
    fixed: list[np.ndarray]
    moving: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @staticmethod
    def of(fixed: sitk.Image, lungs: sitk.Image) -> "Pictures":
        """The planes through the place deepest in the fixed lungs, and the fixed scan (HU) there."""
        planes = slices.planes_through(slices.place_of_change([], lungs), slices.lung_box(lungs), _PIXEL_MM)
        return Pictures(planes, [_grey(plane.cut(fixed)) for plane in planes])

    def add(self, method: str, moving: sitk.Image, transform: sitk.Transform | None = None) -> None:
        """The moving scan (HU) in the same planes, through a transform from fixed to moving points."""
        self.moving[method] = [_grey(plane.cut(moving, transform=transform)) for plane in self.planes]


def _grey(hu: np.ndarray) -> np.ndarray:
    return (style.grey_levels(hu) * 255 + 0.5).astype(np.uint8)


def fused(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Two grey pictures (rows, columns) uint8 in one, RGB (rows, columns, 3) in 0..1: equal values give grey."""
    return (fixed[..., None] * _ORANGE + moving[..., None] * _BLUE) / 255.0


def save_overlay(pictures: Pictures, title: str, captions: Mapping[str, str], path: Path) -> None:
    """One column a method, one row a plane, as PNG; `captions` say of each method how good it is."""
    widths = [plane.size_mm[0] for plane in pictures.planes]
    heights = [plane.size_mm[1] for plane in pictures.planes]
    columns = len(pictures.moving)
    across = (style.PAGE_WIDTH - 2 * _LEFT - _GAP * (columns - 1)) / columns
    scale = min(across / max(widths), 2.6 / max(heights))  # inches per mm
    height = _TOP + _BOTTOM + scale * sum(heights) + _GAP * (len(heights) - 1)

    def draw(figure: Figure) -> None:
        figure.set_facecolor(style.FILM.background)
        ink = {"color": style.FILM.ink, "ha": "center", "va": "center"}
        figure.text(0.5, 1 - 0.13 / height, title, fontsize=8, weight="bold", **ink)
        words = f"fixed orange, moving blue, grey where they agree. {style.NOTICE}"
        figure.text(0.5, 0.12 / height, words, fontsize=6, color=style.FILM.muted, ha="center", va="center")
        for column, (method, moving) in enumerate(pictures.moving.items()):
            left = _LEFT + column * (across + _GAP)
            centre = (left + across / 2) / style.PAGE_WIDTH
            figure.text(centre, 1 - 0.32 / height, method, fontsize=7.5, weight="bold", **ink)
            figure.text(centre, 1 - 0.45 / height, captions.get(method, ""), fontsize=6.5, **ink)
            top = _TOP
            for row, plane in enumerate(pictures.planes):
                w, h = (mm * scale for mm in plane.size_mm)
                x = left + (across - w) / 2
                box = (x / style.PAGE_WIDTH, 1 - (top + h) / height, w / style.PAGE_WIDTH, h / height)
                _show(figure.add_axes(box), fused(pictures.fixed[row], moving[row]))
                top += h + _GAP

    save_png(image_of(draw, height), path)


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(np.clip(picture, 0, 1), aspect="auto", interpolation="bilinear")
    axes.axis("off")
