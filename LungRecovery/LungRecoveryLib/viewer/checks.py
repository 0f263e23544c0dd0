"""What the viewer needs is checked before it is used: without a way to draw, VTK ends the process by a crash."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from LungRecoveryLib.errors import MissingDependency
from LungRecoveryLib.results import REPORT_HTML

_PACKAGES = {
    "slicer_core": "slicer-core",
    "slicer_layer_dm": "slicer-layer-dm",
    "trame_slicer": "trame-slicer",
    "trame_plotly": "trame-plotly",
}
_DRAW = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window = vtkRenderWindow()
window.SetOffScreenRendering(True)
window.AddRenderer(vtkRenderer())
window.Render()
raise SystemExit(not window.SupportsOpenGL())
"""
_SECONDS = 120


def require_viewer(study: Path | None = None) -> None:
    """Raise MissingDependency, offering the study's report, where packages or libraries for drawing are absent."""
    require_packages(study)
    require_drawing(study)


def require_packages(study: Path | None = None) -> None:
    """Raise MissingDependency, offering the study's report, where a package is absent; nothing is imported."""
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        needed = "pip install 'lungrecovery[viewer]'"
        raise MissingDependency(f"the viewer needs the package {missing[0]}: {needed}{_instead(study)}")


def require_drawing(study: Path | None = None) -> None:
    """Raise MissingDependency, offering the study's report, where nothing can be drawn without a screen.

    That is tried in a process of its own, because it cannot be caught when it fails.
    """
    try:
        drawn = subprocess.run([sys.executable, "-c", _DRAW], capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise MissingDependency(f"drawing did not end within {_SECONDS} s on this machine{_instead(study)}") from None
    if drawn.returncode != 0:
        raise MissingDependency(
            "the viewer needs libraries for drawing without a screen: sudo apt-get install libegl1 libgl1-mesa-dri"
            + _instead(study)
        )


def _instead(study: Path | None) -> str:
    report = Path(study) / REPORT_HTML if study is not None else None
    if report is None or not report.is_file():
        return ""
    return f"; without it, open the report {report.resolve()}"
