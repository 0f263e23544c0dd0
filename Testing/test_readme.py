"""The commands in the README work as they stand there, on a small phantom; its pictures exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What makes the commands quick; everything else is run as it is written.
QUICK = {
    "analyze": ["--preset", "fast", "--spacing", "4"],
    "register": ["--preset", "fast", "--spacing", "4"],
    "phantom": ["--spacing", "4", "--days", "0", "30"],
    "view": ["--no-browser", "--idle", "0.02"],
}


def commands() -> list[list[str]]:
    """The `lungrecovery` commands of the README's code blocks, as words."""
    blocks = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("lungrecovery ")]


@pytest.fixture
def folder(small_scans, tmp_path, monkeypatch):
    """A folder with the files that the README's commands name."""
    scans = [sitk.ReadImage(str(small_scans / f"{number}.mha")) for number in range(3)]
    for name, number in {"baseline.nii.gz": 0, "month1.nii.gz": 1, "month3.nii.gz": 2, "ct.nii.gz": 0}.items():
        sitk.WriteImage(scans[number], str(tmp_path / name))
    sitk.WriteImage(scans[0], str(tmp_path / "baseline.mha"))
    sitk.WriteImage(scans[1], str(tmp_path / "followup.mha"))
    shutil.copy(small_scans / "landmarks1.csv", tmp_path / "landmarks.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str]) -> tuple[int, str]:
    """Exit code and output of a command; the viewer in a process of its own, as it wants Slicer's own libraries."""
    if words[0] != "view":
        done = CliRunner().invoke(app, words)
        return done.exit_code, done.output
    command = [sys.executable, "-c", "from LungRecoveryLib.cli import main; main()", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
    )
    return process.returncode, process.stdout


def test_every_command_of_the_readme_succeeds(folder):
    found = commands()
    expected = {"analyze", "register", "evaluate", "segment", "enhance", "phantom", "info", "view"}
    assert {words[0] for words in found} == expected
    for words in found:
        code, output = run([*words, *QUICK.get(words[0], [])])
        assert code == 0, f"lungrecovery {' '.join(words)}: {output}"
    for made in ("study/report.html", "pair/transform.h5", "lungs.nii.gz", "enhanced.nii.gz", "patient/truth.json"):
        assert (folder / made).is_file()


def test_every_picture_of_the_readme_exists():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"`?make ([a-z]+)`?", README)) - {"it"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test", "slow", "benchmark", "lint"} <= targets
    for target in targets & {"demo", "test", "slow", "benchmark", "lint"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
