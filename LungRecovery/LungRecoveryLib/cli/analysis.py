"""`lungrecovery analyze`: a patient's dated scans in, the study's folder out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from LungRecoveryLib.cli.common import (
    Json,
    Labels,
    NoNetwork,
    Overwrite,
    Preset,
    Threads,
    Weights,
    chosen_weights,
    number,
    options_table,
    print_json,
    print_table,
    work,
)
from LungRecoveryLib.errors import BadInput, QualityGateFailed

if TYPE_CHECKING:
    from LungRecoveryLib.results import StudyResult

SCORES = ("jacobian", "jacobian_normalized", "tissue_recovery", "class")


def analyze(
    scans: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABEL=]PATH...", help="The scans, the baseline first: files or DICOM folders."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The folder to make.")] = None,
    job: Annotated[Path | None, typer.Option(help="Take all from a job file (JSON); options override it.")] = None,
    days: Annotated[
        list[float] | None, typer.Option(metavar="DAY...", help="The day of each scan, the baseline's first: 0 30 90.")
    ] = None,
    lungs: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=MASK", help="A lung mask to use for a scan. Repeat it.")
    ] = None,
    labels: Labels = None,
    preset: Preset = None,
    weights: Weights = None,
    no_network: NoNetwork = False,
    bands: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LOW:HIGH", help="A density band in HU, instead of the default ones. Repeat it."),
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(metavar="[LABEL=]SERIES", help="The DICOM series to take: its UID, number or description."),
    ] = None,
    landmarks: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=CSV", help="Matching points of baseline and scan (LPS mm), to measure the error."),
    ] = None,
    quality: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Change a limit of the quality verdict. Repeat it.")
    ] = None,
    score: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Change a limit of the scores. Repeat it.")
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Voxel size of registration and maps in mm (default 1.5).")
    ] = None,
    native_maps: Annotated[bool, typer.Option("--native-maps", help="Maps on the baseline's own voxels.")] = False,
    allow_different_patients: Annotated[
        bool, typer.Option("--allow-different-patients", help="Accept scans whose patient IDs differ.")
    ] = False,
    radiomics: Annotated[
        bool, typer.Option("--radiomics", help="Compute radiomic features of every date (slow; extra [radiomics]).")
    ] = False,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write the results as DICOM objects too, for a PACS.")] = False,
    keep_identifiers: Annotated[
        bool, typer.Option("--keep-identifiers", help="Keep the patient's name, ID and dates in the DICOM objects.")
    ] = False,
    overwrite: Overwrite = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="The same seed and inputs give the same numbers.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to compute.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Analyse a baseline CT and its follow-ups.

    Leaves transforms, maps, recovery scores and a report. The first scan is the baseline; dates come from DICOM or from
    --days. Names of patients are never written, unless --keep-identifiers asks for them in DICOM objects.
    """
    from LungRecoveryLib import study
    from LungRecoveryLib.job import job_from, read_job_file

    content = read_job_file(job) if job else {}
    given = {
        "output": str(output) if output else None,
        "preset": preset,
        "weights": chosen_weights(weights, no_network),
        "spacing_mm": spacing,
        "labels": labels,
        "seed": seed,
        "device": device,
        "threads": threads,
        "native_maps": native_maps or None,
        "allow_different_patients": allow_different_patients or None,
        "overwrite": overwrite or None,
        "radiomics": radiomics or None,
        "dicom": dicom or None,
        "keep_identifiers": keep_identifiers or None,
        "bands": _bands(bands) if bands else None,
        "quality_thresholds": options_table(quality, "--quality") if quality else None,
        "score_thresholds": options_table(score, "--score") if score else None,
    }
    content |= {key: value for key, value in given.items() if value is not None}
    if "output" not in content:
        raise BadInput("no output folder: give --output DIR")
    content["timepoints"] = _timepoints(content.get("timepoints"), scans or [], days or [])
    _assign(content["timepoints"], lungs or [], series or [], landmarks or [])
    checked = job_from(content, str(job) if job else "the command")
    with work() as progress:
        result = study.analyze(checked, progress)
    _show(result, Path(content["output"]), as_json)
    if not result.reliable:
        raise QualityGateFailed(unreliable_sentence(result))


