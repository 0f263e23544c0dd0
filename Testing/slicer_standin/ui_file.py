"""What a .ui file itself says: its widgets, their classes and the connections that it makes."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path


def connections(path: str | Path) -> list[tuple[str, str, str, str]]:
    """(sender, signal, receiver, slot) of every connection between widgets that Qt Designer does not know."""
    found = []
    for item in ElementTree.parse(path).getroot().iter("connection"):
        sender, signal, receiver, slot = (item.findtext(key, "") for key in ("sender", "signal", "receiver", "slot"))
        if "MRML" in signal:
            found.append((sender, signal, receiver, slot))
    return found


def widgets(path: str | Path) -> dict[str, str]:
    """Every widget of the file by name, with its class."""
    return {item.get("name"): item.get("class") for item in ElementTree.parse(path).getroot().iter("widget")}


def properties(path: str | Path) -> list[tuple[str, str, str]]:
    """(widget's name, its class, property) of every property the file sets."""
    return [
        (widget.get("name"), widget.get("class"), entry.get("name"))
        for widget in ElementTree.parse(path).getroot().iter("widget")
        for entry in widget.findall("property")
    ]


def without_mrml_connections(path: str | Path) -> bytes:
    """The file without the connections that `connections` gives."""
    tree = ElementTree.parse(path)
    for parent in tree.getroot().iter("connections"):
        for item in [c for c in parent if "MRML" in c.findtext("signal", "")]:
            parent.remove(item)
    return ElementTree.tostring(tree.getroot(), encoding="utf-8", xml_declaration=True)
