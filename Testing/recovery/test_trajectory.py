"""Proves the trajectory: which model how many dates give, known parameters found again, honest intervals and days."""

import json

import numpy as np
import pytest

from LungRecoveryLib.errors import Cancelled
from LungRecoveryLib.parenchyma.radiomics import FEATURES, repeatability, stable_features
from LungRecoveryLib.recovery.trajectory import trajectory

ERROR = 0.02


def visits(days, recovery, unreliable=(), abnormal=None, dated=True) -> list[dict]:
    entries = []
    for number, (day, value) in enumerate(zip(days, recovery, strict=True)):
        share = 20.0 * (1 - (value or 0.0)) if abnormal is None else abnormal[number]
        region = {"volume_ml": 4000.0 + 10 * number, "mean_hu": -800.0, "abnormal_percent": share}
        entries.append(
            {
                "label": f"visit {number}",
                "days": float(day) if dated else None,
                "visit": number,
                "baseline": number == 0,
                "reliable": number not in unreliable,
                "density": {"lungs": {**region, "bands_percent": {"well_aerated": 80.0}}},
                "scores": {
                    "lungs": {
                        "jacobian": 1.0,
                        "jacobian_normalized": 1.0,
                        "tissue_recovery": value,
                        "errors": {"jacobian": 0.01, "jacobian_normalized": 0.01, "tissue_recovery": ERROR},
                    }
                },
            }
        )
    return entries


def recovery_of(entries, **options) -> dict:
    return trajectory(entries, **options)["series"]["tissue_recovery.lungs"]


def test_two_dates_give_a_change_only():
    found = recovery_of(visits([0, 90], [0.0, 0.6]))
    assert found["model"] == "change"
    assert found["change"]["value"] == pytest.approx(0.6)
    assert found["change"]["low"] == pytest.approx(0.6 - 1.96 * ERROR, abs=0.01)
    assert found["change"]["high"] == pytest.approx(0.6 + 1.96 * ERROR, abs=0.01)
    assert (found["slope"], found["exponential"], found["curve"], found["day_reaches_0_85"]) == (None, None, [], None)
    assert "Two dates" in found["day_reaches_0_85_reason"]


@pytest.mark.parametrize("days", [[0, 50, 100], [0, 50, 100, 150]])
def test_from_three_dates_a_linear_trend_with_its_day(days):
    found = recovery_of(visits(days, [0.006 * day for day in days]))
    assert found["model"] == "linear"
    assert found["slope"]["value"] == pytest.approx(0.006)
    assert found["slope"]["low"] < 0.006 < found["slope"]["high"]
    day = found["day_reaches_0_85"]
    assert day["estimate"] == pytest.approx(0.85 / 0.006)
    assert day["low"] < day["estimate"] < day["high"]
    assert found["day_reaches_0_85_reason"] is None


def test_from_five_dates_an_exponential_approach_with_known_parameters():
    days = np.array([0, 30, 60, 120, 240, 400])
    found = recovery_of(visits(days, 0.95 * (1 - np.exp(-days / 70.0))))
    assert found["model"] == "exponential"
    parts = found["exponential"]
    assert parts["time_constant"]["value"] == pytest.approx(70.0, rel=0.03)
    assert parts["end"]["value"] == pytest.approx(0.95, abs=0.01)
    assert parts["time_constant"]["low"] < 70 < parts["time_constant"]["high"]
    assert found["day_reaches_0_85"]["estimate"] == pytest.approx(-70 * np.log(0.1 / 0.95), rel=0.03)
    assert found["slope"] is None


def test_the_day_is_never_beyond_twice_the_observed_span():
    slow = recovery_of(visits([0, 50, 100], [0.0, 0.2, 0.4]))
    assert slow["day_reaches_0_85"] is None
    assert "twice the observed span (day 200)" in slow["day_reaches_0_85_reason"]
    close = recovery_of(visits([0, 50, 100], [0.0, 0.215, 0.43]))["day_reaches_0_85"]
    assert close["estimate"] < 200
    assert close["low"] < close["estimate"]
    assert close["high"] is None


def test_a_score_that_starts_high_has_no_day():
    found = trajectory(visits([0, 50, 100], [0.0, 0.5, 0.9]))["series"]["jacobian.lungs"]
    assert found["day_reaches_0_85"] is None
    assert "from the start" in found["day_reaches_0_85_reason"]


def test_densities_have_no_day_at_all():
    found = trajectory(visits([0, 50, 100], [0.0, 0.5, 0.9]))["series"]["abnormal_percent.lungs"]
    assert (found["day_reaches_0_85"], found["day_reaches_0_85_reason"]) == (None, None)
    assert found["slope"]["value"] == pytest.approx(-0.18)


def test_undated_visits_get_a_visit_axis_and_no_day():
    entries = visits([0, 50, 100], [0.0, 0.5, 0.9])
    entries[1]["days"] = None
    result = trajectory(entries)
    found = result["series"]["tissue_recovery.lungs"]
    assert result["axis"] == "visit"
    assert any("no dates" in note for note in result["notes"])
    assert [point["x"] for point in found["points"]] == [0.0, 1.0, 2.0]
    assert 0.4 < found["slope"]["value"] < 0.5
    assert found["day_reaches_0_85"] is None
    assert "no dates" in found["day_reaches_0_85_reason"]


