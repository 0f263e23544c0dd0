"""`lungrecovery demo`: a synthetic patient, analysed, and the scores beside the truth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from LungRecoveryLib.cli.analysis import summary, unreliable_sentence
from LungRecoveryLib.cli.common import (
    Device,
    Json,
    NoNetwork,
    Overwrite,
    PhantomDays,
    Preset,
    Seed,
    Threads,
    number,
    print_json,
    print_table,
    set_up,
    work,
)
from LungRecoveryLib.cli.viewing import show_afterwards
from LungRecoveryLib.errors import QualityGateFailed
from LungRecoveryLib.resources import NO_NETWORK

if TYPE_CHECKING:
    from LungRecoveryLib.phantom import Patient
    from LungRecoveryLib.progress import Progress

_PATIENT = "patient"
_MAP_SPACING_MM = 1.5
_EXTENT_MM = (308.0, 238.0, 322.0)
# What is measured, its name in the phantom's truth, and the digits shown.
_COMPARED = (
    ("volume_ml", "lung_volume_ml", 0),
    ("jacobian", "jacobian_score", 2),
    ("tissue_recovery", "tissue_recovery", 2),
)


def make_phantom(kind: str, seed: int, spacing: float, days: list[float] | None, progress: "Progress") -> "Patient":
    """A synthetic patient with cubic voxels of `spacing` mm."""
    from LungRecoveryLib.phantom import make_patient

    size = tuple(round(extent / spacing) for extent in _EXTENT_MM)
    chosen = {} if days is None else {"days": tuple(days)}
    return make_patient(kind, seed, size, (spacing,) * 3, progress=progress, **chosen)


def write_phantom(patient: "Patient", folder: Path, progress: "Progress") -> list[Path]:
    """Write a synthetic patient into a folder; returns the scans, by day."""
    from LungRecoveryLib.phantom import write_patient

    write_patient(patient, folder, progress=progress)
    about = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    return [folder / scan["path"] for scan in about["scans"]]


def demo(
    output: Annotated[Path, typer.Option(help="The folder to make.")] = Path("demo"),
    kind: Annotated[str, typer.Option(help="recovering, unchanged, worsening, breath or still.")] = "recovering",
    seed: Seed = 0,
    days: PhantomDays = None,
    spacing: Annotated[float, typer.Option(min=0.5, max=10, help="Voxel size of the scans in mm.")] = 1.75,
    preset: Preset = None,
    no_network: NoNetwork = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    view: Annotated[bool, typer.Option("--view", help="Then show the study in the browser, until Ctrl-C.")] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="With --view: only say how to see it, as where CI is set.")
    ] = False,
) -> None:
    """Analyse a synthetic patient: scores beside the truth.

    The patient's scans lie in OUTPUT/patient; only the scans are analysed, the lungs are segmented. An earlier demo in
    the output folder is replaced.
    """
    from LungRecoveryLib import study
    from LungRecoveryLib.files import atomic_directory
    from LungRecoveryLib.job import job_from
    from LungRecoveryLib.progress import part

    set_up(device, threads)
    again = overwrite or _is_demo(output)
    with atomic_directory(output, again) as folder, work() as progress:
        patient = make_phantom(kind, seed, spacing, days, part(progress, 0.0, 0.08))
        scans = write_phantom(patient, folder / _PATIENT, part(progress, 0.08, 0.12))
        truth = patient.truth()
        timepoints = [
            {"path": str(path), "days": visit.days} for path, visit in zip(scans, patient.visits, strict=True)
        ]
        del patient
        job = job_from(
            {
                "timepoints": timepoints,
                "output": str(output),
                "preset": preset or "standard",
                **({"weights": NO_NETWORK} if no_network else {}),
                "device": device,
                "threads": threads,
                "seed": seed,
                "spacing_mm": max(_MAP_SPACING_MM, 0.75 * spacing),
            }
        )
        result = study.analyze_into(folder, job, part(progress, 0.12, 1.0))
    content = summary(result, output) | {"truth": truth}
    if as_json:
        from LungRecoveryLib.results import plain

        print_json(plain(content))
    else:
        _show(content)
    if view:
        show_afterwards(output, no_browser)
    if not result.reliable:
        raise QualityGateFailed(unreliable_sentence(result))


def _is_demo(folder: Path) -> bool:
    """Whether a folder was made by this command, so that replacing it loses nothing."""
    return (folder / _PATIENT / "phantom.json").is_file() and (folder / "study.json").is_file()


def _show(content: dict[str, Any]) -> None:
    header = ["scan", "volume ml", "true", "Jacobian score", "true", "tissue recovery", "true", "class"]
    rows = []
    for timepoint, true in zip(content["timepoints"], content["truth"]["visits"], strict=True):
        cells = [timepoint["label"]]
        for key, truth, digits in _COMPARED:
            cells += [number(timepoint[key], digits), number(true[truth], digits)]
        rows.append([*cells, timepoint["class"] or "-"])
    print_table(header, rows)
    typer.echo(f"report: {content['report']}")
