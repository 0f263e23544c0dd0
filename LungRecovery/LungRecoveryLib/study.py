"""The main job: a patient's dated scans in, the study's folder out.

Scans are read and checked, the lungs segmented, every scan measured in its own voxels, every follow-up registered onto
the baseline, and what changed is measured on the baseline's grid. A follow-up is written and released before the next
one is registered, so that memory does not grow with their number.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import evaluate, grids, images, results
from LungRecoveryLib.anatomy import lungs as anatomy_lungs
from LungRecoveryLib.anatomy import regions, structures
from LungRecoveryLib.anatomy.checks import segmentation_warnings
from LungRecoveryLib.files import atomic_directory
from LungRecoveryLib.job import Job, settings_of
from LungRecoveryLib.pairs import register_visits
from LungRecoveryLib.parenchyma import radiomics
from LungRecoveryLib.parenchyma.noise import estimate_noise
from LungRecoveryLib.parenchyma.series import Enhanced, Series
from LungRecoveryLib.progress import Progress, no_progress, part, share_of
from LungRecoveryLib.recovery import change_classes, density, jacobian, lesions, quality, score, similarity, trajectory
from LungRecoveryLib.recovery.severity import severity_by_lobe
from LungRecoveryLib.registration.register import Registration
from LungRecoveryLib.results import RegionTable, StudyResult, TimePointResult
from LungRecoveryLib.system import check_device, limited_threads
from LungRecoveryLib.timepoints import Visit, about, check_overlap, input_paths, read_visits

# Shares of the whole time at which the stages end, for the progress; registration takes most of it.
_READ, _SEGMENTED, _MEASURED, _DESCRIBED, _REGISTERED, _REPORTED = 0.02, 0.15, 0.3, 0.5, 0.9, 0.95
_LUNG_MARGIN_MM = 10.0


def analyze(job: Job, progress: Progress = no_progress) -> StudyResult:
    """Run a job and leave its folder, whole or not at all.

    Raises BadInput for inputs and outputs that cannot be used, before anything slow; Cancelled when `progress` raises
    it. A registration that fails its quality gate raises nothing: see `StudyResult.reliable`.
    """
    with atomic_directory(job.output, job.overwrite, input_paths(job)) as folder:
        return analyze_into(folder, job, progress)


def analyze_into(folder: Path, job: Job, progress: Progress = no_progress) -> StudyResult:
    """Run a job and write its files into a folder that exists, whatever output the job itself names."""
    check_device(job.device)
    with limited_threads(job.threads):
        return StudyWork(Path(folder), job, progress).run()


@dataclass
class BaselineOnGrid:
    """What every follow-up is measured against, all on the grid of the maps."""

    ct: sitk.Image
    lungs: sitk.Image
    masks: dict[str, np.ndarray]
    files: dict[str, str]
    lesions: sitk.Image


@dataclass
class Measured:
    """What was measured in one scan's own voxels, by region; its lesions and lobes as label maps on its grid, and what
    is known of the lobes."""

    density: RegionTable
    lesions: RegionTable
    lesion_map: sitk.Image
    enhanced: Enhanced
    lobes: dict[str, Any] | None = None
    lobe_map: sitk.Image | None = None
    radiomics: RegionTable | None = None


class StudyWork:
    """One run: what its stages share."""

    def __init__(self, folder: Path, job: Job, progress: Progress):
        self.folder, self.job, self.progress = folder, job, progress
        self.seconds: dict[str, float] = {}

    def run(self) -> StudyResult:
        if self.job.radiomics:
            radiomics.require_mirp()
        with self._timed("read"):
            visits, warnings = read_visits(self.job, part(self.progress, 0.0, _READ))
            if self.job.dicom:
                self.origins = _origins(visits, self.job)
        with self._timed("segment"):
            self._segment(visits)
        for visit in visits[1:]:
            check_overlap(visits[0], visit)
        with self._timed("measure"):
            self.noise = {visit.label: estimate_noise(visit.scan.image, visit.lungs) for visit in visits}
            self.series = Series(self.job.bias_removal, list(self.noise.values()))
            measured = [self._measure(visits, index) for index in range(len(visits))]
        if self.job.radiomics:
            with self._timed("radiomics"):
                for index, (visit, found) in enumerate(zip(visits, measured, strict=True)):
                    self._describe(visit, found, share_of(index, len(visits), _MEASURED, _DESCRIBED))
        timepoints = [self._baseline_result(visits[0], measured[0])]
        baseline = None
        for index, visit in enumerate(visits[1:], start=1):
            with self._timed("register"):
                registration = self._register(visits, index)
            with self._timed("measure"):
                baseline = baseline or self._write_baseline(visits[0], measured[0], registration)
                timepoints.append(self._followup_result(visit, index, measured, registration, baseline))
            visit.scan = visit.lungs = registration = None
        timepoints[0].files = baseline.files
        with self._timed("trajectory"):
            result = self._result(timepoints, baseline, warnings)
        return self._report(result)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def _segment(self, visits: list[Visit]) -> None:
        """Find the lungs of the scans that came without a mask."""
        for index, visit in enumerate(visits):
            share = share_of(index, len(visits), _READ, _SEGMENTED)
            if visit.lungs is None:
                with about(visit.scan.name):
                    visit.lungs = anatomy_lungs.segment_lungs(
                        visit.scan.image, part(self.progress, *share, f"{visit.label}: ")
                    )

    def _measure(self, visits: list[Visit], index: int) -> Measured:
        """Density and lesions by region from the scan's own voxels; only the box around the lungs is looked at."""
        visit = visits[index]
        share = share_of(index, len(visits), _SEGMENTED, _MEASURED)
        found = self._structures(visit, part(self.progress, *share, f"{visit.label}: "))
        told = segmentation_warnings(visit.scan.image, visit.lungs, found.airways, found.lesions)
        visit.warnings += [warning for warning in told if warning not in visit.warnings]
        box = grids.crop_to_mask(visit.lungs, _LUNG_MARGIN_MM)
        layers = (visit.scan.image, visit.lungs, found.vessels, found.lesions, found.lobes.labels)
        ct, lungs, tubes, sick, lobes = (_cut(image, box) for image in layers)
        masks = regions.region_masks(regions.lung_atoms(lungs, lobes))
        abnormal = density.abnormal_mask(ct, lungs, tubes, sick)
        noise = self.noise[visit.label]
        enhanced = self.series.enhance(visit.scan.image, visit.lungs, found.airways, found.vessels, noise)
        healthy = enhanced.summary["baseline"]["level_hu"] if enhanced.summary else None
        return Measured(
            density.density_by_region(ct, masks, tubes, self.job.bands, abnormal),
            lesions.lesions_by_region(ct, sick, tubes, masks, healthy),
            found.lesions,
            enhanced,
            regions.about_lobes(found.lobes),
            found.lobes.labels if found.lobes.found else None,
        )

    def _describe(self, visit: Visit, measured: Measured, share: tuple[float, float]) -> None:
        """Add the radiomic features of a scan to what was measured in it."""
        scans = {"plain": visit.scan.image, "enhanced": measured.enhanced.image}
        scans = {name: image for name, image in scans.items() if image is not None}
        progress = part(self.progress, *share, f"{visit.label}: ")
        measured.radiomics = radiomics.measure(scans, visit.lungs, measured.lobe_map, measured.lesion_map, progress)

    def _structures(self, visit: Visit, progress: Progress) -> structures.Structures:
        return structures.segment_structures(visit.scan.image, visit.lungs, progress, visit.lobes)

    def _register(self, visits: list[Visit], index: int) -> Registration:
        baseline, visit = visits[0], visits[index]
        start = _DESCRIBED if self.job.radiomics else _MEASURED
        share = share_of(index - 1, len(visits) - 1, start, _REGISTERED)
        progress = part(self.progress, *share, f"{visit.label}: ")
        return register_visits(baseline, visit, self.job, progress, uncertainty=True)

    def _write_baseline(self, visit: Visit, measured: Measured, registration: Registration) -> BaselineOnGrid:
        """The baseline on the grid of the maps; it is the same for every follow-up."""
        ct = sitk.Cast(grids.resample(visit.scan.image, registration.grid), sitk.sitkInt16)
        lungs = registration.fixed_lungs
        atoms = regions.lung_atoms(lungs, measured.lobe_map)
        sick = grids.resample_mask(measured.lesion_map, registration.grid)
        files = self._write_baseline_layers(measured, ct=ct, lungs=lungs, regions=atoms, lesions=sick)
        return BaselineOnGrid(ct, lungs, regions.region_masks(atoms), files, sick)

    def _write_baseline_layers(self, measured: Measured, **content: sitk.Image) -> dict[str, str]:
        """Write the baseline's layers, the enhanced image and the lobes on their grid where there are any."""
        layers = dict(results.BASELINE_LAYERS)
        if measured.lobe_map is not None:
            layers |= results.LOBES_LAYER
            content["lobes"] = grids.resample_mask(measured.lobe_map, content["ct"])
        if measured.enhanced.image is not None:
            layers |= results.ENHANCED_LAYER
            content["enhanced"] = grids.resample(measured.enhanced.image, content["ct"], outside=0.0)
        return self._write(results.BASELINE, layers, **content)

    def _baseline_result(self, visit: Visit, measured: Measured) -> TimePointResult:
        return self._timepoint(visit, 0, measured, score.baseline_scores(measured.density, self.job.score_thresholds))

    def _followup_result(
        self,
        visit: Visit,
        index: int,
        measured: list[Measured],
        registration: Registration,
        baseline: BaselineOnGrid,
    ) -> TimePointResult:
        """Measure and judge a registered follow-up, and write its layers."""
        inside = grids.to_array(registration.inside) != 0
        with about(visit.scan.name):
            normalised, mean_j = jacobian.normalised_jacobian(registration.jacobian, baseline.lungs, inside)
        judged = self._quality(visit, registration)
        warnings = judged.pop("warnings")
        reliable = self._reliable(visit, judged)
        on_grid = (baseline.ct, registration.warped)
        maps = {
            "density_change": density.density_change(*on_grid, registration.jacobian, baseline.lungs, inside),
            "hu_change": density.hu_change(*on_grid, baseline.lungs, inside),
            "similarity": similarity.ssim_map(*on_grid, baseline.lungs, inside),
        }
        if registration.uncertainty is not None:
            maps["uncertainty"] = grids.resample(registration.uncertainty, baseline.lungs, outside=0.0)
        layers = results.FOLLOWUP_LAYERS | (results.UNCERTAINTY_LAYER if "uncertainty" in maps else {})
        if measured[index].enhanced.image is not None:
            layers |= results.ENHANCED_LAYER
            maps["enhanced"] = measured[index].enhanced.image
        if measured[index].lobe_map is not None:
            layers |= results.LOBES_LAYER
            maps["lobes"] = measured[index].lobe_map
        lncc = similarity.lncc_map(*on_grid, baseline.lungs, inside)
        scores = score.scores(
            registration.jacobian,
            normalised,
            baseline.masks,
            measured[0].density,
            measured[index].density,
            inside,
            reliable,
            self.job.score_thresholds,
        )
        timepoint = self._timepoint(visit, index, measured[index], scores)
        self._follow_lesions(timepoint, measured[index], registration, baseline, inside)
        timepoint.band_changes = change_classes.band_changes(
            *on_grid, registration.jacobian, baseline.masks["lungs"], self.job.bands, inside
        )
        timepoint.warnings += [*warnings, *registration.notes]
        timepoint.reliable, timepoint.quality = reliable, judged
        timepoint.registration = _registration_summary(registration, self.job.preset, mean_j)
        timepoint.jacobian = jacobian.statistics(
            registration.jacobian, normalised, registration.displacement, baseline.masks, inside
        )
        timepoint.change = density.change_by_region(
            maps["density_change"], maps["hu_change"], maps["similarity"], lncc, baseline.masks, inside
        )
        timepoint.files = self._write(
            visit.folder,
            layers,
            transform=registration.transform,
            inverse_transform=registration.inverse_transform,
            warped=registration.warped,
            jacobian=registration.jacobian,
            jacobian_normalized=normalised,
            lungs=visit.lungs,
            lesions=measured[index].lesion_map,
            **maps,
        )
        return timepoint

    def _follow_lesions(
        self,
        timepoint: TimePointResult,
        measured: Measured,
        registration: Registration,
        baseline: BaselineOnGrid,
        inside: np.ndarray,
    ) -> None:
        """What became of the baseline's lesions, which the registration lays on each other."""
        later = lesions.laid_on(measured.lesion_map, baseline.ct, registration.transform)
        timepoint.lesion_fates = lesions.lesion_fates(
            baseline.lesions, later, registration.jacobian, baseline.lungs, inside
        )
        timepoint.lesion_classes = lesions.change_classes(baseline.lesions, later, baseline.masks, inside)

    def _reliable(self, visit: Visit, judged: dict[str, Any]) -> bool:
        """Whether results that rest on a registration may be relied on."""
        return judged["verdict"] != "fail"

    def _quality(self, visit: Visit, registration: Registration) -> dict[str, Any]:
        tre = None
        if visit.landmarks is not None:
            points = visit.landmarks
            tre = evaluate.target_registration_error(
                registration.transform, points.fixed, points.moving, visit.scan.image
            )
        return quality.assess(registration, visit.lungs, tre, self.job.quality_thresholds)

    def _timepoint(self, visit: Visit, index: int, measured: Measured, scores: RegionTable) -> TimePointResult:
        return TimePointResult(
            label=visit.label,
            folder=visit.folder,
            baseline=index == 0,
            days=visit.days,
            visit=index,
            source=visit.scan.source,
            lungs_source=visit.lungs_source,
            lesions_source=visit.lesions_source,
            density=measured.density,
            lesions=measured.lesions,
            parenchyma=measured.enhanced.summary,
            lobes=measured.lobes,
            severity=severity_by_lobe(measured.lesions or {}),
            radiomics=measured.radiomics,
            scores=scores,
            files={},
            warnings=[*visit.warnings, *measured.enhanced.warnings],
        )

    def _write(self, folder: str, layers: dict[str, str], **content: sitk.Image | sitk.Transform) -> dict[str, str]:
        """Write a time point's layers; returns their paths relative to the study."""
        (self.folder / folder).mkdir(exist_ok=True)
        for layer, file in layers.items():
            item = content[layer]
            write = images.write_transform if isinstance(item, sitk.Transform) else images.write_image
            write(item, self.folder / folder / file)
        return {layer: f"{folder}/{file}" for layer, file in layers.items()}

    def _result(self, timepoints: list[TimePointResult], baseline: BaselineOnGrid, warnings: list[str]) -> StudyResult:
        entries = [results.plain(asdict(timepoint)) for timepoint in timepoints]
        measured = {region for timepoint in timepoints for region in timepoint.density}
        names = {region: name for region, name in regions.ALL_REGION_NAMES.items() if region in measured}
        grid = grids.grid_of(baseline.ct)
        return StudyResult(
            settings=settings_of(self.job),
            grid={key: list(value) for key, value in asdict(grid).items()},
            regions=names,
            region_codes={str(code): list(ids) for code, ids in regions.ATOM_REGIONS.items()},
            timepoints=timepoints,
            trajectory=trajectory.trajectory(entries, names, self.job.seed),
            comparisons=[
                score.compare(earlier, later, self.job.score_thresholds)
                for i, earlier in enumerate(entries[1:], start=1)
                for later in entries[i + 1 :]
            ],
            warnings=warnings + [f"{t.label}: {warning}" for t in timepoints for warning in t.warnings],
            absent=_absent(timepoints),
        )

    def _report(self, result: StudyResult) -> StudyResult:
        """Write the numbers, then the report, which is made from what lies on disk."""
        from LungRecoveryLib.report import write_report

        result.seconds = dict(self.seconds)
        results.write_study(result, self.folder)
        with self._timed("report"):
            write_report(self.folder, part(self.progress, _REGISTERED, _REPORTED if self.job.dicom else 1.0))
        if self.job.dicom:
            from LungRecoveryLib.report.dicom import write_dicom

            with self._timed("dicom"):
                keep = self.job.keep_identifiers
                write_dicom(self.folder, self.origins, keep, part(self.progress, _REPORTED, 1.0))
        result.seconds = dict(self.seconds)
        results.write_study_file(result, self.folder)
        self.progress("done", 1.0)
        return result


