"""Whether the lengths in a DICOM file can be true, found out before a reader takes memory for them (PS3.5 7.1)."""

import struct
from pathlib import Path

_HARMLESS = 1 << 26  # bytes that a wrong length may cost
_UNDEFINED = 0xFFFFFFFF
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_PIXELS = (0x7FE0, 0x0010)
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


def lengths_fit(path: Path) -> bool:
    """False where an element claims far more bytes than the file has; True also where the file is not understood."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return True
        syntax, explicit, order = "", True, "<"
        fragments = False
        while len(start := file.read(8)) == 8:
            if explicit and start[:2] != b"\2\0" and syntax:
                if syntax == _DEFLATED:
                    return True
                explicit, order, syntax = syntax != _IMPLICIT, ">" if syntax == _BIG_ENDIAN else "<", ""
            tag = struct.unpack(f"{order}HH", start[:4])
            name, length = start[4:6], struct.unpack(f"{order}I", start[4:])[0]
            if tag[0] != 0xFFFE and explicit:
                if not name.isalpha():  # a reader goes on as if the type were left out
                    return length <= max(size, _HARMLESS)
                length = struct.unpack(f"{order}H", start[6:])[0]
                if name in _LONG:
                    more = file.read(4)
                    length = struct.unpack(f"{order}I", more)[0] if len(more) == 4 else 0
            if length != _UNDEFINED and length > max(size, _HARMLESS):
                return False
            fragments = fragments or (tag == _PIXELS and length == _UNDEFINED)
            within = tag[0] == 0xFFFE and not fragments  # an item: its elements follow
            if length == _UNDEFINED or within or (explicit and name == b"SQ" and tag[0] != 0xFFFE):
                continue
            if tag == (2, 0x10):
                syntax = file.read(min(length, 80)).rstrip(b"\0 ").decode("ascii", "replace")
            else:
                file.seek(length, 1)
    return True