def unreliable_sentence(result: "StudyResult") -> str:
    """What to tell the user of a study in which a registration failed its gate."""
    labels = ", ".join(t.label for t in result.timepoints if not t.reliable)
    return f"the registration of {labels} failed its quality gate; the results are kept and marked unreliable"


def summary(result: "StudyResult", folder: Path) -> dict[str, Any]:
    """What --json prints of a study."""
    from LungRecoveryLib import results

    return {
        "output": str(folder.resolve()),
        "study": str((folder / results.STUDY_FILE).resolve()),
        "report": str((folder / results.REPORT_HTML).resolve()),
        "reliable": result.reliable,
        "warnings": result.warnings,
        "timepoints": [
            {
                "label": t.label,
                "days": t.days,
                "reliable": t.reliable,
                "verdict": t.quality["verdict"] if t.quality else None,
                "volume_ml": t.density["lungs"]["volume_ml"],
                **{
                    key: t.scores["lungs"][key]
                    for key in ("jacobian", "jacobian_normalized", "tissue_recovery", "class")
                },
            }
            for t in result.timepoints
        ],
    }


def chosen_series(source: dict[str, Any]) -> str:
    """Which of several DICOM series was taken, and how to take another."""
    others = [f"{c['number']} {c['description']}".strip() for c in source["candidates"] if not c["chosen"]]
    taken = f"{source['series_number']} {source['series_description']}".strip()
    return f"series {taken} was taken ({source['chosen']['why']}); others: {', '.join(others)} (choose with --series)"


def _show(result: "StudyResult", folder: Path, as_json: bool) -> None:
    content = summary(result, folder)
    if as_json:
        print_json(content)
        return
    header = ["scan", "volume ml", "Jacobian score", "normalised", "tissue recovery", "class", "registration"]
    rows = [
        [
            t["label"],
            number(t["volume_ml"], 0),
            number(t["jacobian"]),
            number(t["jacobian_normalized"]),
            number(t["tissue_recovery"]),
            t["class"] or "-",
            t["verdict"] or "-",
        ]
        for t in content["timepoints"]
    ]
    print_table(header, rows)
    for timepoint in result.timepoints:
        if timepoint.source.get("candidates"):
            typer.echo(f"{timepoint.label}: {chosen_series(timepoint.source)}", err=True)
    for warning in content["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"report: {content['report']}")


def _timepoints(of_job: list[dict[str, Any]] | None, scans: list[str], days: list[float]) -> list[dict[str, Any]]:
    """The job's time points from the scans named on the command line, or those of the job file."""
    from LungRecoveryLib.job import split_label

    if of_job is not None and scans:
        raise BadInput("scans are named both in the job file and on the command line: name them in one place")
    if of_job is None and not scans:
        raise BadInput("no scans: name the baseline and at least one follow-up, or give --job job.json")
    timepoints = of_job or []
    for text in scans:
        label, path = split_label(text)
        timepoints.append({"path": path} | ({"label": label} if label else {}))
    if days and len(days) != len(timepoints):
        raise BadInput(
            f"--days names {len(days)} days for {len(timepoints)} scans: give one for each, the baseline's first"
        )
    for timepoint, day in zip(timepoints, days, strict=False):
        timepoint["days"] = day
    return timepoints


def _assign(timepoints: list[dict[str, Any]], lungs: list[str], series: list[str], landmarks: list[str]) -> None:
    from LungRecoveryLib.job import assign

    assign(timepoints, "lungs", lungs, "--lungs")
    assign(timepoints, "landmarks", landmarks, "--landmarks")
    for text in (text for text in series if "=" not in text):  # the same for every scan
        for timepoint in timepoints:
            timepoint["series"] = text
    labelled = [text for text in series if "=" in text]
    if labelled and len(labelled) < len(series):
        raise BadInput(f"--series {labelled[0]}: give either one series for all scans or LABEL=SERIES for some")
    assign(timepoints, "series", labelled, "--series")


def _bands(values: list[str]) -> list[dict[str, Any]]:
    """Density bands from NAME=LOW:HIGH, several of them in one value separated by commas."""
    bands = []
    for value in (part for text in values for part in text.split(",")):
        name, _, limits = value.partition("=")
        low, _, high = limits.partition(":")
        try:
            bands.append({"name": name.strip(), "low": float(low), "high": float(high)})
        except ValueError:
            raise BadInput(f"--bands {value}: write NAME=LOW:HIGH with the limits in HU") from None
    return bands
