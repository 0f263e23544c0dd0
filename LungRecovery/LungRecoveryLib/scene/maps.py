"""How each map of a study looks: its name, unit and range, a colour table around "no change", and its legend.

Colours of a map of ratios (the Jacobian) are symmetric in the logarithm: half the volume is as strong a colour as
double. Around no change nothing is drawn, so that the CT shows through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from LungRecoveryLib.scene.nodes import Node, add_node, mark, module_logic
from LungRecoveryLib.scene.texts import _

COLOURS = 256
NO_CHANGE = 0.06  # on the scale 0..1: changes below stay uncoloured, as in the report

# Blue and orange, green and purple are pairs that red-green blind readers keep apart. They start near the grey of the
# lung in its window and brighten with the change.
_VOLUME = ("#b5e3ff", "#2f9bf0", "#404040", "#f08a24", "#ffe3a3")
_DENSITY = ("#c9ffc4", "#2fb36a", "#404040", "#c25be0", "#fbd5ff")
_AMOUNT = ("#404040", "#7d3c1e", "#e06a2b", "#ffd257", "#fffbe0")


@dataclass(frozen=True)
class Overlay:
    """A map that can be laid over the CT.

    `kind`: "ratio" (no change at 1, logarithmic), "difference" (at 0), "likeness" (1 alike, nothing drawn there),
    "amount" (from 0 up) or "segments". `range` is what the colours span at first, in `unit`;
    None: taken from the voxels.
    """

    name: str
    title: str
    unit: str
    kind: str
    range: tuple[float, float] | None = None
    tooltip: str = ""

    @property
    def neutral(self) -> float | None:
        """The value that means no change, None where there is no such value."""
        return {"ratio": 1.0, "difference": 0.0, "likeness": 1.0}.get(self.kind)

    @property
    def decimals(self) -> int:
        """To how many decimals a value is told: those that matter for what the colours span."""
        if self.kind == "amount":
            return 0 if self.range is not None and self.range[1] >= 20 else 1
        return {"ratio": 2, "likeness": 2}.get(self.kind, 0)

    @property
    def step(self) -> float:
        """By how much an end of the range is moved at a time."""
        return 5 * 10.0**-self.decimals if self.decimals else 10.0

    @property
    def legend_title(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def known_overlays() -> dict[str, Overlay]:
    """The maps that the study's files may hold by name, in the order in which they are offered."""
    every = (
        Overlay(
            "jacobian",
            _("Jacobian"),
            _("volume ratio"),
            "ratio",
            (0.5, 2.0),
            _("Local volume in the follow-up divided by that at baseline: above 1 the tissue has grown, 1 unchanged"),
        ),
        Overlay(
            "jacobian_normalized",
            _("Jacobian, normalised"),
            _("volume ratio"),
            "ratio",
            (0.5, 2.0),
            _("The Jacobian divided by its mean over the lung, so that the depth of the breath does not count"),
        ),
        Overlay(
            "density_change",
            _("Density change"),
            _("mg/ml"),
            "difference",
            (-300.0, 300.0),
            _("Tissue gained (+) or lost (-) per ml of baseline lung, in mg/ml, after the change in volume"),
        ),
        Overlay(
            "hu_change",
            _("HU change"),
            _("HU"),
            "difference",
            (-300.0, 300.0),
            _("HU of the follow-up less HU of the baseline, the change with the breath included"),
        ),
        Overlay(
            "similarity",
            _("Similarity"),
            _("SSIM, 1 = alike"),
            "likeness",
            (0.0, 1.0),
            _("Structural similarity of the follow-up to the baseline, from 1 (alike) down"),
        ),
        Overlay(
            "enhanced",
            _("Enhanced parenchyma"),
            _("HU above healthy"),
            "amount",
            (0.0, 300.0),
            _("HU above what the scan's own healthy parenchyma measures, airways and vessels filled in"),
        ),
        Overlay("lesions", _("Lesions"), "", "segments", None, _("Abnormal lung as segmented")),
        Overlay(
            "uncertainty",
            _("Uncertainty"),
            _("mm"),
            "amount",
            (0.0, 5.0),
            _("How far the registration may be off (expected error), in mm"),
        ),
    )
    return {overlay.name: overlay for overlay in every}


def overlay_of(name: str) -> Overlay:
    """How a map is shown; one that is not known is shown as an amount, under its own name."""
    return known_overlays().get(name) or Overlay(name, name.replace("_", " ").capitalize(), "", "amount")


