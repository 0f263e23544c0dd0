"""Scores, densities and their course as a structured report: TID 1500, with UCUM units and coded concepts."""

from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from LungRecoveryLib import __version__
from LungRecoveryLib.report.dicom.codes import (
    CHANGE,
    CLASSES,
    DAY,
    LUNG,
    MEASURES,
    RECOVERY_CLASS,
    REGISTRATION_QUALITY,
    VERDICTS,
    finding_site,
    own,
)
from LungRecoveryLib.report.dicom.identity import MANUFACTURER, MODEL, NOTICE, Identity, uid
from LungRecoveryLib.report.dicom.volumes import into_study
from LungRecoveryLib.results import StudyResult, TimePointResult

_SIDES = {"right": 1, "left": 2}


def measurement_report(
    study: StudyResult, identity: Identity, number: int, evidence: list[Dataset],
    segmentations: dict[str, tuple[Dataset, dict[tuple[str, int], int]]],
) -> hd.sr.Comprehensive3DSR:  # fmt: skip
    """The report of a study.

    `evidence` are the images and objects it rests on, one of this study first; `segmentations` maps a time point's
    folder to its segmentation and {(layer, value): segment}, to which the measures of a whole lung refer.
    """
    groups = [
        _group(study, timepoint, region, identity, segmentations.get(timepoint.folder))
        for timepoint in study.timepoints
        for region in timepoint.density
    ]
    groups += [_course(study, region, identity) for region in study.regions if f"volume_ml.{region}" in _series(study)]
    context = hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            codes.DCM.Device,
            hd.sr.DeviceObserverIdentifyingAttributes(
                uid=uid("device", __version__), name=MODEL, manufacturer_name=MANUFACTURER, model_name=MODEL
            ),
        )
    )
    content = hd.sr.MeasurementReport(
        observation_context=context,
        procedure_reported=hd.sr.CodedConcept("24627-2", "LN", "CT Chest"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_number=number,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description="Measurements",
        **identity.uids("measurements"),
    )
    made.ManufacturerModelName, made.SoftwareVersions = MODEL, __version__
    made.CompletionFlagDescription = NOTICE
    into_study(made, identity)
    return made


def _series(study: StudyResult) -> dict[str, Any]:
    return study.trajectory["series"]


def _site(region: str) -> list[hd.sr.FindingSite]:
    structure, side, part = finding_site(region)
    return [hd.sr.FindingSite(structure, laterality=side, topographical_modifier=part)]


def _group(
    study: StudyResult, timepoint: TimePointResult, region: str, identity: Identity,
    segments: tuple[Dataset, dict[tuple[str, int], int]] | None,
) -> hd.sr.templates.Template:  # fmt: skip
    """All measures of one region at one time point."""
    measures = []
    for group, quantities in MEASURES.items():
        values = (getattr(timepoint, group) or {}).get(region, {})
        for name, quantity in quantities.items():
            if values.get(name) is not None:
                measures.append(_measurement(quantity.code, values[name], quantity.unit, quantity.derivation))
    shared = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=uid(identity.key, "region", timepoint.folder, region),
            identifier=f"{timepoint.label}: {study.regions[region]}",
        ),
        "time_point_context": _when(timepoint),
        "finding_type": LUNG,
        "finding_sites": _site(region),
        "measurements": measures,
        "qualitative_evaluations": _evaluations(timepoint, region),
    }
    segment = segments and segments[1].get(("lungs", _SIDES.get(region, 0)))
    if not segment:
        return hd.sr.MeasurementsAndQualitativeEvaluations(**shared)
    reference = hd.sr.ReferencedSegment.from_segmentation(segments[0], segment)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **shared)


def _measurement(code: Any, value: float, unit: Any, derivation: Any = None) -> hd.sr.Measurement:
    return hd.sr.Measurement(name=code, value=float(f"{value:.10g}"), unit=unit, derivation=derivation)


def _when(timepoint: TimePointResult) -> hd.sr.TimePointContext:
    offset = None
    if timepoint.days is not None:
        offset = hd.sr.LongitudinalTemporalOffsetFromEvent(timepoint.days, DAY, own("baseline", "Baseline scan"))
    return hd.sr.TimePointContext(
        time_point=timepoint.label, time_point_order=timepoint.visit + 1, temporal_offset_from_event=offset
    )


def _evaluations(timepoint: TimePointResult, region: str) -> list[hd.sr.QualitativeEvaluation]:
    found = []
    name = timepoint.scores.get(region, {}).get("class")
    if name in CLASSES:
        found.append(hd.sr.QualitativeEvaluation(RECOVERY_CLASS, CLASSES[name]))
    if timepoint.quality is not None:
        found.append(hd.sr.QualitativeEvaluation(REGISTRATION_QUALITY, VERDICTS[timepoint.quality["verdict"]]))
    return found


def _course(study: StudyResult, region: str, identity: Identity) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """What changed in a region from the first usable date to the last."""
    measures = []
    for name, quantity in CHANGE.items():
        series = _series(study).get(f"{name}.{region}", {})
        value = (series.get("change") or {}).get("value")
        if value is not None:
            measures.append(_measurement(quantity.code, value, quantity.unit))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uid(identity.key, "course", region), identifier=f"Course: {study.regions[region]}"
        ),
        finding_type=LUNG,
        finding_sites=_site(region),
        measurements=measures,
    )
