"""How measures go over the dates is said with units and intervals."""

from LungRecoveryLib.report import trends


def plain(words: str) -> str:
    return words.replace("\u202f", " ").replace("\u00a0", " ")


def test_trends_with_intervals():
    series = {"name": "tissue_recovery", "unit": "", "slope": {"value": 0.004, "low": 0.003, "high": 0.005}}
    assert trends.trend(series, "days") == "+0.12 per 30 days (+0.09 to +0.15)"
    assert trends.trend(series, "visit") == "0.00 per visit (0.00 to +0.01)"
    change = {"name": "volume_ml", "unit": "ml", "change": {"value": -120.0, "low": -200.0, "high": -40.0}}
    assert plain(trends.trend(change, "days")) == "−120 ml (−200 to −40)"
    share = {"name": "haa_percent", "unit": "%", "change": {"value": -3.2, "low": -4.0, "high": -2.4}}
    assert plain(trends.trend(share, "days")) == "−3.2 % points (−4.0 to −2.4)"
    parts = {"start": None, "end": {"value": 0.91, "low": 0.85, "high": 0.97}}
    parts["time_constant"] = {"value": 64.2, "low": 40.0, "high": 90.0}
    assert plain(trends.trend({"name": "jacobian", "exponential": parts}, "days")) == (
        "approaches 0.91 (0.85 to 0.97), time constant 64 days (40 to 90)"
    )
    assert trends.trend({"name": "jacobian", "slope": None, "change": None}, "days") == "–"


def test_the_day_of_recovery_with_an_open_end():
    day = {"day_reaches_0_85": {"estimate": 251.0, "low": 214.0, "high": None}}
    assert plain(trends.day_reached(day)) == "day 251 (214 to later than can be told)"
    never = {"day_reaches_0_85": None, "day_reaches_0_85_reason": "It does not reach 0.85."}
    assert trends.day_reached(never) == "It does not reach 0.85."
