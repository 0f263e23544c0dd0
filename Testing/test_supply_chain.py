"""What is installed is what is declared and pinned; nothing unpickles a file; licences and bill of materials."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "LungRecovery").rglob("*.py"), *(ROOT / "LungRecoveryTraining").rglob("*.py")]
OWN = {"LungRecovery", "LungRecoveryLib", "LungRecoveryTraining", "LungRecoveryTrainingLib"}
IN_SLICER = {"qt", "ctk", "slicer", "PyTorchUtils", "SampleData"}  # modules of the application, beside slicer-core's
OPTIONAL = {"triton"}  # comes with torch for CUDA
TOOLS = {"lungrecovery", "pip", "wheel"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


@pytest.fixture(scope="module")
def declared() -> dict[str, list[Requirement]]:
    """The requirements of every extra in pyproject.toml; "" is the core."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    """The versions in constraints.txt by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+-]+", line) for line in lines)
    pins = [line.split("==") for line in lines]
    assert len({canonicalize_name(name) for name, _ in pins}) == len(pins), "a package is pinned twice"
    return {canonicalize_name(name): version for name, version in pins}


@cache
def found(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


@pytest.fixture(scope="module")
def needed(declared) -> dict[str, Requirement]:
    """Every package that any extra needs, directly or through what is installed, by canonical name."""
    result: dict[str, Requirement] = {}
    ends = [requirement for lines in declared.values() for requirement in lines]
    seen = set()
    while ends:
        requirement = ends.pop()
        name = canonicalize_name(requirement.name)
        if (name, str(requirement)) in seen:
            continue
        seen.add((name, str(requirement)))
        result[name] = requirement
        package = found(requirement.name)
        for line in package.requires or [] if package else []:
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in {"", *requirement.extras}):
                ends.append(inner)
    return result


def imports(file: Path) -> set[str]:
    """The modules that a file imports absolutely, with their dots."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    return modules


@cache
def third_party() -> set[str]:
    """The modules of other packages that this project imports, whole dotted names."""
    modules = set().union(*(imports(file) for file in SOURCES))
    known = OWN | IN_SLICER | OPTIONAL | set(sys.stdlib_module_names)
    return {module for module in modules if module.split(".")[0] not in known}


def test_every_dependency_is_pinned_and_installed_at_that_version(needed, pinned):
    missing = sorted(set(needed) - set(pinned))
    assert not missing, f"not in constraints.txt: {missing}"
    other = {
        name: (package.version, pinned[name])
        for name in needed
        if (package := found(name)) and package.version != pinned[name]
    }
    assert not other, f"installed, pinned: {other}"


def test_what_is_installed_satisfies_what_every_package_requires(declared, needed):
    """As `pip check`, for the project's own bounds too; the extras that `make` installs are there."""
    wrong = [
        f"{name} {package.version} is not {requirement}"
        for name, requirement in needed.items()
        if (package := found(name)) and not requirement.specifier.contains(package.version, prereleases=True)
    ]
    assert not wrong
    installed = re.search(r'--editable "\.\[(.*,test)\]"', (ROOT / "Makefile").read_text(encoding="utf-8"))[1]
    absent = [r.name for extra in ["", *installed.split(",")] for r in declared[extra] if not found(r.name)]
    assert not absent, f"declared, but not installed: {absent}"


def test_every_import_is_declared_by_an_extra(declared):
    """By this project itself, not only by a package that happens to bring it."""
    names = {canonicalize_name(requirement.name) for lines in declared.values() for requirement in lines}
    owners = packages_distributions()
    undeclared = {
        module
        for module in {name.split(".")[0] for name in third_party()}
        if not names & {canonicalize_name(owner) for owner in owners.get(module, [module])}
    }
    assert not undeclared


_IMPORT_WITHOUT = """
import importlib, sys
blocked, modules = (set(filter(None, text.split(","))) for text in sys.argv[1:3])
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is installed, but nothing declares it", name=name)
sys.meta_path.insert(0, Blocked())
for name in sorted(modules):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in blocked:
            print(f"{name}: {error}")
"""


