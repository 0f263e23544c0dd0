"""Proves both scores, every rule of the classes, and what the issue promises: a sick lung that stays sick is
persistent, and re-aerated lung is not punished for its larger volume."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.recovery import score

GRID = Grid((10, 10, 10), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
LUNGS = np.ones(GRID.shape, bool)
RIGHT = LUNGS.copy()
RIGHT[:, :, 5:] = False
MASKS = {"lungs": LUNGS, "right": RIGHT, "right_lower": RIGHT & (np.arange(10) < 3), "left": ~RIGHT}


def density(lungs: float, **regions: float) -> dict:
    shares = {"lungs": lungs} | {name: regions.get(name, lungs) for name in MASKS if name != "lungs"}
    return {
        name: {"abnormal_percent": share, "volume_ml": 2000.0, "bands_percent": {"a": share}}
        for name, share in shares.items()
    }


def image(values) -> object:
    return to_image(np.broadcast_to(np.float32(values), GRID.shape).astype(np.float32).copy(), GRID)


def scores(j, before: float | dict, now: float | dict, normalised=None, **options) -> dict:
    before, now = (share if isinstance(share, dict) else density(share) for share in (before, now))
    j = np.broadcast_to(np.float32(j), GRID.shape)
    return score.scores(
        image(j), image(j / j.mean() if normalised is None else normalised), MASKS, before, now, **options
    )


def test_an_unchanged_sick_lung_keeps_its_volume_and_is_persistent():
    found = scores(1.0, 15.0, 15.0)["lungs"]
    assert found["jacobian"] == 1.0
    assert found["jacobian_normalized"] == 1.0
    assert found["tissue_recovery"] == 0.0
    assert found["class"] == "persistent"
    assert "stayed" in found["explanation"]


def test_re_aerated_lung_is_not_punished_for_its_larger_volume():
    found = scores(1.4, 15.0, 0.5)["lungs"]
    assert found["jacobian"] == 0.0
    assert found["jacobian_normalized"] == 1.0
    assert found["tissue_recovery"] == pytest.approx(1 - 0.5 / 15)
    assert found["class"] == "complete"


def test_a_worsening_lung_is_persistent_with_a_negative_recovery():
    found = scores(1.0, 5.0, 12.0)["lungs"]
    assert found["tissue_recovery"] == pytest.approx(-1.4)
    assert found["class"] == "persistent"
    assert "more of it than at the baseline" in found["explanation"]


@pytest.mark.parametrize(("j", "share"), [(0.8, 1.0), (1.2, 1.0), (0.79, 0.0), (1.21, 0.0), (1.0, 1.0)])
def test_the_limits_of_unchanged_volume_are_included(j, share):
    assert score.jacobian_score(np.full(8, j, np.float32)) == share


def test_no_voxel_no_score():
    assert score.jacobian_score(np.array([])) is None


@pytest.mark.parametrize(
    ("before", "now", "expected"), [(0.99, 0.2, None), (1.0, 0.5, 0.5), (10.0, 0.0, 1.0), (0.0, 5.0, None)]
)
def test_tissue_recovery_is_undefined_below_one_percent(before, now, expected):
    assert score.tissue_recovery(before, now) == expected


@pytest.mark.parametrize(
    ("recovery", "jacobian", "before", "now", "worse", "expected"),
    [
        (0.85, 0.0, 10.0, 1.5, False, "complete"),
        (0.849, 1.0, 10.0, 1.5, False, "partial"),
        (0.50, 1.0, 10.0, 5.0, False, "partial"),
        (0.499, 1.0, 10.0, 5.0, False, "persistent"),
        (0.90, 1.0, 20.0, 2.0, False, "partial"),
        (0.905, 1.0, 20.0, 1.9, False, "complete"),
        (0.95, 1.0, 20.0, 1.0, True, "partial"),
        (None, 0.9, 0.2, 0.3, False, "complete"),
        (None, 0.9, 0.2, 0.3, True, "partial"),
        (None, 0.6, 0.2, 0.3, False, "partial"),
        (None, 0.4, 0.2, 0.3, False, "persistent"),
        (None, 1.0, 0.2, 9.0, True, "persistent"),
        (None, None, 0.2, 0.2, False, None),
    ],
)
def test_every_rule_of_the_classes(recovery, jacobian, before, now, worse, expected):
    assert score.classify(recovery, jacobian, before, now, worse) == expected


def test_one_worse_region_keeps_the_whole_from_complete_and_is_named():
    found = scores(1.0, density(15.0, left=0.5), density(1.5, left=4.0))
    assert found["lungs"]["class"] == "partial"
    assert "left" in found["lungs"]["explanation"]
    assert found["right"]["class"] == "complete"
    assert found["left"]["class"] == "persistent"
    assert "new since the baseline" in found["left"]["explanation"]


def test_a_worse_part_counts_for_its_own_side_only():
    found = scores(1.0, density(15.0, right_lower=1.5), density(1.0, right_lower=4.0))
    assert [found[name]["class"] for name in MASKS] == ["partial", "partial", "persistent", "complete"]
    assert "right lower" in found["right"]["explanation"]


def test_a_rise_within_the_errors_of_measurement_is_not_worse():
    assert not score.is_worse(1.0, 2.9)
    assert score.is_worse(1.0, 3.1)


def test_without_abnormal_lung_the_jacobian_score_decides():
    changed = np.ones(GRID.shape)
    changed[:4] = 0.7
    found = scores(changed, 0.2, 0.2)["lungs"]
    assert found["tissue_recovery"] is None
    assert found["jacobian"] == pytest.approx(0.6)
    assert found["class"] == "partial"
    assert "undefined" in found["explanation"]


def test_a_healthy_lung_at_another_breath_is_judged_without_the_breath():
    found = scores(1.45, 0.2, 0.2)["lungs"]
    assert (found["jacobian"], found["jacobian_normalized"]) == (0.0, 1.0)
    assert found["class"] == "complete"
    assert "normalised Jacobian score decides" in found["explanation"]


def test_only_what_both_scans_show_is_scored():
    j = np.ones(GRID.shape)
    j[5:] = 2.0
    inside = np.ones(GRID.shape, bool)
    inside[5:] = False
    assert scores(j, 15.0, 15.0, normalised=j, inside=inside)["lungs"]["jacobian"] == 1.0


def test_a_region_missing_in_one_scan_is_left_out():
    now = density(5.0)
    del now["left"]
    assert set(scores(1.0, 15.0, now)) == {"lungs", "right", "right_lower"}


def test_scores_of_a_failed_registration_say_so_everywhere():
    for entry in scores(1.0, 15.0, 5.0, reliable=False).values():
        assert entry["reliable"] is False
        assert entry["explanation"].startswith("Unreliable")
    assert scores(1.0, 15.0, 5.0)["lungs"]["reliable"] is True


def test_thresholds_can_be_edited():
    wide = replace(score.Thresholds(), jacobian_high=1.5, complete=0.6, complete_abnormal_percent=10.0)
    found = scores(1.4, 15.0, 5.0, thresholds=wide)["lungs"]
    assert found["jacobian"] == 1.0
    assert found["class"] == "complete"


def test_the_baseline_scores_by_definition():
    table = score.baseline_scores(density(15.0, left=0.1))
    assert [table["lungs"][name] for name in ("jacobian", "jacobian_normalized", "tissue_recovery")] == [1.0, 1.0, 0.0]
    assert table["left"]["tissue_recovery"] is None
    assert all(entry["class"] is None for entry in table.values())


def test_the_errors_follow_from_repeatability():
    at_the_limit = scores(np.linspace(1.0, 1.4, 1000).reshape(GRID.shape), 10.0, 5.0)["lungs"]["errors"]
    safe = scores(1.0, 10.0, 5.0)["lungs"]["errors"]
    assert safe["jacobian"] == score.LEAST_JACOBIAN_ERROR
    assert at_the_limit["jacobian"] > 0.1
    assert safe["tissue_recovery"] == pytest.approx(0.05 * np.hypot(1, 0.5))


@given(before=st.floats(1.0, 100.0), one=st.floats(0.0, 100.0), other=st.floats(0.0, 100.0))
def test_tissue_recovery_is_at_most_one_and_falls_with_abnormal_lung(before, one, other):
    less, more = (score.tissue_recovery(before, share) for share in sorted((one, other)))
    assert more <= less <= 1.0


@given(recovery=st.floats(-5, 1), better=st.floats(0, 1), now=st.floats(0, 100), worse=st.booleans())
def test_a_higher_score_never_lowers_the_class(recovery, better, now, worse):
    order = ("persistent", "partial", "complete")
    low = score.classify(recovery, 1.0, 50.0, now, worse)
    high = score.classify(min(1.0, recovery + better), 1.0, 50.0, now, worse)
    assert order.index(high) >= order.index(low)


@given(st.lists(st.floats(-1, 3), min_size=1, max_size=50))
def test_the_jacobian_score_is_a_share(values):
    assert 0.0 <= score.jacobian_score(np.array(values)) <= 1.0


def timepoint(label: str, days: float | None, share: float, mean_j: float, reliable: bool = True) -> dict:
    return {
        "label": label,
        "days": days,
        "reliable": reliable,
        "density": density(share),
        "jacobian": {name: {"mean": mean_j} for name in MASKS},
        "scores": scores(mean_j, 20.0, share),
    }


def test_two_follow_ups_are_compared_with_each_other():
    found = score.compare(timepoint("A", 30, 10.0, 1.1), timepoint("B", 90, 4.0, 1.32))
    assert (found["earlier"], found["later"], found["days"], found["reliable"]) == ("A", "B", 60, True)
    assert found["change"]["lungs"]["abnormal_percent"] == pytest.approx(-6.0)
    assert found["change"]["lungs"]["bands_percent"] == pytest.approx({"a": -6.0})
    assert found["jacobian"]["right"]["volume_change_percent"] == pytest.approx(20.0)
    assert found["scores"]["lungs"]["tissue_recovery"] == pytest.approx(0.6)
    assert found["scores"]["lungs"]["jacobian"] == pytest.approx(-1.0)
    assert "fell from 10.0 % to 4.0 %" in found["scores"]["lungs"]["explanation"]


def test_comparing_undated_or_unreliable_follow_ups():
    found = score.compare(timepoint("A", None, 0.5, 1.0), timepoint("B", 90, 0.4, 1.0, reliable=False))
    assert found["days"] is None
    assert found["reliable"] is False
    assert found["scores"]["lungs"]["tissue_recovery"] is None
