"""The errors a user can meet, each with the exit code of the command line."""


class LungRecoveryError(Exception):
    """Base of every error whose message is written for the user: one sentence that names the thing and the remedy."""

    exit_code = 1


class BadInput(LungRecoveryError):
    """What the user gave cannot be used: a path, an image, an option."""

    exit_code = 2


class MissingDependency(LungRecoveryError):
    """A package or system library that this command needs is not installed."""

    exit_code = 3


class OutOfMemory(LungRecoveryError):
    """The work does not fit into memory, not even on the CPU."""

    exit_code = 4


class Cancelled(LungRecoveryError):
    """The user stopped the work."""

    exit_code = 5


class QualityGateFailed(LungRecoveryError):
    """The results are there but a registration did not pass its quality gate."""

    exit_code = 6


# Neither torch on the CPU nor ITK has a type of its own for it.
_MEMORY_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "failed to allocate memory",
    "bad_alloc",
    "out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, by its type or by its words."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY_WORDS)
