"""An analysis that the viewer runs: progress in the page, cancelled without a trace, failed with a sentence."""

import pytest

ANALYSIS_SECONDS = 1200  # it takes less than a minute when the computer has nothing else to do


def scans(small_job):
    return [timepoint["path"] for timepoint in small_job["timepoints"]]


def options(small_job):
    return ["--timepoints", *scans(small_job), "--days", "0,30,90", "--preset", "fast", "--threads", "1"]


def test_progress_and_cancel_in_the_page(start, open_tab, small_job, tmp_path):
    output = tmp_path / "kept" / "study"
    running = start(*options(small_job), "--output", output)
    tab = open_tab(running.address, ready=False)
    tab.page.wait_for_selector("#cancel")
    tab.wait("window.trame.state.get('progress').fraction > 0")
    assert tab.page.inner_text("#stage")
    tab.page.click("#cancel")
    tab.page.wait_for_selector("#again")
    assert "nothing was written" in tab.page.inner_text("#failure")
    assert not output.exists()
    assert not list(output.parent.glob(".*")) if output.parent.exists() else True
    assert running.stop() == 0


@pytest.mark.slow
def test_a_scan_that_cannot_be_read_is_said_in_the_page(start, open_tab, small_job, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    running = start("--timepoints", scans(small_job)[0], broken)
    tab = open_tab(running.address, ready=False)
    tab.page.wait_for_selector("#failure")
    assert "broken.nii.gz" in tab.page.inner_text("#failure")


@pytest.mark.timeout(2 * ANALYSIS_SECONDS)
@pytest.mark.slow
def test_scans_are_analysed_and_shown(start, open_tab, small_job, tmp_path):
    running = start(*options(small_job), "--output", tmp_path / "study")
    tab = open_tab(running.address, ready=False)
    tab.page.wait_for_selector(".panes, #failure", timeout=1000 * ANALYSIS_SECONDS)
    tab.drawn()
    assert [t["label"] for t in tab.state("timepoints")] == ["baseline", "day 30", "day 90"]
    assert (tmp_path / "study" / "study.json").is_file()
    assert tab.picture().std() > 20
