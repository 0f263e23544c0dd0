"""A small set of phantoms on disk, made once, and files that imitate those of public data sets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.images import write_image
from LungRecoveryTrainingLib.datasets import Manifest, prepare


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory) -> Path:
    """The folder of the phantoms of `phantoms`."""
    return tmp_path_factory.mktemp("phantoms") / "root"


@pytest.fixture(scope="session")
def phantoms(phantom_root) -> Manifest:
    """Three phantoms at 5 mm with one follow-up each: two to train on, one to validate on."""
    options = {"count": 3, "spacing": 5.0, "visits": 1, "val": 0.3, "test": 0.0, "kinds": ("pair",)}
    return prepare("phantoms", phantom_root, **options)


@pytest.fixture(scope="session")
def write_ct(chest) -> Callable[..., Path]:
    """A function (path, spacing=(1, 1, 1), origin=(0, 0, 0)) that writes a tiny CT of 28x24x12 voxels."""

    def write(path: Path, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), array: np.ndarray = chest) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        grid = Grid(array.shape[::-1], spacing, origin, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        write_image(to_image(array, grid), path)
        return path

    return write


@pytest.fixture(scope="session")
def by_time() -> Callable[[Manifest], dict]:
    """A function that gives a manifest's rows by (subject, time point)."""
    return lambda manifest: {(row.subject, row.timepoint): row for row in manifest.rows}
