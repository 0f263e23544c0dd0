"""Missing packages: one question when Apply is pressed, an installation in the way this Slicer has, or a sentence."""

import subprocess
import sys
import types
from importlib.machinery import ModuleSpec

import pytest

WANTED = "scipy>=1.11  # comes with Slicer\n\n--no-index\nno-such-package-here>=2.0\n"


@pytest.fixture
def requirements_file(scene, tmp_path):
    """A requirements.txt of which one package is missing."""
    path = tmp_path / "requirements.txt"
    path.write_text(WANTED, encoding="utf-8")
    return path


@pytest.fixture
def requirements(module, scene):
    """The module under test."""
    from LungRecoveryLib.gui import requirements

    return requirements


@pytest.fixture
def installed(requirements, monkeypatch):
    """Packages by name that are installed, as far as the module can tell: {name: version}."""
    found = {"scipy": "1.16.0", "torch": "2.10.0+cpu", "numpy": "2.1.0", "SimpleITK": "2.5.0"}

    def version(name: str) -> str:
        if name not in found:
            raise requirements.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(requirements, "version", version)
    return found


def slicer_module(name: str, installed: dict, asked: list) -> types.ModuleType:
    """Slicer 5.12's module that installs packages, with its documented arguments; it wants Requirement objects."""
    from packaging.requirements import Requirement

    fake = types.ModuleType(name)
    fake.__spec__ = ModuleSpec(name, None)

    def load_requirements(path):
        with open(path, encoding="utf-8") as file:
            return [Requirement(line.strip()) for line in file if line.strip()]

    def pip_ensure(
        requirements,
        constraints=None,
        skip_packages=None,
        prompt_install=True,
        prompt_restart=True,
        requester=None,
        skip_in_testing=True,
        show_progress=True,
    ):
        assert all(isinstance(r, Requirement) for r in requirements)
        with open(constraints, encoding="utf-8") as file:
            asked.append((sorted(str(r) for r in requirements), file.read(), prompt_install, requester))
        installed.update({r.name: "99.0" for r in requirements})

    fake.load_requirements, fake.pip_ensure = load_requirements, pip_ensure
    return fake


def test_nothing_is_asked_when_nothing_is_missing(requirements, requirements_file, installed, standin):
    installed["no-such-package-here"] = "2.0.1"
    assert requirements.ensure(requirements_file)
    assert standin.messages == []


def test_the_user_may_decline(requirements, requirements_file, installed, standin):
    """One question that names what is missing; nothing is installed."""
    standin.answers = [False]
    assert not requirements.ensure(requirements_file)
    (question,) = standin.messages
    assert question["kind"] == "confirm"
    assert "no-such-package-here>=2.0" in question["text"]
    assert "scipy" not in question["text"]


@pytest.mark.parametrize("name", ["slicer.pydeps", "slicer.packaging"])
def test_slicers_own_installer_is_used_where_it_is(
    requirements, requirements_file, installed, standin, monkeypatch, name
):
    """Under either of its names; Slicer's numpy and SimpleITK stay at their versions, and nothing is asked twice."""
    asked: list = []
    monkeypatch.setitem(sys.modules, name, slicer_module(name, installed, asked))
    standin.answers = [True]
    assert requirements.ensure(requirements_file)
    (wanted, constraints, prompts, requester) = asked[0]
    assert wanted == ["no-such-package-here>=2.0"]
    assert constraints.splitlines() == ["numpy==2.1.0", "SimpleITK==2.5.0"]
    assert (prompts, requester) == (False, "LungRecovery")
    assert [m["kind"] for m in standin.messages] == ["confirm"]


def test_an_older_slicer_installs_by_pip(requirements, requirements_file, installed, standin, monkeypatch):
    """Slicer 5.10 has `slicer.util.pip_install` alone."""
    import slicer

    calls = []
    monkeypatch.setattr(
        slicer.util,
        "pip_install",
        lambda arguments: calls.append(arguments) or installed.update({"no-such-package-here": "2.0"}),
    )
    standin.answers = [True]
    assert requirements._installer() is None
    assert requirements.ensure(requirements_file)
    assert calls[0][0] == "--constraint"
    assert calls[0][2:] == ["no-such-package-here>=2.0"]


