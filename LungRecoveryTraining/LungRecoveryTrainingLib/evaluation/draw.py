"""Figures of an evaluation as images."""

from collections.abc import Callable

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from LungRecoveryLib.report import style


def image_of(draw: Callable[[Figure], None], height: float) -> Image.Image:
    """What `draw` puts on a figure of the report's width and `height` inches, as an RGB image."""
    with style.drawing():
        figure = Figure(figsize=(style.PAGE_WIDTH, height), dpi=style.DPI)
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        canvas.draw()
    return Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
