"""The sentences say what study.json says, also in the odd cases."""

import copy

import pytest

from LungRecoveryLib.report import checks, content, tables, text
from LungRecoveryLib.results import StudyResult


@pytest.fixture(scope="module")
def study(study_maker, grid_maker, tmp_path_factory) -> StudyResult:
    return study_maker(tmp_path_factory.mktemp("words"), grid=grid_maker(spacing=(20.0, 20.0, 20.0)))


@pytest.fixture
def changed(study) -> StudyResult:
    """A copy to change."""
    return copy.deepcopy(study)


def plain(words: str) -> str:
    return words.replace("\u202f", " ").replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "expected"),
    [
        (4870.4, 0, False, "4 870"),
        (-812.0, 0, False, "−812"),
        (-0.4, 0, True, "0"),
        (0.0, 1, True, "0.0"),
        (3.14159, 2, True, "+3.14"),
        (None, 2, False, "–"),
        (1234567.0, 0, False, "1 234 567"),
    ],
)
def test_numbers(value, decimals, signed, expected):
    assert plain(text.number(value, decimals, signed)) == expected


def test_durations_and_percentages():
    assert [plain(text.seconds(s)) for s in (0.31, 42.4, 300.0)] == ["0.3 s", "42 s", "5.0 min"]
    assert plain(text.percent(21.34, 1)) == "21.3 %"


def test_the_overall_answer_is_that_of_the_last_date(study):
    assert plain(text.overall(study)) == (
        "Day 180: partial recovery; 62 % of the lung that was abnormal at baseline has cleared "
        "(21.3 % of the lung then, 8.0 % now)."
    )


def test_a_worsening_lung_is_said_to_have_worsened(changed):
    last = changed.timepoints[-1]
    last.scores["lungs"] |= {"tissue_recovery": -0.41, "class": "persistent"}
    last.density["lungs"]["abnormal_percent"] = 30.0
    sentence = plain(text.overall(changed))
    assert "persistent abnormality; the abnormal lung has grown by 41 % since the baseline" in sentence
    assert "cleared" not in sentence


def test_an_unchanged_lung_is_said_to_be_unchanged(changed):
    changed.timepoints[-1].scores["lungs"] |= {"tissue_recovery": -0.001, "class": "persistent"}
    assert "the abnormal lung is as large as at baseline" in text.overall(changed)


def test_a_change_as_small_as_between_two_reconstructions_is_said_to_be_one(changed):
    changed.timepoints[-1].scores["lungs"] |= {"tissue_recovery": -0.34, "class": "persistent"}
    for baseline, now, alike in ((1.5, 2.0, True), (1.5, 1.5, False), (1.5, 2.2, False)):
        changed.baseline.density["lungs"]["abnormal_percent"] = baseline
        changed.timepoints[-1].density["lungs"]["abnormal_percent"] = now
        assert ("two reconstructions of one scan" in text.overall(changed)) == alike


def test_without_abnormal_lung_at_baseline_the_volume_speaks(changed):
    changed.baseline.density["lungs"]["abnormal_percent"] = 0.4
    scores = {"tissue_recovery": None, "jacobian": 0.93, "jacobian_normalized": 0.96, "class": "complete"}
    changed.timepoints[-1].scores["lungs"] |= scores
    assert plain(text.overall(changed)) == (
        "Day 180: class complete, by the volume alone; 93 % of the lung has kept its volume (96 % apart from the "
        "overall change), and hardly any of it was abnormal at baseline (0.4 % then, 8.0 % now)."
    )


def test_a_failed_registration_comes_before_its_result(changed):
    last = changed.timepoints[-1]
    last.reliable = False
    last.quality |= {"verdict": "fail", "reasons": ["0.412 % of the lung voxels are folded."]}
    sentence = text.overall(changed)
    assert plain(sentence).startswith("Day 180: ⚠ unreliable, the registration failed its quality check: 0.412 % of")
    assert sentence.index("Not to be relied on") < sentence.index("partial recovery")
    assert "✕" in text.verdict_sentence(last)
    assert "marked unreliable" in text.verdict_sentence(last)


