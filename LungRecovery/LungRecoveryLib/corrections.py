"""A study measured again with corrected lungs or lesions and the reader's verdicts, without registering again.

The transforms, the follow-ups laid on the baseline and the Jacobians stay; what rests on the masks is measured anew:
densities and lesions of the corrected scans, every region's statistics, the normalised Jacobian, maps, scores, quality,
trajectory and report. Figures of merit that only the registration itself could give (similarity, inverse consistency)
are kept. Lesions that a reader has corrected stay through later corrections of the lungs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids, images, results
from LungRecoveryLib.anatomy import lungs as anatomy_lungs
from LungRecoveryLib.anatomy import regions
from LungRecoveryLib.anatomy.lesions import LESION_NAMES
from LungRecoveryLib.anatomy.lobes import fitted_lobes
from LungRecoveryLib.anatomy.structures import Structures
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_directory, copy_folder
from LungRecoveryLib.job import Job, job_from
from LungRecoveryLib.parenchyma import radiomics
from LungRecoveryLib.parenchyma.noise import Noise, estimate_noise
from LungRecoveryLib.parenchyma.scan import ScanNumbers
from LungRecoveryLib.parenchyma.series import Enhanced, Series
from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.recovery import quality, score
from LungRecoveryLib.results import DICOM, StudyResult, TimePointResult
from LungRecoveryLib.stored_registration import StoredRegistration
from LungRecoveryLib.study import BaselineOnGrid, Measured, StudyWork
from LungRecoveryLib.timepoints import Visit, about

SCHEMA = "lungrecovery-correction-1"
VERDICTS = ("accepted", "usable", "not usable")
REJECTED = "Unreliable, the reader rejected the registration."

_JOB_SCHEMA = {
    "type": "object",
    "required": ["schema", "study", "output"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": SCHEMA},
        "study": {"type": "string", "minLength": 1},
        "output": {"type": "string", "minLength": 1},
        "scans": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "path"],
                "anyOf": [{"required": ["lungs"]}, {"required": ["lesions"]}],
                "additionalProperties": False,
                "properties": {
                    key: {"type": "string", "minLength": 1} for key in ("label", "path", "lungs", "lesions")
                },
            },
        },
        "verdicts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "verdict", "comment"],
                "additionalProperties": False,
                "properties": {
                    "label": {"type": "string"},
                    "verdict": {"enum": list(VERDICTS)},
                    "comment": {"type": "string", "maxLength": 500},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class CorrectedScan:
    """A time point by its label, its scan as it was analysed, and the masks that count from now on (None: as before).

    `lungs` is a mask as for an analysis; `lesions` a label map: 1 ground glass, 2 consolidation, 3 reticulation.
    """

    label: str
    path: Path
    lungs: Path | None = None
    lesions: Path | None = None


@dataclass(frozen=True)
class ReaderVerdict:
    """What the reader says of a follow-up's registration: one of VERDICTS, and why."""

    label: str
    verdict: str
    comment: str = ""


@dataclass(frozen=True)
class Correction:
    """What to measure again: a study's folder, what changed, and the folder to make."""

    study: Path
    output: Path
    scans: tuple[CorrectedScan, ...] = ()
    verdicts: tuple[ReaderVerdict, ...] = ()


def correction_from(content: Mapping[str, Any], base: Path, name: str = "the job") -> Correction:
    """The correction of a job file's content, relative paths starting at `base`. Raises BadInput where it is none."""
    error = next(iter(jsonschema.Draft202012Validator(_JOB_SCHEMA).iter_errors(content)), None)
    if error is not None:
        raise BadInput(f"{name}: {error.json_path.removeprefix('$.')}: {error.message[:200]}; correct it")
    return Correction(
        base / content["study"],
        base / content["output"],
        tuple(
            CorrectedScan(item["label"], **{key: base / item[key] for key in item if key != "label"})
            for item in content.get("scans", ())
        ),
        tuple(ReaderVerdict(**item) for item in content.get("verdicts", ())),
    )


