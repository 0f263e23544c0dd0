"""Scores and densities over the dates: change, trend, approach, and the day at which a score reaches 0.85.

Two dates give a change only, three or four a linear trend, five or more an exponential approach. Intervals come from a
parametric bootstrap: every value is drawn again from a normal distribution around it with the SD of its measurement
(see `series`), and everything is fitted anew. Points from a registration that failed its gate are shown, marked, and
kept out of every fit of a score; densities do not depend on the registration and stay.
"""

from collections.abc import Collection, Mapping, Sequence
from zlib import crc32

import numpy as np

from ..progress import Progress, no_progress
from .fits import Approach, Line, fit_approach, fit_line, weights_of
from .series import Measure, band_names, feature_measures, measures, values

GOAL = 0.85  # the score that counts as complete recovery
INTERVAL = 0.95
LOOK_AHEAD = 2.0  # how far the fit is believed, in observed spans from the first date
_CURVE_POINTS = 25
_LINEAR_FROM, _EXPONENTIAL_FROM = 3, 5
_PERCENTILES = (50.0 * (1.0 - INTERVAL), 50.0 * (1.0 + INTERVAL))

NOTES = (
    "Two dates give a change only; three or four a linear trend; five or more an exponential approach.",
    "Intervals are 95 % and come from each point's measurement error alone (parametric bootstrap).",
    "Scores from a registration that failed its quality gate are shown, marked, and kept out of the fits.",
)
UNDATED = "The visits have no dates: the axis counts visits and no day is estimated."


def trajectory(
    timepoints: Sequence[Mapping],
    regions: Collection[str] | None = None,
    seed: int = 0,
    samples: int = 1000,
    progress: Progress = no_progress,
) -> dict:
    """The course of every score and density in every region, and of the stable radiomic features where there are any.

    `timepoints` are the entries of study.json, baseline first, of which days, visit, baseline, reliable, density,
    scores and radiomics are used; `regions` are the regions to follow (all that were measured, when not given), beside
    those that only radiomics describe (the lesions). With the same `seed`
    the intervals are the same; `samples` is the number of bootstrap samples.

    Returns {axis ("days", or "visit" where any date is unknown), notes, errors {measure: where its error comes from},
    series {"<measure>.<region>": {name, title, unit, region, points [{x, value, error, reliable}], model ("change",
    "linear", "exponential", None without two usable dates), change {value, low, high} (last minus first usable
    point), slope {value, low, high} per day or visit, exponential {start, end, time_constant} of {value, low, high},
    interval (0.95), curve [{x, low, mid, high}], day_reaches_0_85 {estimate, low, high} (high None: beyond
    twice the span), day_reaches_0_85_reason (why there is no day)}}}. What a model does not give is None.
    """
    dated = all(timepoint.get("days") is not None for timepoint in timepoints)
    positions = [float(timepoint["days"] if dated else timepoint["visit"]) for timepoint in timepoints]
    common = measures(band_names(timepoints))
    measured = dict.fromkeys(region for timepoint in timepoints for region in timepoint["density"])
    regions = list(measured if regions is None else regions)
    described = dict.fromkeys(region for timepoint in timepoints for region in timepoint.get("radiomics") or {})
    series, errors = {}, {measure.name: measure.source for measure in common}
    regions += [region for region in described if region not in regions]
    for done, region in enumerate(regions):
        progress("trajectory", done / len(regions), region)
        for measure in (*common, *feature_measures(timepoints, region)):
            points = _points(timepoints, positions, measure, region)
            if points:
                key = f"{measure.name}.{region}"
                errors[measure.name] = measure.source
                series[key] = {
                    "name": measure.name,
                    "title": measure.title,
                    "unit": measure.unit,
                    "region": region,
                    **follow(points, measure, dated, np.random.default_rng([seed, crc32(key.encode())]), samples),
                }
    return {
        "axis": "days" if dated else "visit",
        "notes": [*NOTES] if dated else [*NOTES, UNDATED],
        "errors": errors,
        "series": series,
    }


def _points(timepoints: Sequence[Mapping], positions: Sequence[float], measure: Measure, region: str) -> list[dict]:
    points = [
        {
            "x": positions[index],
            "value": value,
            "error": error,
            "reliable": bool(timepoints[index]["reliable"]) or not measure.is_score,
        }
        for index, value, error in values(timepoints, measure, region)
    ]
    return sorted(points, key=lambda point: point["x"])