def test_what_the_reader_said_comes_once(changed):
    """A rejection is the reason itself; a registration that is used all the same keeps the check's reasons."""
    last = changed.timepoints[-1]
    last.reliable = False
    last.quality |= {"verdict": "pass", "reader": {"verdict": "not usable", "comment": "left base misaligned"}}
    sentence = text.verdict_sentence(last)
    assert sentence.startswith("Registration ✓\u00a0Passed, rejected by the reader: left base misaligned.")
    assert sentence.count("left base misaligned") == 1
    assert "marked unreliable" in sentence
    last.reliable = True
    last.quality |= {"verdict": "fail", "reasons": ["Folds."], "reader": {"verdict": "usable", "comment": "fits"}}
    sentence = text.verdict_sentence(last)
    assert "folds. Used on the reader's word: fits." in sentence
    assert "may be read as they stand" in sentence


def test_a_baseline_alone_has_an_answer(changed):
    changed.timepoints = changed.timepoints[:1]
    assert "there is no follow-up" in text.overall(changed)
    assert dict(content.facts(changed))["Scans"] == "baseline only"


def test_the_regions_that_differ_are_named(changed):
    last = changed.timepoints[-1]
    assert text.region_sentence(changed, last) is None  # all alike
    last.scores["left_upper"]["tissue_recovery"] = 0.95
    last.scores["right_lower"]["tissue_recovery"] = 0.21
    assert text.region_sentence(changed, last) == (
        "Tissue recovery is highest in the left upper third (0.95) and lowest in the right lower third (0.21)."
    )


def test_volume_and_density_are_compared_with_the_baseline(changed):
    last = changed.timepoints[-1]
    last.density["lungs"] |= {"volume_ml": 5114.0, "mean_hu": -790.0}
    changed.baseline.density["lungs"]["mean_hu"] = -727.0
    assert plain(text.volume_sentence(changed, last)) == (
        "The lung volume is 5 114 ml, 5 % more than at baseline; the mean density is −790 HU (−727 HU at baseline)."
    )
    last.density["lungs"]["volume_ml"] = changed.baseline.density["lungs"]["volume_ml"]
    assert "the same as at baseline" in text.volume_sentence(changed, last)


def test_the_parts_of_a_lung_stand_below_it(study):
    names = [row.cells[0] for row in tables.recovery_by_region(study).rows]
    assert names[:3] == ["Both lungs", "Right lung", "Right upper third"]
    assert names.index("Left lung") == 5
    assert names[-1] == "Core"


def test_a_crop_with_one_lung_is_not_called_both_lungs(changed):
    for region in [r for r in changed.regions if r.startswith("left")]:
        del changed.regions[region]
    assert tables.recovery_by_region(changed).rows[0].cells[0] == "Lung in the scan"
    assert tables.density_over_time(changed).columns[0].title == "Lung in the scan"


def test_recovery_that_is_defined_nowhere_has_no_table(changed):
    assert tables.has_recovery(changed)
    for point in changed.followups:
        for scores in point.scores.values():
            scores["tissue_recovery"] = None
    assert not tables.has_recovery(changed)
    assert {row.cells[1] for row in tables.recovery_by_region(changed).rows} == {"–"}


def test_a_doubtful_registration_is_among_the_notes(changed):
    changed.timepoints[1].quality |= {"verdict": "review", "reasons": ["The deformation folds in 0.01 % of the lung."]}
    notes = [(who, plain(sentence)) for who, sentence in content.warnings(changed)]
    assert ("Day 30", "registration to be reviewed: the deformation folds in 0.01 % of the lung.") in notes


def test_days_are_added_to_labels_that_do_not_say_them(study):
    point = copy.deepcopy(study.timepoints[2])
    assert text.title(point) == "Day 90"
    point.label = "Second visit"
    assert plain(text.title(point)) == "Second visit (day 90)"
    point.days = None
    assert text.title(point) == "Second visit"


