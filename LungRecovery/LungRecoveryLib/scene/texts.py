"""Texts in the user's language where Slicer translates, else as they stand."""

try:
    from slicer.i18n import tr as _
except ImportError:  # without the Slicer application there is no translator

    def _(text: str) -> str:
        return text


__all__ = ["_"]
