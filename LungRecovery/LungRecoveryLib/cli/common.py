"""What every command shares: exit codes, options, output for people and for programs."""

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from LungRecoveryLib.cli.display import shown_progress
from LungRecoveryLib.errors import BadInput, QualityGateFailed
from LungRecoveryLib.progress import Progress
from LungRecoveryLib.resources import NO_NETWORK
from LungRecoveryLib.system import cancellable
from LungRecoveryLib.worker import TRACE_VARIABLE, describe

Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to compute; auto takes a CUDA device when there is one.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="preview|fast|standard|accurate",
        help="Speed against accuracy (default standard); preview is the network alone.",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="The network that gives the start: a .safetensors file (default: the shipped one).")
]
NoNetwork = Annotated[bool, typer.Option("--no-network", help="Refine from rest, without a network's start.")]
Threads = Annotated[int | None, typer.Option(min=1, help="How many processor threads to use (default: all).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="TABLE",
        help="What the labels of --lungs mean: totalsegmentator, lungmask-r231, lungmask-ltrclobes or a JSON file.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results in the output folder.")]
PhantomDays = Annotated[
    list[float] | None, typer.Option("--days", metavar="DAY...", help="The days of the visits (default 0 30 90 180).")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed and inputs give the same numbers.")]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(,[+-]?(\d+\.?\d*|\.\d+))*")


class Command(TyperCommand):
    """A command whose errors are one sentence on standard error and the exit code of their kind.

    `--days 0 30 90` and `--days 0,30,90` mean the same as `--days 0 --days 30 --days 90`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any("--days" in getattr(parameter, "opts", ()) for parameter in self.params):
            args = spread_numbers(args, "--days")
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"\n{self.epilog}\n")  # as it stands: an example must not be wrapped

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.split(".")[0] in ("click", "typer"):  # usage errors show themselves
                raise
            code, message = describe(error)
            if os.environ.get(TRACE_VARIABLE):
                traceback.print_exc()
            typer.echo(f"lungrecovery {ctx.info_name}: {message}", err=True)
            if ctx.params.get("as_json") and not isinstance(error, QualityGateFailed):  # whose results were printed
                print_json({"error": {"code": code, "message": message}})
            raise typer.Exit(code) from None


def spread_numbers(arguments: list[str], option: str) -> list[str]:
    """Arguments with the numbers that follow an option each given by an option of its own."""
    spread: list[str] = []
    following = False
    for index, argument in enumerate(arguments):
        if argument == "--":
            return spread + arguments[index:]
        if argument == option:
            following = True
            if index + 1 == len(arguments) or not _NUMBER.fullmatch(arguments[index + 1]):
                spread.append(argument)  # the parser says what is wrong
            continue
        name, equals, value = argument.partition("=")
        if name == option and equals and _NUMBER.fullmatch(value):
            following, argument = True, value
        if following and _NUMBER.fullmatch(argument):
            spread += [part for number in argument.split(",") for part in (option, number)]
            continue
        following = False
        spread.append(argument)
    return spread


@contextmanager
def work() -> Iterator[Progress]:
    """Progress on standard error, and Ctrl-C or termination raise Cancelled within the block."""
    with shown_progress() as shown, cancellable(shown) as progress:
        yield progress


def set_up(device: str, threads: int | None) -> None:
    """Check the device and set the threads; BadInput for a device that is not here."""
    from LungRecoveryLib.system import check_device, use_threads

    check_device(device)
    use_threads(threads)


def print_json(content: Any) -> None:
    """Print a JSON value on standard output."""
    sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def print_table(header: list[str], rows: list[list[str]], write: Callable[[str], None] = typer.echo) -> None:
    """Print rows of text in columns, the first one to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        write("  ".join(cells).rstrip())


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def options_table(values: list[str], option: str) -> dict[str, float]:
    """Numbers by name from option values NAME=NUMBER; BadInput, naming the option, for anything else."""
    table: dict[str, float] = {}
    for value in values:
        name, _, text = value.partition("=")
        try:
            table[name.strip()] = float(text)
        except ValueError:
            raise BadInput(f"{option} {value}: write NAME=NUMBER") from None
    return table


def chosen_weights(weights: str | None, no_network: bool) -> str | None:
    """The weights that --weights and --no-network ask for; None for the default. Raises BadInput for both at once."""
    if no_network and weights:
        raise BadInput("--weights and --no-network contradict each other: give one of them")
    return NO_NETWORK if no_network else weights
