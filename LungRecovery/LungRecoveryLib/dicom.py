"""CT series in a folder of DICOM files: found by their headers, checked slice by slice, read as one volume.

Only SimpleITK (GDCM) is used, so that it works inside 3D Slicer as it is. Headers are read without voxels.
"""

import datetime
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids, hounsfield
from LungRecoveryLib.acquisition import Acquisition, breath_phase, kernel_class, patient_position
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress

MINIMUM_SLICES = 5
_MOST_FILES = 100_000
_TAGS = frozenset(
    (
        "0008|0008", "0008|0016", "0008|0020", "0008|0021", "0008|0022", "0008|002a", "0008|0060", "0008|0070",
        "0008|103e", "0008|1090", "0010|0020", "0018|0010", "0018|0050", "0018|0060", "0018|1030", "0018|1210",
        "0018|5100", "0020|000e", "0020|0011", "0020|0012", "0020|0032", "0020|0037", "0020|4000", "0028|0103",
        "0028|0120", "0028|0121", "0028|1052", "0028|1053",
    )
)  # fmt: skip
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"


@dataclass(frozen=True)
class Header:
    """What one DICOM file says about itself; tags that are missing are empty strings."""

    path: Path
    tags: dict[str, str]
    grid: grids.Grid

    def text(self, tag: str) -> str:
        return self.tags.get(tag, "").strip(" \0")

    def numbers(self, tag: str, count: int) -> tuple[float, ...] | None:
        """The `count` numbers of a tag, or None where it does not hold them."""
        try:
            values = tuple(float(v) for v in self.text(tag).split("\\"))
        except ValueError:
            return None
        return values if len(values) == count and all(np.isfinite(values)) else None

    @property
    def frames(self) -> int:
        return self.grid.size[2]


@dataclass(frozen=True)
class Series:
    """One stack of CT slices: its files in the order of their position along the slice normal.

    `problem` says, in words that continue a sentence, why it is no volume (None where it is one).
    """

    headers: tuple[Header, ...]
    problem: str | None = None

    @property
    def first(self) -> Header:
        return self.headers[0]

    @property
    def uid(self) -> str:
        return self.first.text("0020|000e")

    @property
    def key(self) -> str:
        """A short name for this stack that reveals nothing of the patient or the date, as its UID may."""
        marks = (self.uid, self.first.text("0020|0012"), self.first.text("0020|0037"), str(len(self.headers)))
        return hashlib.sha256("|".join(marks).encode()).hexdigest()[:8]

    @property
    def number(self) -> str:
        return self.first.text("0020|0011")

    @property
    def description(self) -> str:
        return self.first.text("0008|103e")

    @property
    def patient_id(self) -> str | None:
        """A hash of the DICOM patient ID, for comparison only."""
        return _patient_id(self.first)

    @property
    def date(self) -> datetime.date | None:
        return _date(self.first)

    @property
    def label(self) -> str:
        return " ".join(t for t in ("series", self.number, f"({self.description})" if self.description else "") if t)

    @cached_property
    def acquisition(self) -> Acquisition:
        """How it was acquired, for the choice between series."""
        return _acquisition(self)

    def is_named(self, wanted: str) -> bool:
        """Whether a user's words name it: its UID, key, number or description (upper and lower case alike)."""
        wanted = wanted.strip().lower()
        return wanted in {t.lower() for t in (self.uid, self.key, self.number, self.description) if t}


def find_series(folder: Path, name: str) -> list[Series]:
    """All CT series in a folder and below it, with their problems; localizers and single images are left out.

    Raises BadInput where the folder holds no DICOM, no CT volume, or images of several patients.
    """
    headers, modalities, unreadable = _ct_headers(_files(folder, name))
    if not headers:
        if modalities:
            raise BadInput(f"{name}: holds DICOM of {', '.join(sorted(modalities))} but no CT; give the CT's folder")
        raise BadInput(f"{name}: holds no DICOM images; give the folder of a CT series, or the image file itself")
    patients = {_patient_id(h) for h in headers} - {None}
    if len(patients) > 1:
        raise BadInput(f"{name}: holds images of {len(patients)} patients; give a folder with one patient's scan")
    stacks = _stacks(headers)
    series = [_checked(stack, unreadable) for stack in stacks if not _is_localizer(stack)]
    if not series:
        raise BadInput(
            f"{name}: holds no CT series of at least {MINIMUM_SLICES} slices, only localizers or single slices; "
            "give the folder of the whole scan"
        )
    return sorted(series, key=lambda s: (s.number.zfill(8), s.uid, s.key))


