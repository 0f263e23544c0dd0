"""The CT severity score: 0 to 5 points for each of the five lobes by the share of it that lesions take, 0 to 25 in all.

After Pan et al. (Radiology 2020), as long-term follow-ups use it (radiol.2021211199): none 0, below 5 % 1, 5 to 25 % 2,
26 to 49 % 3, 50 to 75 % 4, more than 75 % 5.
"""

from collections.abc import Mapping
from typing import Any

from ..anatomy.regions import LOBE_REGIONS

MOST_POINTS = 25
NONE_PERCENT = 1.0  # what a lobe without disease may be taken to show: noise and vessels' walls are no involvement
_FROM, _ABOVE = (5.0, 50.0), (25.0, 75.0)  # the shares at which, and above which, a point more begins


def severity_by_lobe(lesions: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]] | None:
    """The points of every lobe and, as those of the region "lungs", their sum; None unless all five lobes are known.

    `lesions` is the table of `lesions.lesions_by_region`, whose share of each lobe (percent) decides. Returns {region:
    {points, share_percent}}.
    """
    if not all(region in lesions for region in LOBE_REGIONS.values()):
        return None
    shares = {region: float(lesions[region]["share_percent"]) for region in LOBE_REGIONS.values()}
    table = {region: {"points": points(share), "share_percent": share} for region, share in shares.items()}
    total = sum(entry["points"] for entry in table.values())
    return {"lungs": {"points": total, "share_percent": float(lesions["lungs"]["share_percent"])}, **table}


def points(share_percent: float) -> int:
    """The points of a lobe of which lesions take so many percent; below NONE_PERCENT there are none."""
    if share_percent < NONE_PERCENT:
        return 0
    return 1 + sum(share_percent >= limit for limit in _FROM) + sum(share_percent > limit for limit in _ABOVE)
