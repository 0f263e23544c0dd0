"""What to analyse and how: the job, its published JSON schema, and the checks that need no image.

The command line, the worker and every later front end build the same job, so a setting means the same everywhere.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jsonschema

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.parenchyma.dates import BiasRemoval
from LungRecoveryLib.recovery import quality, score
from LungRecoveryLib.recovery.density import DEFAULT_BANDS, Band
from LungRecoveryLib.resources import SHIPPED_WEIGHTS
from LungRecoveryLib.results import BASELINE, folder_name

SCHEMA = "lungrecovery-job-1"


@dataclass(frozen=True)
class TimePoint:
    """A scan of the job: where it lies, and what the user says about it (None: not said)."""

    path: Path
    label: str | None = None
    days: float | None = None
    lungs: Path | None = None
    series: str | None = None
    landmarks: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """How two scans are registered: what `analyze` and `register` ask alike; see `job.schema.json`."""

    preset: str = "standard"
    weights: str = SHIPPED_WEIGHTS
    spacing_mm: float = 1.5
    native_maps: bool = False
    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    allow_different_patients: bool = False


@dataclass(frozen=True)
class Job(PairOptions):
    """One analysis; see `job.schema.json` for the meaning of every field."""

    timepoints: tuple[TimePoint, ...]
    output: Path
    labels: str | None = None
    overwrite: bool = False
    dicom: bool = False
    keep_identifiers: bool = False
    radiomics: bool = False
    bands: tuple[Band, ...] = DEFAULT_BANDS
    quality_thresholds: quality.Thresholds = field(default_factory=quality.Thresholds)
    score_thresholds: score.Thresholds = field(default_factory=score.Thresholds)
    bias_removal: BiasRemoval = field(default_factory=BiasRemoval)


@cache
def job_schema() -> dict[str, Any]:
    """The JSON schema of a job."""
    return json.loads(package_files("LungRecoveryLib").joinpath("job.schema.json").read_text("utf-8"))


def read_job_file(path: Path) -> dict[str, Any]:
    """The content of a job file, its paths made absolute from the file's folder.

    Raises BadInput where the file cannot be read or is no job.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: name a job file") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not a job file ({error}): write it as JSON, see job.schema.json") from None
    check_job(content, str(path))
    base = path.resolve().parent
    content["output"] = str(base / content["output"])
    if (content.get("labels") or "").endswith(".json"):
        content["labels"] = str(base / content["labels"])
    if content.get("weights", "").endswith(".safetensors"):
        content["weights"] = str(base / content["weights"])
    for timepoint in content["timepoints"]:
        for key in ("path", "lungs", "landmarks"):
            if key in timepoint:
                timepoint[key] = str(base / timepoint[key])
    return content


def check_job(content: Any, name: str = "the job") -> None:
    """Raise BadInput, naming the key, where a job's content does not fit the schema."""
    error = next(iter(sorted(jsonschema.Draft202012Validator(job_schema()).iter_errors(content), key=str)), None)
    if error is not None:
        where = error.json_path.removeprefix("$").lstrip(".") or "its content"
        raise BadInput(f"{name}: {where}: {error.message[:200]}; correct it, see job.schema.json")


def job_from(content: Mapping[str, Any], name: str = "the job") -> Job:
    """The job of a JSON content. Raises BadInput where it does not fit the schema or contradicts itself."""
    if isinstance(content.get("timepoints"), list) and len(content["timepoints"]) < 2:
        raise BadInput(f"{name} names fewer than two scans: give the baseline and at least one follow-up")
    check_job(content, name)
    content = dict(content)
    content.pop("schema", None)
    paths = ("path", "lungs", "landmarks")
    timepoints = tuple(
        TimePoint(**{key: Path(value) if key in paths else value for key, value in item.items()})
        for item in content.pop("timepoints")
    )
    given: dict[str, Any] = {"timepoints": timepoints, "output": Path(content.pop("output"))}
    if "bands" in content:
        given["bands"] = _bands(content.pop("bands"))
    for key, defaults in (("quality_thresholds", quality.Thresholds()), ("score_thresholds", score.Thresholds())):
        given[key] = _thresholds(content.pop(key, {}), defaults, key)
    given["bias_removal"] = BiasRemoval(**content.pop("bias_removal", {}))
    job = Job(**given, **content)
    _check_labels(job.timepoints)
    _check_days(job.timepoints)
    if job.keep_identifiers and not job.dicom:
        raise BadInput("identifiers are kept in DICOM objects only: ask for --dicom as well, or leave them out")
    return job


def to_json(job: Job) -> dict[str, Any]:
    """The JSON content of a job, as a job file holds it."""
    content: dict[str, Any] = {"schema": SCHEMA}
    content["timepoints"] = [
        {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(item).items()
            if value is not None
        }
        for item in job.timepoints
    ]
    content["output"] = str(job.output)
    content["bands"] = [asdict(band) for band in job.bands]
    for key in ("quality_thresholds", "score_thresholds", "bias_removal"):
        content[key] = asdict(getattr(job, key))
    return content | {f.name: getattr(job, f.name) for f in fields(job) if f.name not in content}


