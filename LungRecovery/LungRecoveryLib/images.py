"""Reading the scans of one or several dates, and masks on them, checked.

A scan is a DICOM folder, NIfTI, NRRD or MetaImage file. Its voxels come back as int16 HU, at least -1024; its geometry
is kept as it is, however oblique. Everything a user may get wrong raises BadInput with one sentence.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import dicom, grids, hounsfield
from LungRecoveryLib.acquisition import Acquisition, best_combination, mismatch, own_penalties
from LungRecoveryLib.dicom_headers import looks_like_dicom
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.image_files import (
    check_plausible,
    existing,
    format_of,
    read_image,
    single_volume,
    write_image,
    write_transform,
)
from LungRecoveryLib.progress import Progress, no_progress, part

__all__ = ["Scan", "read_image", "read_mask", "read_scan", "read_scans", "write_image", "write_transform"]

_CHOSEN = "the lowest sum of penalties over all dates"


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
    """A series or file that could be read for one date; `series` is None for a file without DICOM tags."""

    path: str | Path
    acquisition: Acquisition
    series: dicom.Series | None = None

    @property
    def name(self) -> str:
        return Path(self.path).name or Path(self.path).resolve().name  # the latter for "." and the like

    @property
    def problem(self) -> str | None:
        return self.series.problem if self.series else None

    @property
    def date(self) -> datetime.date | None:
        return self.series.date if self.series else None

    @property
    def patient_id(self) -> str | None:
        return self.series.patient_id if self.series else None


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
    usable = [_without_problem(candidates) for candidates in dates]
    chosen, reference = _best(usable)
    other_patients = _other_patients(chosen, reference)
    if other_patients and not allow_different_patients:
        raise BadInput(
            f"{other_patients[0].path}: has another DICOM patient ID than the baseline; if it is the same person, use "
            "--allow-different-patients"
        )
    scans: list[Scan] = []
    for i, candidate in enumerate(chosen):
        step = part(progress, i / len(paths), (i + 1) / len(paths))
        warnings = [f"{c.series.label} was left out: it {c.problem}" for c in dates[i] if c.problem]
        warnings += _comparison(candidate, chosen[reference], candidate in other_patients) if i != reference else []
        baseline = chosen[reference].acquisition if i != reference else None
        source = _source(candidate, dates[i], baseline, i in wanted)
        scans.append(_read(candidate, source, warnings, step))
    return scans


def _without_problem(candidates: list[_Candidate]) -> list[_Candidate]:
    """Those that are whole volumes of one visit; raises BadInput where there are none, or of several days."""
    good = [c for c in candidates if not c.problem]
    if not good:
        largest = max(candidates, key=lambda c: c.series.slices)
        raise BadInput(f"{largest.path}: {largest.series.label} {largest.problem}")
    days = sorted({c.date for c in good if c.date is not None})
    if days and (days[-1] - days[0]).days > 1:
        raise BadInput(
            f"{good[0].path}: holds scans of {len(days)} dates; give the folder of one date, or name the series"
        )
    return good


def _best(dates: list[list[_Candidate]]) -> tuple[list[_Candidate], int]:
    """The candidate to take for each date, and the position of the baseline: the earliest where all have a date."""
    days = [candidates[0].date for candidates in dates]
    reference = 0 if None in days else days.index(min(days))
    order = [reference, *(i for i in range(len(dates)) if i != reference)]
    best = best_combination([[c.acquisition for c in dates[i]] for i in order])
    chosen = dict(zip(order, best, strict=True))
    return [candidates[chosen[i]] for i, candidates in enumerate(dates)], reference


def _other_patients(chosen: list[_Candidate], reference: int) -> list[_Candidate]:
    """Those of another patient than the baseline, or than the first known one where the baseline's is unknown."""
    known = [c for c in (chosen[reference], *chosen) if c.patient_id]
    return [c for c in chosen if c.patient_id and c.patient_id != known[0].patient_id]


def _comparison(candidate: _Candidate, baseline: _Candidate, other_patient: bool) -> list[str]:
    """Warnings of what makes a follow-up hard to compare with the baseline."""
    found = [f"differs from the baseline: {what}" for what in mismatch(baseline.acquisition, candidate.acquisition)]
    if other_patient:
        found.append("has another DICOM patient ID than the baseline")
    if candidate.series and baseline.series and candidate.series.key == baseline.series.key:
        found.append("is the same DICOM series as the baseline")
    return found


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
        return [_Candidate(path, _file_acquisition(place, str(path)))]
    if wanted is not None:
        named = [s for s in series if s.is_named(wanted)]
        if len(named) != 1:
            found = ", ".join(f"{s.key}: {s.number} {s.description}".strip() for s in (named or series))
            what = "several series are called" if named else "there is no series"
            raise BadInput(f"{path}: {what} {wanted!r}; give the key of one of these ({found})")
        series = named
    return [_Candidate(path, s.acquisition, s) for s in series]


def _read(candidate: _Candidate, source: dict, warnings: list[str], progress: Progress) -> Scan:
    path, found = str(candidate.path), candidate.acquisition
    if candidate.series is None:
        image = hounsfield.to_hounsfield(single_volume(read_image(path), path), path)
    else:
        image = dicom.read_volume(candidate.series, path, progress)
    if found.has_gaps:
        apart = f"{found.thickness_mm:g} mm slices lie {found.slice_spacing_mm:g} mm apart"
        warnings = [*warnings, f"{apart}; the lung between them was not imaged"]
    try:
        for key in image.GetMetaDataKeys():  # may hold names and dates
            image.EraseMetaData(key)
    except TypeError:  # a key that is no text, in a damaged header
        raise BadInput(f"{path}: its header is damaged; copy or export it again") from None
    source |= {"voxel_mm": [round(s, 6) for s in image.GetSpacing()], "size": list(image.GetSize())}
    progress("read", 1.0, candidate.name)
    named = tuple(f"{candidate.name}: {warning}" for warning in warnings)
    return Scan(image, candidate.name, candidate.date, candidate.patient_id, source, named)


def _source(candidate: _Candidate, candidates: list[_Candidate], baseline: Acquisition | None, named: bool) -> dict:
    """Where a scan's voxels come from and why, for :attr:`Scan.source`."""
    series, found = candidate.series, candidate.acquisition
    source: dict = {"format": format_of(candidate.path) if series is None else "DICOM"}
    if series is not None:
        why = "named by the user" if named else "the only one" if len(candidates) == 1 else _CHOSEN
        source |= {
            "series_number": series.number,
            "series_description": series.description,
            "chosen": {"series": series.key, "why": why},
        }
        if len(candidates) > 1:
            source["candidates"] = [_described(c, candidate, baseline) for c in candidates]
    return source | {
        "kernel": found.kernel,
        "kernel_class": found.kernel_class,
        "slice_thickness_mm": found.thickness_mm,
        "position": found.position,
        "breath_phase": found.breath,
        "contrast": found.contrast,
    }


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


def _file_acquisition(path: Path, name: str) -> Acquisition:
    """What a file without DICOM tags says of its acquisition: its geometry (the header alone is read)."""
    check_plausible(path, name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        single_volume(read_image(path), name)  # says what is wrong
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
    image = single_volume(image, name)
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
