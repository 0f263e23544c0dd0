"""Kernels, positions and breath phases as the makers write them, and a choice of series with the fewest penalties."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib import acquisition
from LungRecoveryLib.acquisition import Acquisition, best_combination, breath_phase, kernel_class, mismatch


def thin_soft(**changes) -> Acquisition:
    known = {"kernel": "B30f", "kernel_class": "soft", "position": "supine", "breath": "inspiration"}
    return Acquisition(
        **{"pixel_mm": 0.7, "slice_spacing_mm": 1.0, "thickness_mm": 1.0, "extent_mm": 300} | known | changes
    )


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("B30f", "soft"), ("B40f", "medium"), ("D40s", "medium"), ("B70f", "sharp"), ("I31f 3", "soft"),
        ("Br36d 3", "medium"), ("Bl57d 2", "sharp"), ("Br49", "medium"), ("SOFT", "soft"), ("STANDARD", "medium"),
        ("CHEST", "medium"), ("LUNG", "sharp"), ("BONEPLUS", "sharp"), ("FC03", "soft"), ("FC18", "medium"),
        ("FC51", "sharp"), ("A", "soft"), ("C", "medium"), ("YA", "soft"), ("YC", "medium"), ("L", "sharp"), ("", None),
        ("42", None),
    ],
)  # fmt: skip
def test_kernel_names_of_the_makers(kernel, expected):
    assert kernel_class(kernel) == expected


def test_positions_and_breath_phases():
    assert [acquisition.patient_position(c) for c in ("HFS", "FFS", "HFP", "HFDL", "FFDR", "", "X")] == [
        "supine", "supine", "prone", "lateral", "lateral", None, None,
    ]  # fmt: skip
    for words in ("Thorax INSP 1.0", "inspiration", "Lung Inspiratory", "deep inhale"):
        assert breath_phase(words) == "inspiration"
    for words in ("Thorax exp.", "EXPIRATION", "end-expiratory", "exhale"):
        assert breath_phase(words) == "expiration"
    for words in ("Thorax", "CT export", "low exposure", "inspection", "insp and exp", ""):
        assert breath_phase(words) is None


def test_an_ideal_series_has_no_penalty_and_every_flaw_has_one_with_its_reason():
    assert acquisition.own_penalties(thin_soft()) == {}
    flaws = {
        "thick": {"thickness_mm": 5.0},
        "gaps": {"slice_spacing_mm": 10.0},
        "sharp kernel": {"kernel_class": "sharp"},
        "unknown kernel": {"kernel_class": None},
        "covers 100 mm": {"extent_mm": 100.0},
        "expiration": {"breath": "expiration"},
        "prone": {"position": "prone"},
        "not axial": {"axial": False},
        "derived": {"derived": True},
        "projection": {"words": "Thorax MIP 10 mm"},
    }
    for words, change in flaws.items():
        penalties = acquisition.own_penalties(thin_soft(**change))
        assert any(words in reason for reason in penalties), words
        assert min(penalties.values()) > 0
    assert json.loads(json.dumps(acquisition.own_penalties(thin_soft(thickness_mm=5.0))))


def test_only_what_differs_is_a_mismatch_and_the_unknown_matches():
    assert mismatch(thin_soft(), thin_soft()) == {}
    unknown = thin_soft(kernel=None, kernel_class=None, position=None, breath=None)
    assert mismatch(thin_soft(), unknown) == {}
    found = mismatch(thin_soft(contrast=False), thin_soft(position="prone", thickness_mm=4.0, contrast=True))
    assert set(found) == {
        "slice thickness 1 mm, then 4 mm",
        "patient position supine, then prone",
        "contrast agent none, then given",
    }
    assert found["slice thickness 1 mm, then 4 mm"] == pytest.approx(4.0)


def total(combination: list[Acquisition]) -> float:
    own = sum(sum(acquisition.own_penalties(a).values()) for a in combination)
    return own + sum(sum(mismatch(combination[0], a).values()) for a in combination[1:])


series = st.builds(
    thin_soft,
    thickness_mm=st.sampled_from([1.0, 2.0, 5.0]),
    kernel_class=st.sampled_from(["soft", "sharp", None]),
    kernel=st.sampled_from(["B30f", "B70f"]),
    breath=st.sampled_from(["inspiration", "expiration", None]),
    position=st.sampled_from(["supine", "prone"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(series, min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_choice_is_the_best_of_all_combinations(dates):
    chosen = [date[i] for date, i in zip(dates, best_combination(dates), strict=True)]
    assert total(chosen) == pytest.approx(min(total(list(c)) for c in itertools.product(*dates)))
