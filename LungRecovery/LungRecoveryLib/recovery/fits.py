"""Least squares fits of a few dated values, many resampled copies at once: a line, and an exponential approach."""

from dataclasses import dataclass

import numpy as np

_RATES = 96  # time constants tried before the best is refined


@dataclass(frozen=True)
class Line:
    """y = start + slope (x - origin), one per row of the values that were fitted; arrays (b,)."""

    origin: float
    start: np.ndarray
    slope: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """The values (b, n) at positions (n,)."""
        return self.start[:, None] + self.slope[:, None] * (x - self.origin)[None]

    def reaches(self, level: float) -> np.ndarray:
        """Where each line rises to `level` (b,): the origin when it starts there, infinity when it never does."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x = self.origin + (level - self.start) / self.slope
        return np.where(self.start >= level, self.origin, np.where(self.slope > 0, x, np.inf))


@dataclass(frozen=True)
class Approach:
    """y = end + (start - end) exp(-(x - origin) / time_constant), one per row; arrays (b,)."""

    origin: float
    start: np.ndarray
    end: np.ndarray
    time_constant: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """The values (b, n) at positions (n,)."""
        decay = np.exp(-(x - self.origin)[None] / self.time_constant[:, None])
        return self.end[:, None] + (self.start - self.end)[:, None] * decay

    def reaches(self, level: float) -> np.ndarray:
        """Where each curve rises to `level` (b,): the origin when it starts there, infinity when it never does."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x = self.origin - self.time_constant * np.log((level - self.end) / (self.start - self.end))
        return np.where(self.start >= level, self.origin, np.where(self.end > level, x, np.inf))


def weights_of(errors: np.ndarray) -> np.ndarray:
    """Weights 1 / error^2 of the points (n,); a point said to be exact weighs as a typical one."""
    positive = errors[errors > 0]
    if positive.size == 0:
        return np.ones_like(errors)
    return 1.0 / np.maximum(errors, np.median(positive)) ** 2


def fit_line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Line:
    """The weighted least squares line of each row of `y` (b, n) over `x` (n,)."""
    start, slope, _ = _solve(np.stack([np.ones_like(x), x - x[0]]), y, weights)
    return Line(float(x[0]), start, slope)


def fit_approach(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Approach:
    """The weighted least squares exponential approach of each row of `y` (b, n) over increasing `x` (n,).

    For a given time constant the other two are linear; the time constant itself is searched between a third of the
    shortest gap and three times the span (beyond that, the dates cannot tell it from a line), then refined.
    """
    t = x - x[0]
    gaps = np.diff(np.unique(t))
    log_tau = np.linspace(np.log(gaps.min() / 3.0), np.log(3.0 * t[-1]), _RATES)
    misfit = np.stack([_solve(_basis(t, tau), y, weights)[2] for tau in np.exp(log_tau)])  # (rates, b)
    best = np.argmin(misfit, axis=0)
    tau = np.exp(_vertex(log_tau, misfit, best))
    decay = np.exp(-t[None] / tau[:, None])
    amplitude, end = _solve_rows(decay, y, weights)
    return Approach(float(x[0]), end + amplitude, end, tau)


def _basis(t: np.ndarray, tau: float) -> np.ndarray:
    return np.stack([np.exp(-t / tau), np.ones_like(t)])


def _solve(basis: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both coefficients (b,) of the two basis rows (2, n) for each row of y, and the weighted squared misfit (b,)."""
    normal = (basis * weights) @ basis.T
    coefficients = np.linalg.solve(normal, (basis * weights) @ y.T)
    misfit = (((y - coefficients.T @ basis) ** 2) * weights).sum(axis=1)
    return coefficients[0], coefficients[1], misfit


def _solve_rows(decay: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude and constant (b,) of y = amplitude decay + constant, each row with its own decay (b, n)."""
    share = weights / weights.sum()
    d, v = decay - (decay @ share)[:, None], y - (y @ share)[:, None]
    amplitude = ((d * v) @ share) / ((d * d) @ share)
    return amplitude, y @ share - amplitude * (decay @ share)


def _vertex(x: np.ndarray, misfit: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The position of the minimum (b,) between evenly spaced `x`, by a parabola through the best and its neighbours."""
    inner = np.clip(best, 1, len(x) - 2)
    column = np.arange(misfit.shape[1])
    left, middle, right = (misfit[inner + k, column] for k in (-1, 0, 1))
    curvature = left - 2.0 * middle + right
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.where(curvature > 0, 0.5 * (left - right) / curvature, 0.0)
    refined = x[inner] + np.clip(offset, -1.0, 1.0) * (x[1] - x[0])
    return np.where(best == inner, refined, x[best])
