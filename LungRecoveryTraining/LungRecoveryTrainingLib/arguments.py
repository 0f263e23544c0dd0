"""What jsonargparse says about wrong arguments and configs, in one sentence for the user."""

import re
from argparse import ArgumentError

from LungRecoveryLib.errors import BadInput

PARSER = {"exit_on_error": False, "allow_abbrev": False}
"""How every parser is made: errors are raised, and half a name is no name."""

_KEY = re.compile(r'Parser key "([^"]+)"')
_UNKNOWN = re.compile(
    r"(?:Group '([^']+)' )?does not accept option '([^']+)'|Option '([^']+)' is not accepted"
    r"|unrecognized arguments: (\S+)|Key '([^']+)' is not expected"
)
# Lines that only lead up to the reason.
_FRAME = ("Does not validate", "Subtypes:", "Errors:", "Problem with given class_path", "Parser key", "Given value")


def bad_argument(error: ArgumentError, command: str) -> BadInput:
    """The parser's error as one sentence that names the setting and the remedy."""
    text = str(error)
    remedy = f"see lungrecovery-train {command} --help"
    within = _KEY.findall(text)
    unknown = _UNKNOWN.search(text)
    if unknown:
        name = ".".join([*within, *(part for part in unknown.groups() if part)])
        return BadInput(f"There is no setting {name.removeprefix('--').partition('=')[0]!r}: {remedy}.")
    if within:
        return BadInput(f"The setting {'.'.join(within)!r} does not fit ({_reason(text)}): {remedy}.")
    return BadInput(f"{_flat(text)}: {remedy}.")


def _reason(text: str) -> str:
    """The first line that says what is wrong, with the value where it does not say it."""
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()[1:]]
    reason = next((line for line in lines if line and not line.startswith(_FRAME)), "it cannot be read")
    given = re.search(r"Given value: (.+)", text)
    if given and "value" not in reason and len(given.group(1)) < 60:
        reason += f", not {given.group(1)}"
    return _flat(reason)


def _flat(text: str) -> str:
    return re.sub(r"<class '([^']+)'>", r"\1", " ".join(text.split())).rstrip(".")