def follow(points: list[dict], measure: Measure, dated: bool, rng: np.random.Generator, samples: int) -> dict:
    """The model of one series of points [{x, value, error, reliable}] in the order of x; see `trajectory`."""
    x, y, error = (
        np.array([point[name] for point in points if point["reliable"]], float) for name in ("x", "value", "error")
    )
    dates = np.unique(x).size
    result = {
        "points": points,
        "model": None,
        "change": None,
        "slope": None,
        "exponential": None,
        "interval": INTERVAL,
        "curve": [],
        "day_reaches_0_85": None,
        "day_reaches_0_85_reason": None,
    }
    if dates >= 2:
        # Row 0 is what was measured, the others are the bootstrap samples.
        drawn = np.vstack([y, y + error * rng.standard_normal((samples, y.size))])
        drawn[1:] = np.clip(drawn[1:], measure.low, measure.high)
        result["model"] = "change"
        result["change"] = _estimate(drawn[:, -1] - drawn[:, 0])
    if dates >= _LINEAR_FROM:
        fit = _fit(x, drawn, error, dates)
        result.update(_describe(fit))
        result["curve"] = _curve(fit, x, measure)
    if measure.is_score:
        day, reason = (None, _no_day(dates, dated)) if dates < _LINEAR_FROM or not dated else _day(fit, x)
        result["day_reaches_0_85"], result["day_reaches_0_85_reason"] = day, reason
    return result


def _fit(x: np.ndarray, drawn: np.ndarray, error: np.ndarray, dates: int) -> Line | Approach:
    weights = weights_of(error)
    return fit_approach(x, drawn, weights) if dates >= _EXPONENTIAL_FROM else fit_line(x, drawn, weights)


def _describe(fit: Line | Approach) -> dict:
    if isinstance(fit, Line):
        return {"model": "linear", "slope": _estimate(fit.slope)}
    parts = {"start": fit.start, "end": fit.end, "time_constant": fit.time_constant}
    return {"model": "exponential", "exponential": {name: _estimate(part) for name, part in parts.items()}}


def _estimate(rows: np.ndarray) -> dict[str, float]:
    """{value, low, high} of a quantity (1 + samples,) whose first entry is the measured one."""
    low, high = np.percentile(rows[1:], _PERCENTILES)
    return {"value": float(rows[0]), "low": float(low), "high": float(high)}


def _curve(fit: Line | Approach, x: np.ndarray, measure: Measure) -> list[dict[str, float]]:
    """The fitted curve over the observed span with its band, cut to the range the measure can take."""
    positions = np.linspace(x[0], x[-1], _CURVE_POINTS)
    rows = np.clip(fit.at(positions), measure.low, measure.high)
    low, high = np.percentile(rows[1:], _PERCENTILES, axis=0)
    return [
        {"x": float(p), "low": float(a), "mid": float(m), "high": float(b)}
        for p, a, m, b in zip(positions, low, rows[0], high, strict=True)
    ]


def _no_day(dates: int, dated: bool) -> str:
    if not dated:
        return "The visits have no dates."
    return "Two dates give a change only." if dates == 2 else "There are too few reliable dates."


def _day(fit: Line | Approach, x: np.ndarray) -> tuple[dict[str, float | None] | None, str | None]:
    """When the fitted score reaches 0.85, with its interval; (None, why) where it does not, or not soon enough."""
    days = fit.reaches(GOAL)
    last = x[0] + LOOK_AHEAD * (x[-1] - x[0])
    if days[0] <= x[0]:
        return None, f"The score is at {GOAL:g} or above from the start."
    if not days[0] <= last:
        return None, f"It does not reach {GOAL:g} within twice the observed span (day {last:.0f})."
    # A sample that arrives too late, or never, only says "later": its day is not believed.
    days = np.where(days <= last, days, np.inf)
    low, high = np.percentile(days[1:], _PERCENTILES, method="nearest")
    return {
        "estimate": float(days[0]),
        "low": float(low) if np.isfinite(low) else None,
        "high": float(high) if np.isfinite(high) else None,
    }, None
