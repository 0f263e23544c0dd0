"""`lungrecovery segment` and `phantom`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from LungRecoveryLib.cli.common import (
    Device,
    Json,
    Labels,
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
    output: Annotated[
        Path,
        typer.Option(help="A file for the lungs alone, lungs.nii.gz; a folder for everything."),
    ],
    series: Annotated[str | None, typer.Option(help="The DICOM series to take: UID, number or description.")] = None,
    lungs: Annotated[
        Path | None, typer.Option(metavar="MASK", help="Lungs to take instead of looking for them.")
    ] = None,
    labels: Labels = None,
    method: Annotated[
        str, typer.Option(help="Of the lungs: network, which finds collapsed lobes and large masses too, or classical.")
    ] = "network",
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Segment the lungs of a CT, or lungs, lobes, airways, vessels and lesions.

    The masks lie on the scan's grid. Lungs: 1 right, 2 left. Lobes, as far as their fissures are visible: right upper
    1, middle 2, lower 3, left upper 4, lower 5. Airways: 1 trachea, 2 main bronchi, one more for each
    branching. Lesions: 1 ground glass, 2 consolidation, 3 reticulation.
    """
    set_up(device, threads)
    if not output.suffix:
        _segment_all(ct, output, series, lungs, labels, method, overwrite, as_json)
        return
    if lungs or labels:
        raise BadInput("given lungs are taken for the structures inside them: give --output a folder's name")
    if output.is_dir() or (output.exists() and not overwrite):
        raise BadInput(f"{output}: exists already; choose another name or give --overwrite")
    if not output.name.endswith((".nii.gz", ".nii", ".nrrd", ".mha")):
        raise BadInput(f"{output}: give the mask a name that ends in .nii.gz, .nrrd or .mha, or none for a folder")
    from LungRecoveryLib import images
    from LungRecoveryLib.anatomy import lungs as anatomy_lungs
    from LungRecoveryLib.anatomy.checks import segmentation_warnings
    from LungRecoveryLib.progress import part

    with work() as progress:
        scan = images.read_scan(ct, series, part(progress, 0.0, 0.1))
        mask = anatomy_lungs.segment_lungs(scan.image, part(progress, 0.1, 0.98), method)
        images.write_image(mask, output)
        progress("done", 1.0)
    volumes = _volumes(mask, {"right": anatomy_lungs.RIGHT, "left": anatomy_lungs.LEFT})
    warnings = _warn([*scan.warnings, *segmentation_warnings(scan.image, mask)])
    if as_json:
        print_json({"output": str(output.resolve()), "volume_ml": volumes, "warnings": warnings})
    else:
        print_table(["lung", "ml"], [[name, f"{volume:.0f}"] for name, volume in volumes.items()])
        typer.echo(f"mask: {output}")


