"""`lungrecovery view`: a study, or scans to be analysed first, in the browser."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from LungRecoveryLib.cli.common import Overwrite, Preset, Threads
from LungRecoveryLib.errors import BadInput, MissingDependency

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_IDLE_AFTERWARDS = 600.0  # seconds without a page after which a viewer that nobody asked for by itself ends


def view(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="DIR | [LABEL=]PATH...", help="A study's folder, or scans after --timepoints."),
    ],
    timepoints: Annotated[
        bool, typer.Option("--timepoints", help="Analyse the scans that are named first; the page shows how far it is.")
    ] = False,
    days: Annotated[
        list[float] | None, typer.Option(metavar="DAY...", help="The day of each scan, the baseline's first: 0 30 90.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to keep the analysis; without it nothing is left when the viewer ends.")
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to compute.")] = None,
    threads: Threads = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but this machine's takes --certificate or --insecure.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 0,
    certificate: Annotated[Path | None, typer.Option(help="The certificate for https (PEM), with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="The private key of the certificate (PEM).")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let others reach the viewer without encryption: they may read along.")
    ] = False,
    idle: Annotated[
        float, typer.Option(min=0, metavar="MINUTES", help="End when no page was open for so long; 0: never.")
    ] = 60.0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """See a study in the browser: slices with maps, scores, charts, files.

    The address that is printed carries a key for this run; only this machine can reach it. Ctrl-C ends the viewer.
    """
    from LungRecoveryLib.viewer.checks import require_packages

    _check_host(host, certificate, key, insecure)
    study, job = None, None
    if timepoints:
        job = _job(paths, days or [], output, preset, overwrite, device, threads)
    else:
        study = _study(paths, [days, output, preset, device, threads])
    require_packages(study)
    from LungRecoveryLib.viewer.serve import Settings, serve

    settings = Settings(host, port, certificate, key, 60 * idle, browser=not no_browser and has_browser())
    serve(settings, _say, study, job)


def has_browser() -> bool:
    """Whether a page can be opened here: nobody looks where CI runs or where there is no display."""
    if os.environ.get("CI"):
        return False
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show_afterwards(study: Path, no_browser: bool) -> None:
    """Show a study that another command has just made; where nobody is there to look, say how to see it.

    What is missing for that is said in a sentence, for the study itself stands.
    """
    if no_browser or os.environ.get("CI") or not (has_browser() or sys.stdin.isatty()):
        typer.echo(f"in the browser: lungrecovery view {study}")
        return
    from LungRecoveryLib.viewer.checks import require_packages

    try:
        require_packages(study)
        from LungRecoveryLib.viewer.serve import Settings, serve

        serve(Settings(idle=_IDLE_AFTERWARDS, browser=has_browser()), _say, study)
    except MissingDependency as missing:
        typer.echo(str(missing), err=True)


def _say(address: str) -> None:
    typer.echo(f"viewer: {address}")
    typer.echo("Ctrl-C ends it.", err=True)


def _study(paths: list[str], others: list[Any]) -> Path:
    if len(paths) != 1:
        raise BadInput("several paths are named: name one study's folder, or put --timepoints before scans")
    if any(value is not None for value in others):
        raise BadInput("--days, --output, --preset, --device and --threads are for scans: put --timepoints before them")
    return Path(paths[0])


def _job(
    scans: list[str],
    days: list[float],
    output: Path | None,
    preset: str | None,
    overwrite: bool,
    device: str | None,
    threads: int | None,
) -> dict[str, Any]:
    """The job of the scans that are named, checked as far as no image is needed; paths are absolute."""
    from LungRecoveryLib.job import job_from, split_label

    if days and len(days) != len(scans):
        raise BadInput(f"--days names {len(days)} days for {len(scans)} scans: give one for each, the baseline's first")
    named = [split_label(scan) for scan in scans]
    for _label, path in named:
        if not Path(path).exists():
            raise BadInput(f"{path} does not exist: name a scan")
    content: dict[str, Any] = {
        "timepoints": [
            {"path": str(Path(path).resolve())} | ({"label": label} if label else {}) for label, path in named
        ]
    }
    for timepoint, day in zip(content["timepoints"], days, strict=False):
        timepoint["days"] = day
    given = {"preset": preset, "overwrite": overwrite or None, "device": device, "threads": threads}
    content |= {name: value for name, value in given.items() if value is not None}
    if output is not None:
        content["output"] = str(output.resolve())
    job_from({"output": "study", **content}, "the command")
    return content


def _check_host(host: str, certificate: Path | None, key: Path | None, insecure: bool) -> None:
    """Raise BadInput for what would let others reach the viewer without anybody having said so."""
    if (certificate is None) != (key is None):
        raise BadInput("--certificate and --key belong together: give both")
    for file in filter(None, (certificate, key)):
        if not file.is_file():
            raise BadInput(f"{file} does not exist: name a PEM file")
    if host not in _THIS_MACHINE and certificate is None and not insecure:
        raise BadInput(
            f"--host {host} lets others reach the viewer: give --certificate and --key for https, or --insecure"
        )