def read_file_series(path: Path, name: str) -> Series:
    """The series of a single DICOM file, which must hold a whole volume (an enhanced, multi-frame CT)."""
    headers, modalities, _ = _ct_headers([path])
    if not headers:
        raise BadInput(f"{name}: is DICOM of {', '.join(sorted(modalities)) or 'no image'}, not CT; give a CT")
    if headers[0].frames < MINIMUM_SLICES:
        raise BadInput(f"{name}: is a single DICOM slice, a 2D image; give the folder that holds all slices")
    return _checked(headers)


def read_volume(series: Series, name: str, progress: Progress = no_progress) -> sitk.Image:
    """The voxels of a series as int16 HU, slice by slice (rescale and padding applied), on its own oblique grid.

    Raises BadInput where the series has a problem or a file cannot be decoded.
    """
    if series.problem:
        raise BadInput(f"{name}: {series.label} {series.problem}")
    if series.first.frames > 1:
        return hounsfield.to_hounsfield(_read(series.first, name), name)
    first = series.first.grid
    volume = np.empty((len(series.headers), first.size[1], first.size[0]), np.int16)
    for index, header in enumerate(series.headers):
        progress("read", index / len(series.headers), series.label)
        plane = sitk.GetArrayFromImage(_read(header, name))[0]
        if not np.isfinite(plane).all():
            raise BadInput(f"{header.path}: its voxels are not finite; export the series again")
        padding = _padding_hu(header)
        if padding is not None:
            plane = np.where((plane >= padding[0]) & (plane <= padding[1]), hounsfield.LOWEST_HU, plane)
        # Beyond int16 would wrap; the check of the values below still sees what lies outside HU.
        volume[index] = np.clip(np.rint(plane), -32768, 32767)
    return hounsfield.to_hounsfield(grids.to_image(volume, _grid(series.headers)), name)


# ---------------------------------------------------------------------------------------------------- files and headers


