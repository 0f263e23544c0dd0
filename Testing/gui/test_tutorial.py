"""The tutorial and the checklist say what the panel has."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "Resources" / "docs" / "tutorial.md"
CHECKLIST = ROOT / "Testing" / "slicer_checklist.md"
UI_FILE = ROOT / "LungRecovery" / "Resources" / "UI" / "LungRecovery.ui"
SIDE, BYTES = 1500, 500_000


def pictures() -> list[str]:
    """The pictures of the tutorial, relative to it."""
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TUTORIAL.read_text(encoding="utf-8"))


def panel_texts() -> set[str]:
    """Every text of the .ui file, without the letters' marks."""
    found = {item.text for item in ElementTree.parse(UI_FILE).getroot().iter("string") if item.text}
    return {text.replace("&", "").rstrip(":") for text in found}


def test_the_tutorials_pictures_are_there_and_small():
    """Real pictures, no larger than a page needs."""
    assert len(pictures()) >= 6
    for name in [*pictures(), "../Screenshots/panel.png"]:
        path = (TUTORIAL.parent / name).resolve()
        with Image.open(path) as image:
            assert max(image.size) <= SIDE, name
            assert len(image.convert("RGB").getcolors(2**20) or range(99)) > 10, name
        assert path.stat().st_size < BYTES, name


def test_what_the_tutorial_says_in_bold_stands_on_the_panel(module):
    """Every button, box and field by its own words."""
    text = TUTORIAL.read_text(encoding="utf-8").replace("\n", " ")
    bold = {" ".join(words.split()) for words in re.findall(r"\*\*([^*]+)\*\*", text)}
    said = panel_texts() | {"Cancel", "baseline", "Research use only; not for diagnosis."}
    assert bold - said == set()
    assert len(bold) > 20


def test_the_tutorials_choices_are_offered(module, scene):
    """Presets, comparisons and verdicts as the panel writes them."""
    from LungRecoveryLib.gui import correction, quality, sample_data, settings

    text = " ".join(TUTORIAL.read_text(encoding="utf-8").split())
    names = [title for title, _tip in settings.presets().values()]
    names += [title for mode, title in quality.modes().items() if mode]
    names += [*quality.verdicts().values(), sample_data.SAMPLE, sample_data.CATEGORY]
    names += [title for value, title in correction.reader_verdicts().items() if value != "accepted"]
    for name in names:
        assert f"*{name}*" in text, name


@pytest.mark.parametrize("path", [TUTORIAL, CHECKLIST])
def test_code_in_the_documents_names_what_exists(module, path):
    """Classes, functions and files."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"LungRecovery\.(LungRecovery\w+)", text) + re.findall(r"import (LungRecovery\w+)\n", text):
        assert hasattr(module, name), name
    for name in re.findall(r"\bTesting/[\w/]+", text):
        assert (ROOT / name).exists(), name


def test_the_checklist_has_the_line_that_runs_the_modules_own_test():
    assert "LungRecovery.LungRecoveryTest().runTest()" in CHECKLIST.read_text(encoding="utf-8")
