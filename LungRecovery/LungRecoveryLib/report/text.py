"""The report in words: numbers with their units, verdicts with a symbol, and a sentence for each result."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from LungRecoveryLib.recovery.score import Thresholds
from LungRecoveryLib.results import StudyResult, TimePointResult, standing_verdict

UNDEFINED = "–"
UNRELIABLE = "⚠ unreliable"
THIN = "\u202f"  # narrow, no break: groups digits and binds a unit to its number
WHOLE = "lungs"
# One chest, reconstructed with 13 and with 27 HU of noise, had 2.0 and 1.5 % abnormal lung.
_ALIKE_PERCENT = 0.5

CLASS_SYMBOL = {"complete": "●", "partial": "◐", "persistent": "○"}
CLASS_WORDS = {
    "complete": "complete recovery",
    "partial": "partial recovery",
    "persistent": "persistent abnormality",
}
VERDICT = {
    "pass": ("✓", "Passed"),
    "review": ("!", "To be reviewed"),
    "fail": ("✕", "Failed"),
}

READER = {
    "accepted": "accepted by the reader",
    "usable": "used on the reader's word",
    "not usable": "rejected by the reader",
}


@dataclass(frozen=True)
class Measure:
    """How a measure of `study.json` is called, its unit, to how many decimals it is shown, and what it means."""

    title: str
    unit: str
    decimals: int
    meaning: str
    signed: bool = False
    low: float = -math.inf  # what it cannot be below and above
    high: float = math.inf

    def show(self, value: float | None, unit: bool = False) -> str:
        """The value as text, with the unit on request; a dash where it is undefined."""
        if value is None:
            return UNDEFINED
        text = number(value, self.decimals, self.signed)
        return f"{text}{THIN}{self.unit}" if unit and self.unit else text


SCORES = {
    "tissue_recovery": Measure(
        "Tissue recovery",
        "",
        2,
        "the share of the lung that was abnormal at baseline and has cleared since: 1 = all of it, 0 = none, below 0 "
        "= more lung is abnormal than at baseline; not defined where less than {minimum_abnormal_percent:g} % of the "
        "lung was abnormal at baseline",
        high=1.0,
    ),
    "jacobian": Measure(
        "Jacobian score",
        "",
        2,
        "the share of the lung whose local volume stayed within {jacobian_low:g} to {jacobian_high:g} times that at "
        "baseline. It measures unchanged volume, not health: an unchanged sick lung scores 1, and a deeper breath "
        "lowers it",
        low=0.0,
        high=1.0,
    ),
    "jacobian_normalized": Measure(
        "Jacobian score, normalised",
        "",
        2,
        "the same after the change in volume of the whole lung (breath or recovery) has been divided out, so that "
        "only uneven change lowers it",
        low=0.0,
        high=1.0,
    ),
}

DENSITY = {
    "volume_ml": Measure("Volume", "ml", 0, "lung volume in this scan; it depends on the depth of the breath", low=0.0),
    "mean_hu": Measure("Mean density", "HU", 0, "mean of all lung voxels; denser lung holds less air"),
    "sd_hu": Measure("Spread of density (SD)", "HU", 0, "standard deviation over the lung voxels"),
    "perc15_hu": Measure("Perc15", "HU", 0, "15 % of the lung is less dense than this"),
    "mass_g": Measure("Mass", "g", 0, "tissue, blood and fluid; hardly changed by the breath", low=0.0),
    "laa950_percent": Measure(
        "LAA−950", "%", 1, "lung below −950 HU, as in emphysema or trapped air", low=0.0, high=100.0
    ),
    "haa_percent": Measure(
        "HAA", "%", 1, "high-attenuation areas, −600 to −250 HU, such as ground glass", low=0.0, high=100.0
    ),
    "abnormal_percent": Measure(
        "Abnormal lung",
        "%",
        1,
        "lesions without the vessels in them; the basis of tissue recovery",
        low=0.0,
        high=100.0,
    ),
}

LESIONS = {
    "lesion_volume_ml": Measure("Lesion volume", "ml", 0, "ground glass, consolidation and reticulation", low=0.0),
    "severity_points": Measure("CT severity score", "of 25", 0, "0 to 5 for each lobe", low=0, high=25),
    "lesion_mass_excess_g": Measure("Excess mass of the lesions", "g", 0, "above what healthy lung would weigh"),
}

CHANGE = {
    "volume_change_percent": Measure("Volume change", "%", 0, "the mean Jacobian less 1", signed=True),
    "density_change_mean_mg_ml": Measure(
        "Density change", "mg/ml", 0, "mean gain (+) or loss (−) of tissue per millilitre of baseline lung", signed=True
    ),
}


def number(value: float | None, decimals: int = 0, signed: bool = False) -> str:
    """A number with a true minus sign and its thousands set apart; a dash where it is undefined."""
    if value is None:
        return UNDEFINED
    rounded = round(float(value), decimals) + 0.0  # no minus zero
    text = f"{abs(rounded):,.{decimals}f}".replace(",", THIN)
    if rounded < 0:
        return "−" + text
    return "+" + text if signed and rounded > 0 else text


def percent(value: float | None, decimals: int = 0) -> str:
    """A percentage with its sign."""
    return UNDEFINED if value is None else number(value, decimals) + THIN + "%"


def seconds(value: float) -> str:
    """A duration: seconds below two minutes, else minutes."""
    return f"{number(value, 1 if value < 10 else 0)}{THIN}s" if value < 120 else f"{number(value / 60, 1)}{THIN}min"


def days(value: float | None) -> str:
    """Days since the baseline, or that they are unknown."""
    return "date unknown" if value is None else f"day{THIN}{number(value)}"


def class_words(name: str | None) -> str:
    """A class with its symbol, for a table."""
    return UNDEFINED if name is None else f"{CLASS_SYMBOL.get(name, '')}\u00a0{name}".strip("\u00a0")


def thresholds(study: StudyResult) -> dict[str, float]:
    """The thresholds of the scores and classes that the study was made with."""
    return asdict(Thresholds()) | {k: v for k, v in study.settings["score_thresholds"].items() if v is not None}


def meaning(study: StudyResult, measure: Measure) -> str:
    """What a measure means, with the thresholds of the study, as a sentence after its title."""
    return bind(f"{measure.title}: {measure.meaning.format_map(thresholds(study))}.")


def get(table: Mapping[str, Mapping[str, Any]] | None, region: str, measure: str) -> Any:
    """A measure of a region, None where either is absent."""
    return ((table or {}).get(region) or {}).get(measure)


def title(timepoint: TimePointResult) -> str:
    """A time point's label, with its day where the label does not say it."""
    if not timepoint.days or number(timepoint.days) in timepoint.label.split():
        return timepoint.label
    return f"{timepoint.label} ({days(timepoint.days)})"


