"""Progress on standard error: a bar with the stage and the remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from LungRecoveryLib.progress import Progress


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A progress function that shows itself on standard error while the block runs."""
    if sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed, left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Bar(*columns, console=Console(stderr=True), speed_estimate_period=120) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(stage: str, fraction: float, message: str = "") -> None:
            bar.update(task, description=f"{stage} {message}".strip()[:48].ljust(32), completed=fraction)

        yield report


class _Lines:
    """A line when the stage changes, and then one for every tenth of the work."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._stage = ""
        self._tenth = -1

    def __call__(self, stage: str, fraction: float, message: str = "") -> None:
        tenth = int(fraction * 10)
        if stage == self._stage and tenth == self._tenth:
            return
        self._stage, self._tenth = stage, tenth
        passed = time.monotonic() - self._start
        left = f", about {passed / fraction * (1 - fraction):.0f} s left" if 0.05 < fraction < 1 else ""
        text = f"{stage}: {message}" if message else stage
        print(f"[{100 * fraction:3.0f}%] {text} ({passed:.0f} s{left})", file=sys.stderr, flush=True)