def settings_of(job: Job) -> dict[str, Any]:
    """The settings that `study.json` records: what changes the numbers, and nothing that names a file."""
    content = to_json(job)
    left_out = ("schema", "timepoints", "output", "overwrite", "allow_different_patients", "dicom", "keep_identifiers")
    left_out = (*left_out, "labels")
    return {key: value for key, value in content.items() if key not in left_out}


def split_label(text: str) -> tuple[str | None, str]:
    r"""The label and the path of ``[LABEL=]PATH``; a path that exists as it stands has no label.

    What stands before the first ``=`` is a label unless it looks like a path itself, as in ``C:\scans\a=b.mha``.
    """
    label, equals, path = text.partition("=")
    if not equals or "/" in label or "\\" in label or Path(text).exists():
        return None, text
    return label.strip() or None, path


def names_of(index: int, timepoint: TimePoint) -> set[str]:
    """Every name by which options may mean the time point at `index` of the job, as folder names."""
    names = {"baseline"} if index == 0 else {f"follow-up {index}"}
    if timepoint.label:
        names.add(timepoint.label)
    if timepoint.days is not None and index > 0:
        names.add(f"day {timepoint.days:g}")
    return {BASELINE if name == BASELINE else folder_name(name) for name in names}


def assign(timepoints: list[dict[str, Any]], key: str, values: list[str], option: str) -> None:
    """Set `key` of the job's time points from option values ``LABEL=VALUE``.

    Raises BadInput, naming the option, for a label that no time point has and for a label given twice.
    """
    names = [names_of(i, TimePoint(Path(t["path"]), t.get("label"), t.get("days"))) for i, t in enumerate(timepoints)]
    for value in values:
        label, equals, content = value.partition("=")
        wanted = BASELINE if label.strip().lower() == BASELINE else folder_name(label)
        found = [timepoint for timepoint, known in zip(timepoints, names, strict=True) if wanted in known]
        if not equals or not content or len(found) != 1:
            known = ", ".join(
                t.get("label") or ("baseline" if i == 0 else f"follow-up {i}") for i, t in enumerate(timepoints)
            )
            raise BadInput(f"{option} {value}: write LABEL={key.upper()} with one of the labels: {known}")
        if key in found[0]:
            raise BadInput(f"{option} {value}: {label} has one already; give it once")
        found[0][key] = content


def with_labels(timepoints: tuple[TimePoint, ...]) -> tuple[TimePoint, ...]:
    """The time points in their final order with a label each: baseline, then ``day N`` or ``follow-up N``."""
    labels: list[str] = []
    for index, timepoint in enumerate(timepoints):
        label = timepoint.label
        if label is None:
            plain = f"day {timepoint.days:g}" if timepoint.days is not None else f"follow-up {index}"
            label = "baseline" if index == 0 else plain
        stem, number = label, 2
        while label in labels:
            label, number = f"{stem} ({number})", number + 1
        labels.append(label)
    return tuple(replace(timepoint, label=label) for timepoint, label in zip(timepoints, labels, strict=True))


def _bands(content: list[dict[str, Any]]) -> tuple[Band, ...]:
    bands = tuple(Band(**band) for band in content)
    for band in bands:
        if not band.low < band.high:
            raise BadInput(
                f"the density band {band.name} runs from {band.low:g} to {band.high:g} HU: put the lower first"
            )
    if len({band.name for band in bands}) < len(bands):
        raise BadInput("two density bands have the same name: give each its own")
    return bands


def _thresholds(changes: dict[str, float], defaults: Any, key: str) -> Any:
    unknown = set(changes) - {f.name for f in fields(defaults)}
    if unknown:
        known = ", ".join(f.name for f in fields(defaults))
        raise BadInput(f"{key} has no {sorted(unknown)[0]}: choose from {known}")
    return replace(defaults, **changes)


def _check_labels(timepoints: tuple[TimePoint, ...]) -> None:
    seen: set[str] = set()
    for index, timepoint in enumerate(timepoints):
        label = timepoint.label
        if label is None:
            continue
        if not label.strip() or not label.isprintable():
            raise BadInput(f"the label of {timepoint.path.name} is empty or cannot be printed: give it another")
        if label.lower() in seen:
            raise BadInput(f"the label {label} is given twice: give each scan its own")
        if index > 0 and label.lower() == BASELINE:
            raise BadInput(
                f"{timepoint.path.name} is labelled baseline but is not the first scan: put the baseline first"
            )
        seen.add(label.lower())


def _check_days(timepoints: tuple[TimePoint, ...]) -> None:
    days = [timepoint.days for timepoint in timepoints]
    known = [day for day in days if day is not None]
    if not known:
        return
    if days[0] is None:
        raise BadInput("the baseline has no day but a follow-up has: give days for the baseline too, for instance 0")
    if min(known) < days[0]:
        raise BadInput(f"day {min(known):g} lies before the baseline's day {days[0]:g}: put the earliest scan first")
