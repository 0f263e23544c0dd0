"""Reading scans and masks, checked, and writing images and transforms whole or not at all.

A scan is a DICOM folder, NIfTI, NRRD or MetaImage file. Its voxels come back as int16 HU, at least -1024; its geometry
is kept as it is, however oblique. Everything a user may get wrong raises BadInput with one sentence.
"""

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import dicom, files, grids, hounsfield
from LungRecoveryLib.acquisition import Acquisition, best_combination, mismatch, own_penalties
from LungRecoveryLib.dicom_headers import looks_like_dicom
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress, part

MINIMUM_VOXELS = 5
_FORMATS = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI", ".hdr": "NIfTI", ".img": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD",
    ".mha": "MetaImage", ".mhd": "MetaImage",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scan:
    """One CT as it was read.

    `image` is int16 HU; `name` the file's or folder's name, for messages; `patient_id` a hash for comparison only;
    `source` tells, ready for JSON and free of names, dates and paths, where the voxels come from; each of `warnings`
    starts with the name and a colon.
    """

    image: sitk.Image
    name: str
    date: datetime.date | None = None
    patient_id: str | None = field(default=None, repr=False)
    source: dict = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    """A series or file that could be read for one date."""

    acquisition: Acquisition
    series: dicom.Series | None = None


def read_scan(path: str | Path, series: str | None = None, progress: Progress = no_progress) -> Scan:
    """Read one scan; in a folder with several series the best one, or the one that `series` names.

    `series` is a series' UID, number, description or key (see ``source["candidates"]``). Raises BadInput.
    """
    return read_scans([path], {0: series}, progress=progress)[0]


def read_scans(
    paths: Sequence[str | Path],
    series: Mapping[int, str | None] | Sequence[str | None] | None = None,
    allow_different_patients: bool = False,
    progress: Progress = no_progress,
) -> list[Scan]:
    """Read the scans of several dates, taking the series that match best, in the order of `paths`.

    The baseline, to which the others are matched, is the earliest scan where all have dates, else the first.

    `series` names the series to take: by position in `paths`, or one entry per path (None: choose). What differs
    between a follow-up and the baseline all the same is in the follow-up's warnings. The choice, with the penalties it
    rests on (see :mod:`LungRecoveryLib.acquisition`), is in ``source``.

    Raises BadInput for anything that is no CT volume in HU, and where DICOM patient IDs differ between the dates
    unless `allow_different_patients` (then a warning).
    """
    if not paths:
        raise BadInput("no scan is given; give at least one file or DICOM folder")
    wanted = _wanted(series, len(paths))
    dates = [_candidates(path, wanted.get(i)) for i, path in enumerate(paths)]
    usable = [[c for c in candidates if c.series is None or c.series.problem is None] for candidates in dates]
    for path, candidates, good in zip(paths, dates, usable, strict=True):
        if not good:
            largest = max((c.series for c in candidates), key=lambda s: s.slices)
            raise BadInput(f"{path}: {largest.label} {largest.problem}")
        _check_one_visit(path, good)
    chosen, reference = _best(usable)
    scans: list[Scan] = []
    for i, path in enumerate(paths):
        step = part(progress, i / len(paths), (i + 1) / len(paths))
        baseline = None if i == reference else chosen[reference].acquisition
        scans.append(_read_candidate(path, chosen[i], dates[i], baseline, i in wanted, step))
    return _checked_patients(scans, reference, allow_different_patients)


def _best(dates: list[list[_Candidate]]) -> tuple[list[_Candidate], int]:
    """The candidate to take for each date, and the position of the baseline: the earliest where all have a date."""
    days = [c.series.date if c.series is not None else None for c in (candidates[0] for candidates in dates)]
    reference = 0 if None in days else days.index(min(days))
    order = [reference, *(i for i in range(len(dates)) if i != reference)]
    best = best_combination([[c.acquisition for c in dates[i]] for i in order])
    chosen = dict(zip(order, best, strict=True))
    return [candidates[chosen[i]] for i, candidates in enumerate(dates)], reference


