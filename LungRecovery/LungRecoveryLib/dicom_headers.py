"""Headers of CT images in DICOM files, read by SimpleITK (GDCM) without their voxels."""

import datetime
import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids, hounsfield
from LungRecoveryLib.dicom_lengths import lengths_fit
from LungRecoveryLib.errors import BadInput

_MOST_FILES = 100_000
_CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")  # CT image, enhanced CT
_TAGS = {
    "image_type": "0008|0008",
    "sop_class": "0008|0016",
    "study_date": "0008|0020",
    "series_date": "0008|0021",
    "acquisition_date": "0008|0022",
    "acquisition_date_time": "0008|002a",
    "modality": "0008|0060",
    "series_description": "0008|103e",
    "patient_name": "0010|0010",
    "patient_id": "0010|0020",
    "birth_date": "0010|0030",
    "contrast_agent": "0018|0010",
    "slice_thickness": "0018|0050",
    "protocol": "0018|1030",
    "kernel": "0018|1210",
    "patient_position": "0018|5100",
    "series_uid": "0020|000e",
    "series_number": "0020|0011",
    "acquisition_number": "0020|0012",
    "position": "0020|0032",
    "orientation": "0020|0037",
    "comments": "0020|4000",
    "signed": "0028|0103",
    "padding": "0028|0120",
    "padding_limit": "0028|0121",
    "intercept": "0028|1052",
    "slope": "0028|1053",
}


@dataclass(frozen=True)
class Header:
    """What one DICOM file says about itself: `tags` by the names of this module, and the grid of its frames."""

    path: Path
    tags: dict[str, str]
    grid: grids.Grid

    def text(self, name: str) -> str:
        """A tag as text, empty where it is missing."""
        return self.tags.get(name, "")

    def text_without_identifiers(self, name: str) -> str:
        """A tag as text, with the patient's names, ID and birth date, as some sites write them there, left out."""
        names = re.split(r"[\^=\s,]+", self.text("patient_name"))
        words = (*names, self.text("patient_id"), self.text("birth_date"))
        found = "|".join(re.escape(word) for word in words if len(word) > 2)
        return re.sub(rf"(?<!\w)({found})(?!\w)", "...", self.text(name), flags=re.I) if found else self.text(name)

    def numbers(self, name: str, count: int) -> tuple[float, ...] | None:
        """The `count` numbers of a tag, or None where it does not hold them."""
        try:
            values = tuple(float(v) for v in self.text(name).split("\\"))
        except ValueError:
            return None
        return values if len(values) == count and all(np.isfinite(values)) else None

    def number(self, name: str, default: float) -> float:
        """The single number of a tag, or `default` where it holds none."""
        values = self.numbers(name, 1)
        return values[0] if values else default

    @property
    def is_ct(self) -> bool:
        """Whether it is a CT slice; other classes of the modality CT count where they say where the slice lies.

        Converted scans come as secondary captures with positions, a scanner's dose pictures without.
        """
        placed = self.position is not None and self.axes is not None
        return self.text("modality") == "CT" and (self.text("sop_class") in _CT_CLASSES or placed)

    @property
    def frames(self) -> int:
        """How many slices the file holds."""
        return self.grid.size[2]

    @cached_property
    def position(self) -> np.ndarray | None:
        """The centre of the first voxel, LPS mm (3,)."""
        values = self.numbers("position", 3)
        return None if values is None else np.array(values)

    @cached_property
    def axes(self) -> np.ndarray | None:
        """(3, 3) orthonormal, in its columns the directions of a row, of a column and of the slice normal in LPS."""
        values = self.numbers("orientation", 6)
        if values is None or not np.linalg.norm(np.cross(values[:3], values[3:])):
            return None
        row = np.array(values[:3]) / np.linalg.norm(values[:3])
        column = np.array(values[3:]) - row * (row @ np.array(values[3:]))
        column /= np.linalg.norm(column)
        return np.stack([row, column, np.cross(row, column)], axis=1)

    @property
    def patient_hash(self) -> str | None:
        """A hash of the patient ID, for comparison only."""
        identity = self.text("patient_id")
        return hashlib.sha256(f"LungRecovery|{identity}".encode()).hexdigest() if identity else None

    @property
    def date(self) -> datetime.date | None:
        """When it was acquired; a date before CT existed, as some anonymisers write, counts as none."""
        for name in ("acquisition_date", "acquisition_date_time", "series_date", "study_date"):
            match = re.match(r"(\d{4})\.?(\d\d)\.?(\d\d)", self.text(name))
            if match:
                try:
                    found = datetime.date(*(int(g) for g in match.groups()))
                except ValueError:
                    continue
                if found.year >= 1972:
                    return found
        return None

    @property
    def padding_hu(self) -> tuple[float, float] | None:
        """The HU between which a voxel is padding, where the file says so and such values can be nothing else.

        Files in the wild name ordinary values such as 0 HU as padding: only air or below, or the top of the scale,
        is believed.
        """
        if self.numbers("padding", 1) is None:
            return None
        first = self.number("padding", 0.0)
        stored = [first, self.number("padding_limit", first)]
        if self.text("signed") == "1":
            stored = [v - 65536 if v > 32767 else v for v in stored]
        low, high = sorted(self.number("slope", 1.0) * v + self.number("intercept", 0.0) for v in stored)
        return (low, high) if high <= -1000 or low >= hounsfield.HIGHEST_HU else None


def files_below(folder: Path, name: str) -> list[Path]:
    """The files in a folder and below it that look like DICOM, in a fixed order."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(parent) / f for f in sorted(files) if not f.startswith(".") and f.upper() != "DICOMDIR"]
        if len(found) > _MOST_FILES:
            raise BadInput(f"{name}: holds more than {_MOST_FILES} files; give the folder of the scan itself")
    return [f for f in found if f.is_file() and looks_like_dicom(f)]


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does: with its preamble, or (older files) at once with group 0002 or 0008."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or start[:4] in (b"\x08\0\0\0", b"\x08\0\x05\0", b"\x08\0\x08\0", b"\x02\0\0\0")


def ct_headers(files: list[Path]) -> tuple[list[Header], set[str], list[Path]]:
    """The headers of the CT images among files, the modalities of all images, and the files that hold no image."""
    headers, modalities, unreadable = [], set(), []
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # a report or a presentation state is no reason to warn
    try:
        for path in files:
            header = _header(path)
            if header is None:
                unreadable.append(path)
                continue
            modalities.add(header.text("modality") or "unknown modality")
            if header.is_ct:
                headers.append(header)
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return headers, modalities, unreadable


def _header(path: Path) -> Header | None:
    """The header of a DICOM image, or None for a file that holds none (a report, a directory record)."""
    if not lengths_fit(path):
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    geometry = (reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    if len(geometry[0]) != 3:
        return None
    tags = {n: _clean(reader.GetMetaData(tag)) for n, tag in _TAGS.items() if reader.HasMetaDataKey(tag)}
    return Header(path, tags, grids.Grid(*geometry))


def _clean(text: str) -> str:
    """Text as Unicode: GDCM hands on the bytes, which are UTF-8 or, in most of the rest, Latin-1."""
    raw = text.encode("utf-8", "surrogateescape").strip(b" \0")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
