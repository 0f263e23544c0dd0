"""`lungrecovery send`: DICOM objects to a PACS."""

from pathlib import Path
from typing import Annotated

import typer

from LungRecoveryLib.cli.common import Json, print_json, work
from LungRecoveryLib.errors import BadInput


def send(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the DICOM objects, or a study's.")],
    aet: Annotated[str, typer.Option(help="The receiver's application entity title.")],
    host: Annotated[str, typer.Option(help="The receiver's host name or address.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The receiver's port.")],
    calling_aet: Annotated[str, typer.Option(help="The title to call with.")] = "LUNGRECOVERY",
    retries: Annotated[int, typer.Option(min=0, max=100, help="How often to try an object again.")] = 3,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for an answer.")] = 30.0,
    log: Annotated[Path | None, typer.Option(help="Where to log every object (default: DIR/sent.csv).")] = None,
    as_json: Json = False,
) -> None:
    """Send DICOM objects to a PACS.

    The receiver is verified first; every object is logged with its status.
    """
    from LungRecoveryLib.send import LOG, Receiver, send

    receiver = Receiver(aet, host, port, calling_aet, timeout, retries)
    with work() as progress:
        results = send(folder, receiver, progress, log)
    failed = [result for result in results if not result.stored]
    if as_json:
        objects = [{"file": r.file.relative_to(folder).as_posix(), "stored": r.stored} for r in results]
        print_json({"sent": len(results) - len(failed), "failed": len(failed), "objects": objects})
    else:
        typer.echo(f"{len(results) - len(failed)} of {len(results)} objects stored by {receiver.name}")
    if failed:
        first = failed[0]
        raise BadInput(
            f"{len(failed)} of {len(results)} objects were not stored ({first.file.name}: {first.message}); see "
            f"{log or folder / LOG} and send the folder again"
        )
