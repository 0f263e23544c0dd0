"""A study as DICOM objects, for the PACS: registrations, maps, segmentations, a structured report and the PDF.

All lie in one new DICOM study. With identifiers kept they refer to the scanner's own images; without, or where the
scans were no DICOM, the scans go along as CT series of their own, and no attribute of the originals but their geometry.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import SimpleITK as sitk
from pydicom.dataset import Dataset

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.image_files import read_layer, read_stored_transform
from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.report.dicom.codes import MAPS, SEGMENTS
from LungRecoveryLib.report.dicom.document import encapsulated
from LungRecoveryLib.report.dicom.identity import NEUTRAL_DAY, Identity, content_hash, identity_of
from LungRecoveryLib.report.dicom.maps import parametric_map
from LungRecoveryLib.report.dicom.measurements import measurement_report
from LungRecoveryLib.report.dicom.registration import registration
from LungRecoveryLib.report.dicom.scans import Origin, referenced, save, usable, written
from LungRecoveryLib.report.dicom.segmentation import segmentation
from LungRecoveryLib.results import DICOM, REPORT_PDF, StudyResult, TimePointResult, read_study

__all__ = ["Origin", "check_origins", "write_dicom"]

# Numbers of the series: copied scans from 1, and a hundred for each kind of object, counted by visit.
_REGISTRATIONS, _MASKS, _MAPS, _MEASUREMENTS, _REPORT = 100, 200, 300, 900, 901


def write_dicom(
    folder: Path, origins: Mapping[str, Origin], keep_identifiers: bool = False, progress: Progress = no_progress
) -> list[Path]:
    """Write the DICOM objects of a study into `dicom` in its folder; returns the files.

    `origins` says for the folder of every time point where its scan lies. UIDs come from the scans' voxels and what was
    measured: the same inputs and settings give the same. Raises BadInput where a scan cannot be read, or where
    identifiers are to be kept and the scans have none that objects could refer to.
    """
    study = read_study(folder)
    check_origins(origins, keep_identifiers)
    return _Objects(Path(folder), study, origins, keep_identifiers, progress).write()


def check_origins(origins: Mapping[str, Origin], keep_identifiers: bool) -> None:
    """Raise BadInput where identifiers are to be kept and a scan has none that objects could refer to."""
    if keep_identifiers and not all(usable(origin.headers()) for origin in origins.values()):
        raise BadInput(
            "--keep-identifiers needs scans from DICOM with their UIDs: leave it out, or give the DICOM folders"
        )


class _Objects:
    """The objects of one study while they are written."""

    def __init__(self, folder: Path, study: StudyResult, origins: Mapping[str, Origin], keep: bool, progress: Progress):
        self.folder, self.study, self.origins, self.progress = folder, study, origins, progress
        self.out = folder / DICOM
        self.headers = {name: origin.headers() for name, origin in origins.items()} if keep else {}
        self.files: list[Path] = []

    def write(self) -> list[Path]:
        self.out.mkdir()
        sources, identity = self._sources()
        baseline = self.study.baseline
        masks = {
            point.folder: segmentation(
                self._masks(point), sources[point.folder], identity, _MASKS + point.visit, point.label, point.folder
            )
            for point in self.study.timepoints
        }
        masks = {name: made for name, made in masks.items() if made is not None}
        for name, (made, _) in masks.items():
            self._save(made, f"{name}-masks.dcm")
        lungs = read_layer(baseline.layer(self.folder, "lungs"))
        for i, point in enumerate(self.study.followups):
            self.progress("dicom", 0.3 + 0.5 * i / len(self.study.followups), point.label)
            self._save(self._registration(point, sources, identity), f"{point.folder}-registration.dcm")
            for j, layer in enumerate(layer for layer in MAPS if layer in point.files):
                image = read_layer(point.layer(self.folder, layer))
                made = parametric_map(
                    layer,
                    image,
                    lungs,
                    sources[baseline.folder],
                    identity,
                    _MAPS + 10 * point.visit + j,
                    point.label,
                    point.folder,
                )
                self._save(made, f"{point.folder}-{layer.replace('_', '-')}.dcm")
        self.progress("dicom", 0.85, "measurements")
        evidence = [made for made, _ in masks.values()] + [image for scan in sources.values() for image in scan]
        self._save(measurement_report(self.study, identity, _MEASUREMENTS, evidence, masks), "measurements.dcm")
        pdf = (self.folder / REPORT_PDF).read_bytes()
        self._save(encapsulated(pdf, identity, _REPORT), "report.dcm")
        self.progress("dicom", 1.0)
        return self.files

    def _sources(self) -> tuple[dict[str, list[Dataset]], Identity]:
        """The images that objects refer to, by time point, and the identity that all share."""
        images = {} if self.headers else {name: origin.image() for name, origin in self.origins.items()}
        if self.headers:
            marks = {name: "|".join(h.SOPInstanceUID for h in headers) for name, headers in self.headers.items()}
        else:
            marks = {name: content_hash(image) for name, image in images.items()}
        baseline = self.study.baseline.folder
        header = self.headers[baseline][0] if self.headers else None
        pseudonym = hashlib.sha256(marks[baseline].encode()).hexdigest()
        identity = identity_of(self._key(marks), header, pseudonym, self._day())
        if self.headers:
            return {name: referenced(headers, identity) for name, headers in self.headers.items()}, identity
        sources = {}
        for i, point in enumerate(self.study.timepoints):
            self.progress("dicom", 0.2 * i / len(self.study.timepoints), f"{point.label}: scan")
            place = self.out / f"{point.folder}-ct"
            day = _neutral_day(point)
            sources[point.folder] = written(
                images.pop(point.folder), identity, marks[point.folder], point.label, point.visit + 1, day, place
            )
            self.files += sorted(place.iterdir())
        return sources, identity

    def _key(self, marks: dict[str, str]) -> str:
        """What the UIDs come from: the scans, what was measured and how, without what a clock told."""
        content = asdict(self.study)
        del content["seconds"]
        for point in content["timepoints"]:
            if point["registration"]:
                del point["registration"]["seconds"]
        text = json.dumps([sorted(marks.items()), content, bool(self.headers)], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def _day(self) -> datetime.date:
        """When the last scan was made; without identifiers, in days after the neutral day."""
        if self.headers:
            last = self.headers[self.study.timepoints[-1].folder][0]
            text = str(last.get("AcquisitionDate") or last.get("SeriesDate") or last.get("StudyDate") or "")
            with suppress(ValueError):
                return datetime.datetime.strptime(text[:8], "%Y%m%d").date()
            return NEUTRAL_DAY
        return _neutral_day(self.study.timepoints[-1])

    def _masks(self, point: TimePointResult) -> dict[str, sitk.Image]:
        """The masks of a time point; those on another grid than the lungs' are laid on it."""
        found = {layer: read_layer(point.layer(self.folder, layer)) for layer in SEGMENTS if layer in point.files}
        grid = grids.grid_of(found["lungs"])
        return {
            layer: image if grids.same_grid(image, grid) else grids.resample_mask(image, grid)
            for layer, image in found.items()
        }

    def _registration(self, point: TimePointResult, sources: dict[str, list[Dataset]], identity: Identity) -> Dataset:
        transform = read_stored_transform(point.layer(self.folder, "transform"))
        grid = grids.Grid(**{name: tuple(value) for name, value in self.study.grid.items()})
        fixed, moving = sources[self.study.baseline.folder], sources[point.folder]
        return registration(
            transform, grid, fixed, moving, identity, _REGISTRATIONS + point.visit, point.label, point.folder
        )

    def _save(self, made: Dataset, name: str) -> None:
        save(made, self.out / name)
        self.files.append(self.out / name)


def _neutral_day(point: TimePointResult) -> datetime.date:
    return NEUTRAL_DAY + datetime.timedelta(days=round(point.days or 0))
