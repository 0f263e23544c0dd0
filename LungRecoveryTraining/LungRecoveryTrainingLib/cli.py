"""`lungrecovery-train fit | validate | test | prepare | benchmark`."""

import re
import sys

from LungRecoveryLib.errors import Cancelled, LungRecoveryError, MissingDependency, OutOfMemory
from LungRecoveryLib.worker import describe

LIGHTNING_COMMANDS = ("fit", "validate")
_USAGE = """Usage: lungrecovery-train COMMAND [OPTIONS]

Commands:
  fit        train a network: lungrecovery-train fit --config default --config cpu
  validate   the objective and errors of a checkpoint on the validation pairs
  test       accuracy of weights on a manifest's test pairs, alone and refined, with tables and figures
  prepare    make a manifest from a public data set, a folder of CTs, phantoms or synthetic pairs
  benchmark  pairs per second, time by stage and memory, beside other implementations

Each has --help. Configs that come with the module are named without a path: default and, over it, cpu, h200,
multilevel, lung, oasis. `fit --ckpt_path last` resumes the newest run, `fit --smoke-test` tries a config in seconds.
"""
_NO_MEMORY = "The work does not fit into memory: lower data.batch_size or data.size, or use a machine with more."


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 bad input, 3 missing dependency, 4 out of memory, 5 cancelled,
    1 a bug or a loss that is not a number."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("--help", "-h"):
        print(_USAGE)
        return 0 if arguments else 2
    try:
        if arguments[0] in LIGHTNING_COMMANDS:
            from .fitting import run_lightning

            run_lightning(arguments)
        else:
            from .commands import run

            run(arguments)
    except SystemExit as end:
        # Lightning ends the process on an interrupt; --help ends it, too.
        if isinstance(end.__context__, KeyboardInterrupt) or type(end).__name__ == "SIGTERMException":
            return _told(*_cancelled(arguments[0]))
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        code, sentence = _described(error, arguments[0])
        if code == LungRecoveryError.exit_code and not isinstance(error, LungRecoveryError):
            raise  # a bug: the traceback tells most
        return _told(code, sentence)
    return 0


def _cancelled(command: str) -> tuple[int, str]:
    resume = ": go on from the last checkpoint with --ckpt_path last" if command == "fit" else ""
    return Cancelled.exit_code, f"Cancelled{resume}."


def _described(error: BaseException, command: str) -> tuple[int, str]:
    """The exit code and the sentence of what ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return _cancelled(command)
    if isinstance(error, LungRecoveryError):
        return error.exit_code, _sentence(str(error))
    absent = _absent_package(error)
    if absent is not None:
        what = str(absent)
        if absent.name:
            what = f"The package {absent.name!r} is missing: pip install 'lungrecovery[train]'"
        return MissingDependency.exit_code, f"{' '.join(what.split()).rstrip('.')}."
    code, sentence = describe(error)
    return code, _NO_MEMORY if code == OutOfMemory.exit_code else sentence


def _absent_package(error: BaseException | None) -> ModuleNotFoundError | None:
    """The import that failed at the root of an error, if one did."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    return error


def _sentence(message: str) -> str:
    """An error's own words, without the report of the worker process that it happened in."""
    if not message.startswith("Caught "):
        return message
    return re.split(r"\n(?:Original )?(?:\w+\.)*\w+: ", message.strip())[-1]


def _told(code: int, sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
