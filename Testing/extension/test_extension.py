"""The Slicer extension as its CMake files declare it, run with a stand-in of the Slicer package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from skips import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("LungRecovery", "LungRecoveryTraining")
STANDIN = ROOT / "Testing" / "slicer_standin" / "cmake"


def cmake() -> str:
    """The program cmake; the test is skipped, or fails, where it is missing."""
    found = shutil.which("cmake")
    if found is None:
        beside = Path(sys.executable).with_name("cmake")
        found = str(beside) if beside.exists() else None
    if found is None:
        skip_or_fail("cmake: pip install cmake")
    return found


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Run cmake without needing a compiler: the extension has nothing to compile."""
    compilers = [f"-DCMAKE_{language}_COMPILER_FORCED=ON" for language in ("C", "CXX")]
    command = [cmake(), "-S", str(ROOT), "-B", str(folder), *compilers, *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def declared(tmp_path_factory) -> dict[str, str]:
    """What the CMake files declare, run with the stand-in of the Slicer package."""
    folder = tmp_path_factory.mktemp("configured")
    run = configure(folder, f"-DSlicer_DIR={STANDIN}")
    assert run.returncode == 0, run.stderr
    lines = (folder / "declared.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def files_of(module: str) -> set[str]:
    """What the folder of a module holds that belongs to the extension."""
    folder = ROOT / module
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return {f for f in found if "__pycache__" not in f and not Path(f).name.startswith(".")} - {"CMakeLists.txt"}


@pytest.mark.parametrize("module", MODULES)
def test_every_python_file_and_resource_is_listed(declared, module):
    """What is not listed is not installed: the module would miss it in Slicer only."""
    scripts, resources = (set(declared[f"{module}_{kind}"].split("|")) for kind in ("SCRIPTS", "RESOURCES"))
    there = files_of(module)
    assert scripts == {f for f in there if f.endswith(".py")}
    assert resources == {f for f in there if not f.endswith(".py")}
    assert f"{module}.py" in scripts


@pytest.mark.parametrize("module", MODULES)
def test_tests_are_registered(declared, module):
    """The generic tests of a scripted module, and its own."""
    assert declared[f"{module}_GENERIC_TESTS"] == "TRUE"
    assert declared[f"UNITTEST_{module}.py"] == "ON"


def test_the_extension_says_what_it_is(declared):
    """Everything the Extensions Manager shows; and the configuration and the package are made."""
    assert declared["EXTENSION_DEPENDS"] == "PyTorch"
    assert "Research use only; not for diagnosis" in declared["EXTENSION_DESCRIPTION"].replace("|", ";")
    assert declared["GENERATED_CONFIG"] == declared["PACKAGED"] == "ON"
    for url in (declared["EXTENSION_ICONURL"], *declared["EXTENSION_SCREENSHOTURLS"].split()):
        assert url.startswith("https://raw.githubusercontent.com/")
        assert (ROOT / url.split("/main/", 1)[1]).is_file(), url


def test_the_entry_for_the_extensions_index_agrees(declared):
    """The fields its schema asks for, the same category and repository as in the CMake file."""
    entry = json.loads((ROOT / "Resources" / "LungRecovery.json").read_text(encoding="utf-8"))
    assert {"$schema", "category", "scm_url", "tier"} <= set(entry)
    assert entry["category"] == declared["EXTENSION_CATEGORY"]
    assert entry["scm_url"].removesuffix(".git") == declared["EXTENSION_HOMEPAGE"]
    assert entry["build_dependencies"] == declared["EXTENSION_DEPENDS"].split()
    assert entry["tier"] in (1, 3, 5)


@pytest.mark.parametrize(
    "path",
    [
        "Resources/LungRecovery.png",
        "LungRecovery/Resources/Icons/LungRecovery.png",
        "LungRecoveryTraining/Resources/Icons/LungRecoveryTraining.png",
    ],
)
def test_icons_have_the_size_slicer_asks_for(path):
    with Image.open(ROOT / path) as icon:
        assert icon.size == (128, 128)
        assert icon.mode == "RGBA"


def test_without_slicer_only_slicer_is_missing(tmp_path):
    """Configuring stops at find_package(Slicer), with cmake's own message."""
    run = configure(tmp_path)
    assert run.returncode != 0
    assert "find_package" in run.stderr
    assert "SlicerConfig.cmake" in run.stderr
