"""How long work says how far it is, and how it is cancelled.

A progress function is called as ``progress(stage, fraction, message="")`` with the fraction (0 to 1) of the whole work
given to the function that calls it. It cancels that work by raising :class:`LungRecoveryLib.errors.Cancelled`.
"""

from collections.abc import Callable

Progress = Callable[..., None]


def no_progress(stage: str, fraction: float, message: str = "") -> None:
    """Say nothing and never cancel."""


def part(progress: Progress, start: float, end: float, prefix: str = "") -> Progress:
    """The progress function for a part of the work that takes the fractions from `start` to `end` of the whole.

    `prefix` is put before the stage's name, for instance a time point's label.
    """

    def report(stage: str, fraction: float, message: str = "") -> None:
        fraction = min(max(fraction, 0.0), 1.0)
        progress(f"{prefix}{stage}", start + (end - start) * fraction, message)

    return report


def share_of(index: int, count: int, start: float, end: float) -> tuple[float, float]:
    """The part of the progress from `start` to `end` that belongs to one of `count` equal steps."""
    width = (end - start) / count
    return start + index * width, start + (index + 1) * width
