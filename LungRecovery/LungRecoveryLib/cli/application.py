"""The commands of `lungrecovery`, put together."""

from typing import Annotated

import typer

from LungRecoveryLib import RESEARCH_USE_ONLY, __version__
from LungRecoveryLib.cli import (
    analysis,
    cohorts,
    demonstration,
    enhancement,
    information,
    pair,
    rigid,
    scan,
    sending,
    viewing,
)
from LungRecoveryLib.cli.common import Command

app = typer.Typer(
    name="lungrecovery",
    help=f"Longitudinal chest CT: where has the lung recovered, and how fast? {RESEARCH_USE_ONLY}.",
    epilog="Start with: lungrecovery demo --output demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lungrecovery {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Only the options that stand before a command."""


for name, function, example in (
    ("demo", demonstration.demo, "lungrecovery demo --output demo"),
    (
        "analyze",
        analysis.analyze,
        "lungrecovery analyze baseline.nii.gz month1.nii.gz month3/ --days 0 30 90 --output study",
    ),
    ("view", viewing.view, "lungrecovery view study"),
    ("register", pair.register, "lungrecovery register --fixed baseline.mha --moving followup.mha --output pair"),
    (
        "rigid",
        rigid.rigid,
        "lungrecovery rigid --fixed venous.nii.gz --moving arterial.nii.gz --fixed-mask liver.nii.gz --output rigid",
    ),
    ("evaluate", pair.evaluate, "lungrecovery evaluate --transform pair/transform.h5 --landmarks landmarks.csv"),
    ("segment", scan.segment, "lungrecovery segment ct.nii.gz --output lungs.nii.gz"),
    ("enhance", enhancement.enhance, "lungrecovery enhance ct.nii.gz --output enhanced.nii.gz"),
    ("phantom", scan.phantom, "lungrecovery phantom --kind recovering --seed 1 --output patient"),
    ("cohort", cohorts.cohort, "lungrecovery cohort patients.csv --output cohort --workers 2"),
    ("send", sending.send, "lungrecovery send study/dicom --aet PACS --host pacs.local --port 104"),
    ("info", information.info, "lungrecovery info --licences --sbom sbom.json"),
):
    app.command(name, cls=Command, epilog=f"Example:\n  {example}")(function)