def test_a_failed_installation_is_a_sentence(requirements, requirements_file, installed, standin, monkeypatch):
    import slicer

    from LungRecoveryLib.errors import MissingDependency

    def fail(arguments):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(slicer.util, "pip_install", fail)
    standin.answers = [True]
    with pytest.raises(MissingDependency, match=r"no-such-package-here>=2.0\). Check the internet connection"):
        requirements.ensure(requirements_file)


def test_an_installation_without_effect_asks_for_a_restart(
    requirements, requirements_file, installed, standin, monkeypatch
):
    import slicer

    from LungRecoveryLib.errors import MissingDependency

    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: None)
    standin.answers = [True]
    with pytest.raises(MissingDependency, match="Restart Slicer and try again"):
        requirements.ensure(requirements_file)


# -------------------------------------------------------------------------------------------------------------- torch


@pytest.fixture
def without_torch(requirements_file, installed):
    """Everything is there but torch."""
    installed["no-such-package-here"] = "2.0"
    del installed["torch"]
    return requirements_file


class Extensions:
    """The extensions manager, as far as it is asked."""

    def __init__(self, works: bool):
        self.works, self.interactive, self.asked = works, True, []

    def installExtensionFromServer(self, extensionName, restart=True, update=False):
        self.asked.append((extensionName, restart, self.interactive))
        return self.works


def test_torch_comes_through_the_extension_pytorch(requirements, without_torch, installed, standin, monkeypatch):
    """By its own function, which finds the build that fits the card; nothing is asked again."""
    asked = []

    class PyTorchUtilsLogic:
        def installTorch(
            self,
            askConfirmation=False,
            forceComputationBackend=None,
            torchVersionRequirement=None,
            torchvisionVersionRequirement=None,
        ):
            asked.append((askConfirmation, torchVersionRequirement))
            installed["torch"] = "2.9.1"
            return types.ModuleType("torch")

    fake = types.ModuleType("PyTorchUtils")
    fake.__spec__ = ModuleSpec("PyTorchUtils", None)
    fake.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", fake)
    standin.answers = [True]
    assert requirements.ensure(without_torch)
    assert asked == [(False, ">=2.4")]
    assert "3 GB" in standin.messages[0]["text"]


def test_the_extension_pytorch_is_installed_where_it_is_missing(requirements, without_torch, standin, monkeypatch):
    """Without a restart of its own, which the user is asked for; Slicer's own questions are as before."""
    from LungRecoveryLib.errors import MissingDependency

    model = Extensions(works=True)
    monkeypatch.setattr(standin, "extensionsManagerModel", lambda: model, raising=False)
    standin.answers = [True]
    with pytest.raises(MissingDependency, match="restart Slicer and try again"):
        requirements.ensure(without_torch)
    assert model.asked == [("PyTorch", False, False)]
    assert model.interactive


@pytest.mark.parametrize("model", [Extensions(works=False), None])
def test_an_extension_that_cannot_be_installed_is_a_sentence(requirements, without_torch, standin, monkeypatch, model):
    from LungRecoveryLib.errors import MissingDependency

    monkeypatch.setattr(standin, "extensionsManagerModel", lambda: model, raising=False)
    standin.answers = [True]
    with pytest.raises(MissingDependency, match="install it in the Extensions Manager"):
        requirements.ensure(without_torch)


def test_apply_says_what_is_missing_and_starts_nothing(listed, standin, monkeypatch):
    """Declined, Apply does nothing; a failure is one message; neither changes the scene."""
    from LungRecoveryLib.errors import MissingDependency

    def fail(path):
        raise MissingDependency("PyTorch could not be installed.")

    monkeypatch.setattr("LungRecoveryLib.gui.requirements.ensure", lambda path: False)
    listed.ui.applyButton.click()
    assert not listed.panel.run.running
    assert standin.messages == []
    monkeypatch.setattr("LungRecoveryLib.gui.requirements.ensure", fail)
    listed.ui.applyButton.click()
    assert not listed.panel.run.running
    assert standin.messages[0]["text"] == "PyTorch could not be installed."
