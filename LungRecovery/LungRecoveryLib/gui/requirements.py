"""The Python packages that are needed: what is missing, one question to the user, and a readable installation.

Nothing is looked for or installed before the user asks for what needs it. Slicer's own numpy and SimpleITK are never
replaced; torch comes through Slicer's extension PyTorch.
"""

import importlib
import importlib.util
import re
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.errors import MissingDependency

TORCH = "torch"
LEAST_TORCH = "2.4"
_KEPT = ("numpy", "SimpleITK", "simpleitk", "vtk")


def requirements(path: Path) -> list[str]:
    """The requirements of a requirements.txt, without comments and options."""
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def missing(path: Path, torch: bool = True) -> list[str]:
    """What is not installed of a requirements.txt and of torch, or is too old; nothing is imported to find out."""
    importlib.invalidate_caches()
    wanted = [*requirements(path), *([f"{TORCH}>={LEAST_TORCH}"] if torch else [])]
    return [requirement for requirement in wanted if not _satisfied(requirement)]


def ensure(path: Path, torch: bool = True) -> bool:
    """Install what is missing of a requirements.txt, and of torch, after asking once; False where the user declines.

    Raises MissingDependency, in words, where an installation fails or needs Slicer to be restarted first.
    """
    lacking = missing(path, torch)
    if not lacking:
        return True
    if not slicer.util.confirmOkCancelDisplay(_question(lacking), windowTitle=_("Lung Recovery")):
        return False
    if any(_name(requirement) == TORCH for requirement in lacking):
        _install_torch()
    others = [requirement for requirement in lacking if _name(requirement) != TORCH]
    if others:
        _install(others)
    still = missing(path, torch)
    if still:
        raise MissingDependency(
            _("These packages could not be installed: {packages}. Restart Slicer and try again.").format(
                packages=", ".join(still)
            )
        )
    return True


def _question(lacking: list[str]) -> str:
    size = _("about 3 GB for a graphics card, 1 GB without") if any(_name(r) == TORCH for r in lacking) else ""
    return _(
        "This needs Python packages that are not installed in this Slicer:\n\n{packages}\n\nThey will be "
        "downloaded from the internet and installed{size}. This takes a few minutes and is done once."
    ).format(packages="\n".join(lacking), size=f" ({size})" if size else "")


def _install_torch() -> None:
    """Install torch through the extension PyTorch, which finds the build that fits the graphics card."""
    if importlib.util.find_spec("PyTorchUtils") is None:
        _install_extension()
        raise MissingDependency(_("Slicer has installed its extension PyTorch: restart Slicer and try again."))
    import PyTorchUtils

    try:
        found = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=False, torchVersionRequirement=f">={LEAST_TORCH}"
        )
    except Exception as error:
        raise MissingDependency(_("PyTorch could not be installed: {reason}").format(reason=_reason(error))) from error
    if found is None:
        raise MissingDependency(
            _("PyTorch could not be installed. Open the module PyTorch Util, install it there and press Apply again.")
        )


def _install_extension() -> None:
    """Install the extension PyTorch without further questions; Slicer loads it when it starts the next time."""
    model, installed = slicer.app.extensionsManagerModel(), False
    if model is not None:
        asks, model.interactive = model.interactive, False  # the user has agreed already
        try:
            installed = model.installExtensionFromServer("PyTorch", False)
        finally:
            model.interactive = asks
    if not installed:
        raise MissingDependency(
            _("Slicer's extension PyTorch is needed and could not be installed: install it in the Extensions Manager.")
        )


def _install(packages: list[str]) -> None:
    """Install packages, keeping what Slicer itself brings at its version."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, wanted = Path(folder) / "constraints.txt", Path(folder) / "requirements.txt"
        constraints.write_text("".join(f"{name}=={found}\n" for name, found in _kept_versions()), encoding="utf-8")
        wanted.write_text("".join(f"{package}\n" for package in packages), encoding="utf-8")
        try:
            installer = _installer()
            if installer is not None:
                listed = installer.load_requirements(str(wanted))
                installer.pip_ensure(
                    listed, constraints=str(constraints), prompt_install=False, requester="LungRecovery"
                )
            else:
                slicer.util.pip_install(["--constraint", str(constraints), *packages])
        except Exception as error:
            raise MissingDependency(
                _(
                    "Python packages could not be installed ({packages}). Check the internet connection. {reason}"
                ).format(packages=", ".join(packages), reason=_reason(error))
            ) from error


def _installer() -> Any:
    """Slicer's module that installs packages with progress and log, 5.12 and later under one of two names; else None.

    `slicer.util.pip_install`, which every Slicer has, installs in silence.
    """
    for name in ("slicer.pydeps", "slicer.packaging"):
        if importlib.util.find_spec(name) is not None:
            found = importlib.import_module(name)
            if hasattr(found, "pip_ensure"):
                return found
    return None


def _kept_versions() -> list[tuple[str, str]]:
    found = []
    for name in _KEPT:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def _satisfied(requirement: str) -> bool:
    wanted = re.search(r">=\s*([\d.]+)", requirement)
    try:
        found = version(_name(requirement))
    except PackageNotFoundError:
        return False
    return wanted is None or _numbers(found) >= _numbers(wanted[1])


def _name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text.split("+")[0])[:3])


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:300] if lines else type(error).__name__
