"""The CT severity score follows its published steps and is not computed where a lobe is unknown."""

import pytest

from LungRecoveryLib.anatomy.regions import LOBE_REGIONS
from LungRecoveryLib.recovery.severity import points, severity_by_lobe


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, 0), (0.9, 0), (1, 1), (4.9, 1), (5, 2), (25, 2), (25.1, 3), (49.9, 3), (50, 4), (75, 4), (75.1, 5), (100, 5)],
)
def test_points_of_a_lobe(share, expected):
    assert points(share) == expected


def test_the_score_is_the_sum_over_five_lobes():
    shares = dict(zip(LOBE_REGIONS.values(), (0.0, 3.0, 12.0, 60.0, 90.0), strict=True))
    table = severity_by_lobe({region: {"share_percent": share} for region, share in (shares | {"lungs": 30.0}).items()})
    assert [table[region]["points"] for region in shares] == [0, 1, 2, 4, 5]
    assert table["lungs"] == {"points": 12, "share_percent": 30.0}
    assert {region: entry["share_percent"] for region, entry in table.items()} == shares | {"lungs": 30.0}


@pytest.mark.parametrize("missing", list(LOBE_REGIONS.values()))
def test_no_score_without_all_five_lobes(missing):
    known = [region for region in LOBE_REGIONS.values() if region != missing]
    assert severity_by_lobe({region: {"share_percent": 10.0} for region in ("lungs", *known)}) is None