def _wanted(series: Mapping[int, str | None] | Sequence[str | None] | None, count: int) -> dict[int, str]:
    """{position: series} of the choices a user made."""
    if series is None:
        return {}
    if isinstance(series, str):
        raise BadInput(f"series {series!r} is not assigned to a scan; name it for one of the {count} scans")
    pairs = series.items() if isinstance(series, Mapping) else enumerate(series)
    found = {i: str(s) for i, s in pairs if s is not None}
    if any(not 0 <= i < count for i in found):
        raise BadInput(f"a series is named for scan {max(found) + 1} but there are {count} scans")
    return found


def _candidates(path: str | Path, wanted: str | None) -> list[_Candidate]:
    """All that could be read at a path; only the series a user named where one is."""
    place = existing(path)
    if place.is_dir():
        series = dicom.find_series(place, str(path))
    elif looks_like_dicom(place):
        series = [dicom.read_file_series(place, str(path))]
    else:
        if wanted is not None:
            raise BadInput(f"{path}: is no DICOM, so it has no series {wanted!r}; leave the series out")
        return [_Candidate(_file_acquisition(place, str(path)))]
    if wanted is not None:
        named = [s for s in series if s.is_named(wanted)]
        if len(named) != 1:
            found = ", ".join(f"{s.key}: {s.number} {s.description}".strip() for s in (named or series))
            what = "several series are called" if named else "there is no series"
            raise BadInput(f"{path}: {what} {wanted!r}; give the key of one of these ({found})")
        series = named
    return [_Candidate(s.acquisition, s) for s in series]


def _check_one_visit(path: str | Path, candidates: list[_Candidate]) -> None:
    """A folder with scans of several days leaves open which one is meant."""
    days = sorted({c.series.date for c in candidates if c.series is not None and c.series.date is not None})
    if days and (days[-1] - days[0]).days > 1:
        raise BadInput(f"{path}: holds scans of {len(days)} dates; give the folder of one date, or name the series")


def _read_candidate(
    path: str | Path,
    candidate: _Candidate,
    candidates: list[_Candidate],
    baseline: Acquisition | None,
    named: bool,
    progress: Progress,
) -> Scan:
    name = Path(path).name or Path(path).resolve().name  # the latter for "." and the like
    found, warnings = candidate.acquisition, []
    if candidate.series is None:
        image = hounsfield.to_hounsfield(_volume(read_image(path), str(path)), str(path))
        source = {"format": format_of(path)}
        scan_date, patient = None, None
    else:
        series = candidate.series
        image = dicom.read_volume(series, str(path), progress)
        source = {"format": "DICOM", "series_number": series.number, "series_description": series.description}
        scan_date, patient = series.date, series.patient_id
        others = [c for c in candidates if c is not candidate]
        broken = [c.series for c in others if c.series.problem]
        warnings += [f"{name}: {s.label} was left out: it {s.problem}" for s in broken]
        if others:
            source["candidates"] = [_described(c, candidate, baseline) for c in candidates]
        source["chosen"] = {
            "series": series.key,
            "why": "named by the user" if named else "the only one" if not others else "the lowest sum of penalties",
        }
    if baseline is not None:
        warnings += [f"{name}: differs from the baseline: {what}" for what in mismatch(baseline, found)]
    if found.has_gaps:
        apart = f"{found.thickness_mm:g} mm slices lie {found.slice_spacing_mm:g} mm apart"
        warnings.append(f"{name}: {apart}; the lung between them was not imaged")
    source |= {
        "kernel": found.kernel,
        "kernel_class": found.kernel_class,
        "slice_thickness_mm": found.thickness_mm,
        "position": found.position,
        "breath_phase": found.breath,
        "contrast": found.contrast,
        "voxel_mm": [round(s, 6) for s in image.GetSpacing()],
        "size": list(image.GetSize()),
    }
    for key in image.GetMetaDataKeys():  # may hold names and dates
        image.EraseMetaData(key)
    progress("read", 1.0, name)
    return Scan(image, name, scan_date, patient, source, tuple(warnings))


def _described(candidate: _Candidate, chosen: _Candidate, baseline: Acquisition | None) -> dict:
    """A series that could be taken, and what speaks against it, for ``source["candidates"]``."""
    series, acquisition = candidate.series, candidate.acquisition
    penalties = own_penalties(acquisition) | (mismatch(baseline, acquisition) if baseline else {})
    return {
        "series": series.key,
        "number": series.number,
        "description": series.description,
        "slices": series.slices,
        "kernel": acquisition.kernel,
        "slice_thickness_mm": acquisition.thickness_mm,
        "penalties": {reason: round(cost, 2) for reason, cost in penalties.items()},
        "penalty": round(sum(penalties.values()), 2),
        "problem": series.problem,
        "chosen": candidate is chosen,
    }


