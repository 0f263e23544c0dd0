"""The Python packages that the analysis needs: what is missing, one question to the user, and a readable installation.

Nothing is looked for or installed before the user presses Apply. Slicer's own numpy and SimpleITK are never replaced;
torch comes through Slicer's extension PyTorch.
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


def missing(path: Path) -> list[str]:
    """What is not installed of a requirements.txt and of torch, or is too old; nothing is imported to find out."""
    importlib.invalidate_caches()
    wanted = [*requirements(path), f"{TORCH}>={LEAST_TORCH}"]
    return [requirement for requirement in wanted if not _satisfied(requirement)]


def ensure(path: Path) -> bool:
    """Install what is missing after asking once; False where the user declines.

    Raises MissingDependency, in words, where an installation fails or needs Slicer to be restarted first.
    """
    lacking = missing(path)
    if not lacking:
        return True
    if not slicer.util.confirmOkCancelDisplay(_question(lacking), windowTitle=_("Lung Recovery")):
        return False
    if any(_name(requirement) == TORCH for requirement in lacking):
        _install_torch()
    others = [requirement for requirement in lacking if _name(requirement) != TORCH]
    if others:
        _install(others)
    still = missing(path)
    if still:
        raise MissingDependency(
            _("These packages could not be installed: {packages}. Restart Slicer and press Apply again.").format(
                packages=", ".join(still)
            )
        )
    return True


def _question(lacking: list[str]) -> str:
    size = _("about 3 GB for a graphics card, 1 GB without") if any(_name(r) == TORCH for r in lacking) else ""
    return _(
        "The analysis needs Python packages that are not installed in this Slicer:\n\n{packages}\n\nThey will be "
        "downloaded from the internet and installed{size}. This takes a few minutes and is done once."
    ).format(packages="\n".join(lacking), size=f" ({size})" if size else "")


def _install_torch() -> None:
    """Install torch through the extension PyTorch, which finds the build that fits the graphics card."""
    if importlib.util.find_spec("PyTorchUtils") is None:
        _install_extension()
        raise MissingDependency(_("Slicer has installed its extension PyTorch: restart Slicer and press Apply again."))
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
    model = slicer.app.extensionsManagerModel()
    if model is None or not model.installExtensionFromServer("PyTorch"):
        raise MissingDependency(
            _("Slicer's extension PyTorch is needed and could not be installed: install it in the Extensions Manager.")
        )


def _install(packages: list[str]) -> None:
    """Install packages, keeping what Slicer itself brings at its version."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={found}\n" for name, found in _kept_versions()), encoding="utf-8")
        try:
            packaging = getattr(slicer, "packaging", None) or _slicer_packaging()
            if packaging is not None:
                packaging.pip_ensure(
                    packages, constraints=str(constraints), prompt_install=False, requester="LungRecovery"
                )
            else:
                slicer.util.pip_install(["--constraint", str(constraints), *packages])
        except Exception as error:
            raise MissingDependency(
                _(
                    "Python packages could not be installed ({packages}). Check the internet connection. {reason}"
                ).format(packages=", ".join(packages), reason=_reason(error))
            ) from error


def _slicer_packaging() -> Any:
    """The module slicer.packaging of Slicer 5.12 and later; None before."""
    if importlib.util.find_spec("slicer.packaging") is None:
        return None
    found = importlib.import_module("slicer.packaging")
    return found if hasattr(found, "pip_ensure") else None


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
