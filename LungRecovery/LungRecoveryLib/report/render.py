"""Figures as image files: PNG for the study's folder, compact bytes for the HTML page."""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from LungRecoveryLib.report import style
from LungRecoveryLib.report.pictures import Drawing

JPEG_QUALITY = 88


def draw(drawing: Drawing, theme: style.Theme = style.LIGHT) -> Image.Image:
    """A figure as an RGB image at `style.DPI`."""
    figure = Figure(figsize=(style.PAGE_WIDTH, drawing.height), dpi=style.DPI)
    canvas = FigureCanvasAgg(figure)
    drawing.draw(figure, theme)
    canvas.draw()
    return Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def save_png(image: Image.Image, path: Path) -> None:
    """Write a figure as PNG with its resolution and nothing else about it."""
    image.save(path, dpi=(style.DPI, style.DPI), compress_level=4)


def data_uri(image: Image.Image, photographic: bool) -> str:
    """An image as a data URI: JPEG for CT on black, which PNG would make several times larger, PNG for charts."""
    kind = "jpeg" if photographic else "png"
    return f"data:image/{kind};base64,{base64.b64encode(encoded(image, photographic)).decode()}"


def encoded(image: Image.Image, photographic: bool) -> bytes:
    """An image as the bytes of a file, JPEG or PNG as in :func:`data_uri`."""
    out = io.BytesIO()
    if photographic:
        image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    else:
        image.save(out, "PNG", compress_level=6)
    return out.getvalue()