def correct(correction: Correction, progress: Progress = no_progress) -> StudyResult:
    """Measure a study again and leave its new folder, whole or not at all; the old one is not changed.

    Raises BadInput where the study, a scan or a mask cannot be used, a label is unknown, or a verdict of the quality
    check is overridden without a comment; MissingDependency where features of a corrected scan need MIRP.
    """
    earlier = results.read_study(correction.study)
    _check(correction, earlier)
    with atomic_directory(correction.output, inputs=[correction.study]) as folder:
        # The DICOM objects tell of what was measured before, so they stay behind.
        copy_folder(correction.study, folder, without=[DICOM])
        return _Corrected(folder, earlier, correction, progress).run()


def _check(correction: Correction, earlier: StudyResult) -> None:
    labels = [timepoint.label for timepoint in earlier.timepoints]
    for item in (*correction.scans, *correction.verdicts):
        if item.label not in labels:
            raise BadInput(f"the study has no time point {item.label}: name one of {', '.join(labels)}")
    for verdict in correction.verdicts:
        if verdict.label == labels[0]:
            raise BadInput(f"{verdict.label} is the baseline, which is not registered: judge a follow-up")
        if verdict.verdict != "accepted" and not verdict.comment.strip():
            raise BadInput(f"the verdict on {verdict.label} is overridden without a comment: say why")
    if correction.scans and any(timepoint.radiomics for timepoint in earlier.timepoints):
        radiomics.require_mirp()


