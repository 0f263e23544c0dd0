"""The training configs that come with the module."""

from pathlib import Path

from LungRecoveryLib.errors import BadInput

_PACKAGE = Path(__file__).resolve().parent


def configs_folder() -> Path:
    """Where the configs lie: beside the package in a source tree and in Slicer, else inside it."""
    beside = _PACKAGE.parent / "Resources" / "Configs"
    return beside if beside.is_dir() else _PACKAGE / "Configs"


def config_path(name: str) -> Path:
    """The file of a shipped config's name, or of a path. Raises BadInput where there is none."""
    shipped = configs_folder() / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in configs_folder().glob("*.yaml")))
        raise BadInput(f"There is no config {name!r}: give a YAML file or one of {known}.")
    return path
