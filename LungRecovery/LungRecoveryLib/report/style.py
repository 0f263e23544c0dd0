"""The look of the report: colours, colour maps that the colour-blind can read, and how matplotlib is set up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from LungRecoveryLib import RESEARCH_USE_ONLY

NOTICE = RESEARCH_USE_ONLY
PAGE_WIDTH = 7.1  # inches: the text width of an A4 page, and so the natural width of every figure
DPI = 200


@dataclass(frozen=True)
class Theme:
    """Colours of text and lines on one background."""

    background: str
    ink: str
    muted: str
    grid: str
    panel: str
    recovery: str  # tissue recovery, and single curves
    jacobian: str
    normalised: str


LIGHT = Theme("#ffffff", "#1c2630", "#5b6773", "#dfe4e9", "#f5f7f9", "#0b5fa5", "#b35309", "#6b7280")
DARK = Theme("#171b20", "#e8ecef", "#9ba7b2", "#343c45", "#20262c", "#6fb5f0", "#f0a860", "#aab4be")
# Pictures of CT stand on black in both, as on a reading screen.
FILM = Theme("#0b0d10", "#eef1f3", "#a3adb7", "#333a42", "#0b0d10", "#6fb5f0", "#f0a860", "#aab4be")

# Density bands from light to dense. Neighbours differ in lightness, so they stay apart without colour.
BAND_COLOURS = ("#9ecae1", "#dbe4ea", "#e8a33d", "#8c4a1f", "#5b6773", "#c9b8d8")

# Both diverge from black, brightening with the change, because they lie on a dark lung. Blue-orange and green-purple
# are pairs that red-green blind readers keep apart; which is which is said in words at each colour bar.
VOLUME_MAP = LinearSegmentedColormap.from_list(
    "volume", [(0, "#b5e3ff"), (0.25, "#2f9bf0"), (0.5, "#101010"), (0.75, "#f08a24"), (1, "#ffe3a3")]
)
DENSITY_MAP = LinearSegmentedColormap.from_list(
    "density", [(0, "#c9ffc4"), (0.25, "#2fb36a"), (0.5, "#101010"), (0.75, "#c25be0"), (1, "#fbd5ff")]
)
ABNORMAL_MAP = LinearSegmentedColormap.from_list("abnormal", ["#f7f3ec", "#f0c27a", "#c2701f", "#6b3410"])
NO_CHANGE = 0.06  # on the scale 0..1: changes below stay uncoloured
OPAQUE = 0.45  # changes from here on are coloured with the full opacity
OPACITY = 0.85


@contextmanager
def drawing() -> Iterator[None]:
    """Settings of matplotlib for the report, whatever the user's are: fonts that ship with it, no maths in labels."""
    settings = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.0,
        "text.parse_math": False,  # a label may hold dollar signs
        "text.usetex": False,
        "axes.unicode_minus": True,
        "axes.linewidth": 0.6,
        "pdf.fonttype": 42,  # text that can be searched and copied
        "pdf.compression": 6,
        "path.simplify": True,
        "image.composite_image": True,
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
        "hatch.linewidth": 0.6,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def grey_levels(hu: np.ndarray, level: float = -600.0, width: float = 1500.0) -> np.ndarray:
    """Grey values 0..1 of HU in a window, by default the usual lung window."""
    return np.clip((np.asarray(hu, np.float32) - (level - width / 2)) / width, 0, 1)


def opacity(change: np.ndarray) -> np.ndarray:
    """How opaque a change in -1..1 is drawn: not at all near zero, where the CT shows through."""
    size = np.clip((np.abs(change) - NO_CHANGE) / (OPAQUE - NO_CHANGE), 0, 1)
    return OPACITY * size * size * (3 - 2 * size)


def blend(grey: np.ndarray, change: np.ndarray, colours: LinearSegmentedColormap) -> np.ndarray:
    """Lay a change in -1..1 (NaN: none) in colour over grey values 0..1 of the same shape; RGB (..., 3) in 0..1."""
    change = np.clip(np.nan_to_num(change), -1, 1)
    alpha = opacity(change)[..., None]
    return (1 - alpha) * np.asarray(grey)[..., None] + alpha * colours((change + 1) / 2)[..., :3]
