"""study.json and the tables: what is written reads back, fits its schema, and names nobody."""

import csv
import json
import math

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from known_study import SETTINGS
from LungRecoveryLib import results
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.results import StudyResult, TimePointResult

WINDOWS_NAMES = {"con", "prn", "aux", "nul", "com1", "lpt9"}


def timepoint(visit: int, **changes) -> TimePointResult:
    """A time point with a value in every table."""
    baseline = visit == 0
    measures = {"volume_ml": 5000.0 - visit, "bands_percent": {"well_aerated": 90.0}}
    scores = {
        "jacobian": 1.0,
        "jacobian_normalized": 0.9,
        "tissue_recovery": None,
        "class": None if baseline else "partial",
        "explanation": 'Some, and "quoted".',
        "errors": {"jacobian": 0.01},
    }
    values = {
        "label": "baseline" if baseline else f"day {30 * visit}",
        "folder": "baseline" if baseline else f"day-{30 * visit}",
        "baseline": baseline,
        "days": 30.0 * visit,
        "visit": visit,
        "source": {"format": "NIfTI"},
        "lungs_source": "segmented",
        "density": {"lungs": measures},
        "scores": {"lungs": scores},
        "files": {"lungs": "baseline/lungs.nii.gz" if baseline else f"day-{30 * visit}/lungs.nii.gz"},
    }
    if not baseline:
        values |= {
            "jacobian": {"lungs": {"mean": np.float32(1.05), "sd": math.nan}},
            "change": {"lungs": {"ssim_mean": 0.8}},
            "quality": {"verdict": "pass", "reasons": ["fine"]},
            "registration": {"seconds": {"align": 1.0}, "device": "cpu", "preset": "fast", "notes": []},
        }
    return TimePointResult(**values | changes)


def study(**changes) -> StudyResult:
    """A small study of two visits."""
    series = {
        "name": "tissue_recovery",
        "unit": "",
        "region": "lungs",
        "points": [
            {"x": 0.0, "value": 0.5, "error": 0.1, "reliable": True},
            {"x": 30.0, "value": None, "error": None, "reliable": False},
        ],
        "model": "change",
        "curve": [{"x": 0.0, "low": 0.4, "mid": 0.5, "high": 0.6}],
    }
    values = {
        "settings": SETTINGS,
        "grid": {"size": [2, 2, 2], "spacing": [1.5] * 3, "origin": [0.0, 0.0, -920.0], "direction": [1, 0, 0] * 3},
        "regions": {"lungs": "Both lungs"},
        "region_codes": {"1": ["lungs"]},
        "timepoints": [timepoint(0), timepoint(1)],
        "trajectory": {"axis": "days", "series": {"tissue_recovery.lungs": series}},
        "seconds": {"read": 0.5},
    }
    return StudyResult(**values | changes)


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_reads_back_as_it_was_written(tmp_path):
    """Every value survives the file; NaN becomes null, NumPy numbers become plain ones."""
    written = study()
    results.write_study(written, tmp_path)
    read = results.read_study(tmp_path)
    assert read.timepoints[1].jacobian == {"lungs": {"mean": pytest.approx(1.05), "sd": None}}
    assert read.timepoints[0].jacobian is None
    assert results.to_json(read) == results.to_json(written)
    assert read.followups == [read.timepoints[1]]
    assert read.baseline.layer(tmp_path, "lungs") == tmp_path / "baseline" / "lungs.nii.gz"


def test_layers_that_nobody_makes_are_named_with_a_reason():
    """The schema's `absent` tells a program what it need not look for."""
    content = results.to_json(study())
    assert set(content["absent"]) == {"lobes", "severity", "radiomics"}
    assert all(len(reason.split()) > 4 for reason in content["absent"].values())
    assert content["notice"] == "Research use only; not for diagnosis"


@pytest.mark.parametrize(
    "wrong",
    [
        {"timepoints": [timepoint(1), timepoint(2)]},  # no baseline
        {"timepoints": [timepoint(0), timepoint(1, quality=None)]},  # a follow-up that nobody judged
        {"timepoints": [timepoint(0, files={"ct": "/home/someone/ct.nii.gz"})]},  # an absolute path
        {"timepoints": [timepoint(0, files={"ct": "../ct.nii.gz"})]},
        {"notice": "fit for diagnosis"},
        {"timepoints": [timepoint(0, radiomics={"lungs": {"volume_ml": 1.0, "plain": {"mean": 1.0}}}), timepoint(1)]},
    ],
)
def test_the_schema_refuses(wrong):
    """What must not stand in study.json is found when it is written, not when it is read."""
    with pytest.raises(jsonschema.ValidationError):
        results.to_json(study(**wrong))