def test_thresholds_in_words_are_those_of_the_study(changed):
    changed.settings["score_thresholds"] |= {"complete": 0.9, "minimum_abnormal_percent": 2.5}
    changed.settings["score_thresholds"]["jacobian_low"] = 0.75
    words = " ".join([*content.how_to_read(changed), *tables.scores_by_time(changed).notes])
    assert "complete from 0.90" in words
    assert "at least 2.5" in words
    assert "within 0.75 to 1.2 times" in words
    assert "less than 2.5" in words


def test_warnings_come_once_with_whom_they_concern(changed):
    changed.warnings = ["The kernels differ.", "Day 30: Thick slices."]
    changed.timepoints[1].warnings = ["The kernels differ.", "Thick slices."]
    assert content.warnings(changed) == [("Day 30", "The kernels differ."), ("Day 30", "Thick slices.")]


def test_nothing_of_the_source_is_shown_but_what_is_allowed(changed):
    changed.baseline.source |= {"path": "/home/doe/scan.dcm", "study_date": "20200401"}
    shown = " ".join(f"{a} {b}" for a, b in content.source_lines(changed.baseline))
    assert "B30f" in shown
    for secret in ("DOE", "/home", "20200401"):
        assert secret not in shown


def test_an_unreliable_date_is_marked_in_every_table_that_rests_on_its_registration(changed):
    changed.timepoints[2].reliable = False
    for series in changed.trajectory["series"].values():
        if series["name"] in text.SCORES:
            series["points"][2]["reliable"] = False
    assert tables.scores_by_time(changed).rows[2].cells[0] == "Day 90 ⚠ unreliable"
    assert [text.UNRELIABLE in row.cells[0] for row in tables.scores_by_time(changed).rows] == [
        False,
        False,
        True,
        False,
    ]
    for table in (
        tables.recovery_by_region(changed),
        tables.jacobian_by_region(changed),
        checks.quality_table(changed),
    ):
        assert [text.UNRELIABLE in c.title for c in table.columns[1:4]] == [False, True, False]
    regions = tables.regions_of(changed, changed.timepoints[2])
    assert text.UNRELIABLE in regions.title
    assert all("⚠" in row.cells[0] and row.unreliable for row in regions.rows)
    notes = {row.cells[0]: row.note for row in tables.trajectory_table(changed).rows}
    assert notes["Tissue recovery"] == "without Day 90 (⚠ unreliable)"
    assert notes["Volume, ml"] == ""


def test_follow_ups_compared_with_each_other(changed):
    changed.comparisons = [
        {
            "earlier": "Day 30",
            "later": "Day 180",
            "days": 150.0,
            "reliable": False,
            "jacobian": {"lungs": {"volume_change_percent": 3.2}},
            "change": {"lungs": {"abnormal_percent": -9.4, "mean_hu": -38.0}},
            "scores": {"lungs": {"tissue_recovery": 0.54, "jacobian": -0.02, "jacobian_normalized": None}},
        }
    ]
    row = tables.comparisons(changed).rows[0]
    expected = ("Day 30 ⚠ unreliable", "Day 180", "150", "0.54", "−9.4", "−38", "+3", "−0.02", "–")
    assert row.cells == expected


def test_the_series_that_was_chosen_is_said_where_there_was_a_choice(changed):
    changed.baseline.source |= {"chosen": {"series": "1.2.3", "why": "named by the user"}, "candidates": [{}, {}]}
    assert ("series chosen", "1 of 2: named by the user") in content.source_lines(changed.baseline)
    changed.baseline.source["candidates"] = None
    assert "series chosen" not in dict(content.source_lines(changed.baseline))


def test_density_table_holds_the_values_of_the_study(study):
    rows = {row.cells[0]: row.cells[1:] for row in tables.density_over_time(study).rows}
    assert [plain(c) for c in rows["Volume, ml"]] == ["4 870"] * 4
    assert rows["Abnormal lung, %"] == tuple(f"{t.density['lungs']['abnormal_percent']:.1f}" for t in study.timepoints)
    assert rows["Poorly aerated, %"][0] == f"{study.baseline.density['lungs']['bands_percent']['poorly_aerated']:.1f}"
    assert len(rows) == 12
