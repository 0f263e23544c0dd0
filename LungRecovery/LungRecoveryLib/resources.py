"""Where the files that come with the module lie: beside the package in a source tree and in Slicer, else inside it."""

from pathlib import Path

# The weights that registration of lungs, of brains and the rigid one start from by default, and what asks for none.
SHIPPED_WEIGHTS = "lung"
BRAIN_WEIGHTS = "brain"
RIGID_WEIGHTS = "liver_rigid"
NO_NETWORK = "none"

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """The path of a resource, for instance "Models"; a wheel carries the folder `Resources` inside the package."""
    beside, inside = _PACKAGE.parent / "Resources", _PACKAGE / "Resources"
    return (beside if beside.is_dir() else inside) / name
