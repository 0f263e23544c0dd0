"""`lungrecovery cohort`: many patients, here or on a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from LungRecoveryLib.cli.common import Json, NoNetwork, Preset, Weights, chosen_weights, print_json, work
from LungRecoveryLib.errors import BadInput


def cohort(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="CSV: patient, path, days, label, group, ...")],
    output: Annotated[Path, typer.Option(help="The folder to make, or to take up again.")],
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler that runs, as tcp://host:8786.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes here (default: half the cores).")] = None,
    memory: Annotated[str, typer.Option(help="Most memory of each local worker, as 6GB.")] = "auto",
    retries: Annotated[int, typer.Option(min=0, help="Tries after an unexpected error of a patient.")] = 1,
    preset: Preset = None,
    weights: Weights = None,
    no_network: NoNetwork = False,
    spacing: Annotated[float | None, typer.Option(help="Voxel size of registration and maps in mm.")] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write every study as DICOM objects too.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="The same for every patient.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a patient (default: an even share).")] = None,
    as_json: Json = False,
) -> None:
    """Analyse every patient of a manifest.

    Leaves a study for each, one table that grows as they come, and a group report. Run it again after a failure: what
    is finished is kept. One patient's failure does not stop the others.
    """
    from LungRecoveryLib.cohort.manifest import read_manifest

    patients = read_manifest(manifest)
    from LungRecoveryLib.cohort.run import Cluster, run_cohort
    from LungRecoveryLib.cohort.table import TABLE, counts

    if scheduler and workers:
        raise BadInput("--scheduler and --workers contradict each other: give one of them")
    given = {
        "preset": preset,
        "weights": chosen_weights(weights, no_network),
        "spacing_mm": spacing,
        "dicom": dicom or None,
        "seed": seed,
        "threads": threads,
    }
    settings = {key: value for key, value in given.items() if value is not None}
    with work() as progress:
        records = run_cohort(
            patients,
            settings,
            output,
            Cluster(scheduler, workers, memory, retries),
            progress,
            lambda address: typer.echo(f"dashboard: {address}", err=True),
        )
    found = counts(records)
    resumed = sum(record["resumed"] for record in records)
    if as_json:
        print_json({"output": str(output.resolve()), **found, "resumed": resumed})
    else:
        kept = f" ({resumed} from an earlier run)" if resumed else ""
        typer.echo(f"{found['done']} done{kept}, {found['unreliable']} unreliable, {found['failed']} failed")
        typer.echo(f"table: {(output / TABLE).resolve()}")
        typer.echo(f"report: {(output / 'report.html').resolve()}")
