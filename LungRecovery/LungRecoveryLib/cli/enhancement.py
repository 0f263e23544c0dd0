"""`lungrecovery enhance`: the parenchyma of a CT freed of the scan's own bias."""

from pathlib import Path
from typing import Annotated, Any

import typer

from LungRecoveryLib.cli.common import Device, Json, Overwrite, Threads, number, print_json, print_table, set_up, work
from LungRecoveryLib.errors import BadInput

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def enhance(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A scan: a file or a DICOM folder.")],
    output: Annotated[Path, typer.Option(help="The enhanced image to write, for instance enhanced.nii.gz.")],
    lesions: Annotated[
        Path | None, typer.Option(help="Also write what stands out: 1 plainly visible, 2 seen only after enhancement.")
    ] = None,
    radiomics: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Also write radiomic features, before and after enhancement.")
    ] = None,
    lungs: Annotated[Path | None, typer.Option(metavar="MASK", help="A lung mask to use.")] = None,
    lobes: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="Lobes for --radiomics: 1-3 right upper, middle, lower; 4, 5 left."),
    ] = None,
    airways: Annotated[
        Path | None, typer.Option(metavar="MASK", help="The airways' lumen to use, 1 in the trachea.")
    ] = None,
    vessels: Annotated[Path | None, typer.Option(metavar="MASK", help="A mask of the vessels to use.")] = None,
    series: Annotated[str | None, typer.Option(help="The DICOM series to take: UID, number or description.")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Make the enhanced image of a CT: HU above the scan's own healthy parenchyma, vessels and airways taken out.

    Prints the baseline, the window to look with, noise and kernel, the calibration by tracheal air and blood, and how
    much of the lungs stands out.
    """
    from LungRecoveryLib import images
    from LungRecoveryLib.anatomy import lungs as anatomy_lungs
    from LungRecoveryLib.files import atomic_write_text
    from LungRecoveryLib.parenchyma.radiomics import measure, require_mirp, rows_of, to_csv
    from LungRecoveryLib.parenchyma.scan import assess
    from LungRecoveryLib.progress import part
    from LungRecoveryLib.timepoints import about

    set_up(device, threads)
    for path in filter(None, (output, lesions)):
        _check_output(path, overwrite)
    if radiomics is not None:
        require_mirp()
        _check_output(radiomics, overwrite, (".csv",))
    for path in filter(None, (lungs, lobes, airways, vessels)):
        if not path.exists():
            raise BadInput(f"{path}: does not exist; correct the path")
    with work() as progress:
        scan = images.read_scan(ct, series, part(progress, 0.0, 0.1))
        if lungs is not None:
            with about(lungs.name):
                mask = anatomy_lungs.label_sides(images.read_mask(lungs, scan.image), scan.image)
        else:
            mask = anatomy_lungs.segment_lungs(scan.image, part(progress, 0.1, 0.4))
        *tubes, parts = [None if p is None else images.read_mask(p, scan.image) for p in (airways, vessels, lobes)]
        with about(scan.name):
            found = assess(scan.image, mask, *tubes, progress=part(progress, 0.4, 0.9))
        images.write_image(found.enhanced, output)
        if lesions is not None:
            images.write_image(found.lesions, lesions)
        if radiomics is not None:
            both = {"plain": scan.image, "enhanced": found.enhanced}
            table = measure(both, mask, parts, found.lesions, part(progress, 0.9, 1.0))
            atomic_write_text(radiomics, to_csv(rows_of(table)))
        progress("done", 1.0)
    warnings = [*scan.warnings, *found.warnings]
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    content: dict[str, Any] = {"output": str(output.resolve())}
    if lesions is not None:
        content["lesions_output"] = str(lesions.resolve())
    if radiomics is not None:
        content["radiomics_output"] = str(radiomics.resolve())
    content |= found.summary() | {"warnings": warnings}
    if as_json:
        print_json(content)
    else:
        _show(content, output)


def _check_output(path: Path, overwrite: bool, suffixes: tuple[str, ...] = _SUFFIXES) -> None:
    if path.is_dir() or (path.exists() and not overwrite):
        raise BadInput(f"{path}: exists already; choose another name or give --overwrite")
    if not path.name.endswith(suffixes):
        raise BadInput(f"{path}: give it a name that ends in {' or '.join(suffixes)}")


def _show(content: dict[str, Any], output: Path) -> None:
    """The numbers for people."""
    baseline, window, found = content["baseline"], content["window"], content["lesions"]
    noise, calibration = content["noise"] or {}, content["calibration"]
    rows = [
        ["healthy parenchyma HU", number(baseline["level_hu"], 0)],
        ["gradient, HU per mm towards the back", number(baseline["slope"])],
        ["window: level HU", number(window["level_hu"], 0)],
        ["window: width HU", number(window["width_hu"], 0)],
        ["noise in soft tissue, HU", number(noise.get("sd_hu"), 0)],
        ["noise correlated over, mm", number(noise.get("correlation_mm"))],
        ["tracheal air HU", number(calibration["air_hu"], 0)],
        ["blood HU", number(calibration["blood_hu"], 0)],
        ["stands out, % of the lungs", number(found["percent"], 1)],
        ["  mean HU above the baseline, plainly visible", number(found["mean_excess_hu"], 0)],
        ["  seen only after enhancement, %", number(found["subtle_percent"], 1)],
    ]
    print_table(["measure", "value"], rows)
    typer.echo(f"enhanced image: {output}")
