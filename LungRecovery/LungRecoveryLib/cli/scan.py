"""`lungrecovery segment`, `phantom` and `info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from LungRecoveryLib.cli.common import (
    Device,
    Json,
    Overwrite,
    PhantomDays,
    Seed,
    Threads,
    print_json,
    print_table,
    set_up,
    work,
)
from LungRecoveryLib.errors import BadInput


def segment(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A scan: a file or a DICOM folder.")],
    output: Annotated[Path, typer.Option(help="The mask to write, for instance lungs.nii.gz.")],
    series: Annotated[str | None, typer.Option(help="The DICOM series to take: UID, number or description.")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Segment the lungs of a CT.

    The mask lies on the scan's grid and holds 1 in the right lung, 2 in the left.
    """
    from LungRecoveryLib import images
    from LungRecoveryLib.anatomy import lungs as anatomy_lungs
    from LungRecoveryLib.grids import grid_of, to_array
    from LungRecoveryLib.progress import part

    set_up(device, threads)
    if output.is_dir() or (output.exists() and not overwrite):
        raise BadInput(f"{output}: exists already; choose another name or give --overwrite")
    if not output.name.endswith((".nii.gz", ".nii", ".nrrd", ".mha")):
        raise BadInput(f"{output}: give the mask a name that ends in .nii.gz, .nrrd or .mha")
    with work() as progress:
        scan = images.read_scan(ct, series, part(progress, 0.0, 0.1))
        mask = anatomy_lungs.segment_lungs(scan.image, part(progress, 0.1, 0.98))
        images.write_image(mask, output)
        progress("done", 1.0)
    labels = to_array(mask)
    voxel_ml = grid_of(mask).voxel_ml
    volumes = {
        name: float((labels == value).sum()) * voxel_ml
        for name, value in (("right", anatomy_lungs.RIGHT), ("left", anatomy_lungs.LEFT))
    }
    for warning in scan.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json({"output": str(output.resolve()), "volume_ml": volumes, "warnings": list(scan.warnings)})
    else:
        print_table(["lung", "ml"], [[name, f"{volume:.0f}"] for name, volume in volumes.items()])
        typer.echo(f"mask: {output}")


def phantom(
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    kind: Annotated[str, typer.Option(help="recovering, unchanged, worsening, breath or still.")] = "recovering",
    seed: Seed = 0,
    days: PhantomDays = None,
    spacing: Annotated[float, typer.Option(min=0.5, max=10, help="Voxel size in mm; the chest stays as large.")] = 1.75,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Make a synthetic patient with known truth.

    Dated CTs with their true motion, Jacobian, masks, lesions and landmarks, for trials, tests and training.
    """
    from LungRecoveryLib.cli.demonstration import make_phantom, write_phantom
    from LungRecoveryLib.files import atomic_directory
    from LungRecoveryLib.progress import part

    set_up(device, threads)
    with atomic_directory(output, overwrite) as folder, work() as progress:
        patient = make_phantom(kind, seed, spacing, days, part(progress, 0.0, 0.7))
        write_phantom(patient, folder, part(progress, 0.7, 1.0))
    if as_json:
        from LungRecoveryLib.results import plain

        print_json({"output": str(output.resolve()), "kind": kind, "seed": seed, "truth": plain(patient.truth())})
    else:
        typer.echo(f"patient: {output} ({len(patient.visits)} visits: {', '.join(v.label for v in patient.visits)})")


def info(device: Device = "auto", threads: Threads = None, as_json: Json = False) -> None:
    """Show versions, devices, threads and presets."""
    import torch

    from LungRecoveryLib import RESEARCH_USE_ONLY
    from LungRecoveryLib.registration.register import PRESETS
    from LungRecoveryLib.results import versions
    from LungRecoveryLib.system import processors

    set_up(device, threads)
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices = {"cpu": f"{processors()} processors"} | {f"cuda:{i}": name for i, name in enumerate(cuda)}
    content: dict[str, Any] = {
        "notice": RESEARCH_USE_ONLY,
        "versions": versions(),
        "devices": devices,
        "auto": "cuda:0" if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "presets": list(PRESETS),
    }
    if as_json:
        print_json(content)
        return
    for name in ("versions", "devices"):
        for key, value in content[name].items():
            typer.echo(f"{key}: {value}")
    typer.echo(f"--device auto takes: {content['auto']}")
    typer.echo(f"threads: {content['threads']}")
    typer.echo(f"presets: {', '.join(content['presets'])}")
    typer.echo(RESEARCH_USE_ONLY)