class _Corrected(StudyWork):
    """One measuring again, in a copy of the study's folder."""

    def __init__(self, folder: Path, earlier: StudyResult, correction: Correction, progress: Progress):
        super().__init__(folder, _job_of(earlier, correction), progress)
        self.earlier = earlier
        self.corrected = {item.label: item for item in correction.scans}
        self.verdicts = {item.label: item for item in correction.verdicts}

    def run(self) -> StudyResult:
        timepoints = self.earlier.timepoints
        self.seconds = dict(self.earlier.seconds)
        visits, measured_again = [], []
        for index, timepoint in enumerate(timepoints):
            self.progress(f"{timepoint.label}: density", 0.5 * index / len(timepoints))
            visit = self._visit(timepoint)
            changed = timepoint.label in self.corrected
            if changed:
                self.series = self._series_for(timepoint, visit)
            measured_again.append(self._measure([visit], 0) if changed else self._stored(timepoint))
            if changed and timepoint.radiomics is not None:
                self._describe(visit, measured_again[-1], (0.5 * index / len(timepoints),) * 2)
            visits.append(visit)
        baseline = self._baseline(visits[0], timepoints[0], measured_again[0])
        measured = [self._baseline_result(visits[0], measured_again[0])]
        measured[0].files = baseline.files
        for index, timepoint in enumerate(timepoints[1:], start=1):
            self.progress(f"{timepoint.label}: maps", 0.5 + 0.3 * index / len(timepoints))
            stored = StoredRegistration(self.folder, timepoint, baseline.lungs, visits[index].lungs)
            measured.append(self._followup_result(visits[index], index, measured_again, stored, baseline))
        warnings = [w for w in self.earlier.warnings if not _of_a_timepoint(w, timepoints)]
        return self._report(self._result(measured, baseline, warnings))

    def _series_for(self, timepoint: TimePointResult, visit: Visit) -> Series:
        """What enhances a scan anew: the baseline by itself, a follow-up against the baseline as it was measured."""
        known = [self.earlier.baseline, timepoint]
        noises = [Noise(**t.parenchyma["noise"]) for t in known if t.parenchyma and t.parenchyma["noise"]]
        self.noise = {timepoint.label: estimate_noise(visit.scan.image, visit.lungs)}
        first = None
        if not timepoint.baseline and self.earlier.baseline.parenchyma:
            first = ScanNumbers.from_summary(self.earlier.baseline.parenchyma)
        return Series(self.job.bias_removal, noises, first)

    def _visit(self, timepoint: TimePointResult) -> Visit:
        """A time point as its scan would be read; the scan itself only where it is measured again."""
        item = self.corrected.get(timepoint.label)
        kept = [w for w in timepoint.warnings if w not in (timepoint.registration or {}).get("notes", ())]
        visit = Visit(timepoint.label, timepoint.folder, timepoint.days, None, None, timepoint.lungs_source)
        visit.lesions_source = timepoint.lesions_source
        visit.warnings = [w for w in kept if w not in _quality_warnings(timepoint)]
        stored = images.read_image(timepoint.layer(self.folder, "lungs"))
        if item is None:
            visit.scan = SimpleNamespace(image=None, name=timepoint.label, source=timepoint.source)
            visit.lungs = stored
            return visit
        scan = images.read_scan(item.path)
        if item.lungs is None:
            visit.lungs = grids.resample_mask(stored, grids.grid_of(scan.image))
        else:
            with about(item.lungs.name):
                visit.lungs = anatomy_lungs.label_sides(images.read_mask(item.lungs, scan.image), scan.image)
            visit.lungs_source = "corrected"
        if "lobes" in timepoint.files and (timepoint.lobes or {}).get("source") == "given":
            visit.lobes = fitted_lobes(images.read_image(timepoint.layer(self.folder, "lobes")), visit.lungs)
        visit.scan = SimpleNamespace(image=scan.image, name=timepoint.label, source=timepoint.source)
        return visit

    def _structures(self, visit: Visit, progress: Progress) -> Structures:
        """What is in the lungs; of the lesions, what a reader has drawn counts, now or in an earlier correction."""
        found = super()._structures(visit, progress)
        item = self.corrected[visit.label]
        if item.lesions is not None:
            drawn = read_lesions(item.lesions, visit.scan.image)
            visit.lesions_source = "corrected"
        elif visit.lesions_source == "corrected":
            timepoint = next(t for t in self.earlier.timepoints if t.label == visit.label)
            drawn = images.read_image(timepoint.layer(self.folder, "lesions"))
            drawn = grids.resample_mask(drawn, grids.grid_of(visit.scan.image))
        else:
            return found
        return replace(found, lesions=drawn * sitk.Cast(visit.lungs != 0, drawn.GetPixelID()))

    def _stored(self, timepoint: TimePointResult) -> Measured:
        """What the study measured in a scan."""
        lesion_map = images.read_image(timepoint.layer(self.folder, "lesions"))
        image = None
        if "enhanced" in timepoint.files and not timepoint.baseline:
            image = images.read_image(timepoint.layer(self.folder, "enhanced"))
        lobe_map = None
        if "lobes" in timepoint.files:
            lobe_map = images.read_image(timepoint.layer(self.folder, "lobes"))
        enhanced = Enhanced(image, timepoint.parenchyma)
        measures = timepoint.density, timepoint.lesions, lesion_map, enhanced, timepoint.lobes, lobe_map
        return Measured(*measures, timepoint.radiomics)

    def _baseline(self, visit: Visit, timepoint: TimePointResult, measured: Measured) -> BaselineOnGrid:
        """The baseline on the grid of the maps, its lungs, regions and lesions replaced where they were corrected."""
        ct = images.read_image(timepoint.layer(self.folder, "ct"))
        lungs, files = images.read_image(timepoint.layer(self.folder, "lungs")), timepoint.files
        if timepoint.label in self.corrected:
            if self._lungs_changed(timepoint):
                lungs = sitk.Cast(grids.resample_mask(visit.lungs, grids.grid_of(ct)), lungs.GetPixelID())
            atoms = regions.lung_atoms(lungs, measured.lobe_map)
            sick = grids.resample_mask(measured.lesion_map, ct)
            files = self._write_baseline_layers(measured, ct=ct, lungs=lungs, regions=atoms, lesions=sick)
        atoms, sick = (images.read_image(timepoint.layer(self.folder, layer)) for layer in ("regions", "lesions"))
        return BaselineOnGrid(ct, lungs, regions.region_masks(atoms), files, sick)

    def _lungs_changed(self, timepoint: TimePointResult) -> bool:
        item = self.corrected.get(timepoint.label)
        return item is not None and item.lungs is not None

    def _quality(self, visit: Visit, registration: StoredRegistration) -> dict[str, Any]:
        before = next(t for t in self.earlier.timepoints if t.label == visit.label).quality
        judged = quality.assess(registration, visit.lungs, before.get("tre"), self.job.quality_thresholds)
        said = self.verdicts.get(visit.label)
        reader = before.get("reader") if said is None else {"verdict": said.verdict, "comment": said.comment.strip()}
        return judged | ({"reader": reader} if reader else {})

    def _reliable(self, visit: Visit, judged: dict[str, Any]) -> bool:
        said = judged.get("reader", {}).get("verdict", "accepted")
        return said == "usable" if said != "accepted" else super()._reliable(visit, judged)

    def _followup_result(self, *arguments: Any) -> TimePointResult:
        timepoint = super()._followup_result(*arguments)
        if not self._lungs_changed(self.earlier.baseline):  # exact, where the stored transform is not quite
            timepoint.jacobian = next(t for t in self.earlier.timepoints if t.label == timepoint.label).jacobian
        if (timepoint.quality.get("reader") or {}).get("verdict") == "not usable":
            for entry in timepoint.scores.values():
                entry["explanation"] = entry["explanation"].replace(score.UNRELIABLE, REJECTED)
        return timepoint