def test_the_tables_are_tidy(tmp_path):
    """One header row, one row for each observation, undefined values empty, quotes kept."""
    results.write_study(study(), tmp_path)
    scores = rows(tmp_path / "scores.csv")
    assert [(row["visit"], row["label"], row["region"]) for row in scores] == [
        ("0", "baseline", "lungs"),
        ("1", "day 30", "lungs"),
    ]
    assert scores[1]["tissue_recovery"] == ""
    assert scores[1]["class"] == "partial"
    assert scores[0]["explanation"] == 'Some, and "quoted".'
    regions = rows(tmp_path / "regions.csv")
    assert {row["group"] for row in regions} == {"density", "jacobian", "change"}
    band = [row for row in regions if row["measure"] == "bands_percent: well_aerated"]
    assert [row["value"] for row in band] == ["90", "90"]
    trajectory = rows(tmp_path / "trajectory.csv")
    assert [row["kind"] for row in trajectory] == ["point", "point", "curve"]
    assert float(trajectory[0]["low"]) == pytest.approx(0.5 - 0.196)
    assert trajectory[1]["value"] == ""
    assert trajectory[1]["reliable"] == "false"


def test_radiomics_have_a_table_where_there_are_any(tmp_path):
    """A row for each region, image and feature, with its name, its ICC and whether it is stable; else no file."""
    results.write_study(study(), tmp_path)
    assert not (tmp_path / "radiomics.csv").exists()
    table = {"lesions": {"volume_ml": 12.0, "plain": {"Q4LE": -500.0}, "enhanced": {"Q4LE": 300.0, "5QRC": 0.5}}}
    written = study(timepoints=[timepoint(0, radiomics=table), timepoint(1)])
    results.write_study(written, tmp_path)
    found = rows(tmp_path / "radiomics.csv")
    assert [(row["label"], row["region_name"], row["image"], row["feature"]) for row in found] == [
        ("baseline", "Lesions", "plain", "mean"),
        ("baseline", "Lesions", "enhanced", "mean"),
        ("baseline", "Lesions", "enhanced", "small zone emphasis"),
    ]
    assert [row["stable"] for row in found] == ["true", "true", "false"]
    assert float(found[1]["icc"]) > 0.9
    assert results.read_study(tmp_path).baseline.radiomics == table


def test_a_folder_without_a_study_is_bad_input(tmp_path):
    """Reading says which file is missing or wrong."""
    with pytest.raises(BadInput, match=r"study\.json"):
        results.read_study(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        results.read_study(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"schema": "lungrecovery-study-9"}))
    with pytest.raises(BadInput, match="not a study of this version"):
        results.read_study(tmp_path)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_folder_names_are_safe_everywhere_and_unique(labels):
    """Whatever the labels, their folders are distinct, portable names, whatever the case of the file system."""
    taken: list[str] = []
    for label in labels:
        name = results.folder_name(label, taken)
        assert name not in taken
        assert name == name.lower()
        assert name.replace("-", "").isalnum()
        assert name.isascii()
        assert name not in WINDOWS_NAMES
        assert name not in ("baseline", "figures")
        assert 0 < len(name) <= 44
        taken.append(name)


def test_folder_names_that_people_expect():
    """Labels turn into readable names; reserved and unreadable ones are replaced."""
    assert results.folder_name("Day 30") == "day-30"
    assert results.folder_name("3 months / CT") == "3-months-ct"
    assert results.folder_name("Kontrolle über Ü") == "kontrolle-uber-u"
    assert results.folder_name("随访") == "visit"
    assert results.folder_name("CON") == "con-2"
    assert results.folder_name("day-30", ["day-30"]) == "day-30-2"


def test_plain_refuses_what_json_cannot_hold():
    """A path or an array of objects in the results is a bug, found at once."""
    assert results.plain({1: np.int64(3), "a": (np.float32(0.5), math.inf)}) == {"1": 3, "a": [0.5, None]}
    with pytest.raises(TypeError):
        results.plain({"path": object()})