def _checked_patients(scans: list[Scan], reference: int, allow_different_patients: bool) -> list[Scan]:
    """The scans, refused (or warned of) where one is of another patient than the baseline.

    Where the baseline's patient is unknown, the first known one takes its part.
    """
    first = next((s for s in (scans[reference], *scans) if s.patient_id), None)
    others = [s for s in scans if s.patient_id and s.patient_id != first.patient_id]
    if others and not allow_different_patients:
        raise BadInput(
            f"{others[0].name}: has another DICOM patient ID than {first.name}; if it is the same person, use "
            "--allow-different-patients"
        )
    warning = "has another DICOM patient ID than the baseline"
    return [replace(s, warnings=(*s.warnings, f"{s.name}: {warning}")) if s in others else s for s in scans]


# -------------------------------------------------------------------------------------------------------- image files


def existing(path: str | Path) -> Path:
    """The path of something that exists and is not empty; raises BadInput otherwise."""
    if not str(path).strip():
        raise BadInput("a path is empty; give an image file or a DICOM folder")
    place = Path(path)
    if not os.path.exists(place):  # False, and no error, for names the system cannot have
        raise BadInput(f"{path}: does not exist; give an image file or a DICOM folder")
    if place.is_dir():
        if os.access(place, os.R_OK | os.X_OK) and not any(place.iterdir()):
            raise BadInput(f"{path}: is an empty folder; give the folder of a CT series")
    elif place.stat().st_size == 0:
        raise BadInput(f"{path}: is an empty file; copy or export it again")
    return place


def format_of(path: str | Path) -> str:
    """The name of an image file's format, by its ending."""
    name = Path(path).name.lower()
    endings = [e for e in _FORMATS if name.endswith(e)]
    return _FORMATS[max(endings, key=len)] if endings else Path(name).suffix.lstrip(".").upper() or "unknown"


def read_image(path: str | Path) -> sitk.Image:
    """Any image file as it is, of any dimension; raises BadInput where it is none, or cannot be read."""
    place = existing(path)
    if place.is_dir():
        raise BadInput(f"{path}: is a folder; give an image file")
    try:
        return sitk.ReadImage(str(place))
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise BadInput(
                f"{path}: its axes are sheared; resample it to right angles, in 3D Slicer for instance"
            ) from error
        raise BadInput(f"{path}: cannot be read as an image; give DICOM, NIfTI, NRRD or MHA") from error


def _volume(image: sitk.Image, name: str) -> sitk.Image:
    """The single 3D volume of scalars in an image; raises BadInput where it holds none or several."""
    size = image.GetSize()
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(
            f"{name}: has {image.GetNumberOfComponentsPerPixel()} numbers per voxel (a colour picture or a vector "
            "image); give a CT in Hounsfield units"
        )
    if len(size) > 3:
        volumes = int(np.prod(size[3:]))
        if volumes != 1:
            raise BadInput(f"{name}: is a 4D image with {volumes} volumes; give one volume")
        image = sitk.Extract(image, [*size[:3], *[0] * (len(size) - 3)], [0] * len(size))
        size = image.GetSize()
    if len(size) < 3 or min(size) == 1:
        raise BadInput(f"{name}: is a 2D image; give a volume, or the folder that holds all slices")
    if min(size) < MINIMUM_VOXELS:
        raise BadInput(f"{name}: has {min(size)} slices only; give the whole scan")
    spacing = image.GetSpacing()
    if min(spacing) < 0.05 or max(spacing) > 20:
        shown = " x ".join(f"{s:g}" for s in spacing)
        raise BadInput(f"{name}: its voxels of {shown} mm cannot be those of a CT; correct the voxel size")
    return image


