"""Scores and densities over the dates: change, trend, approach, and the day at which a score reaches 0.85."""

from collections.abc import Mapping, Sequence

from ..progress import Progress, no_progress


def trajectory(
    timepoints: Sequence[Mapping],
    regions: Mapping[str, str] | None = None,
    seed: int = 0,
    samples: int = 1000,
    progress: Progress = no_progress,
) -> dict:
    """The `trajectory` entry of study.json from its `timepoints` entries (days, visit, baseline, reliable, density,
    scores), baseline first: {"axis": "days"|"visit", "notes": [..], "errors": {name: source of its error}, "series":
    {"<name>.<region>": {name, unit, region, points [{x, value, error, reliable}], model "change"|"linear"|
    "exponential", change {value, low, high}|None, slope {value, low, high}|None, exponential {start, end,
    time_constant, each {value, low, high}}|None, interval 0.95, curve [{x, low, mid, high}], day_reaches_0_85
    {estimate, low, high}|None, day_reaches_0_85_reason str|None, note str|None}}}."""
    raise NotImplementedError