def _job_of(earlier: StudyResult, correction: Correction) -> Job:
    """The job that the study came from, as far as it changes the numbers."""
    known = {f.name for f in fields(Job)}
    content = {key: value for key, value in earlier.settings.items() if key in known}
    paths = [{"path": str(correction.study), "label": t.label} for t in earlier.timepoints]
    return job_from({"timepoints": paths, "output": str(correction.output), **content}, "the study")


def read_lesions(path: Path, scan: sitk.Image) -> sitk.Image:
    """A label map of lesions, uint8 on the grid of `scan`, its kinds kept; it may be empty.

    Raises BadInput where it holds other values than 0 and those of LESION_NAMES, or does not overlap the scan.
    """
    drawn = images.read_image(path)
    values = set(np.unique(sitk.GetArrayViewFromImage(drawn)).tolist())
    if not values <= {0, *LESION_NAMES}:
        kinds = ", ".join(f"{value} {name}" for value, name in LESION_NAMES.items())
        raise BadInput(f"{path}: holds values that are no kind of lesion: give a label map of 0 and {kinds}")
    laid = grids.resample_mask(sitk.Cast(drawn, sitk.sitkUInt8), grids.grid_of(scan))
    if len(values) > 1 and not sitk.GetArrayViewFromImage(laid).any():
        raise BadInput(f"{path}: the lesions do not overlap their scan; give those drawn on that scan")
    return laid


def _quality_warnings(timepoint: TimePointResult) -> list[str]:
    """The warnings that judging the registration gave; they are given anew."""
    return [w for w in timepoint.warnings if w.startswith("The mean Jacobian (")]


def _of_a_timepoint(warning: str, timepoints: Sequence[TimePointResult]) -> bool:
    """Whether a study's warning belongs to a time point, which gives it again."""
    return any(warning == f"{t.label}: {said}" for t in timepoints for said in t.warnings)


def read_correction(path: Path) -> Correction | None:
    """The correction in a job file; None where the file is a job of another kind or none at all."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return None
    return correction_from(content, Path(path).resolve().parent, str(path))