def _files(folder: Path, name: str) -> list[Path]:
    """The files in a folder and below it that may be DICOM, in a fixed order."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(parent) / f for f in sorted(files) if not f.startswith(".") and f.upper() != "DICOMDIR"]
        if len(found) > _MOST_FILES:
            raise BadInput(f"{name}: holds more than {_MOST_FILES} files; give the folder of the scan itself")
    return [f for f in found if looks_like_dicom(f)]


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does: with its preamble, or (older files) at once with group 0002 or 0008."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or start[:4] in (b"\x08\0\0\0", b"\x08\0\x05\0", b"\x08\0\x08\0", b"\x02\0\0\0")


def _ct_headers(files: list[Path]) -> tuple[list[Header], set[str], list[Path]]:
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
            modalities.add(header.text("0008|0060") or "unknown modality")
            if header.text("0008|0060") == "CT" and header.text("0008|0016") in (_CT_IMAGE, _ENHANCED_CT_IMAGE, ""):
                headers.append(header)
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return headers, modalities, unreadable


def _header(path: Path) -> Header | None:
    """The header of a DICOM image, or None for a file that holds none (a report, a directory record)."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    # Descriptions in a local character set must not break JSON later.
    tags = {k: _clean(reader.GetMetaData(k)) for k in reader.GetMetaDataKeys() if k in _TAGS}
    geometry = (reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    if len(geometry[0]) != 3:
        return None
    return Header(path, tags, grids.Grid(*geometry))


def _clean(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read(header: Header, name: str) -> sitk.Image:
    try:
        image = sitk.ReadImage(str(header.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise BadInput(f"{name}: {header.path.name} cannot be decoded; export the series again uncompressed") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(f"{name}: {header.path.name} is a colour picture; give the CT series itself")
    return image


def _padding_hu(header: Header) -> tuple[float, float] | None:
    """The HU between which a voxel is padding, where the file says so and the values can only be padding.

    Files in the wild name ordinary values such as 0 HU as padding: only air or below, or the top of the scale, counts.
    """
    low = header.numbers("0028|0120", 1)
    if low is None:
        return None
    high = header.numbers("0028|0121", 1) or low
    slope = (header.numbers("0028|1053", 1) or (1.0,))[0]
    intercept = (header.numbers("0028|1052", 1) or (0.0,))[0]
    signed = header.text("0028|0103") == "1"
    stored = [v[0] - 65536 if signed and v[0] > 32767 else v[0] for v in (low, high)]
    hu = sorted(slope * v + intercept for v in stored)
    return (hu[0], hu[1]) if hu[1] <= -1000 or hu[0] >= hounsfield.HIGHEST_HU else None


def _patient_id(header: Header) -> str | None:
    identity = header.text("0010|0020")
    return hashlib.sha256(f"LungRecovery|{identity}".encode()).hexdigest() if identity else None


def _date(header: Header) -> datetime.date | None:
    """When it was acquired; a date before CT existed, as some anonymisers write, counts as none."""
    for tag in ("0008|0022", "0008|002a", "0008|0021", "0008|0020"):
        match = re.match(r"(\d{4})\.?(\d\d)\.?(\d\d)", header.text(tag))
        if match:
            try:
                found = datetime.date(*(int(g) for g in match.groups()))
            except ValueError:
                continue
            if found.year >= 1972:
                return found
    return None


# ----------------------------------------------------------------------------------------------------- slices to stacks


def _stacks(headers: list[Header]) -> list[list[Header]]:
    """Files grouped into stacks: one series, one orientation, one matrix, one pixel size.

    A series that holds several whole acquisitions (Acquisition Number) is split into them.
    """
    groups: dict[tuple, list[Header]] = defaultdict(list)
    for header in headers:
        orientation = header.numbers("0020|0037", 6)
        rounded = tuple(round(v, 2) + 0.0 for v in orientation) if orientation else None
        spacing = tuple(round(s, 4) for s in header.grid.spacing[:2])
        several = str(header.path) if header.frames > 1 else ""
        groups[(header.text("0020|000e"), rounded, header.grid.size[:2], spacing, several)].append(header)
    stacks = []
    for group in groups.values():
        acquisitions: dict[str, list[Header]] = defaultdict(list)
        for header in group:
            acquisitions[header.text("0020|0012")].append(header)
        whole = all(len(a) >= MINIMUM_SLICES for a in acquisitions.values())
        stacks += list(acquisitions.values()) if whole and _repeats_positions(group) else [group]
    return stacks


def _repeats_positions(headers: list[Header]) -> bool:
    positions = [h.text("0020|0032") for h in headers]
    return len(set(positions)) < len(positions)


def _is_localizer(stack: list[Header]) -> bool:
    """Whether a stack is a localizer, or too few slices to be a scan."""
    return "LOCALIZER" in stack[0].text("0008|0008").upper() or sum(h.frames for h in stack) < MINIMUM_SLICES


def _checked(stack: list[Header], unreadable: Sequence[Path] = ()) -> Series:
    """The series of a stack, its files sorted along the slice normal, with what is wrong with its geometry.

    `unreadable` files in the same folder may be its missing slices (or reports): the problem names one.
    """
    if stack[0].frames > 1:
        # GDCM reads the frames' positions; where they do not make an even stack it leaves a spacing of 1 mm each.
        unknown = stack[0].grid.spacing == (1.0, 1.0, 1.0)
        problem = "has missing, uneven or duplicated frames; give an evenly spaced reconstruction" if unknown else None
        return Series(tuple(stack), problem)
    if any(h.numbers("0020|0032", 3) is None or h.numbers("0020|0037", 6) is None for h in stack):
        return Series(tuple(stack), "has slices without position or orientation; export it again as CT images")
    normal = _normal(stack[0])
    ordered = sorted(stack, key=lambda h: (float(np.dot(normal, _position(h))), h.path))
    problem = _stacking_problem(np.array([_position(h) for h in ordered]), normal)
    damaged = [path.name for path in unreadable if path.parent == ordered[0].path.parent]
    if problem and "missing" in problem and damaged:
        problem += f" ({len(damaged)} files cannot be read, such as {damaged[0]})"
    return Series(tuple(ordered), problem)


def _position(header: Header) -> tuple[float, ...]:
    return header.numbers("0020|0032", 3)


def _normal(header: Header) -> np.ndarray:
    axes = np.array(header.numbers("0020|0037", 6)).reshape(2, 3)
    return np.cross(*axes)


def _stacking_problem(positions: np.ndarray, normal: np.ndarray) -> str | None:
    """What keeps slices at sorted positions (N, 3) LPS mm from being a volume, or None.

    Spacing may vary by a tenth (at least 0.11 mm, for positions rounded to 0.1 mm), and no slice may lie more than
    half a spacing off an even stack. A stack sheared by more than one degree comes from a tilted gantry: it is refused,
    since resampling it would smooth the density that is measured.
    """
    along = positions @ normal
    steps = np.diff(along)
    spacing = float(np.median(steps))
    tolerance = max(0.11, 0.1 * spacing)
    if spacing < 0.01 or steps.min() < 0.1 * spacing:
        count = int(np.sum(steps < max(0.01, 0.1 * spacing)))
        return f"has {_counted(count, 'duplicated slice')} (two at one position); give a folder with each slice once"
    if steps.max() > spacing + tolerance:
        missing = int(np.sum(np.rint(steps / spacing) - 1))
        at = along[int(steps.argmax())]
        if missing:
            return (
                f"has {_counted(missing, 'missing slice')} (the first gap after {at:.1f} mm); give the complete series"
            )
    even = along[0] + np.arange(len(along)) * (along[-1] - along[0]) / (len(along) - 1)
    if np.abs(steps - spacing).max() > tolerance or np.abs(along - even).max() > 0.5 * spacing:
        return (
            f"has unevenly spaced slices ({steps.min():.2f} to {steps.max():.2f} mm apart); give an evenly spaced "
            "reconstruction, or regularise it in 3D Slicer and give the saved volume"
        )
    drift = positions[-1] - positions[0]
    tilt = np.degrees(np.arctan2(np.linalg.norm(drift - normal * (drift @ normal)), abs(drift @ normal)))
    if tilt > 1.0:
        return (
            f"was made with a tilted gantry ({tilt:.0f} degrees); open it in 3D Slicer with acquisition geometry "
            "regularization and give the saved volume"
        )
    return None


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _grid(headers: tuple[Header, ...]) -> grids.Grid:
    """The grid of a stack in order: the slice axis is the slice normal, its spacing the mean step along it."""
    first = headers[0].grid
    row, column = np.array(headers[0].numbers("0020|0037", 6)).reshape(2, 3)
    row = row / np.linalg.norm(row)
    column = column - row * (row @ column)
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    steps = (np.array(_position(headers[-1])) - np.array(_position(headers[0]))) @ normal
    spacing = (*first.spacing[:2], float(steps) / (len(headers) - 1))
    direction = np.stack([row, column, normal], axis=1).ravel()
    return grids.Grid((*first.size[:2], len(headers)), spacing, _position(headers[0]), tuple(direction.tolist()))


def _acquisition(series: Series) -> Acquisition:
    """What the choice between series needs to know of one."""
    header = series.first
    grid = header.grid
    if not series.problem:
        grid = grid if header.frames > 1 else _grid(series.headers)
    thickness = header.numbers("0018|0050", 1)
    words = " ".join(header.text(t) for t in ("0008|103e", "0018|1030", "0020|4000"))
    kernel = " ".join(header.text("0018|1210").replace("\\", " ").split())
    axes = np.abs(grid.axes)
    return Acquisition(
        kernel=kernel or None,
        kernel_class=kernel_class(kernel),
        thickness_mm=thickness[0] if thickness and thickness[0] > 0 else grid.spacing[2],
        pixel_mm=grid.spacing[0],
        slice_spacing_mm=grid.spacing[2],
        extent_mm=float((axes @ (np.array(grid.size) * np.array(grid.spacing)))[2]),
        position=patient_position(header.text("0018|5100")),
        breath=breath_phase(words),
        contrast=bool(header.text("0018|0010")) if "0018|0010" in header.tags else None,
        axial=bool(axes[2, 2] > 0.8),
        derived="DERIVED" in header.text("0008|0008").upper().split("\\"),
        words=words + " " + header.text("0008|0008"),
    )