def undeclared_needs(orphans: set[str], modules: set[str]) -> list[str]:
    """The modules that cannot be imported without the top-level modules of `orphans`."""
    run = subprocess.run(
        [sys.executable, "-c", _IMPORT_WITHOUT, ",".join(orphans), ",".join(modules)],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return [line for line in run.stdout.splitlines() if "nothing declares it" in line]


def test_nothing_works_by_a_package_that_was_installed_by_hand(needed):
    """What is imported works without the packages that are here although no extra leads to them."""
    names = {canonicalize_name(package.metadata["Name"]) for package in distributions()}
    strays = names - set(needed) - TOOLS
    orphans = {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} <= strays
    }
    if orphans:
        assert not undeclared_needs(orphans, third_party())


def test_a_hidden_need_would_be_seen():
    """trame-slicer imports slicer-layer-dm without naming it: were that not declared, the check above would say so."""
    pytest.importorskip("trame_slicer")
    module = next(m for m, owners in packages_distributions().items() if owners == ["slicer-layer-dm"])
    assert undeclared_needs({module}, {m for m in third_party() if m.startswith("trame_slicer")})
    assert not undeclared_needs({module}, {"numpy"})


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def unpickling(source: str) -> list[str]:
    """The lines of a source by which a file could run code: unpicklers, torch.load but of weights alone, eval."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            wrong += [f"import {name}" for name in names if name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.Call):
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            name = called(node)
            bad = (
                (name == "torch.load" and options.get("weights_only") != "True")
                or (name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False")
                or name in ("eval", "exec", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "pd.read_pickle")
            )
            wrong += [ast.unparse(node)] if bad else []
    return wrong


def test_nothing_unpickles_a_file():
    found = {file.name: lines for file in SOURCES if (lines := unpickling(file.read_text(encoding="utf-8")))}
    assert not found
    assert not [*(ROOT / "LungRecovery" / "Resources").rglob("*.pt"), *ROOT.glob("Lung*/Resources/**/*.pkl")]


@pytest.mark.parametrize(
    "line", ["import pickle", "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"]
)
def test_an_unpickler_would_be_seen(line):
    assert unpickling(line)
    assert not unpickling("torch.load(f, weights_only=True)\nnp.load(f)\nsafetensors.torch.load_file(f)")


def test_the_licences_of_all_packages_are_known(needed):
    """Each states one; the list holds everything that is needed and installed."""
    content = json.loads(CliRunner().invoke(app, ["info", "--licences", "--json"]).stdout)["packages"]
    assert content[0]["name"] == "lungrecovery"
    assert {entry["name"] for entry in content[1:]} == {name for name in needed if found(name)}
    assert not [entry["name"] for entry in content if entry["licence"] == "not stated"]
    by_name = {entry["name"]: entry for entry in content}
    assert by_name["numpy"]["extras"] == ["core"]
    assert by_name["dask"]["extras"] == ["cohort"]
    text = CliRunner().invoke(app, ["info", "--licences"]).stdout
    assert re.search(r"^nibabel +\S+ +core +MIT$", text, re.MULTILINE)


def test_the_bill_of_materials_is_whole_and_reproducible(tmp_path):
    """Every reference of the graph is a component; the shipped weights are in it with their hash."""
    texts = []
    for name in ("a.json", "b.json"):
        done = CliRunner().invoke(app, ["info", "--sbom", str(tmp_path / name)])
        assert done.exit_code == 0, done.stderr
        texts.append((tmp_path / name).read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert CliRunner().invoke(app, ["info", "--sbom", str(tmp_path / "a.json")]).exit_code == 2  # it is there already
    bill = json.loads(texts[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    references = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert len(references) == len(bill["components"]) + 1
    graph = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert {ref for refs in graph.values() for ref in refs} <= set(graph) <= references
    assert any(ref.startswith("pkg:pypi/torch@") for ref in graph[bill["metadata"]["component"]["bom-ref"]])
    weights = [c for c in bill["components"] if c["type"] == "machine-learning-model"]
    card = json.loads((ROOT / "LungRecovery/Resources/Models/lung.json").read_text(encoding="utf-8"))
    assert card["sha256"] in {c["hashes"][0]["content"] for c in weights}
