"""`lungrecovery rigid`: two scans of one body between which nothing changed its size."""

from pathlib import Path
from typing import Annotated

import typer

from LungRecoveryLib.cli.common import Device, Json, Overwrite, Seed, Threads, print_json, set_up, work
from LungRecoveryLib.resources import RIGID_WEIGHTS


def rigid(
    fixed: Annotated[Path, typer.Option(help="The scan to register onto, for instance the venous phase.")],
    moving: Annotated[Path, typer.Option(help="The scan to move, for instance the arterial phase.")],
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    fixed_mask: Annotated[Path | None, typer.Option(help="The organ in the fixed scan (default: the body).")] = None,
    moving_mask: Annotated[Path | None, typer.Option(help="The organ in the moving scan (default: the body).")] = None,
    roi_mm: Annotated[float, typer.Option(min=1, help="How far down from the organ's topmost slice counts.")] = 200.0,
    roi_slices: Annotated[int | None, typer.Option(min=1, help="The same as a number of slices.")] = None,
    short: Annotated[
        str, typer.Option(metavar="crop|skip", help="A scan that ends before: use what there is, or leave it out.")
    ] = "crop",
    metric: Annotated[str, typer.Option(metavar="nmi|mi|ncc|mse|mind", help="What is optimised.")] = "nmi",
    initial: Annotated[
        Path | None,
        typer.Option(help="A linear transform to start from (ITK, or a 4x4 text in LPS), made its nearest rotation."),
    ] = None,
    affine: Annotated[
        bool, typer.Option("--affine", help="Estimate an affine map on the way and take its nearest rotation.")
    ] = False,
    spacing: Annotated[float, typer.Option(min=0.5, max=5, help="Voxel size of the finest level in mm.")] = 1.5,
    weights: Annotated[
        str, typer.Option(help="The rigid network that gives the start: shipped or a .safetensors file; none: search.")
    ] = RIGID_WEIGHTS,
    network_only: Annotated[
        bool, typer.Option("--network-only", help="The network's start alone, not optimised: a second instead of many.")
    ] = False,
    allow_different_patients: Annotated[
        bool, typer.Option("--allow-different-patients", help="Accept scans whose patient IDs or anatomy differ.")
    ] = False,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Register two scans of one body by rotation and translation alone.

    For contrast phases of one examination. Leaves the transform, its matrix in LPS and RAS, and the warped scan.
    """
    from LungRecoveryLib import rigid_pairs

    set_up(device, threads)
    options = rigid_pairs.RigidOptions(
        weights=weights,
        optimised=not network_only,
        metric=metric,
        roi_mm=roi_mm,
        roi_slices=roi_slices,
        short=short,
        affine=affine,
        spacing_mm=spacing,
        threads=threads,
        seed=seed,
        allow_different_patients=allow_different_patients,
    )
    try:
        with work() as progress:
            content = rigid_pairs.register_rigid_pair(
                fixed, moving, output, fixed_mask, moving_mask, initial, options, overwrite, progress
            )
    except rigid_pairs.Skipped as skipped:  # as the options ask: no failure
        typer.echo(str(skipped), err=True)
        if as_json:
            print_json({"skipped": str(skipped)})
        return
    for line in content["log"]:
        typer.echo(line, err=True)
    for warning in content["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json({"output": str(output.resolve()), **content})
        return
    for name, unit in (("rotation", "degrees"), ("translation", "mm")):
        values = ", ".join(f"{axis} {value:.2f}" for axis, value in zip("xyz", content[f"{name}_{unit}"], strict=True))
        typer.echo(f"{name} in {unit}: {values}")
    typer.echo(f"agreement of the scans in the organ: {content['agreement']:.3f}")
    typer.echo(f"results: {output}")
