"""What is followed over the dates, in which unit and range, and how well one date measures it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from ..parenchyma import radiomics
from .score import ABNORMAL_ERROR_PERCENT, BREATH_REPEATABILITY, VOLUME_REPEATABILITY

SCORES = ("jacobian", "jacobian_normalized", "tissue_recovery")

_BREATH = (
    "the lung's volume repeats to 5.8 % between two breath-holds (SD of the repeat Jacobian ratio in people, Du 2012)"
)
_SHARE = "assumed: 1 percentage point for the share of a band of density between two scans of the same lung"


@dataclass(frozen=True)
class Measure:
    """One measure that is followed: its name in study.json, title, unit, possible range, error and the error's source.

    `error` takes the region's entry (scores or densities of one date) and the value to the SD of its measurement.
    """

    name: str
    title: str
    unit: str
    low: float
    high: float
    error: Callable[[Mapping, float], float]
    source: str

    @property
    def is_score(self) -> bool:
        """Whether this is a recovery score (and not a density)."""
        return self.name in SCORES


def _of_score(entry: Mapping, name: str, default: float) -> float:
    error = (entry.get("errors") or {}).get(name)
    return default if error is None else error


def _constant(error: float) -> Callable[[Mapping, float], float]:
    return lambda entry, value: error


def _relative(error: float) -> Callable[[Mapping, float], float]:
    return lambda entry, value: error * abs(value)


def _of_air(entry: Mapping, value: float) -> float:
    return BREATH_REPEATABILITY * max(value + 1000.0, 0.0)


_SCORE_MEASURES = (
    Measure(
        "jacobian",
        "Jacobian score",
        "fraction",
        0.0,
        1.0,
        lambda entry, value: _of_score(entry, "jacobian", 0.03),
        f"how far the score moves when J is off by its repeatability: {_BREATH}; at least 0.01; baseline exact",
    ),
    Measure(
        "jacobian_normalized",
        "Normalised Jacobian score",
        "fraction",
        0.0,
        1.0,
        lambda entry, value: _of_score(entry, "jacobian_normalized", 0.02),
        "how far the score moves when J is off by its repeatability without breath: "
        f"{100 * VOLUME_REPEATABILITY:.1f} % (SD in ventilated sheep, Du 2012); at least 0.01; the baseline is exact",
    ),
    Measure(
        "tissue_recovery",
        "Tissue recovery",
        "fraction",
        -inf,
        1.0,
        lambda entry, value: _of_score(entry, "tissue_recovery", 0.05),
        f"both abnormal shares are off by {ABNORMAL_ERROR_PERCENT:g} % of the lung (SD on phantoms of known truth), "
        "carried through 1 - A_t / A_0; the baseline is exact",
    ),
)

_DENSITY_MEASURES = (
    Measure("volume_ml", "Volume", "ml", 0.0, inf, _relative(BREATH_REPEATABILITY), _BREATH),
    Measure("mean_hu", "Mean density", "HU", -1024.0, inf, _of_air, f"at constant mass, {_BREATH}"),
    Measure("sd_hu", "SD of density", "HU", 0.0, inf, _relative(0.05), "assumed: 5 % of the value"),
    Measure("perc15_hu", "Perc15", "HU", -1024.0, inf, _of_air, f"at constant mass, {_BREATH}"),
    Measure("mass_g", "Mass", "g", 0.0, inf, _relative(0.05), "assumed: 5 % of the value (calibration, blood, breath)"),
    Measure("laa950_percent", "LAA-950", "%", 0.0, 100.0, _constant(1.0), _SHARE),
    Measure("haa_percent", "HAA", "%", 0.0, 100.0, _constant(1.0), _SHARE),
    Measure(
        "abnormal_percent",
        "Abnormal lung",
        "%",
        0.0,
        100.0,
        _constant(ABNORMAL_ERROR_PERCENT),
        f"{ABNORMAL_ERROR_PERCENT:g} % of the lung (SD on phantoms with known lesions)",
    ),
)


_LESION = "lesion_"
_LESION_MEASURES = (
    Measure(
        "lesion_volume_ml",
        "Lesion volume",
        "ml",
        0.0,
        inf,
        lambda entry, value: 0.5 * 0.2 * abs(value) + 0.25,
        "half of the limit within which a lesion's volume counts as unchanged (20 % and 0.5 ml)",
    ),
    Measure("lesion_mass_excess_g", "Excess mass of the lesions", "g", -inf, inf, _relative(0.1), "assumed: 10 %"),
)
_SEVERITY = "severity_"
_SEVERITY_MEASURE = Measure(
    "severity_points", "CT severity score", "points", 0.0, 25.0, _constant(1.0), "assumed: a lobe near a limit, 1 point"
)

_RADIOMICS = "radiomics_"
_TABLES = {_LESION: "lesions", _SEVERITY: "severity", _RADIOMICS: "radiomics"}  # by what a measure's name begins with
_REPEATED = (
    "SD between scans of the same phantom that differ in noise, kernel and breath (Testing/benchmarks/radiomics.py)"
)


def measures(band_names: Sequence[str]) -> list[Measure]:
    """Every measure that is followed: the scores, the densities, and the share of each band ("band_<name>")."""
    bands = [
        Measure(f"band_{name}", f"{name.replace('_', ' ').capitalize()}", "%", 0.0, 100.0, _constant(1.0), _SHARE)
        for name in band_names
    ]
    return [*_SCORE_MEASURES, *_DENSITY_MEASURES, *_LESION_MEASURES, _SEVERITY_MEASURE, *bands]


def feature_measures(timepoints: Sequence[Mapping], region: str) -> list[Measure]:
    """The radiomic features of a region that are followed, "radiomics_<IBSI id>": the stable ones of the enhanced
    image, where any date has features of the region."""
    if not any(region in (timepoint.get("radiomics") or {}) for timepoint in timepoints):
        return []
    return [
        Measure(
            f"{_RADIOMICS}{feature.ibsi}",
            f"{feature.family.capitalize()}: {feature.name}",
            feature.unit,
            -inf,
            inf,
            _constant(radiomics.repeatability(region, feature)),
            _REPEATED,
        )
        for feature in radiomics.stable_features(region)
    ]


def band_names(timepoints: Sequence[Mapping]) -> list[str]:
    """The names of the density bands that the time points measured, in their order."""
    names: dict[str, None] = {}
    for timepoint in timepoints:
        for entry in timepoint["density"].values():
            names.update(dict.fromkeys(entry.get("bands_percent") or {}))
    return list(names)


def values(timepoints: Sequence[Mapping], measure: Measure, region: str) -> Iterator[tuple[int, float, float]]:
    """(index of the time point, value, error) of a measure in a region, where it is defined."""
    for index, timepoint in enumerate(timepoints):
        prefix = next((p for p in _TABLES if measure.name.startswith(p)), "")
        table = "scores" if measure.is_score else _TABLES.get(prefix, "density")
        entry = (timepoint.get(table) or {}).get(region) or {}
        if prefix == _RADIOMICS:
            entry = entry.get("enhanced") or {}
        if measure.name.startswith("band_"):
            value = (entry.get("bands_percent") or {}).get(measure.name.removeprefix("band_"))
        else:
            value = entry.get(measure.name.removeprefix(prefix))
        if value is not None:
            error = 0.0 if measure.is_score and timepoint.get("baseline") else measure.error(entry, value)
            yield index, float(value), float(error)
