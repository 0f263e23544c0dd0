"""The colour legend as the slice view draws it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skips import skip_or_fail


@pytest.fixture(scope="module")
def pictures(truth, tmp_path_factory) -> dict[str, np.ndarray]:
    """The view without a map, with the Jacobian and with the density change, RGB (rows, columns, 3)."""
    folder = tmp_path_factory.mktemp("legend")
    command = [sys.executable, str(Path(__file__).with_name("slice_view.py")), str(truth.folder), str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False)
    if done.returncode < 0:  # VTK's way of saying that it cannot draw
        skip_or_fail("VTK finds neither EGL nor OSMesa to draw with: sudo apt-get install libegl1 libgl1-mesa-dri")
    assert done.returncode == 0, done.stderr
    return {name: np.load(folder / f"{name}.npy").astype(int) for name in ("plain", "jacobian", "density_change")}


def bar(picture: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """The colours of the legend's bar from the bottom to the top: the coloured columns right of the body."""
    right = slice(440, None)
    coloured = np.ptp(picture[:, right], axis=2) > 60
    column = int(np.argmax(coloured.sum(axis=0)))
    rows = np.flatnonzero(coloured[:, column])
    assert np.abs(plain[:, right] - picture[:, right]).max() > 60
    return picture[rows.max() : rows.min() : -1, 440 + column]


def test_the_legend_shows_the_maps_colours_with_no_change_a_third_up(pictures):
    """0.5 to 2 on an even scale: 1 stands at a third; the ends are as bright as the map's strongest colours."""
    colours = bar(pictures["jacobian"], pictures["plain"])
    assert colours[2, 2] > colours[2, 0] + 40  # blue below: shrunk
    assert colours[-3, 0] > colours[-3, 2] + 40  # orange above: grown
    turn = np.argmin(np.abs(colours[:, 0] - colours[:, 2])) / len(colours)
    assert 0.28 < turn < 0.39


def test_each_map_brings_its_own_legend(pictures):
    colours = bar(pictures["density_change"], pictures["plain"])
    assert colours[2, 1] > colours[2, 2] + 20  # green below: tissue lost
    assert colours[-3, 2] > colours[-3, 1] + 20  # purple above: tissue gained
    turn = np.argmin(np.abs(colours[:, 1] - colours[:, 2])) / len(colours)
    assert 0.45 < turn < 0.55


def test_without_a_map_there_is_no_legend(pictures):
    assert np.ptp(pictures["plain"][:, 440:], axis=2).max() < 10
