"""How measures go over the dates, in words."""

from collections.abc import Mapping
from typing import Any

from LungRecoveryLib.report.text import DENSITY, LESIONS, SCORES, THIN, UNDEFINED, Measure, days, number


def trend(series: Mapping[str, Any], axis: str) -> str:
    """How a series goes over the dates, with its interval."""
    per = "per 30 days" if axis == "days" else "per visit"
    factor = 30.0 if axis == "days" else 1.0
    measure = measure_of(series)
    unit = THIN + measure.unit if measure.unit else ""
    difference = f"{unit} points" if measure.unit == "%" else unit
    if series.get("exponential"):
        parts = series["exponential"]
        end = estimate(parts["end"], measure.decimals, unit)
        constant = estimate(parts["time_constant"], 0, THIN + ("days" if axis == "days" else "visits"))
        return f"approaches {end}, time constant {constant}"
    if series.get("slope"):
        return estimate(series["slope"], measure.decimals, f"{difference} {per}", factor, signed=True)
    if series.get("change"):
        return estimate(series["change"], measure.decimals, difference, signed=True)
    return UNDEFINED


def estimate(
    value: Mapping[str, float | None], decimals: int, unit: str = "", factor: float = 1.0, signed: bool = False
) -> str:
    """An estimate {value, low, high} with its unit and its interval."""
    shown, low, high = (
        None if value.get(key) is None else number(value[key] * factor, decimals, signed)
        for key in ("value", "low", "high")
    )
    if shown is None:
        return UNDEFINED
    return f"{shown}{unit}" + (f" ({low} to {high})" if low is not None and high is not None else "")


def day_reached(series: Mapping[str, Any]) -> str:
    """The day at which a score reaches 0.85, or why none is given."""
    day = series.get("day_reaches_0_85")
    if not day or day.get("estimate") is None:
        return series.get("day_reaches_0_85_reason") or UNDEFINED
    low, high = day.get("low"), day.get("high")
    end = "later than can be told" if high is None else number(high)
    return f"{days(day['estimate'])} ({UNDEFINED if low is None else number(low)} to {end})"


def measure_of(series: Mapping[str, Any]) -> Measure:
    """How the values of a trajectory's series are shown."""
    name = series["name"]
    known = SCORES.get(name) or DENSITY.get(name) or LESIONS.get(name)
    if known:
        return known
    unit = series.get("unit") or ""
    decimals = {"%": 1, "HU": 1, "HU²": 0}.get(unit, 3)
    return Measure(series.get("title") or name.replace("_", " "), unit, decimals, "")
