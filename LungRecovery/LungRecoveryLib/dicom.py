"""CT series in a folder of DICOM files: grouped, checked slice by slice, read as one volume.

Only SimpleITK (GDCM) is used, so that it works inside 3D Slicer as it is.
"""

import datetime
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids, hounsfield
from LungRecoveryLib.acquisition import Acquisition, breath_phase, kernel_class, patient_position
from LungRecoveryLib.dicom_headers import Header, ct_headers, files_below
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress

MINIMUM_SLICES = 5
_MOST_DRIFT_MM = 1.0


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
    def slices(self) -> int:
        return sum(h.frames for h in self.headers)

    @property
    def number(self) -> str:
        return self.first.text("series_number")

    @property
    def description(self) -> str:
        return self.first.text_without_identifiers("series_description")

    @property
    def key(self) -> str:
        """A short name for this stack that reveals nothing of the patient or the date, as its UID may."""
        marks = [self.first.text(t) for t in ("series_uid", "acquisition_number", "orientation")]
        return hashlib.sha256("|".join([*marks, str(self.slices)]).encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """What messages call it."""
        return " ".join(t for t in ("series", self.number, f"({self.description})" if self.description else "") if t)

    @property
    def patient_id(self) -> str | None:
        """A hash of the DICOM patient ID, for comparison only."""
        return self.first.patient_hash

    @property
    def date(self) -> datetime.date | None:
        """When it was acquired."""
        return self.first.date

    @cached_property
    def acquisition(self) -> Acquisition:
        """How it was acquired, for the choice between series."""
        return _acquisition(self)

    def is_named(self, wanted: str) -> bool:
        """Whether a user's words name it: its UID, key, number or description (upper and lower case alike)."""
        described = (self.description, self.first.text("series_description"))
        names = (self.first.text("series_uid"), self.key, self.number, *described)
        return wanted.strip().lower() in {n.lower() for n in names if n}


def find_series(folder: Path, name: str) -> list[Series]:
    """All CT series in a folder and below it, with their problems; localizers and single images are left out.

    `name` is what messages call the folder. Raises BadInput where it holds no DICOM, no CT volume, or several patients.
    """
    headers, modalities, unreadable = ct_headers(files_below(folder, name))
    if not headers:
        if modalities:
            raise BadInput(f"{name}: holds DICOM of {', '.join(sorted(modalities))} but no CT; give the CT's folder")
        raise BadInput(f"{name}: holds no DICOM images; give the folder of a CT series, or the image file itself")
    patients = {h.patient_hash for h in headers} - {None}
    if len(patients) > 1:
        raise BadInput(f"{name}: holds images of {len(patients)} patients; give a folder with one patient's scan")
    series = [_checked(stack, unreadable) for stack in _stacks(headers) if not _is_localizer(stack)]
    if not series:
        raise BadInput(
            f"{name}: holds no CT series of at least {MINIMUM_SLICES} slices, only localizers or single slices; "
            "give the folder of the whole scan"
        )
    return sorted(series, key=lambda s: (s.number.zfill(8), s.key))


def read_file_series(path: Path, name: str) -> Series:
    """The series of a single DICOM file, which must hold a whole volume (an enhanced, multi-frame CT)."""
    headers, modalities, _ = ct_headers([path])
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
    grid = _grid(series.headers)
    volume = np.empty(grid.shape, np.int16)
    for index, header in enumerate(series.headers):
        progress("read", index / len(series.headers), series.label)
        plane = sitk.GetArrayFromImage(_read(header, name))[0]
        if not np.isfinite(plane).all():
            raise BadInput(f"{name}: {header.path.name} has NaN or infinite voxels; export the series again")
        if header.padding_hu is not None:
            low, high = header.padding_hu
            plane = np.where((plane >= low) & (plane <= high), hounsfield.LOWEST_HU, plane)
        # Beyond int16 would wrap; the check of the values below still sees what lies outside HU.
        volume[index] = np.clip(np.rint(plane), -32768, 32767)
    return hounsfield.to_hounsfield(grids.to_image(volume, grid), name)


def _read(header: Header, name: str) -> sitk.Image:
    try:
        image = sitk.ReadImage(str(header.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise BadInput(f"{name}: {header.path.name} cannot be decoded; export the series again uncompressed") from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(f"{name}: {header.path.name} is a colour picture; give the CT series itself")
    return image


# ----------------------------------------------------------------------------------------------------- slices to stacks


def _stacks(headers: list[Header]) -> list[list[Header]]:
    """Files grouped into stacks: one series, one orientation, one matrix, one pixel size.

    A series that holds several whole acquisitions (Acquisition Number) of the same place is split into them.
    """
    groups: dict[tuple, list[Header]] = defaultdict(list)
    for header in headers:
        axes = None if header.axes is None else tuple((header.axes.round(2) + 0.0).ravel())
        pixel = tuple(round(s, 4) for s in header.grid.spacing[:2])
        alone = str(header.path) if header.frames > 1 else ""
        groups[(header.text("series_uid"), axes, header.grid.size[:2], pixel, alone)].append(header)
    stacks = []
    for group in groups.values():
        acquisitions: dict[str, list[Header]] = defaultdict(list)
        for header in group:
            acquisitions[header.text("acquisition_number")].append(header)
        repeated = len({h.text("position") for h in group}) < len(group)
        whole = all(len(a) >= MINIMUM_SLICES for a in acquisitions.values())
        stacks += list(acquisitions.values()) if whole and repeated else [group]
    return stacks


def _is_localizer(stack: list[Header]) -> bool:
    """Whether a stack is a localizer, or too few slices to be a scan."""
    return "LOCALIZER" in stack[0].text("image_type").upper() or sum(h.frames for h in stack) < MINIMUM_SLICES


def _checked(stack: list[Header], unreadable: Sequence[Path] = ()) -> Series:
    """The series of a stack, its files sorted along the slice normal, with what is wrong with its geometry.

    `unreadable` files in the same folder may be its missing slices (or reports): the problem names one.
    """
    if stack[0].frames > 1:
        # GDCM reads the frames' positions; where they do not make an even stack it leaves a spacing of 1 mm each.
        unknown = stack[0].grid.spacing == (1.0, 1.0, 1.0)
        problem = "has missing, uneven or duplicated frames; give an evenly spaced reconstruction" if unknown else None
        return Series(tuple(stack), problem)
    if any(h.position is None or h.axes is None for h in stack):
        return Series(tuple(stack), "has slices without position or orientation; export it again as CT images")
    normal = stack[0].axes[:, 2]
    ordered = sorted(stack, key=lambda h: (float(normal @ h.position), h.path))
    problem = _stacking_problem(np.array([h.position for h in ordered]), normal)
    damaged = [path.name for path in unreadable if path.parent == ordered[0].path.parent]
    if problem and "missing" in problem and damaged:
        problem += f" ({len(damaged)} files cannot be read, such as {damaged[0]})"
    return Series(tuple(ordered), problem)


def _stacking_problem(positions: np.ndarray, normal: np.ndarray) -> str | None:
    """What keeps slices at sorted positions (N, 3) LPS mm from being a volume, or None.

    Spacing may vary by a tenth (at least 0.11 mm, for positions rounded to 0.1 mm), and no slice may lie more than
    half a spacing off an even stack. A stack whose slices shift sideways comes from a tilted gantry: it is refused,
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
        missing = int(np.sum(np.rint(steps[steps > spacing + tolerance] / spacing) - 1))
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
    offsets = positions - positions[0]
    drift = float(np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1).max())
    if drift > _MOST_DRIFT_MM:
        tilt = np.degrees(np.arctan2(drift, along[-1] - along[0]))
        return (
            f"was made with a tilted gantry ({tilt:.0f} degrees; its slices shift sideways by {drift:.1f} mm); open it "
            "in 3D Slicer with acquisition geometry regularization and give the saved volume"
        )
    return None


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _grid(headers: tuple[Header, ...]) -> grids.Grid:
    """The grid of a stack in order: the slice axis is the slice normal, its spacing the mean step along it."""
    first = headers[0]
    step = (headers[-1].position - first.position) @ first.axes[:, 2] / (len(headers) - 1)
    return grids.Grid(
        (*first.grid.size[:2], len(headers)),
        (*first.grid.spacing[:2], float(step)),
        tuple(first.position.tolist()),
        tuple(first.axes.ravel().tolist()),
    )


def _acquisition(series: Series) -> Acquisition:
    """What the choice between series needs to know of one."""
    header = series.first
    stacked = header.frames == 1 and series.problem is None
    grid = _grid(series.headers) if stacked else header.grid
    words = " ".join(header.text(t) for t in ("series_description", "protocol", "comments"))
    kernel = " ".join(header.text("kernel").replace("\\", " ").split())
    thickness = header.number("slice_thickness", 0.0)
    upwards = np.abs(grid.axes[2])  # of each index axis
    return Acquisition(
        kernel=kernel or None,
        kernel_class=kernel_class(kernel),
        thickness_mm=thickness if thickness > 0 else grid.spacing[2],
        pixel_mm=grid.spacing[0],
        slice_spacing_mm=grid.spacing[2],
        extent_mm=float(upwards @ (np.array(grid.size) * np.array(grid.spacing))),
        position=patient_position(header.text("patient_position")),
        breath=breath_phase(words),
        contrast=bool(header.text("contrast_agent")) if "contrast_agent" in header.tags else None,
        axial=bool(upwards[2] > 0.8),
        derived="DERIVED" in header.text("image_type").upper().split("\\"),
        words=f"{words} {header.text('image_type')}",
    )