def _file_acquisition(path: Path, name: str) -> Acquisition:
    """What a file without DICOM tags says of its acquisition: its geometry (the header alone is read)."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        _volume(read_image(path), name)  # says what is wrong
        raise
    size, spacing = reader.GetSize(), reader.GetSpacing()
    if len(size) < 3:
        raise BadInput(f"{name}: is a 2D image; give a volume, or the folder that holds all slices")
    dimension = len(size)
    axes = np.abs(np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3])
    extent = float((axes @ (np.array(size[:3]) * np.array(spacing[:3])))[2])
    # Any axis may be the one across the slices: it is the coarsest.
    return Acquisition(min(spacing[:3]), max(spacing[:3]), thickness_mm=max(spacing[:3]), extent_mm=extent)


# -------------------------------------------------------------------------------------------------------------- masks


def read_mask(path: str | Path, reference: sitk.Image) -> sitk.Image:
    """A mask or label map as uint8 on the grid of `reference`.

    On another grid it is resampled by nearest voxels. Labels are kept, a single one becomes 1, a map of probabilities
    is cut at 0.5, and the layers of a segmentation with overlapping segments are united to 1.

    Raises BadInput where it is no mask, is empty, or does not overlap `reference`.
    """
    name = str(path)
    place = existing(path)
    if place.is_dir() or looks_like_dicom(place):
        raise BadInput(f"{name}: is DICOM or a folder; give the mask as a NIfTI, NRRD or MHA file")
    mask = _labels(read_image(path), name)
    size, grid = mask.GetSize(), grids.grid_of(reference)
    if size == grid.size and grids.same_grid(mask, grid, 0.02 * min(grid.spacing)):
        return grids.place(mask, grid)  # formats round positions differently
    laid = grids.resample_mask(mask, grid)
    kept = float((sitk.GetArrayViewFromImage(laid) > 0).sum()) * grid.voxel_ml
    whole = float((sitk.GetArrayViewFromImage(mask) > 0).sum()) * grids.grid_of(mask).voxel_ml
    if kept < 0.01 * whole:
        raise BadInput(f"{name}: the mask does not overlap its scan; give the mask drawn on that scan")
    return laid


def _labels(image: sitk.Image, name: str) -> sitk.Image:
    """uint8 labels of a 3D mask; see :func:`read_mask`."""
    array = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        if image.GetDimension() != 3:
            raise BadInput(f"{name}: has several volumes; give a single mask")
        array = np.any(array != 0, axis=-1).astype(np.uint8)
        image = grids.to_image(array, grids.grid_of(image))
    image = _volume(image, name)
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise BadInput(f"{name}: the mask has NaN or infinite voxels; export it again")
        if array.min() >= 0 and array.max() <= 1:
            array = array >= 0.5
        elif np.any(array != np.rint(array)):
            raise BadInput(f"{name}: is not a mask, its values are no whole numbers; give labels 0, 1, 2, ...")
    if array.min() < 0:
        raise BadInput(f"{name}: is not a mask, it has values below 0; give labels 0, 1, 2, ...")
    highest = array.max()
    if not highest:
        raise BadInput(f"{name}: the mask is empty; give one that marks the lungs")
    if not np.any((array > 0) & (array < highest)):
        array = array > 0
    elif highest > 255:
        raise BadInput(f"{name}: has labels up to {int(highest)}; give a mask with labels up to 255")
    return grids.to_image(array.astype(np.uint8), grids.grid_of(image))


# ------------------------------------------------------------------------------------------------------------ writing


def write_image(image: sitk.Image, path: str | Path) -> None:
    """Write an image, compressed, whole or not at all; raises BadInput where that is impossible."""
    if Path(path).suffix.lower() in (".mhd", ".nhdr", ".hdr", ".img"):
        raise BadInput(f"{path}: would need two files; give an ending of one file (.nii.gz, .nrrd, .mha)")
    with files.atomic_file(path) as unfinished:
        try:
            sitk.WriteImage(image, str(unfinished), useCompression=True)
        except RuntimeError as error:
            raise BadInput(
                f"{path}: cannot be written; check its ending (.nii.gz, .nrrd, .mha) and the disk"
            ) from error


def write_transform(transform: sitk.Transform, path: str | Path) -> None:
    """Write a transform (.h5, .tfm), whole or not at all; raises BadInput where that is impossible.

    Nested composites are flattened, since ITK's files hold a flat list.
    """
    if isinstance(transform, sitk.CompositeTransform):
        transform = sitk.CompositeTransform(transform)
        transform.FlattenTransform()
    with files.atomic_file(path) as unfinished:
        try:
            sitk.WriteTransform(transform, str(unfinished))
        except RuntimeError as error:
            raise BadInput(f"{path}: cannot be written; check its ending (.h5) and the disk") from error