def _segment_all(
    ct: Path,
    output: Path,
    series: str | None,
    given: Path | None,
    labels: str | None,
    method: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a folder with every structure that can be segmented, and tell their volumes."""
    import numpy as np

    from LungRecoveryLib import images
    from LungRecoveryLib.anatomy.checks import segmentation_warnings
    from LungRecoveryLib.anatomy.label_tables import given_lungs
    from LungRecoveryLib.anatomy.lesions import LESION_NAMES
    from LungRecoveryLib.anatomy.lobes import LOBE_NAMES
    from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT, segment_lungs
    from LungRecoveryLib.anatomy.structures import segment_structures
    from LungRecoveryLib.files import atomic_directory
    from LungRecoveryLib.grids import to_array
    from LungRecoveryLib.progress import part

    with atomic_directory(output, overwrite, [ct]) as folder, work() as progress:
        scan = images.read_scan(ct, series, part(progress, 0.0, 0.05))
        lobes = None
        if given is None:
            lungs = segment_lungs(scan.image, part(progress, 0.05, 0.4), method)
        else:
            lungs, lobes = given_lungs(given, scan.image, labels)
        found = segment_structures(scan.image, lungs, part(progress, 0.4, 0.95), lobes)
        maps = {
            "lungs": lungs,
            "lobes": found.lobes.labels,
            "airways": found.airways,
            "vessels": found.vessels,
            "lesions": found.lesions,
        }
        if not found.lobes.found:
            del maps["lobes"]
        for name, image in maps.items():
            images.write_image(image, folder / f"{name}.nii.gz")
        progress("done", 1.0)
    generations = range(1, int(np.max(to_array(found.airways))) + 1)
    volumes = {
        "lungs": _volumes(lungs, {"right": RIGHT, "left": LEFT}),
        "lobes": _volumes(found.lobes.labels, {LOBE_NAMES[label]: label for label in found.lobes.found}),
        "airways": _volumes(found.airways, {f"generation {g - 1}": g for g in generations}),
        "vessels": _volumes(found.vessels, {"arteries and veins": 1}),
        "lesions": _volumes(found.lesions, {name: value for value, name in LESION_NAMES.items()}),
    }
    warnings = _warn([*scan.warnings, *segmentation_warnings(scan.image, lungs, found.airways, found.lesions)])
    if as_json:
        absent = {} if found.lobes.complete else {"lobes": found.lobes.missing()}
        content = {
            "output": str(output.resolve()),
            "method": method if given is None else "given",
            "volume_ml": volumes,
        }
        content["fissures_visible"] = dict(found.lobes.visible)
        print_json(content | {"absent": absent, "warnings": warnings})
        return
    rows = [[mask, name, f"{ml:.1f}"] for mask, parts in volumes.items() for name, ml in parts.items()]
    print_table(["mask", "label", "ml"], rows)
    if not found.lobes.complete:
        typer.echo(f"lobes: {found.lobes.missing()}")
    typer.echo(f"masks: {output}")


def _volumes(mask: Any, labels: dict[str, int]) -> dict[str, float]:
    """The volume in ml of each label of a mask."""
    import numpy as np

    from LungRecoveryLib.grids import grid_of, to_array

    array, voxel_ml = to_array(mask), grid_of(mask).voxel_ml
    return {name: float(np.count_nonzero(array == value)) * voxel_ml for name, value in labels.items()}


def _warn(warnings: list[str]) -> list[str]:
    """Print warnings on stderr; returns them."""
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    return warnings


def phantom(
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    kind: Annotated[
        str, typer.Option(help="recovering, unchanged, worsening, breath or still; or a pair: abdomen, brain.")
    ] = "recovering",
    seed: Seed = 0,
    days: PhantomDays = None,
    spacing: Annotated[float, typer.Option(min=0.5, max=10, help="Voxel size in mm; the chest stays as large.")] = 1.75,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Make a synthetic patient with known truth.

    Dated CTs with their true motion, Jacobian, masks, lesions and landmarks, for trials, tests and training; or an
    abdomen in two contrast phases, or two brains with labels.
    """
    from LungRecoveryLib.cli.demonstration import make_phantom, write_phantom
    from LungRecoveryLib.files import atomic_directory
    from LungRecoveryLib.phantom.pair_files import ORGANS, write_organ_pair
    from LungRecoveryLib.progress import part

    set_up(device, threads)
    if kind in ORGANS:
        with work() as progress:
            about = write_organ_pair(kind, seed, spacing, output, overwrite, progress)
        if as_json:
            print_json({"output": str(output.resolve()), **about})
        else:
            typer.echo(f"pair: {output}")
        return
    with atomic_directory(output, overwrite) as folder, work() as progress:
        patient = make_phantom(kind, seed, spacing, days, part(progress, 0.0, 0.7))
        write_phantom(patient, folder, part(progress, 0.7, 1.0))
    if as_json:
        from LungRecoveryLib.results import plain

        print_json({"output": str(output.resolve()), "kind": kind, "seed": seed, "truth": plain(patient.truth())})
    else:
        typer.echo(f"patient: {output} ({len(patient.visits)} visits: {', '.join(v.label for v in patient.visits)})")
