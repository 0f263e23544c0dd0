"""What went wrong, in words a radiologist knows; the technical part stays behind a button."""

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

BAD_INPUT, MISSING, MEMORY, CANCELLED, BUG = 2, 3, 4, 5, 1

# How the command line names what the panel calls otherwise.
_OPTIONS = {
    "choose --preset fast": "choose the preset Fast",
    "choose --device cpu": "choose the device CPU",
    "--allow-different-patients": "“Accept scans whose patient IDs differ” in More settings",
    "free some space or choose another --output": "free some space",
    "make room or give an output on another disk": "delete some files there, or keep the results on another disk",
    "give an output in a writable folder": "choose another folder under “Keep results in”",
}


@dataclass(frozen=True)
class Failure:
    """Why an analysis ended without a result: a sentence for the user, technical details, the worker's exit code."""

    message: str
    detail: str = ""
    code: int = BUG


def of_worker(code: int, message: str, detail: str, files: Mapping[str, str]) -> Failure:
    """The failure that a worker reported; `files` maps the files it read to what the user calls them."""
    text = plain(message, files)
    if code == MEMORY:
        text = _("The computer ran out of memory. Close other programs, or choose the preset Fast.")
    elif code == BUG:
        detail = f"{message}\n\n{detail}".strip()
        text = _("The analysis met an unexpected error. Nothing in the scene was changed. Please report the details.")
    return Failure(text, detail or message, code)


def of_silence(code: int | None, log: str) -> Failure:
    """The failure of a worker that ended without saying why; `code` is None where it crashed or was killed."""
    if code is None:
        text = _(
            "The analysis was ended by the system, most often because memory ran out. Close other programs, or choose "
            "the preset Fast. Nothing in the scene was changed."
        )
        return Failure(text, log, MEMORY)
    text = _("The analysis ended without a result (code {code}). Nothing in the scene was changed.").format(code=code)
    return Failure(text, log, BUG)


def not_started(log: str) -> Failure:
    """The failure of a worker that could not even be started."""
    return Failure(
        _("Slicer's own Python could not be started. Install Slicer again, or report the details."), log, BUG
    )


def of_error(error: Exception, detail: str = "") -> Failure:
    """The failure for an exception in the panel itself."""
    from LungRecoveryLib.errors import LungRecoveryError, is_out_of_memory

    if isinstance(error, LungRecoveryError):
        return Failure(plain(str(error), {}), detail, error.exit_code)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(_("The disk is full. Delete some files, or choose a folder on another disk."), detail, BAD_INPUT)
    if isinstance(error, OSError):
        text = _("{file} could not be read or written: {reason}.").format(
            file=error.filename or _("A file"), reason=error.strerror or error
        )
        return Failure(text, detail or str(error), BAD_INPUT)
    if is_out_of_memory(error):
        return Failure(_("The computer ran out of memory. Close other programs and try again."), detail, MEMORY)
    text = _("Something unexpected happened. Nothing in the scene was changed. Please report the details.")
    return Failure(text, detail or f"{type(error).__name__}: {error}", BUG)


def plain(message: str, files: Mapping[str, str]) -> str:
    """A worker's message with the user's names in place of files and of command-line options, as a sentence."""
    for path, name in sorted(files.items(), key=lambda pair: -len(pair[0])):
        message = message.replace(path, name)
        message = message.replace(Path(path).name, name)
    for option, words in _OPTIONS.items():
        message = message.replace(option, _(words))
    message = message.strip()
    if re.match(r"[a-z]+[ ,]", message):  # and not the name of a file
        message = message[:1].upper() + message[1:]
    return message + ("" if message.endswith((".", "!", "?")) or not message else ".")


def show(failure: Failure, title: str | None = None) -> None:
    """Show a failure in a dialog, its details behind a button."""
    import slicer

    options = {"detailedText": failure.detail} if failure.detail else {}
    slicer.util.errorDisplay(failure.message, windowTitle=title or _("Lung Recovery"), **options)
