"""Studies that are not as they should be, in the browser: a failed registration, layers that are not there."""

import json
import shutil

from known_study import LABELS, write_small_study


def captions(tab) -> list[str]:
    """What stands in the corner of every picture."""
    return tab.page.locator(".pane figcaption").all_inner_texts()


def test_a_failed_registration_is_marked_beside_all_that_rests_on_it(start, open_tab, tmp_path):
    """Pictures, maps, tables and charts of that date, and not those of another one, nor the baseline's."""
    study = write_small_study(tmp_path / "study", fails=2).folder
    tab = open_tab(start(study).address)
    assert tab.page.inner_text("#verdict").endswith("Failed")
    assert len(captions(tab)) == 3
    assert all("⚠ unreliable" in caption for caption in captions(tab))
    assert f"Do not rely on maps and scores of {LABELS[2]}" in tab.page.inner_text("#caution")
    assert "Failed" in tab.page.inner_text("#regions tbody tr >> nth=0")
    charts = {chart["key"]: chart for chart in tab.state("charts")}
    assert "Tissue recovery: unreliable" in [series["name"] for series in charts["scores"]["data"]]
    tab.page.click("text=Beside baseline")
    tab.wait("document.querySelectorAll('.pane').length === 2")
    assert ["⚠ unreliable" in caption for caption in captions(tab)].count(True) == 1
    tab.page.keyboard.press("ArrowLeft")
    tab.wait(f"window.trame.state.get('timepoint') === {json.dumps(LABELS[1])}")
    assert not tab.page.locator("#caution").count()
    assert not any("unreliable" in caption for caption in captions(tab))
    assert tab.problems == []


def test_a_study_without_regions_is_shown(start, open_tab, tmp_path):
    """In its middle, with the values there; a region of its table, which nobody knows the place of, is said."""
    study = write_small_study(tmp_path / "study").folder
    content = json.loads((study / "study.json").read_text(encoding="utf-8"))
    for timepoint in content["timepoints"]:
        timepoint["files"] = {layer: file for layer, file in timepoint["files"].items() if layer != "regions"}
    (study / "study.json").write_text(json.dumps(content), encoding="utf-8")
    tab = open_tab(start(study).address)
    tab.wait("window.trame.state.get('readout').values.length > 2")
    values = {value["title"]: value["value"] for value in tab.state("readout")["values"]}
    assert values["Jacobian"] != "–"
    assert "outside the lungs" not in tab.page.inner_text("#readout")
    tab.page.click("tr[data-region=left_lower]")
    tab.wait("window.trame.state.get('message').includes('has no region left_lower')")
    assert tab.problems == []


def test_a_study_whose_folder_goes_stays_to_be_seen(start, open_tab, tmp_path):
    """Deleted while it is looked at: dates and maps are in memory; a file is answered by a sentence."""
    study = write_small_study(tmp_path / "study").folder
    running = start(study)
    tab = open_tab(running.address)
    shutil.rmtree(study)
    tab.page.keyboard.press("ArrowLeft")
    tab.wait(f"window.trame.state.get('timepoint') === {json.dumps(LABELS[1])}")
    tab.shows(lambda picture: picture.std() > 20)
    status, _headers, body = running.ask("/files/scores.csv", Cookie=running.cookie())
    assert status == 404
    assert b"is gone: analyse the scans again" in body
    assert tab.problems == []