def _origins(visits: list[Visit], job: Job) -> dict[str, Any]:
    """Where the scan of every time point lies, for its DICOM objects; checked before any slow work."""
    from LungRecoveryLib.report.dicom import Origin, check_origins

    origins = {v.folder: Origin(v.path, (v.scan.source.get("chosen") or {}).get("series")) for v in visits}
    check_origins(origins, job.keep_identifiers)
    return origins


def _absent(timepoints: list[TimePointResult]) -> dict[str, str]:
    """The layers that were not made, and why."""
    absent = dict(results.ABSENT)
    if not any("uncertainty" in timepoint.files for timepoint in timepoints):
        absent["uncertainty"] = "the registrations were stored without it"
    if not any("enhanced" in timepoint.files for timepoint in timepoints):
        absent["enhanced"] = "no scan shows healthy parenchyma to compare with"
    missing = (timepoints[0].lobes or {"missing": "nothing is known of the fissures"})["missing"]
    if missing is None:
        del absent["lobes"]
    else:
        absent["lobes"] = f"{missing}; {results.THIRDS}"
    if any(timepoint.severity for timepoint in timepoints):
        del absent["severity"]
    if any(timepoint.radiomics for timepoint in timepoints):
        del absent["radiomics"]
    return absent


def _cut(image: sitk.Image, box: grids.Grid) -> sitk.Image:
    """The voxels of an image in a box of its own grid."""
    start = image.TransformPhysicalPointToIndex(box.origin)
    return sitk.RegionOfInterest(image, box.size, start)


def _registration_summary(registration: Registration, preset: str, mean_j: float) -> dict[str, Any]:
    """What `study.json` tells of how a registration was made; its quality stands elsewhere."""
    return {
        "preset": preset,
        "device": registration.device,
        "mean_jacobian": mean_j,
        "notes": list(registration.notes),
        "settings": registration.settings,
        "seconds": registration.seconds,
    }
