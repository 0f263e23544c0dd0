"""How a scan was acquired, and which series of several dates go together best.

The choice minimises a sum of penalties that are shown with it: those of each series by itself (thin slices, a soft or
medium kernel, the whole chest, inspiration) and those of each pair of baseline and follow-up that differs.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

BEST_THICKNESS_MM = 1.5
WHOLE_CHEST_MM = 250.0

_SOFT_WORDS = ("soft", "smooth", "mediastin", "abdomen")
_MEDIUM_WORDS = ("standard", "stnd", "std", "medium", "detail", "chest")
_SHARP_WORDS = ("lung", "bone", "edge", "sharp", "ultra", "hrct")
_PHILIPS = {"A": "soft", "B": "soft", "C": "medium", "D": "sharp", "E": "sharp", "L": "sharp"}
_NOT_HU = re.compile(
    r"\b(mip|minip|minmip|iodine (?:map|density)|perfusion|pbv|vnc|overlay|fusion|vrt|rho|z[ _]?eff)\b", re.I
)


@dataclass(frozen=True)
class Acquisition:
    """What is known of how a scan was acquired; None (kernel, position, breath, contrast) where it does not say."""

    pixel_mm: float
    slice_spacing_mm: float
    thickness_mm: float
    extent_mm: float  # craniocaudal
    kernel: str | None = None
    kernel_class: str | None = None  # soft, medium, sharp
    position: str | None = None  # supine, prone, lateral
    breath: str | None = None  # inspiration, expiration
    contrast: bool | None = None
    axial: bool = True
    derived: bool = False
    words: str = ""

    @property
    def has_gaps(self) -> bool:
        """Whether lung between the slices was not imaged."""
        return self.slice_spacing_mm > 1.5 * self.thickness_mm


def kernel_class(kernel: str) -> str | None:
    """soft, medium or sharp for a reconstruction kernel as the makers name it, None for an unknown name.

    Siemens B30f, I41s, Br40, Bl57, Qr59 (below 35 soft, below 50 medium), Canon FC03 (body), FC50-59 (lung), FC30 and
    FC80 (bone), GE SOFT, STANDARD, DETAIL, CHEST, LUNG, BONE, EDGE, Philips A to E and L, and Y with such a letter.
    """
    name = kernel.strip()
    if match := re.match(r"FC\s*(\d+)", name, re.I):
        number = int(match.group(1))
        return "soft" if number < 10 else "medium" if number < 30 or 40 <= number < 50 else "sharp"
    if match := re.match(r"[A-Z][a-z]?(\d\d)[a-z]?\b", name):
        number = int(match.group(1))
        return "soft" if number < 35 else "medium" if number < 50 else "sharp"
    if match := re.match(r"(?:Y?)([A-EL])$", name.split(" ")[0].upper()):
        return _PHILIPS[match.group(1)]
    lower = name.lower()
    for words, found in ((_SHARP_WORDS, "sharp"), (_SOFT_WORDS, "soft"), (_MEDIUM_WORDS, "medium")):
        if any(word in lower for word in words):
            return found
    return None


def patient_position(code: str) -> str | None:
    """supine, prone or lateral for a DICOM patient position such as HFS, FFP or HFDL."""
    code = code.strip().upper()
    if code.endswith(("DL", "DR")):
        return "lateral"
    return {"S": "supine", "P": "prone"}.get(code[-1:]) if len(code) == 3 else None


def breath_phase(words: str) -> str | None:
    """inspiration or expiration, guessed from the words of a description or protocol; None where they do not say."""
    words = f" {words.lower()} "
    inspiration = re.search(r"(?<![a-z])(insp|inspi|inspir\w*|inhal\w*|einatmung)(?![a-z])", words)
    expiration = re.search(r"(?<![a-z])(exp|expi|expir\w*|exhal\w*|ausatmung)(?![a-z])", words)
    if bool(inspiration) == bool(expiration):
        return None
    return "inspiration" if inspiration else "expiration"


def own_penalties(a: Acquisition) -> dict[str, float]:
    """What speaks against a series by itself: {reason: penalty}, empty for an ideal one."""
    penalties: dict[str, float] = {}
    if a.thickness_mm > BEST_THICKNESS_MM:
        penalties[f"slices {a.thickness_mm:g} mm thick"] = a.thickness_mm - BEST_THICKNESS_MM
    if a.has_gaps:
        penalties[f"gaps between slices ({a.slice_spacing_mm:g} mm apart)"] = 2 * (a.slice_spacing_mm - a.thickness_mm)
    if a.kernel_class == "sharp":
        penalties[f"sharp kernel {a.kernel}"] = 1.5
    elif a.kernel_class is None:
        penalties["unknown kernel"] = 0.5
    if a.extent_mm < WHOLE_CHEST_MM:
        penalties[f"covers {a.extent_mm:.0f} mm only"] = 10.0 * (1.0 - a.extent_mm / WHOLE_CHEST_MM)
    if a.breath == "expiration":
        penalties["expiration"] = 2.0
    elif a.breath is None:
        penalties["breath phase not stated"] = 0.25
    if a.position in ("prone", "lateral"):
        penalties[a.position] = 1.0
    if not a.axial:
        penalties["not axial"] = 4.0
    if a.derived:
        penalties["derived from other images"] = 2.0
    if _NOT_HU.search(a.words):
        penalties["a projection or material map"] = 20.0
    return penalties


def mismatch(a: Acquisition, b: Acquisition) -> dict[str, float]:
    """What differs between two series: {what, in words: penalty}, empty where they match.

    What one of the two does not say counts as matching.
    """
    found: dict[str, float] = {}
    if a.kernel and b.kernel and a.kernel != b.kernel:
        if a.kernel_class != b.kernel_class:
            text = f"kernel {a.kernel} ({a.kernel_class or 'unknown'}), then {b.kernel} ({b.kernel_class or 'unknown'})"
            found[text] = 4.0 if a.kernel_class and b.kernel_class else 2.0
        else:
            found[f"kernel {a.kernel}, then {b.kernel}"] = 0.5
    found |= _ratio_mismatch("slice thickness", a.thickness_mm, b.thickness_mm, 1.25, 2.0)
    found |= _ratio_mismatch("pixel size", a.pixel_mm, b.pixel_mm, 1.5, 1.0)
    for what, first, second, cost in (
        ("patient position", a.position, b.position, 6.0),
        ("breath phase", a.breath, b.breath, 6.0),
        ("contrast agent", _yes_no(a.contrast), _yes_no(b.contrast), 2.0),
    ):
        if first and second and first != second:
            found[f"{what} {first}, then {second}"] = cost
    return found


def _ratio_mismatch(what: str, first: float, second: float, tolerated: float, weight: float) -> dict[str, float]:
    ratio = max(first, second) / min(first, second)
    return {f"{what} {first:.3g} mm, then {second:.3g} mm": weight * math.log2(ratio)} if ratio > tolerated else {}


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else "given" if value else "none"


def best_combination(dates: Sequence[Sequence[Acquisition]]) -> list[int]:
    """Which of each date's series to take: the indices that minimise the sum of all penalties.

    The sum has each series' own penalties and the mismatch of every follow-up with the baseline (the first date), so
    that for each baseline the best follow-up of every date is found by itself. The first of equals is taken.
    """
    own = [[sum(own_penalties(a).values()) for a in date] for date in dates]
    best, best_cost = [0] * len(dates), math.inf
    for first, baseline in enumerate(dates[0]):
        chosen, cost = [first], own[0][first]
        for date, costs in zip(dates[1:], own[1:], strict=True):
            totals = [c + sum(mismatch(baseline, a).values()) for a, c in zip(date, costs, strict=True)]
            chosen.append(totals.index(min(totals)))
            cost += min(totals)
        if cost < best_cost - 1e-9:
            best, best_cost = chosen, cost
    return best
