"""The job: its schema, its checks, and how labels, paths and masks find each other."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.job import (
    TimePoint,
    assign,
    job_from,
    read_job_file,
    settings_of,
    split_label,
    to_json,
    with_labels,
)


def content(**changes) -> dict:
    return {"timepoints": [{"path": "a.mha"}, {"path": "b.mha"}], "output": "out"} | changes


def labels(*timepoints: TimePoint) -> list[str]:
    return [timepoint.label for timepoint in with_labels(timepoints)]


def test_a_job_survives_json():
    """What a job holds can be written to a job file and means the same when read again, defaults filled in."""
    given_content = content(
        preset="fast",
        seed=3,
        radiomics=True,
        bands=[{"name": "all", "low": -1000, "high": 0}],
        quality_thresholds={"fail_dice": 0.8},
        timepoints=[{"path": "a.mha", "days": 0}, {"path": "b.mha", "days": 30, "lungs": "m.mha", "series": "3"}],
    )
    job = job_from(given_content)
    again = job_from(json.loads(json.dumps(to_json(job))))
    assert again == job
    assert job.radiomics
    assert job.quality_thresholds.fail_dice == 0.8
    assert job.quality_thresholds.review_dice == 0.95
    assert job.timepoints[1].lungs == Path("m.mha")


def test_the_recorded_settings_name_no_file():
    """study.json gets what changes the numbers, and no path."""
    settings = settings_of(job_from(content(timepoints=[{"path": "/home/anna/a.mha"}, {"path": "/home/anna/b.mha"}])))
    assert "anna" not in json.dumps(settings)
    assert {"preset", "seed", "device", "spacing_mm", "native_maps", "bands", "quality_thresholds"} <= set(settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "best"}, "preset"),
        ({"device": "gpu"}, "device"),
        ({"threads": 0}, "threads"),
        ({"spacing_mm": 0}, "spacing_mm"),
        ({"colour": "red"}, "colour"),
        ({"timepoints": [{"path": "a.mha"}]}, "fewer than two scans"),
        ({"timepoints": [{"path": "a.mha"}, {"file": "b.mha"}]}, "path"),
        ({"timepoints": [{"path": "a.mha", "label": "x"}, {"path": "b.mha", "label": "X"}]}, "twice"),
        ({"timepoints": [{"path": "a.mha"}, {"path": "b.mha", "label": "Baseline"}]}, "not the first scan"),
        ({"timepoints": [{"path": "a.mha", "label": "a\nb"}, {"path": "b.mha"}]}, "cannot be printed"),
        ({"timepoints": [{"path": "a.mha", "days": 0}, {"path": "b.mha", "days": -5}]}, "earliest"),
        ({"timepoints": [{"path": "a.mha"}, {"path": "b.mha", "days": 5}]}, "baseline has no day"),
        ({"bands": [{"name": "x", "low": 0, "high": -5}]}, "lower first"),
        ({"bands": [{"name": "x", "low": 0, "high": 1}] * 2}, "same name"),
        ({"quality_thresholds": {"dice": 0.5}}, "fail_dice"),
    ],
)
def test_a_wrong_job_is_one_sentence(changes, words):
    """Every contradiction is found before an image is read, and the message names it."""
    with pytest.raises(BadInput, match=words) as error:
        job_from(content(**changes))
    assert "\n" not in str(error.value)


def test_a_job_file_names_paths_from_its_own_folder(tmp_path):
    """Relative paths start at the job file, absolute ones stay; a file that is no job is bad input."""
    file = tmp_path / "job.json"
    file.write_text(json.dumps(content(timepoints=[{"path": "a.mha", "lungs": "m.mha"}, {"path": "/data/b.mha"}])))
    read = read_job_file(file)
    assert read["timepoints"][0] == {"path": str(tmp_path / "a.mha"), "lungs": str(tmp_path / "m.mha")}
    assert read["timepoints"][1] == {"path": "/data/b.mha"}
    assert read["output"] == str(tmp_path / "out")
    with pytest.raises(BadInput, match="does not exist"):
        read_job_file(tmp_path / "none.json")
    file.write_text("[1, 2]")
    with pytest.raises(BadInput, match=r"job\.json"):
        read_job_file(file)
    file.write_bytes(b"\x89PNG")
    with pytest.raises(BadInput, match="not a job file"):
        read_job_file(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scan.mha", (None, "scan.mha")),
        ("day 30=scan.mha", ("day 30", "scan.mha")),
        (r"C:\scans\a=b.mha", (None, r"C:\scans\a=b.mha")),
        (r"day 30=C:\scans\a.mha", ("day 30", r"C:\scans\a.mha")),
        (r"C:\scans\a.mha", (None, r"C:\scans\a.mha")),
        ("folder/a=b.mha", (None, "folder/a=b.mha")),
        ("late=folder/a=b.mha", ("late", "folder/a=b.mha")),
        ("=scan.mha", (None, "scan.mha")),
    ],
)
def test_labels_are_told_from_paths(text, expected):
    """A label is what stands before the first equals sign, unless that is a path; drives are never labels."""
    assert split_label(text) == expected


def test_a_file_with_an_equals_sign_in_its_name_is_a_file(tmp_path, monkeypatch):
    """What exists as it stands is a path."""
    monkeypatch.chdir(tmp_path)
    Path("te=3.mha").touch()
    assert split_label("te=3.mha") == (None, "te=3.mha")


def test_default_labels_never_come_from_file_names():
    """File names often hold the patient's: labels are made from days or order."""
    a, b, c = (TimePoint(Path(name)) for name in ("smith_john.mha", "smith_john2.mha", "smith3.mha"))
    assert labels(a, b, c) == ["baseline", "follow-up 1", "follow-up 2"]
    days = [TimePoint(a.path, days=0), TimePoint(b.path, days=30), TimePoint(c.path, days=90.5)]
    assert labels(*days) == ["baseline", "day 30", "day 90.5"]
    assert labels(days[0], days[1], days[1]) == ["baseline", "day 30", "day 30 (2)"]
    assert labels(TimePoint(a.path, label="admission"), TimePoint(b.path, label="late")) == ["admission", "late"]


def test_masks_find_their_scan_by_any_of_its_names():
    """A mask may be given for the label, the default label, the day, or the slug of any of them."""
    for name in ("late", "LATE", "follow-up 1", "follow-up-1", "day 30", "day-30"):
        timepoints = [{"path": "a", "days": 0}, {"path": "b", "label": "late", "days": 30}]
        assign(timepoints, "lungs", [f"{name}=m.mha", "baseline=n.mha"], "--lungs")
        assert [t["lungs"] for t in timepoints] == ["n.mha", "m.mha"]
    with pytest.raises(BadInput, match=r"--lungs early=.* baseline, late"):
        assign([{"path": "a"}, {"path": "b", "label": "late"}], "lungs", ["early=m.mha"], "--lungs")
    with pytest.raises(BadInput, match="give it once"):
        assign([{"path": "a"}, {"path": "b"}], "lungs", ["baseline=m", "baseline=n"], "--lungs")
    with pytest.raises(BadInput, match="LABEL=LUNGS"):
        assign([{"path": "a"}, {"path": "b"}], "lungs", ["m.mha"], "--lungs")


@given(st.text(max_size=30))
def test_any_text_is_split_or_left(text):
    """Splitting never fails and never loses a character but the equals sign and spaces around the label."""
    label, path = split_label(text)
    assert text.endswith(path)
    assert label is None or text.startswith(label) or text.strip().startswith(label)