def overall(study: StudyResult) -> str:
    """The answer of the whole study in one sentence: the state at the last follow-up."""
    if not study.followups:
        return f"{title(study.baseline)}: {baseline_clause(study.baseline)}; there is no follow-up to compare with."
    return summary(study, study.followups[-1])


def summary(study: StudyResult, timepoint: TimePointResult) -> str:
    """What a time point shows, in one sentence."""
    if timepoint.baseline:
        return f"{title(timepoint)}: {baseline_clause(timepoint)}."
    scores = timepoint.scores[WHOLE]
    name = scores["class"]
    if scores["tissue_recovery"] is None:
        words = f"class {name}, by the volume alone" if name else "no class"
    else:
        words = CLASS_WORDS.get(name, name) or "no class"
    result = f"{words}; {recovery_clause(study, timepoint)}."
    if timepoint.reliable:
        return f"{title(timepoint)}: {result}"
    return (
        f"{title(timepoint)}: {UNRELIABLE}, {why_unreliable(timepoint)}: "
        f"{'; '.join(quality_reasons(timepoint)) or 'no reason given'}. Not to be relied on: {result}"
    )


def baseline_clause(timepoint: TimePointResult) -> str:
    """The state at baseline, as part of a sentence."""
    abnormal = get(timepoint.density, WHOLE, "abnormal_percent")
    volume = get(timepoint.density, WHOLE, "volume_ml")
    parts = []
    if abnormal is not None:
        parts.append(f"{percent(abnormal, 1)} of the lung is abnormal")
    if volume is not None:
        parts.append(f"the lung volume is {DENSITY['volume_ml'].show(volume, unit=True)}")
    return ", ".join(parts) or "without measures"


def recovery_clause(study: StudyResult, timepoint: TimePointResult) -> str:
    """What became of the abnormal lung, or of the volume where none was abnormal at baseline, as part of a sentence."""
    recovery = get(timepoint.scores, WHOLE, "tissue_recovery")
    before = get(study.baseline.density, WHOLE, "abnormal_percent")
    after = get(timepoint.density, WHOLE, "abnormal_percent")
    if recovery is None:
        return volume_clause(timepoint, before, after)
    course = ""
    if before is not None and after is not None:
        alike = 0 < abs(after - before) <= _ALIKE_PERCENT
        doubt = ", a difference that two reconstructions of one scan can make" if alike else ""
        course = f" ({percent(before, 1)} of the lung then, {percent(after, 1)} now{doubt})"
    share = round(100 * recovery)
    if share > 0:
        return f"{percent(share)} of the lung that was abnormal at baseline has cleared{course}"
    if share < 0:
        return f"the abnormal lung has grown by {percent(-share)} since the baseline{course}"
    return f"the abnormal lung is as large as at baseline{course}"


def volume_clause(timepoint: TimePointResult, before: float | None, after: float | None) -> str:
    """How much of the lung kept its volume, where too little was abnormal at baseline to speak of tissue recovery."""
    plain, normalised = (
        percent(None if value is None else 100 * value)
        for value in (get(timepoint.scores, WHOLE, name) for name in ("jacobian", "jacobian_normalized"))
    )
    kept = f"{plain} of the lung has kept its volume ({normalised} apart from the overall change)"
    if before is None or after is None:
        return kept
    return f"{kept}, and hardly any of it was abnormal at baseline ({percent(before, 1)} then, {percent(after, 1)} now)"