def strength(values: np.ndarray, overlay: Overlay, low: float, high: float) -> np.ndarray:
    """Where values lie on the colour scale: -1..1 around no change, or 0..1; beyond the range they are cut off."""
    values = np.asarray(values, float)
    if overlay.kind == "ratio":
        reach = max(math.log(high), -math.log(low))
        return np.clip(np.log(np.maximum(values, 1e-6)) / reach, -1, 1)
    if overlay.kind == "difference":
        return np.clip(values / max(abs(low), abs(high)), -1, 1)
    if overlay.kind == "likeness":
        return np.clip((high - values) / (high - low), 0, 1)
    return np.clip((values - low) / (high - low), 0, 1)


def colours(overlay: Overlay, low: float, high: float) -> np.ndarray:
    """(COLOURS, 4) RGBA in 0..1 of evenly spaced values from low to high; alpha is 0 where nothing is drawn."""
    at = strength(np.linspace(low, high, COLOURS), overlay, low, high)
    stops = np.array([_rgb(c) for c in _stops(overlay)])
    places = np.linspace(-1 if overlay.neutral is not None and overlay.kind != "likeness" else 0, 1, len(stops))
    table = np.column_stack([np.interp(at, places, stops[:, c]) for c in range(3)])
    return np.column_stack([table, np.abs(at) >= NO_CHANGE])


def range_of(overlay: Overlay, low: float, high: float) -> tuple[float, float]:
    """A range that the map's colours can span: ordered, and around no change for a ratio or a difference."""
    low, high = sorted((float(low), float(high)))
    if overlay.kind == "ratio":
        low, high = min(max(low, 1e-3), 0.99), max(high, 1.01)
    elif overlay.kind == "difference":
        low, high = min(low, -1e-3), max(high, 1e-3)
    return (low, high) if high > low else (low, low + 1.0)


def label_count(overlay: Overlay, low: float, high: float) -> int:
    """How many numbers the legend shows, so that one of them stands at no change if it can."""
    if overlay.neutral is None or not low < overlay.neutral < high:
        return 5
    share = (overlay.neutral - low) / (high - low)
    miss = {n: abs(share * (n - 1) - round(share * (n - 1))) / (n - 1) for n in (5, 4, 6, 7, 3)}
    return min(miss, key=lambda n: round(miss[n], 3))


def colour_node(scene: Node, study: str, overlay: Overlay) -> Node:
    """A new colour table for a map."""
    node = mark(add_node(scene, "vtkMRMLColorTableNode", overlay.title), study, "colours", layer=overlay.name)
    node.SetTypeToUser()
    node.SetNumberOfColors(COLOURS)
    node.GetLookupTable()
    node.SetHideFromEditors(False)
    return node


def set_range(display: Node, overlay: Overlay, low: float, high: float) -> tuple[float, float]:
    """Let a volume's display, its colour table and its legend span a range; returns the range that came of it."""
    low, high = range_of(overlay, low, high)
    table = display.GetColorNode()
    values = np.linspace(low, high, COLOURS)
    modified = table.StartModify()
    for index, (value, rgba) in enumerate(zip(values, colours(overlay, low, high), strict=True)):
        table.SetColor(index, f"{value:.4g}", *(float(c) for c in rgba))
    table.EndModify(modified)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, high)
    return low, high


def add_legend(volume: Node, study: str, overlay: Overlay) -> Node:
    """A colour legend of a map, hidden until the map is shown."""
    legend = module_logic("colors", "vtkSlicerColorLogic").AddDefaultColorLegendDisplayNode(volume)
    mark(legend, study, "legend", layer=overlay.name)
    legend.SetTitleText(overlay.legend_title)
    legend.SetUseColorNamesForLabels(False)
    legend.SetMaxNumberOfColors(COLOURS)
    legend.GetTitleTextProperty().SetFontSize(14)
    legend.GetLabelTextProperty().SetFontSize(13)
    legend.SetVisibility(False)
    return legend


def update_legend(legend: Node, overlay: Overlay, low: float, high: float) -> None:
    """Let a legend's numbers fit the range."""
    count = label_count(overlay, low, high)
    legend.SetNumberOfLabels(count)
    labels = np.linspace(low, high, count)
    exact = (d for d in (0, 1) if np.allclose(np.round(labels, d), labels, atol=1e-6 * (high - low)))
    decimals = next(exact, 2 if high - low < 10 else 0)
    legend.SetLabelFormat(f"%.{decimals}f")


def _stops(overlay: Overlay) -> tuple[str, ...]:
    return {"ratio": _VOLUME, "difference": _DENSITY}.get(overlay.kind, _AMOUNT)


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
