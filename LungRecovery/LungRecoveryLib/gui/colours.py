"""Colours of words on the panel, strong enough to be read in Slicer's light and in its dark theme."""

from typing import Any

import qt

_ON_LIGHT = {"pass": "#1d7a46", "review": "#8a5100", "fail": "#b3261e", "quiet": "#5b6773"}
_ON_DARK = {"pass": "#63c38b", "review": "#f0b060", "fail": "#ff8a80", "quiet": "#9ba7b2"}
_MIDDLE = 128


def colour_of(kind: str, widget: Any) -> str:
    """The colour, #rrggbb, of words of a kind (pass, review, fail, quiet) on a widget."""
    dark = widget.palette.color(qt.QPalette.Window).lightness() < _MIDDLE
    return (_ON_DARK if dark else _ON_LIGHT)[kind]