def region_sentence(study: StudyResult, timepoint: TimePointResult) -> str | None:
    """Which thirds of the lungs recovered most and least, where the baseline shows enough to tell."""
    thirds = [r for r in timepoint.scores if r.count("_") == 1 and r.split("_")[1] in ("upper", "middle", "lower")]
    known = {r: get(timepoint.scores, r, "tissue_recovery") for r in thirds}
    known = {r: value for r, value in known.items() if value is not None}
    if len(known) < 2:
        return None
    best, worst = max(known, key=known.get), min(known, key=known.get)
    if known[best] - known[worst] < 0.05:
        return None
    names = {r: in_sentence(study.regions.get(r, r)) for r in (best, worst)}
    return (
        f"Tissue recovery is highest in the {names[best]} ({number(known[best], 2)}) "
        f"and lowest in the {names[worst]} ({number(known[worst], 2)})."
    )


def volume_sentence(study: StudyResult, timepoint: TimePointResult) -> str | None:
    """How volume and mean density of the lung compare with the baseline."""
    volume, density = DENSITY["volume_ml"], DENSITY["mean_hu"]
    before, after = (get(t.density, WHOLE, "volume_ml") for t in (study.baseline, timepoint))
    if not before or after is None:
        return None
    change = round(100 * (after / before - 1))
    than = (
        f"{percent(abs(change))} {'more' if change > 0 else 'less'} than at baseline"
        if change
        else "the same as at baseline"
    )
    hu = [density.show(get(t.density, WHOLE, "mean_hu"), unit=True) for t in (timepoint, study.baseline)]
    return (
        f"The lung volume is {volume.show(after, unit=True)}, {than}; "
        f"the mean density is {hu[0]} ({hu[1]} at baseline)."
    )


def account(study: StudyResult, timepoint: TimePointResult) -> list[str]:
    """What a follow-up shows, where, and how far its registration can be trusted, in sentences."""
    sentences = (
        summary(study, timepoint),
        region_sentence(study, timepoint),
        volume_sentence(study, timepoint),
        verdict_sentence(timepoint),
    )
    return [sentence for sentence in sentences if sentence]


def in_sentence(name: str) -> str:
    """A name or a clause inside a sentence; an abbreviation keeps its capitals."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def quality_reasons(timepoint: TimePointResult) -> list[str]:
    """Why the registration got its verdict; where the reader rejected it, the reader's reason alone."""
    quality = timepoint.quality or {}
    if rejected(timepoint):
        return [bind(in_sentence(quality["reader"]["comment"].rstrip(".")))]
    return [bind(in_sentence(reason.rstrip("."))) for reason in quality.get("reasons", [])]


def rejected(timepoint: TimePointResult) -> bool:
    """Whether the reader rejected the registration."""
    return ((timepoint.quality or {}).get("reader") or {}).get("verdict") == "not usable"


def why_unreliable(timepoint: TimePointResult) -> str:
    """Why results that rest on a registration are not to be relied on, as part of a sentence."""
    return (
        "the reader rejected the registration" if rejected(timepoint) else "the registration failed its quality check"
    )


def reader_words(timepoint: TimePointResult) -> str:
    """What the reader said of the verdict; empty where the reader said nothing."""
    reader = (timepoint.quality or {}).get("reader")
    if not reader:
        return ""
    comment = f": {bind(reader['comment'])}" if reader["comment"] else ""
    return f"{READER[reader['verdict']]}{comment}"


def bind(sentence: str) -> str:
    """A sentence in which no line breaks between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(%|mm|ml|HU|g|s)\b|%)", THIN, sentence)


def verdict(timepoint: TimePointResult) -> str:
    """The verdict on a registration: symbol and words."""
    if timepoint.quality is None:
        return UNDEFINED
    symbol, words = VERDICT[timepoint.quality["verdict"]]
    reader = (timepoint.quality.get("reader") or {}).get("verdict", "accepted")
    return f"{symbol}\u00a0{words}" + ("" if reader == "accepted" else f", {READER[reader]}")


def verdict_sentence(timepoint: TimePointResult) -> str:
    """The verdict on a registration with its reasons, and what follows for the reader."""
    name = standing_verdict(timepoint.quality, timepoint.reliable)
    reasons = "; ".join(quality_reasons(timepoint))
    consequence = {
        "pass": "The maps and scores may be read as they stand.",
        "review": "Look at the checkerboards before relying on the maps and scores.",
        "fail": "Every result that rests on this registration is marked unreliable.",
    }.get(name, "")
    words = "" if rejected(timepoint) else reader_words(timepoint).rstrip(".")  # a rejection's reason stands already
    said = f" {words[:1].upper()}{words[1:]}." if words else ""
    return f"Registration {verdict(timepoint)}{': ' + reasons if reasons else ''}.{said} {consequence}".strip()
