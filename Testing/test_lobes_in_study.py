"""Lobes that came with the scans run through a whole study: regions, severity score, trajectory, report, commands."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from LungRecoveryLib.anatomy.regions import LOBE_REGIONS
from LungRecoveryLib.cli.application import app
from LungRecoveryLib.corrections import CorrectedScan, Correction, correct
from LungRecoveryLib.grids import grid_of, to_array, to_image
from LungRecoveryLib.images import write_image
from LungRecoveryLib.job import job_from
from LungRecoveryLib.results import read_study
from LungRecoveryLib.study import analyze

TOTALSEGMENTATOR = {1: 12, 2: 13, 3: 14, 4: 10, 5: 11}


@pytest.fixture(scope="module")
def masks(small_patient, tmp_path_factory):
    """The true lobes of the first two visits with the labels of TotalSegmentator, and a heart."""
    folder = tmp_path_factory.mktemp("masks")
    for i, visit in enumerate(small_patient.visits[:2]):
        labels = np.array([0, *TOTALSEGMENTATOR.values()], np.uint8)[to_array(visit.lobes)]
        labels[0, 0, 0] = 51
        write_image(to_image(labels, grid_of(visit.lobes)), folder / f"{i}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def folder(small_scans, masks, tmp_path_factory):
    """A study of two dates with given lobes."""
    output = tmp_path_factory.mktemp("study") / "lobes"
    timepoints = [
        {"path": str(small_scans / f"{i}.mha"), "days": 30 * i, "lungs": str(masks / f"{i}.nii.gz")} for i in range(2)
    ]
    settings = {"labels": "totalsegmentator", "preset": "fast", "weights": "none", "spacing_mm": 5, "device": "cpu"}
    analyze(job_from({"timepoints": timepoints, "output": str(output), "threads": 1, **settings}))
    return output


def test_given_lobes_are_regions_with_their_own_volumes(folder, small_patient):
    result = read_study(folder)
    for timepoint, visit in zip(result.timepoints, small_patient.visits[:2], strict=True):
        assert timepoint.lobes == {
            "source": "given",
            "found": list(LOBE_REGIONS.values()),
            "visible": {},
            "missing": None,
        }
        truth = to_array(visit.lobes)
        for label, region in LOBE_REGIONS.items():
            volume = np.sum(truth == label) * grid_of(visit.lobes).voxel_ml
            assert timepoint.density[region]["volume_ml"] == pytest.approx(volume)
    assert set(LOBE_REGIONS.values()) <= set(result.regions)
    assert set(LOBE_REGIONS.values()) <= set(result.followups[0].scores)
    codes = np.unique(to_array(sitk.ReadImage(str(result.baseline.layer(folder, "regions")))))
    assert {str(code) for code in codes if code} <= set(result.region_codes)
    assert {"lobes", "severity"}.isdisjoint(result.absent)


def test_the_severity_score_is_told_followed_and_falls(folder):
    """The patient recovers: the score falls, and stands in table, trajectory and report."""
    result = read_study(folder)
    first, second = (t.severity["lungs"]["points"] for t in result.timepoints)
    assert 0 <= second < first <= 25
    assert first == sum(result.baseline.severity[region]["points"] for region in LOBE_REGIONS.values())
    points = result.trajectory["series"]["severity_points.lungs"]["points"]
    assert [point["value"] for point in points] == [first, second]
    assert ",severity,points," in (folder / "regions.csv").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "CT severity score by lobe" in page
    assert "given with the scan" in page


def test_given_lobes_stay_when_the_lungs_are_corrected(folder, small_scans, tmp_path):
    """A follow-up's lungs without their lowest slices: the lobes are still the given ones, as far as there is lung."""
    lungs = sitk.ReadImage(str(small_scans / "lungs1.mha"))
    cut = to_array(lungs).copy()
    cut[: np.flatnonzero(cut.any(axis=(1, 2)))[0] + 16] = 0
    write_image(to_image(cut, grid_of(lungs)), tmp_path / "cut.mha")
    label = read_study(folder).followups[0].label
    drawn = CorrectedScan(label, small_scans / "1.mha", tmp_path / "cut.mha")
    result = correct(Correction(folder, tmp_path / "out", (drawn,)))
    before, after = read_study(folder).followups[0], result.followups[0]
    assert after.lobes == before.lobes
    for region in ("right_lobe_upper", "left_lobe_upper"):
        assert after.density[region]["volume_ml"] == pytest.approx(before.density[region]["volume_ml"], rel=0.02)
    lobes = sum(after.density[region]["volume_ml"] for region in LOBE_REGIONS.values())
    assert lobes == pytest.approx(after.density["lungs"]["volume_ml"])
    assert lobes < 0.98 * before.density["lungs"]["volume_ml"]


def test_the_response_map_is_complete_and_drawn(folder):
    """Recovery: more lung left the poorly aerated band for the well aerated one than went the other way."""
    followup = read_study(folder).followups[0]
    changes = followup.band_changes
    assert sum(sum(row.values()) for row in changes.values()) == pytest.approx(100)
    assert changes["poorly_aerated"]["well_aerated"] > changes["well_aerated"]["poorly_aerated"]
    assert (folder / "figures" / f"{followup.folder}_response.png").is_file()
    assert "From band to band" in (folder / "report.html").read_text(encoding="utf-8")


def test_segment_takes_given_lobes(small_scans, masks, tmp_path):
    output = tmp_path / "all"
    given = ["--lungs", str(masks / "0.nii.gz"), "--labels", "totalsegmentator"]
    scan = str(small_scans / "0.mha")
    result = CliRunner().invoke(app, ["segment", scan, "--output", str(output), *given, "--json"])
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["absent"] == {}
    assert set(content["volume_ml"]["lobes"]) == {
        *("right upper lobe", "right middle lobe", "right lower lobe"),
        *("left upper lobe", "left lower lobe"),
    }
    assert (output / "lobes.nii.gz").is_file()
    refused = CliRunner().invoke(app, ["segment", scan, "--output", str(tmp_path / "lungs.nii.gz"), *given])
    assert refused.exit_code != 0
    assert not (tmp_path / "lungs.nii.gz").exists()
