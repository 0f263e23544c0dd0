"""The report as a whole: complete, self-contained, true to study.json, honest about what failed, and not blank."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pypdf
import pytest
from PIL import Image

from LungRecoveryLib import RESEARCH_USE_ONLY
from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.report import write_report


class Page(HTMLParser):
    """The text, images, links and tags of a page."""

    def __init__(self, source: str):
        super().__init__()
        self.images: list[dict] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self._hidden = tag == "style"
        self.ids |= {attrs["id"]} if "id" in attrs else set()
        if tag == "img":
            self.images.append(attrs)
        if tag == "a":
            self.links.append(attrs["href"])
        self.sources += [attrs[k] for k in ("src", "srcset", "data", "poster") if k in attrs]

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return plain(" ".join(self.words))


def plain(words: str) -> str:
    return re.sub(r"\s+", " ", words).strip()


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def pdf_text(folder: Path) -> list[str]:
    return [plain(page.extract_text()) for page in pypdf.PdfReader(folder / "report.pdf").pages]


def test_the_page_needs_nothing_but_itself(reported):
    folder, _ = reported
    source = (folder / "report.html").read_text("utf-8")
    page = Page(source)
    assert page.sources
    assert all(s.startswith("data:image/") for s in page.sources)
    assert not re.search(r"https?:|//cdn|@import|url\(", source)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(source) < 8e6


def test_every_image_can_be_read_aloud_and_decoded(reported):
    page = page_of(reported[0])
    assert len(page.images) >= 5 + 2 * 3
    for image in page.images:
        assert len(image["alt"]) > 40
        data = base64.b64decode(image["src"].split(",", 1)[1])
        assert Image.open(io.BytesIO(data)).width > 1000


def test_the_page_says_what_the_study_says(reported):
    folder, study = reported
    page = page_of(folder).text
    assert RESEARCH_USE_ONLY in page
    for point in study["timepoints"][1:]:
        scores = point["scores"]["lungs"]
        words = {"persistent": "persistent abnormality", "partial": "partial recovery"}[scores["class"]]
        assert f"{point['label']}: {words}; {100 * scores['tissue_recovery']:.0f} % of the lung" in page
        row = rf"{point['label']} {scores['tissue_recovery']:.2f} {point['density']['lungs']['abnormal_percent']:.1f} "
        assert re.search(re.escape(row + f"{scores['jacobian']:.2f} {scores['jacobian_normalized']:.2f}"), page)
        assert "✓ Passed" in page
        assert scores["explanation"] in page
    for region in study["regions"].values():
        assert region in page
    for reason in study["absent"].values():
        assert reason in page
    for name, version in study["versions"].items():
        assert version in page
        assert name.lower() in page.lower()


@pytest.mark.parametrize("name", ["reported", "reported_failure"])
def test_what_failed_and_only_that_is_marked_unreliable(name, request):
    folder, study = request.getfixturevalue(name)
    failed = [t["label"] for t in study["timepoints"] if not t["reliable"]]
    page, pdf = page_of(folder), " ".join(pdf_text(folder))
    if not failed:
        for words in (page.text, pdf, *(image["alt"] for image in page.images)):
            assert "unreliable" not in words.lower()
        return
    assert plain(failed[0]) + " (day 90): ⚠ unreliable , the registration failed its quality check" in page.text
    assert page.text.count("⚠ unreliable") > 10
    assert pdf.count("⚠ unreliable") > 10
    marked = [image["alt"] for image in page.images if "unreliable" in image["alt"].lower()]
    assert len(marked) >= 4  # chart of the scores, the course, slices and registration of that date
    for words in ("⚠ unreliable : 0.412 % of the lung voxels are folded", "✕ Failed"):
        assert words in page.text


def test_a_failed_date_looks_failed_in_its_pictures(reported_failure):
    folder, _ = reported_failure
    yellow = np.array([0xF4, 0xC5, 0x42])

    def share(name: str) -> float:
        pixels = np.asarray(Image.open(folder / "figures" / name).convert("RGB")).astype(int)
        return float((np.abs(pixels - yellow).max(axis=-1) < 8).mean())

    for kind in ("slices", "registration"):
        assert share(f"visit-1_{kind}.png") > 0.01  # banner and stamps
        assert share(f"visit-2_{kind}.png") < 0.001
    assert share("course.png") > 0.0005


def test_labels_are_text_and_nothing_else(reported_failure):
    folder, study = reported_failure
    source = (folder / "report.html").read_text("utf-8")
    label = study["timepoints"][1]["label"]
    assert "<script" in label
    page = Page(source)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert plain(label) in page.text
    assert "5 < 6 & 7" in page.text
    assert "$\\alpha$" in " ".join(pdf_text(folder))  # not set as a formula


def test_every_page_of_the_pdf_carries_the_notice_and_its_number(reported):
    folder, _ = reported
    pages = pdf_text(folder)
    assert len(pages) >= 6
    for number, words in enumerate(pages, start=1):
        assert words.count(RESEARCH_USE_ONLY) >= 2
        assert f"Page {number} of {len(pages)}" in words
    for page in pypdf.PdfReader(folder / "report.pdf").pages:
        assert [float(v) / 72 * 25.4 for v in page.mediabox[2:]] == pytest.approx([210, 297], abs=0.5)


def test_the_pdf_says_what_the_study_says(reported):
    folder, study = reported
    words = " ".join(pdf_text(folder))
    for point in study["timepoints"][1:]:
        scores = point["scores"]["lungs"]
        assert f"{point['label']}: {'partial' if scores['class'] == 'partial' else 'persistent'}" in words
        assert f"{scores['tissue_recovery']:.2f}" in words
    assert "Day 180: partial recovery; 62 % of the lung that was abnormal at baseline has cleared" in words


def test_neither_names_nor_dates_nor_paths_get_out(reported):
    folder, _ = reported
    source = (folder / "report.html").read_text("utf-8")
    reader = pypdf.PdfReader(folder / "report.pdf")
    words = " ".join(pdf_text(folder))
    for secret in ("DOE", "JANE", str(folder), folder.name, "/tmp"):
        assert secret not in re.sub(r"base64,[^\"]*", "", source)
        assert secret not in words
    assert reader.metadata.creation_date.year == 2000  # the same in every report
    assert reader.metadata.author == "LungRecovery"


def test_figures_are_there_and_not_blank(reported):
    folder, _ = reported
    names = {p.name for p in (folder / "figures").iterdir()}
    expected = {"trajectory.png", "density.png", "regions.png", "bands.png", "course.png"}
    expected |= {f"visit-{v}_{kind}.png" for v in (1, 2, 3) for kind in ("slices", "registration", "response")}
    assert names == expected
    for name in names:
        picture = np.asarray(Image.open(folder / "figures" / name).convert("L"), float)
        assert picture.shape[1] == 1420
        assert picture.std() > 10, name
        bottom = picture[-60:]
        assert bottom.std() > 2, f"{name} lacks the notice at its bottom"


def test_the_change_is_drawn_where_it_is(reported):
    """The lesion that clears in the right lower lung is green in the density column, on the left of the picture."""
    folder, _ = reported
    pixels = np.asarray(Image.open(folder / "figures" / "visit-3_slices.png").convert("RGB")).astype(int)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    coloured = (green > red + 40) & (green > blue + 30)
    coloured[-150:] = False  # the colour bar
    rows, columns = np.nonzero(coloured)
    assert len(rows) > 500
    tile = (1420 - 124) / 4
    left = 124 + 3 * tile
    assert columns.min() > left - 5
    axial = columns[rows < 320]
    assert np.mean(axial) < left + tile / 2


def test_the_same_study_gives_the_same_report(reported, tmp_path):
    folder, _ = reported
    again = tmp_path / "again"
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns("report.*", "figures"))
    write_report(again)
    for name in ("report.html", "report.pdf", "figures/visit-1_slices.png"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize(
    "without",
    [
        ("jacobian", "inverse_transform"),
        ("density_change",),
        ("warped",),
        ("lungs",),
    ],
)
def test_what_is_absent_is_left_out(without, study_maker, grid_maker, tmp_path):
    study_maker(
        tmp_path / "s", {"A": (0.0, 0.0), "B": (30.0, 0.6)}, grid=grid_maker(spacing=(8.0,) * 3), without=without
    )
    write_report(tmp_path / "s")
    names = {p.name for p in (tmp_path / "s" / "figures").iterdir()}
    assert {"trajectory.png", "bands.png"} <= names
    assert ("visit-1_slices.png" in names) == ("lungs" not in without)
    assert ("visit-1_registration.png" in names) == (not {"lungs", "warped"} & set(without))
    assert "B (day 30): partial recovery" in page_of(tmp_path / "s").text


def test_undated_visits_and_a_baseline_alone(study_maker, grid_maker, tmp_path):
    coarse = grid_maker(spacing=(8.0,) * 3)
    study_maker(tmp_path / "undated", {"A": (None, 0.0), "B": (None, 0.6), "C": (None, 0.9)}, grid=coarse)
    write_report(tmp_path / "undated")
    assert "per visit" in page_of(tmp_path / "undated").text
    study_maker(tmp_path / "alone", {"Only": (0.0, 0.0)}, grid=coarse)
    write_report(tmp_path / "alone")
    assert "there is no follow-up to compare with" in page_of(tmp_path / "alone").text


def test_many_dates_fit_on_the_page(study_maker, grid_maker, tmp_path):
    course = {f"Visit number {n} with a rather long label": (30.0 * n, n / 12) for n in range(12)}
    study_maker(tmp_path / "many", course, grid=grid_maker(spacing=(12.0,) * 3), without=("lungs",))
    write_report(tmp_path / "many")
    for point in range(1, 12):
        assert f"Visit number {point} with a rather long label" in page_of(tmp_path / "many").text
    assert all(RESEARCH_USE_ONLY in words for words in pdf_text(tmp_path / "many"))


def test_a_broken_layer_is_named(study_maker, grid_maker, tmp_path):
    study_maker(tmp_path / "s", {"A": (0.0, 0.0), "B": (30.0, 0.6)}, grid=grid_maker(spacing=(12.0,) * 3))
    (tmp_path / "s" / "visit-1" / "jacobian.nii.gz").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"visit-1/jacobian\.nii\.gz"):
        write_report(tmp_path / "s")


def test_no_study_no_report(tmp_path):
    with pytest.raises(BadInput, match=r"study\.json"):
        write_report(tmp_path)


def test_progress_rises_to_one_and_can_cancel(study_maker, grid_maker, tmp_path):
    study_maker(tmp_path / "s", {"A": (0.0, 0.0), "B": (30.0, 0.6)}, grid=grid_maker(spacing=(12.0,) * 3))
    seen = []
    write_report(tmp_path / "s", lambda stage, fraction, message="": seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def cancel(stage, fraction, message=""):
        if fraction > 0.5:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        write_report(tmp_path / "s", cancel)