def test_unreliable_scores_are_shown_but_kept_out_of_the_fit():
    entries = visits([0, 50, 100, 150], [0.0, 0.2, 0.99, 0.6], unreliable=[2])
    result = trajectory(entries)
    found = result["series"]["tissue_recovery.lungs"]
    assert [point["reliable"] for point in found["points"]] == [True, True, False, True]
    assert found["slope"]["value"] == pytest.approx(0.004)
    assert any("kept out of the fits" in note for note in result["notes"])
    densities = result["series"]["volume_ml.lungs"]
    assert all(point["reliable"] for point in densities["points"])


def test_too_few_reliable_points_give_no_model():
    found = recovery_of(visits([0, 50], [0.0, 0.5], unreliable=[1]))
    assert (found["model"], found["change"]) == (None, None)
    assert len(found["points"]) == 2
    assert "too few" in found["day_reaches_0_85_reason"]


def test_two_scans_of_one_day_count_as_one_date():
    assert recovery_of(visits([0, 90, 90], [0.0, 0.5, 0.6]))["model"] == "change"


def test_an_undefined_score_leaves_its_point_out():
    result = trajectory(visits([0, 50, 100], [None, None, None], abnormal=[0.1, 0.2, 0.1]))
    assert "tissue_recovery.lungs" not in result["series"]
    assert "jacobian.lungs" in result["series"]


def test_every_score_and_density_is_followed_with_the_source_of_its_error():
    result = trajectory(visits([0, 90], [0.0, 0.6]))
    names = {series["name"] for series in result["series"].values()}
    expected = {"jacobian", "jacobian_normalized", "tissue_recovery", "volume_ml", "mean_hu", "abnormal_percent"}
    assert names == expected | {"band_well_aerated"}
    assert all(result["errors"][name] for name in names)
    volume = result["series"]["volume_ml.lungs"]["points"][0]
    assert volume["error"] == pytest.approx(0.058 * 4000)
    assert result["series"]["tissue_recovery.lungs"]["points"][0]["error"] == 0.0


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    entries = visits([0, 50, 100], [0.0, 0.3, 0.8])
    assert trajectory(entries, seed=3) == trajectory(entries, seed=3)
    assert recovery_of(entries, seed=3)["slope"] != recovery_of(entries, seed=4)["slope"]


def test_curves_stay_in_the_range_of_the_measure_and_are_ordered():
    found = recovery_of(visits([0, 50, 100], [0.0, 0.9, 0.95]))
    for point in found["curve"]:
        assert point["low"] <= point["mid"] <= point["high"] <= 1.0
    assert (found["curve"][0]["x"], found["curve"][-1]["x"]) == (0.0, 100.0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    days, slope, hits = [0, 40, 80, 120], 0.005, 0
    for repeat in range(100):
        measured = [0.0] + [slope * day + rng.normal(0, ERROR) for day in days[1:]]
        found = recovery_of(visits(days, measured), seed=repeat, samples=200)["slope"]
        hits += found["low"] <= slope <= found["high"]
    assert hits >= 87


def test_the_result_is_json_and_the_work_can_be_cancelled():
    entries = visits([0, 30, 60, 90, 120], [0.0, 0.3, 0.5, 0.6, 0.7])
    assert json.loads(json.dumps(trajectory(entries), allow_nan=False))["axis"] == "days"

    def cancel(stage, fraction, message=""):
        raise Cancelled

    with pytest.raises(Cancelled):
        trajectory(entries, progress=cancel)


def test_only_the_named_regions_are_followed():
    assert trajectory(visits([0, 90], [0.0, 0.6]), regions=["left"])["series"] == {}


def test_only_stable_features_are_followed():
    """Radiomics of the enhanced image: the stable ones of lungs and lesions with the error that was measured."""
    entries = visits([0, 30, 90], [0.0, 0.3, 0.6])
    for number, entry in enumerate(entries):
        values = {feature.ibsi: 100.0 - number for feature in FEATURES}
        entry["radiomics"] = {r: {"volume_ml": 50.0, "plain": values, "enhanced": values} for r in ("lungs", "lesions")}
    del entries[2]["radiomics"]["lesions"]  # they have cleared
    found = trajectory(entries)
    for region in ("lungs", "lesions"):
        followed = {key for key in found["series"] if key.startswith("radiomics_") and key.endswith(f".{region}")}
        assert followed == {f"radiomics_{feature.ibsi}.{region}" for feature in stable_features(region)}
    mean = next(feature for feature in FEATURES if feature.name == "mean")
    series = found["series"][f"radiomics_{mean.ibsi}.lungs"]
    assert (series["title"], series["unit"], series["model"]) == ("Intensity: mean", "HU", "linear")
    assert [point["value"] for point in series["points"]] == [100.0, 99.0, 98.0]
    assert {point["error"] for point in series["points"]} == {repeatability("lungs", mean)}
    assert len(found["series"][f"radiomics_{mean.ibsi}.lesions"]["points"]) == 2
    assert "phantom" in found["errors"][series["name"]]
    assert not [key for key in trajectory(visits([0, 30], [0.0, 0.3]))["series"] if key.startswith("radiomics")]
