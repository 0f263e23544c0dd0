"""The main job on a small synthetic patient: the folder's contract, its numbers, and what it never contains."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from LungRecoveryLib import study
from LungRecoveryLib.cli.application import app
from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.grids import grid_of, same_grid, to_array, transform_points
from LungRecoveryLib.job import job_from
from LungRecoveryLib.parenchyma import radiomics
from LungRecoveryLib.results import read_study

TOP = {"study.json", "scores.csv", "regions.csv", "trajectory.csv", "report.html", "report.pdf", "figures"}
MAPS = {"warped", "jacobian", "jacobian_normalized", "density_change", "hu_change", "similarity", "uncertainty"}


@pytest.fixture(scope="module")
def result(small_study):
    """The study as a program reads it."""
    return read_study(small_study)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def image(result, folder: Path, visit: int, layer: str) -> sitk.Image:
    return sitk.ReadImage(str(result.timepoints[visit].layer(folder, layer)))


def without_timings(folder: Path) -> dict:
    """study.json without the keys that say how long it took."""
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    del content["seconds"]
    for timepoint in content["timepoints"][1:]:
        del timepoint["registration"]["seconds"]
    return content


def test_the_folder_holds_what_the_contract_names(small_study, result):
    """Every file of the contract, no other, folders named by safe labels, and no layer that nobody makes."""
    assert names(small_study) == TOP | {"baseline", "day-30", "kontrolle"}
    own = {"lungs.nii.gz", "lesions.nii.gz", "enhanced.nii.gz"}
    assert names(small_study / "baseline") == {"ct.nii.gz", "regions.nii.gz"} | own
    files = {"transform.h5", "inverse_transform.h5"} | own | {f"{layer}.nii.gz" for layer in MAPS}
    assert names(small_study / "day-30") == names(small_study / "kontrolle") == files
    assert any((small_study / "figures").glob("*.png"))
    assert set(result.absent) == {"lobes", "severity", "radiomics"}
    assert not list(small_study.parent.glob(".*"))
    for timepoint in result.timepoints:
        for layer in timepoint.files:
            assert timepoint.layer(small_study, layer).is_file()


def test_layers_lie_on_the_grids_that_the_contract_says(small_study, small_patient, result):
    """Baseline and maps on one grid in the baseline's axes, a follow-up's lungs on its own grid."""
    ct = image(result, small_study, 0, "ct")
    assert ct.GetSpacing() == pytest.approx((3.0, 3.0, 3.0))
    assert list(ct.GetSize()) == result.grid["size"]
    assert ct.GetOrigin() == pytest.approx(result.grid["origin"])
    for layer in ("lungs", "regions"):
        assert same_grid(image(result, small_study, 0, layer), ct)
    for visit in (1, 2):
        for layer in MAPS:
            assert same_grid(image(result, small_study, visit, layer), ct)
        assert same_grid(image(result, small_study, visit, "lungs"), small_patient.visits[visit].ct)
    region_codes = np.unique(to_array(image(result, small_study, 0, "regions")))
    assert {str(code) for code in region_codes if code} <= set(result.region_codes)


def test_the_transform_takes_baseline_points_to_the_follow_up(small_study, small_patient, result):
    """Saved transforms run from the baseline to the follow-up, the inverse runs back, and warped follows them."""
    baseline, followup = (small_patient.visits[i].landmarks for i in (0, 1))
    timepoint = result.timepoints[1]
    transform, inverse = (
        sitk.ReadTransform(str(timepoint.layer(small_study, name))) for name in ("transform", "inverse_transform")
    )
    before = np.linalg.norm(baseline - followup, axis=1).mean()
    forth = np.linalg.norm(transform_points(transform, baseline) - followup, axis=1).mean()
    back = np.linalg.norm(transform_points(inverse, followup) - baseline, axis=1).mean()
    assert forth < min(2.5, 0.6 * before)
    assert back < min(2.5, 0.6 * before)
    assert timepoint.quality["tre"]["mean_mm"] == pytest.approx(forth, abs=0.05)
    ct = image(result, small_study, 0, "ct")
    resampled = sitk.Resample(small_patient.visits[1].ct, ct, transform, sitk.sitkLinear, -1024)
    inner = to_array(image(result, small_study, 0, "lungs")) > 0
    difference = to_array(resampled, float) - to_array(image(result, small_study, 1, "warped"), float)
    assert np.abs(difference[inner]).mean() < 25


def test_scores_and_volumes_are_those_of_the_phantom(small_patient, result):
    """On coarse scans the numbers still follow the truth; the tight limits are tested on the demo patient."""
    truth = small_patient.truth()["visits"]
    for timepoint, true in zip(result.timepoints, truth, strict=True):
        assert timepoint.density["lungs"]["volume_ml"] == pytest.approx(true["lung_volume_ml"], rel=0.06)
        assert timepoint.density["lungs"]["abnormal_percent"] / 100 == pytest.approx(true["abnormal_share"], abs=0.05)
    shares = [t.density["lungs"]["abnormal_percent"] for t in result.timepoints]
    assert shares == sorted(shares, reverse=True)
    recovery = [t.scores["lungs"]["tissue_recovery"] for t in result.timepoints]
    assert recovery[0] == 0
    assert 0 < recovery[1] < recovery[2] <= 1
    assert [t.lungs_source for t in result.timepoints] == ["given", "given", "segmented"]


def test_regions_trajectory_and_comparisons_are_complete(result):
    """Every region is measured at every visit, followed over the days, and follow-ups are compared."""
    assert {"lungs", "right", "left", "left_lower", "right_dorsal", "rind", "core"} <= set(result.regions)
    for timepoint in result.timepoints:
        assert set(timepoint.density) == set(result.regions)
    for timepoint in result.followups:
        assert set(timepoint.jacobian) == set(timepoint.change) == set(timepoint.scores) == set(result.regions)
        assert timepoint.quality["verdict"] in ("pass", "review", "fail")
        assert timepoint.reliable == (timepoint.quality["verdict"] != "fail")
    assert [t.days for t in result.timepoints] == [0, 30, 90]
    assert result.trajectory["axis"] == "days"
    keys = {(s["name"], s["region"]) for s in result.trajectory["series"].values()}
    assert {("tissue_recovery", "lungs"), ("jacobian", "lungs"), ("volume_ml", "left")} <= keys
    assert [(c["earlier"], c["later"], c["days"]) for c in result.comparisons] == [("day 30", "Kontrolle", 60)]


def test_undated_scans_get_visits_and_no_day(strict_run):
    """Without dates and --days there is a visit axis, labels count, and the user is told how to give days."""
    result = read_study(strict_run[1])
    assert [t.days for t in result.timepoints] == [None, None]
    assert [t.label for t in result.timepoints] == ["baseline", "follow-up 1"]
    assert result.trajectory["axis"] == "visit"
    assert any("--days" in warning for warning in result.warnings)


def test_a_registration_that_fails_its_gate_is_kept_and_marked(strict_run):
    """Limits that no registration meets: the results stay, marked unreliable everywhere they are told."""
    folder = strict_run[1]
    result = read_study(folder)
    assert not result.reliable
    assert [t.reliable for t in result.timepoints] == [True, False]
    assert result.timepoints[1].quality["verdict"] == "fail"
    assert "nreliable" in result.timepoints[1].scores["lungs"]["explanation"]
    for name in ("jacobian", "tissue_recovery"):
        series = result.trajectory["series"][f"{name}.lungs"]
        assert [point["reliable"] for point in series["points"]] == [True, False]
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "nreliable" in text
    rows = (folder / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert all(",false," in row for row in rows if row.startswith("1,"))


def test_no_output_names_the_patient_a_date_or_a_place(tmp_path, small_patient, small_scans, write_series):
    """DICOM of a named patient: neither name, ID, dates nor paths stand in any text that the study leaves.

    The first folder holds a second, sharper series: which one was taken is shown, with how to take the other.
    """
    paths = []
    for visit, day in zip(small_patient.visits[:2], ("20210302", "20210401"), strict=True):
        paths.append(tmp_path / f"MUELLER_ANNA_{day}")
        tags = {"PatientName": "Mueller^Anna", "PatientID": "PID77", "PatientBirthDate": "19580317"}
        tags |= {"AcquisitionDate": day, "InstitutionName": "Klinikum Hamburg"}
        grid = grid_of(visit.ct)
        write_series(paths[-1], to_array(visit.ct), spacing=grid.spacing, origin=grid.origin, **tags)
    sharp = {
        "AcquisitionDate": "20210302",
        "ConvolutionKernel": "B80f",
        "SeriesDescription": "Lung B80f",
        "SeriesNumber": 9,
    }
    write_series(paths[0] / "sharp", to_array(small_patient.visits[0].ct), spacing=(3.5, 3.5, 3.5), **tags | sharp)
    options = ["--preset", "fast", "--spacing", "4", "--device", "cpu", "--threads", "1"]
    for label, scan in (("baseline", 0), ("follow-up 1", 1)):
        options += ["--lungs", f"{label}={small_scans / f'lungs{scan}.mha'}"]
    run = CliRunner().invoke(app, ["analyze", *map(str, paths), "--output", str(tmp_path / "out"), *options])
    assert run.exit_code in (0, 6), run.stderr
    assert "baseline: series 2 Thorax 1.0 B40f was taken" in run.stderr
    assert "others: 9 Lung B80f (choose with --series)" in run.stderr
    result = read_study(tmp_path / "out")
    assert [(t.label, t.days) for t in result.timepoints] == [("baseline", 0), ("day 30", 30)]
    assert result.baseline.source["series_number"] == "2"
    files = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".csv", ".html")]
    assert len(files) >= 5
    for path in files:
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", path.read_text(encoding="utf-8"))
        found = re.search(r"(?i)mueller|\banna\b|PID77|hamburg|2021-?0[34]|19580317|" + re.escape(str(tmp_path)), text)
        assert found is None, f"{path.name} holds {found}"
    for path in (tmp_path / "out").rglob("*.nii.gz"):
        written = sitk.ReadImage(str(path))
        texts = ("descrip", "aux_file", "intent_name", "db_name")  # where NIfTI has room for words
        described = [written.GetMetaData(key) for key in written.GetMetaDataKeys() if key in texts]
        assert not any(text.strip() for text in described)


@pytest.mark.parametrize("where", ["read", "refine", "report"])
def test_cancelling_leaves_nothing(strict_job, tmp_path, where):
    """At whatever stage it is stopped, neither the output nor a trace of it stays."""

    def stop(stage: str, fraction: float, message: str = "") -> None:
        if where in stage:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        study.analyze(job_from({**strict_job, "output": str(tmp_path / "deep" / "out")}), stop)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def quick_features(monkeypatch):
    """Features that take no time: their computing is tested by itself."""

    def features(voxels, mask, range_hu):
        return {feature: float(voxels[mask].mean()) for feature in radiomics.FEATURES}

    monkeypatch.setattr(radiomics, "features", features)
    monkeypatch.setattr(radiomics, "require_mirp", lambda: None)


@pytest.mark.usefixtures("quick_features")
def test_radiomics_when_asked(strict_job, tmp_path):
    """A table of every date, in the trajectory the stable features alone, in the report a few; cancelled, nothing."""
    job = {**strict_job, "output": str(tmp_path / "out"), "radiomics": True}

    def stop(stage: str, fraction: float, message: str = "") -> None:
        if "radiomics" in stage and message == "lesions":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        study.analyze(job_from(job), stop)
    assert not list(tmp_path.iterdir())
    study.analyze(job_from(job))
    result = read_study(tmp_path / "out")
    assert "radiomics" not in result.absent
    assert result.settings["radiomics"]
    for timepoint in result.timepoints:
        assert set(timepoint.radiomics) == {"lungs", "right", "left", "lesions"}
        assert set(timepoint.radiomics["lesions"]) == {"volume_ml", "plain", "enhanced"}
    with (tmp_path / "out" / "radiomics.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == 1 + 2 * 4 * 2 * len(radiomics.FEATURES)
    followed = {s["name"] for s in result.trajectory["series"].values() if s["region"] == "lesions"}
    assert followed == {f"radiomics_{feature.ibsi}" for feature in radiomics.stable_features("lesions")}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Radiomic features in each scan" in page
    assert "intraclass correlation" in page


def test_radiomics_without_mirp_are_refused_before_anything(small_job, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mirp", None)
    scans = [timepoint["path"] for timepoint in small_job["timepoints"]]
    done = CliRunner().invoke(app, ["analyze", *scans, "--output", str(tmp_path / "out"), "--radiomics"])
    assert done.exit_code == 3
    assert "pip install 'lungrecovery[radiomics]'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_results_are_replaced_only_when_asked(small_study, small_job, tmp_path):
    """An existing study stays unless overwritten; overwriting never takes the scans along."""
    target = tmp_path / "study"
    shutil.copytree(small_study, target)
    with pytest.raises(BadInput, match="--overwrite"):
        study.analyze(job_from({**small_job, "output": str(target)}))
    inside = {**small_job["timepoints"][0], "path": str(target / "baseline" / "ct.nii.gz")}
    with pytest.raises(BadInput, match="holds the input"):
        study.analyze(
            job_from(
                {
                    **small_job,
                    "timepoints": [inside, small_job["timepoints"][1]],
                    "output": str(target),
                    "overwrite": True,
                }
            )
        )
    assert without_timings(target) == without_timings(small_study)
