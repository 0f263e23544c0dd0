"""How long it will still take, said in a way that does not jump about."""

import time
from collections.abc import Callable

from slicer.i18n import tr as _

_LEAST_SHARE, _LEAST_SECONDS = 0.08, 8.0
_SMOOTHING = 0.2


class Remaining:
    """Estimates from the share that is done and the time since the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._start, self._estimate = clock, clock(), None

    def seconds(self, share: float) -> float | None:
        """Seconds that the rest will take at the pace so far; None as long as it is too early to tell."""
        spent = self._clock() - self._start
        if share < _LEAST_SHARE or spent < _LEAST_SECONDS:
            return None
        now = spent * (1.0 - share) / share
        self._estimate = now if self._estimate is None else self._estimate + _SMOOTHING * (now - self._estimate)
        return self._estimate

    def words(self, share: float) -> str:
        """The estimate in words; empty as long as there is none."""
        seconds = self.seconds(share)
        return "" if seconds is None else in_words(seconds)


def in_words(seconds: float) -> str:
    """A time that is left, rounded as far as it is known."""
    if seconds < 15:
        return _("a few seconds left")
    if seconds < 90:
        return _("about {number} s left").format(number=round(seconds / 10) * 10)
    return _("about {number} min left").format(number=round(seconds / 60))
