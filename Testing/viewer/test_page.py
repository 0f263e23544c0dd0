"""The page in a browser: the study is seen, and every control changes what is seen."""

import csv
import json

import numpy as np
import pytest


def coloured(picture: np.ndarray) -> float:
    """The share of pixels, in percent, that are no shade of grey; the outlines and the crosshair are some."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    return 100.0 * float((spread > 25).mean())


def grey_of(picture: np.ndarray) -> np.ndarray:
    return picture.mean(axis=2)


@pytest.fixture
def tab(open_tab, viewer):
    """The page as it starts: the last time point with the Jacobian over it, three planes."""
    one = open_tab()
    one.page.evaluate(
        """async () => { for (const step of [['layout', 'three'], ['timepoint', 'Kontrolle'], ['overlay', 'jacobian'],
        ['opacity', 0.6], ['defaultRange'], ['window', 'lung'], ['fit']]) await window.trame.trigger('act', step) }"""
    )
    one.wait("window.trame.state.get('timepoint') === 'Kontrolle' && window.trame.state.get('layout') === 'three'")
    one.page.click("#tab-regions")
    return one


def test_the_slices_show_anatomy_and_nothing_leaves_the_machine(tab):
    for view in ("Red", "Yellow", "Green"):
        grey = grey_of(tab.picture(view))
        body = (grey > 170).mean()
        lung = ((grey > 25) & (grey < 140)).mean()
        assert 0.15 < body < 0.8, view
        assert 0.1 < lung < 0.7, view
    assert tab.page.title() == "Lung recovery"
    assert "token" not in tab.page.url
    assert "Research use only" in tab.page.inner_text(".notice")
    assert tab.page.inner_text("#verdict").startswith("Registration:")
    assert tab.problems == []


def test_the_time_point_slider_changes_pictures_table_and_verdict(tab):
    last = tab.shows(lambda picture: coloured(picture) > 1)
    tab.page.locator("#timepoints").fill("0")
    tab.wait("window.trame.state.get('timepoint') === 'baseline'")
    assert tab.page.inner_text("#verdict") == "Baseline"
    assert "nothing to lay over the baseline" in tab.page.inner_text("#explanation")
    assert not tab.page.locator("#legend").count()
    first = tab.shows(lambda picture: coloured(picture) < 0.5 * coloured(last))  # no map, outlines alone
    assert np.abs(grey_of(first) - grey_of(last)).mean() > 2
    tab.page.keyboard.press("Escape")
    tab.page.locator("#verdict").focus()
    tab.page.evaluate("document.activeElement.blur()")
    tab.page.keyboard.press("ArrowRight")
    tab.wait("window.trame.state.get('timepoint') === 'day 30'")
    assert tab.page.locator("#regions tbody tr").count() > 5


@pytest.mark.slow
def test_overlay_opacity_range_and_window(tab):
    before = tab.shows(lambda picture: coloured(picture) > 1)
    strong = coloured(before)
    tab.page.locator("#opacity").fill("0")
    tab.shows(lambda picture: coloured(picture) < 0.5 * strong)
    tab.page.locator("#opacity").fill("0.6")
    for end, value in (("#low", "0.9"), ("#high", "1.1")):
        tab.page.locator(end).fill(value)
        tab.page.locator(end).press("Enter")
        tab.wait(f"Math.abs(window.trame.state.get('legend')['{end[1:]}'] - {value}) < 1e-6")
    tab.shows(lambda picture: np.abs(grey_of(picture) - grey_of(before)).mean() > 1)  # small changes are strong now
    assert tab.page.inner_text("#legend .labels span >> nth=0") == "0.9"
    tab.page.select_option("#overlay", "")
    outlines = coloured(tab.shows(lambda picture: coloured(picture) < 0.5 * strong))  # of the lungs, without a map
    assert not tab.page.locator("#legend").count()
    tab.page.select_option("#overlay", "density_change")
    tab.wait("window.trame.state.get('overlay') === 'density_change'")
    assert "mg/ml" in tab.page.inner_text("#legend")
    before = grey_of(tab.shows(lambda picture: coloured(picture) > 1.1 * outlines)).mean()
    tab.page.click("#windows >> text=Mediastinum")
    tab.shows(lambda picture: grey_of(picture).mean() < before - 5)  # the lung is black in it


@pytest.mark.slow
def test_comparisons_and_the_baseline_beside_the_followup(tab):
    seen = [grey_of(tab.shows(lambda picture: coloured(picture) > 1))]
    for name in ("Checker", "Difference", "Fade", "Edges"):
        tab.page.click(f"#compare >> text={name}")
        tab.wait(f"window.trame.state.get('compare').startsWith('{name.lower()}')")
        new = tab.shows(lambda picture: all(np.abs(grey_of(picture) - other).mean() > 0.3 for other in seen))
        seen.append(grey_of(new))
        assert tab.page.inner_text("#explanation")
        if name == "Difference":
            assert "Follow-up less baseline (HU)" in tab.page.inner_text("#legend")
        assert tab.page.inner_text(".pane-Green figcaption").endswith(tab.state("compare"))
    tab.page.click("#compare >> text=Edges")
    tab.page.click("text=Beside baseline")
    left = grey_of(tab.picture("Baseline"))

    def same_place(picture: np.ndarray) -> bool:
        """The bodies cover each other, but the pictures differ."""
        bodies = [grey > 170 for grey in (left, grey_of(picture)) if grey.shape == left.shape]
        if len(bodies) < 2 or np.abs(left - grey_of(picture)).mean() < 1:
            return False
        return (bodies[0] & bodies[1]).sum() > 0.8 * (bodies[0] | bodies[1]).sum()

    tab.shows(same_place)


def test_a_click_in_the_table_jumps_there(tab):
    for region, words in (("left_lower", "Left lower third"), ("right_upper", "Right upper third")):
        tab.page.click(f"tr[data-region={region}]")
        tab.wait(f"window.trame.state.get('region') === '{region}'")
        tab.wait(f"document.querySelector('#readout').innerText.includes('{words}')")
    low = {p["view"]: p["value"] for p in tab.state("panes")}
    tab.page.click("tr[data-region=right_lower]")
    tab.wait(f"window.trame.state.get('panes')[0].value < {low['Red']} - 20")  # the axial slice went down


def test_the_crosshair_follows_the_pointer_with_values_in_units(tab):
    box = tab.page.locator(".pane-Red .picture").bounding_box()
    tab.page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    tab.wait("document.querySelector('#readout .place').innerText.startsWith('R ')")  # the patient's right is left
    tab.wait("document.querySelector('.pane-Yellow output').innerText.startsWith('R ')")
    tab.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"])
    tab.wait("document.querySelector('#readout .place').innerText.startsWith('L ')")
    tab.wait("document.querySelector('.pane-Yellow output').innerText.startsWith('L ')")
    values = {v["title"]: v for v in tab.state("readout")["values"]}
    assert -1100 < float(values["HU, baseline"]["value"].replace("−", "-")) < 1500
    assert values["Jacobian"]["unit"] == "×"
    slices = [p["value"] for p in tab.state("panes")]
    tab.page.mouse.wheel(0, -120)
    tab.wait(f"window.trame.state.get('panes')[0].value !== {slices[0]}")


@pytest.mark.slow
def test_charts_have_the_points_of_the_study(tab, small_study):
    tab.page.click("#tab-charts")
    tab.page.wait_for_selector(".chart .points path", state="attached")
    rows = list(csv.DictReader((small_study / "trajectory.csv").read_text("utf-8").splitlines()))
    wanted = [float(r["value"]) for r in rows if r["kind"] == "point" and r["series"].startswith("tissue_recovery")
              and r["region"] == "lungs"]  # fmt: skip
    charts = {chart["key"]: chart for chart in tab.state("charts")}
    drawn = next(s for s in charts["scores"]["data"] if s["name"] == "Tissue recovery")
    assert drawn["y"] == pytest.approx(wanted, abs=1e-4)
    assert tab.page.locator(".chart .points path").count() >= 3 * len(wanted)
    tab.page.select_option("#chart", "histogram")
    tab.wait("document.querySelectorAll('.chart .js-line').length >= 3")
    for series in charts["histogram"]["data"]:
        assert sum(series["y"]) == pytest.approx(100, abs=0.1)
    assert tab.problems == []


def test_files_download(tab, small_study):
    tab.page.click("#tab-files")
    with tab.page.expect_download() as waiting:
        tab.page.click("a[data-file='scores.csv']")
    assert waiting.value.path().read_bytes() == (small_study / "scores.csv").read_bytes()
    with tab.page.context.expect_page() as waiting:
        tab.page.click("a[data-file='report.html']")
    report = waiting.value
    report.wait_for_selector("table")
    assert "Tissue recovery" in report.inner_text("body")
    offered = tab.page.locator("#files a").count()
    assert offered == sum(1 for path in small_study.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_second_tab_and_a_reload_go_on_where_it_was(tab, open_tab, viewer):
    second = open_tab(f"http://127.0.0.1:{viewer.port}/", context=tab.page.context)  # the cookie opens it
    second.page.keyboard.press("2")
    tab.wait("window.trame.state.get('overlay') === 'jacobian_normalized'")
    tab.page.reload()
    tab.drawn()
    assert tab.state("overlay") == "jacobian_normalized"
    assert tab.problems == second.problems == []


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (1280, 720),
        (768, 1024),
        pytest.param(1024, 768, marks=pytest.mark.slow),
        pytest.param(1920, 1080, marks=pytest.mark.slow),
    ],
)
def test_it_fits_the_screen_in_light_and_dark(open_tab, viewer, width, height):
    """Nothing is beside the screen, and the pictures stay on it while everything else is looked through."""
    tab = open_tab(width=width, height=height)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    tab.page.click("#tab-regions")  # another test may have left the viewer elsewhere
    for place in ("#overlay", "#compare", "#tab-files", "#regions tbody tr >> nth=-1"):
        tab.page.locator(place).scroll_into_view_if_needed()
        for fixed in (place, "#verdict", ".pane-Green img", "#readout", "#timepoints"):
            box = tab.page.locator(fixed).bounding_box()
            assert box["x"] >= -1, fixed
            assert box["y"] >= -1, fixed
            assert box["y"] + box["height"] <= height + 1, fixed
            assert box["x"] + box["width"] <= width + 1 or fixed.startswith("#regions"), fixed
    light = tab.page.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor")
    tab.page.click("#theme")
    dark = tab.page.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor")
    assert light == "rgb(255, 255, 255)"
    assert dark != light


@pytest.mark.slow
def test_a_finger_places_the_crosshair(open_tab, browser, viewer):
    """On a tablet, which has no pointer: a touch of the picture does what a click does."""
    context = browser.new_context(viewport={"width": 768, "height": 1024}, has_touch=True, is_mobile=True)
    tab = open_tab(viewer.address, context=context)
    box = tab.page.locator(".pane-Red .picture").bounding_box()
    for share, side in ((0.3, "R "), (0.7, "L ")):
        before = tab.page.inner_text("#readout .place")
        tab.page.touchscreen.tap(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        place = "document.querySelector('#readout .place').innerText"
        tab.wait(f"{place} !== {before!r} && {place}.startsWith('{side}')")
    context.close()


def steady(tab) -> np.ndarray:
    """The picture, in grey, once it does not change any more."""
    before, now = None, grey_of(tab.picture())
    while before is None or before.shape != now.shape or np.abs(before - now).max() > 0:
        tab.page.wait_for_timeout(1000)
        before, now = now, grey_of(tab.picture())
    return now


def test_the_keys_do_what_the_help_says(tab):
    windows = [window["name"] for window in tab.state("windows")]
    for key, name, value in (
        *(("b", "layout", "beside"), ("x", "plane", "Sagittal"), ("y", "plane", "Coronal"), ("z", "plane", "Axial")),
        *(("t", "layout", "three"), ("c", "compare", "checkerboard"), ("d", "compare", "difference")),
        *(("f", "compare", "fade"), ("e", "compare", "edges"), ("e", "compare", ""), ("0", "overlay", "")),
        *(("3", "overlay", "density_change"), ("w", "window_now", windows[1]), ("ArrowLeft", "timepoint", "day 30")),
        *(("ArrowRight", "timepoint", "Kontrolle"), ("?", "help", True), ("Escape", "help", False)),
    ):
        tab.page.keyboard.press(key)
        tab.wait(f"window.trame.state.get('{name}') === {json.dumps(value)}")
    slice_at_first = tab.state("panes")[0]["value"]
    for key, direction in (("ArrowUp", 1), ("Shift+ArrowDown", -1)):
        place = tab.state("panes")[0]["value"]
        tab.page.keyboard.press(key)
        tab.wait(f"({direction}) * (window.trame.state.get('panes')[0].value - ({place})) > 0.1")
    tab.page.keyboard.press("r")
    tab.wait(f"Math.abs(window.trame.state.get('panes')[0].value - ({slice_at_first})) < 0.01")
    whole = steady(tab)
    tab.page.keyboard.press("+")
    tab.shows(lambda picture: np.abs(grey_of(picture) - whole).mean() > 3)
    tab.page.keyboard.press("r")
    tab.shows(lambda picture: np.abs(grey_of(picture) - whole).mean() < 1)
    tab.page.locator("#high").press("e")  # a key that is meant for a field
    tab.page.wait_for_timeout(500)
    assert tab.state("compare") == ""


def test_what_the_page_may_not_ask_changes_nothing(tab):
    before = {name: tab.state(name) for name in ("timepoint", "overlay", "opacity", "layout", "compare")}
    for wrong in (
        *(["timepoint", "../../etc"], ["overlay", "ct.nii.gz"], ["opacity", "much"], ["layout", 5], ["range", 2, 1]),
        *(["load", "/etc"], ["slice", "Purple", 1], ["region", "spleen"], ["opacity", None]),
    ):
        tab.page.evaluate(f"window.trame.trigger('act', {wrong!r})".replace("None", "null"))
    tab.wait("window.trame.state.get('message') !== ''")
    tab.wait("window.trame.state.get('message') === ''")  # it has been read
    assert {name: tab.state(name) for name in before} == before
