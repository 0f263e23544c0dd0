"""The commands in the page on accuracy work as they stand there, on small phantoms; its pictures exist."""

import os
import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app

DOCS = Path(__file__).parents[1] / "Resources" / "docs"
PAGE = (DOCS / "accuracy.md").read_text(encoding="utf-8")
# What makes the commands quick; everything else is run as it is written.
QUICK = {"phantom": ["--spacing", "4"], "rigid": ["--spacing", "4"], "register": ["--preset", "fast", "--spacing", "3"]}


def commands(*headings: str) -> list[list[str]]:
    """The `lungrecovery` commands in the code blocks of the sections under these headings, as words."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
    blocks = [block for heading in headings for block in re.findall(r"```\n(.*?)```", sections[heading], re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("lungrecovery ")]


def test_the_commands_for_abdomens_and_brains_succeed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = 0
    for words in commands("Rigid abdominal CT", "Brain MRI"):
        if any("$LUNGRECOVERY_TEST_DATA" in word for word in words):
            continue  # the test below
        done = CliRunner().invoke(app, [*words, *QUICK.get(words[0], [])])
        assert done.exit_code == 0, f"lungrecovery {' '.join(words)}: {done.output}"
        run += 1
    assert run >= 5
    assert (tmp_path / "rigid" / "transform.tfm").is_file()
    assert (tmp_path / "brain_pair" / "overlay.png").is_file()


def test_the_commands_on_real_scans_name_files_that_are_there(real_data):
    words = [word for command in commands("Rigid abdominal CT", "Brain MRI") for word in command]
    named = [os.path.join(real_data, word.split("/", 1)[1]) for word in words if word.startswith("$LUNGRECOVERY")]
    assert named
    for path in named:
        assert Path(path).is_file(), path


def test_every_picture_of_the_page_exists():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE)
    assert len(pictures) >= 2
    for picture in pictures:
        assert (DOCS / picture).is_file(), picture
