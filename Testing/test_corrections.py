"""A study measured again: nothing changes without a correction, and only what rests on it changes with one."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib import corrections, images, worker
from LungRecoveryLib.corrections import CorrectedScan, Correction, ReaderVerdict, correct
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.parenchyma import radiomics


@pytest.fixture
def no_report(monkeypatch):
    """Leave out the drawing of the report, which takes most of the time and is tested elsewhere."""
    monkeypatch.setattr("LungRecoveryLib.report.write_report", lambda folder, progress: None)


def numbers(value, path=""):
    """Every number of a JSON value with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers(item, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def study(folder) -> dict:
    return json.loads((folder / "study.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("no_report")
def test_without_a_correction_every_number_stays(small_study, tmp_path):
    """Measured from the stored layers alone, all statistics, scores and figures of merit come out as before."""
    verdict = ReaderVerdict("day 30", "accepted", "looks right")
    correct(Correction(small_study, tmp_path / "again", verdicts=(verdict,)))
    before, after = study(small_study), study(tmp_path / "again")
    assert after["timepoints"][1]["quality"].pop("reader") == {"verdict": "accepted", "comment": "looks right"}
    for content in (before, after):
        del content["seconds"]
    old, new = dict(numbers(before)), dict(numbers(after))
    assert set(old) == set(new)
    off = {place: (old[place], new[place]) for place in old if not np.isclose(old[place], new[place], 1e-3, 1e-3)}
    assert not off
    assert [t["warnings"] for t in before["timepoints"]] == [t["warnings"] for t in after["timepoints"]]
    assert before["warnings"] == after["warnings"]
    for layer in ("jacobian_normalized", "density_change", "similarity"):
        maps = [
            images.read_image(f / before["timepoints"][1]["files"][layer]) for f in (small_study, tmp_path / "again")
        ]
        arrays = [sitk.GetArrayFromImage(m) for m in maps]
        np.testing.assert_allclose(*arrays, atol=1e-3)


@pytest.fixture
def eroded(small_scans, tmp_path):
    """The function that writes a scan's lungs without their outermost voxels."""

    def write(index: int):
        path = tmp_path / f"corrected{index}.nrrd"
        sitk.WriteImage(
            sitk.BinaryErode(sitk.ReadImage(str(small_scans / f"lungs{index}.mha")) > 0, (1, 1, 1)), str(path)
        )
        return path

    return write


@pytest.mark.usefixtures("no_report")
def test_a_corrected_follow_up_changes_its_own_results(small_study, small_scans, eroded, tmp_path):
    """Its densities, overlap and scores change; its Jacobian over the baseline's lungs and the others' results stay."""
    item = CorrectedScan("day 30", small_scans / "1.mha", eroded(1))
    correct(Correction(small_study, tmp_path / "again", (item,)))
    before, after = study(small_study), study(tmp_path / "again")
    old, new = before["timepoints"][1], after["timepoints"][1]
    assert new["lungs_source"] == "corrected"
    assert new["density"]["lungs"]["volume_ml"] < 0.9 * old["density"]["lungs"]["volume_ml"]
    assert new["quality"]["lung_dice"] < old["quality"]["lung_dice"]
    assert new["jacobian"]["lungs"]["mean"] == pytest.approx(old["jacobian"]["lungs"]["mean"], abs=1e-4)
    assert new["scores"]["lungs"]["tissue_recovery"] != old["scores"]["lungs"]["tissue_recovery"]
    assert before["timepoints"][0] == after["timepoints"][0]
    assert after["trajectory"] != before["trajectory"]


@pytest.mark.usefixtures("no_report")
def test_radiomics_of_a_corrected_scan_are_computed_again(small_study, small_scans, eroded, tmp_path, monkeypatch):
    """Those of the scan with other lungs are new, those of the others stay."""
    measured = {"lungs": {"volume_ml": 4000.0, "enhanced": {"Q4LE": 7.0}}}
    content = study(small_study)
    content["settings"]["radiomics"] = True
    for timepoint in content["timepoints"]:
        timepoint["radiomics"] = measured
    earlier = tmp_path / "earlier"
    shutil.copytree(small_study, earlier)
    (earlier / "study.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(radiomics, "require_mirp", lambda: None)
    monkeypatch.setattr(radiomics, "features", lambda voxels, mask, limits: {radiomics.FEATURES[0]: 1.0})
    correct(Correction(earlier, tmp_path / "again", (CorrectedScan("day 30", small_scans / "1.mha", eroded(1)),)))
    found = [timepoint["radiomics"] for timepoint in study(tmp_path / "again")["timepoints"]]
    assert found[0] == found[2] == measured
    assert found[1]["lungs"]["enhanced"] == {"Q4LE": 1.0}
    assert set(found[1]) >= {"lungs", "right", "left"}


@pytest.mark.usefixtures("no_report")
@pytest.mark.slow
def test_corrected_baseline_lungs_change_every_region(small_study, small_scans, eroded, tmp_path):
    """The regions are drawn anew and every follow-up is measured over them; transforms and warped scans stay."""
    item = CorrectedScan("baseline", small_scans / "0.mha", eroded(0))
    correct(Correction(small_study, tmp_path / "again", (item,)))
    lungs = [
        sitk.GetArrayFromImage(images.read_image(f / "baseline" / "lungs.nii.gz"))
        for f in (small_study, tmp_path / "again")
    ]
    assert 0 < (lungs[1] > 0).sum() < 0.9 * (lungs[0] > 0).sum()
    regions = sitk.GetArrayFromImage(images.read_image(tmp_path / "again" / "baseline" / "regions.nii.gz"))
    assert ((regions > 0) == (lungs[1] > 0)).all()
    before, after = study(small_study), study(tmp_path / "again")
    for old, new in zip(before["timepoints"][1:], after["timepoints"][1:], strict=True):
        assert new["jacobian"]["lungs"]["voxels"] < old["jacobian"]["lungs"]["voxels"]
        warped = [(f / new["files"]["warped"]).read_bytes() for f in (small_study, tmp_path / "again")]
        assert len(warped[0]) == pytest.approx(len(warped[1]), rel=1e-3)


@pytest.fixture
def no_lesions(small_scans, tmp_path):
    """The function that writes a label map without lesions but a cube of a kind at a point of a scan's right lung."""

    def write(index: int, kind: int = 0):
        lungs = sitk.ReadImage(str(small_scans / f"lungs{index}.mha"))
        array = np.zeros(lungs.GetSize()[::-1], np.uint8)
        z, y, x = np.median(np.argwhere(sitk.GetArrayViewFromImage(lungs) == 1), axis=0).astype(int)
        array[z - 4 : z + 4, y - 4 : y + 4, x - 4 : x + 4] = kind
        image = sitk.GetImageFromArray(array)
        image.CopyInformation(lungs)
        path = tmp_path / f"lesions{index}.nrrd"
        sitk.WriteImage(image, str(path))
        return path

    return write


@pytest.mark.usefixtures("no_report")
def test_corrected_lesions_of_a_follow_up_change_what_rests_on_them(small_study, small_scans, no_lesions, tmp_path):
    """Their volumes by kind and their fates; lungs, registration and Jacobian stay."""
    item = CorrectedScan("day 30", small_scans / "1.mha", lesions=no_lesions(1, 2))
    correct(Correction(small_study, tmp_path / "again", (item,)))
    old, new = study(small_study)["timepoints"][1], study(tmp_path / "again")["timepoints"][1]
    assert (new["lungs_source"], new["lesions_source"]) == (old["lungs_source"], "corrected")
    cube_ml = 8**3 * 3.5**3 / 1000
    kinds = new["lesions"]["lungs"]["kinds_ml"]
    assert 0.5 * cube_ml < kinds["consolidation"] <= cube_ml
    assert kinds["ground glass"] == kinds["reticulation"] == 0
    assert new["lesion_fates"] != old["lesion_fates"]
    assert new["density"]["lungs"]["volume_ml"] == pytest.approx(old["density"]["lungs"]["volume_ml"])
    assert new["jacobian"] == old["jacobian"]
    assert new["quality"]["verdict"] == old["quality"]["verdict"]
    assert new["quality"]["lung_dice"] == pytest.approx(old["quality"]["lung_dice"], abs=1e-3)


@pytest.mark.usefixtures("no_report")
@pytest.mark.slow
def test_corrected_lesions_outlast_a_correction_of_the_lungs(small_study, small_scans, no_lesions, tmp_path):
    """What a reader has drawn is not looked for anew."""
    item = CorrectedScan("day 30", small_scans / "1.mha", lesions=no_lesions(1, 2))
    correct(Correction(small_study, tmp_path / "again", (item,)))
    kinds = study(tmp_path / "again")["timepoints"][1]["lesions"]["lungs"]["kinds_ml"]
    lungs = CorrectedScan("day 30", small_scans / "1.mha", small_scans / "lungs1.mha")
    correct(Correction(tmp_path / "again", tmp_path / "later", (lungs,)))
    later = study(tmp_path / "later")["timepoints"][1]
    assert (later["lungs_source"], later["lesions_source"]) == ("corrected", "corrected")
    assert later["lesions"]["lungs"]["kinds_ml"] == pytest.approx(kinds)


@pytest.mark.usefixtures("no_report")
@pytest.mark.slow
def test_the_baselines_lesions_can_be_emptied(small_study, small_scans, no_lesions, tmp_path):
    """What was marked was none: no lesion of the baseline is left to follow, lungs and regions stay."""
    item = CorrectedScan("baseline", small_scans / "0.mha", lesions=no_lesions(0))
    correct(Correction(small_study, tmp_path / "again", (item,)))
    before, after = study(small_study), study(tmp_path / "again")
    assert before["timepoints"][0]["lesions"]["lungs"]["volume_ml"] > 0
    assert after["timepoints"][0]["lesions"]["lungs"]["volume_ml"] == 0
    assert {fate["fate"] for t in after["timepoints"][1:] for fate in t["lesion_fates"]} <= {"new"}
    for layer in ("lungs", "regions"):
        arrays = [
            sitk.GetArrayFromImage(images.read_image(f / "baseline" / f"{layer}.nii.gz"))
            for f in (small_study, tmp_path / "again")
        ]
        np.testing.assert_array_equal(*arrays)
    for old, new in zip(before["timepoints"][1:], after["timepoints"][1:], strict=True):
        assert new["jacobian"] == old["jacobian"]


def test_lesions_of_an_unknown_kind_are_refused(small_scans, no_lesions):
    scan = images.read_scan(small_scans / "1.mha").image
    with pytest.raises(BadInput, match="no kind of lesion"):
        corrections.read_lesions(no_lesions(1, 7), scan)


@pytest.mark.usefixtures("no_report")
def test_the_reader_overrides_the_verdict(small_study, tmp_path):
    """Either way, with the comment in study.json; scores are marked accordingly, and the next reader may go back."""
    rejected = ReaderVerdict("day 30", "not usable", "left base misaligned")
    result = correct(Correction(small_study, tmp_path / "rejected", verdicts=(rejected,)))
    assert not result.timepoints[1].reliable
    assert result.timepoints[2].reliable
    assert all(not entry["reliable"] for entry in result.timepoints[1].scores.values())
    assert result.timepoints[1].scores["lungs"]["explanation"].startswith(corrections.REJECTED)
    accepted = ReaderVerdict("day 30", "accepted")
    result = correct(Correction(tmp_path / "rejected", tmp_path / "accepted", verdicts=(accepted,)))
    assert result.timepoints[1].reliable
    content = study(tmp_path / "accepted")
    content["settings"]["quality_thresholds"]["fail_dice"] = 1.0
    (tmp_path / "accepted" / "study.json").write_text(json.dumps(content), encoding="utf-8")
    assert not correct(Correction(tmp_path / "accepted", tmp_path / "failed", verdicts=(accepted,))).reliable
    usable = tuple(ReaderVerdict(t.label, "usable", "limit too strict") for t in result.followups)
    assert correct(Correction(tmp_path / "accepted", tmp_path / "usable", verdicts=usable)).reliable


@pytest.mark.parametrize(
    ("lungs", "verdicts", "words"),
    [
        ((), (ReaderVerdict("day 31", "accepted"),), "no time point day 31"),
        ((), (ReaderVerdict("baseline", "accepted"),), "is the baseline"),
        ((), (ReaderVerdict("day 30", "usable", "  "),), "without a comment"),
        (("nobody",), (), "no time point nobody"),
    ],
)
def test_a_correction_that_cannot_be_made(small_study, small_scans, tmp_path, lungs, verdicts, words):
    items = tuple(CorrectedScan(label, small_scans / "1.mha", small_scans / "lungs1.mha") for label in lungs)
    with pytest.raises(BadInput, match=words):
        correct(Correction(small_study, tmp_path / "again", items, verdicts))
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_the_worker_takes_a_correction(small_study, tmp_path, capsys):
    """The whole way with the report, which names the reader's verdict and comment."""
    job = {
        "schema": corrections.SCHEMA,
        "study": str(small_study),
        "output": "again",
        "verdicts": [{"label": "day 30", "verdict": "not usable", "comment": "left base misaligned"}],
    }
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    assert worker.main([str(tmp_path / "job.json")]) == 6
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "result"
    page = (tmp_path / "again" / "report.html").read_text(encoding="utf-8")
    assert "left base misaligned" in page
    assert "rejected by the reader" in page
    assert worker.main([str(tmp_path / "job.json")]) == 2  # the output exists by now
    (tmp_path / "job.json").write_text(json.dumps({**job, "verdict": []}), encoding="utf-8")
    assert worker.main([str(tmp_path / "job.json")]) == 2
