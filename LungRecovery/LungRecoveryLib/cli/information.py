"""`lungrecovery info`: versions and devices, the licences of all packages, the software bill of materials."""

from pathlib import Path
from typing import Annotated, Any

import typer

from LungRecoveryLib.cli.common import Device, Json, Overwrite, Threads, print_json, set_up
from LungRecoveryLib.errors import BadInput


def info(
    licences: Annotated[
        bool, typer.Option("--licences", help="List every installed package that this one needs, with its licence.")
    ] = False,
    sbom: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the bill of materials as CycloneDX JSON.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Show versions, devices, threads and presets; or the licences and the bill of materials of this installation."""
    if not licences and sbom is None:
        _show_system(device, threads, as_json)
        return
    from dataclasses import asdict

    from LungRecoveryLib.dependencies import installed_packages

    packages = installed_packages()
    if sbom is not None:
        _write_sbom(packages, sbom, overwrite)
    if as_json:
        written = {} if sbom is None else {"sbom": str(sbom.resolve())}
        print_json({**written, "packages": [asdict(package) for package in packages]})
        return
    if licences:
        for p in packages:
            typer.echo(f"{p.name:28} {p.version:14} {', '.join(p.extras):24} {p.licence}")
    if sbom is not None:
        typer.echo(f"bill of materials: {sbom} ({len(packages)} packages)")


def _write_sbom(packages: list[Any], path: Path, overwrite: bool) -> None:
    from LungRecoveryLib.dependencies import sbom
    from LungRecoveryLib.files import atomic_write_text
    from LungRecoveryLib.registration.weights import read_card
    from LungRecoveryLib.resources import resource

    if path.exists() and not overwrite:
        raise BadInput(f"{path}: exists already; choose another name or give --overwrite")
    weights = sorted(resource("Models").glob("*.safetensors"))
    atomic_write_text(path, sbom(packages, [{**read_card(file), "name": file.name} for file in weights]))


def _show_system(device: str, threads: int | None, as_json: bool) -> None:
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
