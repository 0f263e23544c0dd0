"""What stands in the report beside figures and tables: the lines of the settings, sources, versions and warnings."""

from collections.abc import Iterator, Mapping
from typing import Any

from LungRecoveryLib.anatomy.lobes import FISSURE_NAMES
from LungRecoveryLib.report import text
from LungRecoveryLib.results import StudyResult, TimePointResult

Line = tuple[str, str]

# What may be shown of where a scan came from. Anything else (and so any name, date or path) stays out of the report.
_SOURCE = {
    "format": "format",
    "series_description": "series",
    "kernel": "kernel",
    "slice_thickness_mm": "slice thickness, mm",
    "voxel_mm": "voxel, mm",
    "size": "voxels",
    "position": "position",
    "breath_phase": "breath",
    "contrast": "contrast",
}

HOW_TO_READ = (
    "Classes: ● complete from {complete:.2f}, ◐ partial from {partial:.2f}, ○ persistent below. The class follows "
    "tissue recovery where at least {minimum_abnormal_percent:g} % of the lung was abnormal at baseline, else the "
    "Jacobian score; complete also needs less than {complete_abnormal_percent:g} % abnormal lung left and no region "
    "worse.",
    "Jacobian: how many times larger a small piece of lung is in the follow-up than at baseline; 1 = same volume. It "
    "follows the breath as well as disease.",
    "Density change: tissue gained or lost per millilitre of baseline lung (mg/ml), after the change in volume is "
    "accounted for, so that a deeper breath alone changes nothing.",
)


def how_to_read(study: StudyResult) -> list[str]:
    """Sentences that explain classes and maps, with the thresholds of this study."""
    values = text.thresholds(study)
    return [text.bind(sentence.format_map(values)) for sentence in HOW_TO_READ]


def facts(study: StudyResult) -> list[Line]:
    """The study in a few lines for the head of the report."""
    last = study.timepoints[-1]
    span = f", {text.days(last.days)} after baseline" if last.days and len(study.timepoints) > 1 else ""
    follow_ups = len(study.followups)
    return [
        ("Scans", f"baseline and {follow_ups} follow-up{'s' * (follow_ups != 1)}" if follow_ups else "baseline only"),
        ("Last scan", text.title(last) + (span if "day" not in text.title(last).lower() else "")),
        ("Registration", f"{study.settings['preset']} preset, {study.settings['spacing_mm']:g}\u202fmm grid"),
        ("Software", f"LungRecovery\u00a0{study.versions.get('lungrecovery', '')}"),
    ]


_LUNGS_SOURCE = {
    "given": "given with the scan",
    "segmented": "segmented by this software",
    "corrected": "corrected by the reader",
}


def source_lines(timepoint: TimePointResult) -> list[Line]:
    """Where a scan came from, in what the report may show."""
    lines = [
        (_SOURCE[key], _value(timepoint.source[key]))
        for key in _SOURCE
        if timepoint.source.get(key) not in (None, "", [])
    ]
    return [
        *lines,
        *_why_chosen(timepoint.source),
        ("lung mask", _LUNGS_SOURCE[timepoint.lungs_source]),
        *([("lesions", "corrected by the reader")] if timepoint.lesions_source == "corrected" else []),
        *_lobes(timepoint),
    ]


def _lobes(timepoint: TimePointResult) -> list[Line]:
    """Where the lobes come from, and how much of each fissure is visible."""
    if not timepoint.lobes:
        return []
    if timepoint.lobes["source"] == "given":
        return [("lobes", "given with the scan")]
    seen = [
        f"{FISSURE_NAMES.get(name, name)} visible on {text.percent(100 * share)}"
        for name, share in timepoint.lobes["visible"].items()
    ]
    missing = timepoint.lobes["missing"]
    return [("lobes", "; ".join([*seen, *([f"not all found: {missing}"] if missing else [])]))]


def settings_lines(study: StudyResult) -> list[Line]:
    """The settings in words, the nested ones flat."""
    names = {
        "preset": "Registration preset",
        "spacing_mm": "Grid of the maps, mm",
        "device": "Device",
        "threads": "Threads",
        "seed": "Random seed",
        "native_maps": "Maps on the scan's own grid",
    }
    lines = [(names[k], _value(study.settings[k])) for k in names if study.settings.get(k) is not None]
    bands = "; ".join(
        f"{str(b['name']).replace('_', ' ')} {_value(b['low'])} to {_value(b['high'])}"
        for b in study.settings.get("bands", [])
    )
    return [*lines, *([("Density bands, HU", bands)] if bands else [])]


def version_lines(study: StudyResult) -> list[Line]:
    """The versions of the software."""
    return [("LungRecovery" if k == "lungrecovery" else k, v) for k, v in study.versions.items()]


def timing_lines(study: StudyResult) -> list[Line]:
    """How long what took, and on which device each registration ran."""
    lines = [(stage.replace("_", " "), text.seconds(value)) for stage, value in study.seconds.items()]
    for t in study.followups:
        spent = (t.registration or {}).get("seconds")
        total = sum(v for v in spent.values() if isinstance(v, int | float)) if isinstance(spent, Mapping) else spent
        if isinstance(total, int | float):
            lines.append(
                (
                    f"registration of {text.title(t)}",
                    f"{text.seconds(total)} on {(t.registration or {}).get('device', '?')}",
                )
            )
    return lines


def absent_lines(study: StudyResult) -> list[Line]:
    """Layers that were not made, and why."""
    return [(layer.replace("_", " "), reason) for layer, reason in study.absent.items()]


def _why_chosen(source: Mapping[str, Any]) -> list[Line]:
    """How the series was chosen, where there was a choice."""
    chosen, candidates = source.get("chosen"), source.get("candidates")
    if not isinstance(chosen, Mapping) or not candidates:
        return []
    return [("series chosen", f"1 of {len(candidates)}: {chosen.get('why', '')}")]


def warnings(study: StudyResult) -> list[Line]:
    """Every warning with the time point it belongs to, each once."""
    found: dict[str, str] = {}
    for who, sentence in _warnings(study):
        found.setdefault(sentence, who)
    return [(who, text.bind(sentence)) for sentence, who in found.items()]


def _warnings(study: StudyResult) -> Iterator[Line]:
    for t in study.timepoints:
        if not t.reliable:
            yield text.title(t), f"{text.UNRELIABLE}: {'; '.join(text.quality_reasons(t))}."
        if (t.quality or {}).get("verdict") == "review":
            yield text.title(t), f"registration to be reviewed: {'; '.join(text.quality_reasons(t))}."
        for sentence in (*t.warnings, *((t.quality or {}).get("warnings") or ())):
            yield text.title(t), sentence
    of_scans = {f"{t.label}: {sentence}" for t in study.timepoints for sentence in t.warnings}
    for sentence in study.warnings:
        if sentence not in of_scans:
            yield "Study", sentence


def registration_notes(timepoint: TimePointResult) -> list[str]:
    """What the registration had to say, such as a fallback to the CPU."""
    notes = (timepoint.registration or {}).get("notes") or ()
    return [str(note) for note in notes if note not in timepoint.warnings]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " × ".join(_value(v) for v in value)
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value).replace("-", "−") if isinstance(value, int) else str(value)
