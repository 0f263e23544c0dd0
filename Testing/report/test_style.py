"""Colours of the maps: neutral where nothing changed, brighter with the change, apart for colour-blind readers."""

import matplotlib
import numpy as np
import pytest

from LungRecoveryLib.report import style
from LungRecoveryLib.report.figures import DENSITY_SCALE, VOLUME_SCALE, density_to_unit, overlay, volume_to_unit

# Severe dichromacy in linear RGB (Machado, Oliveira & Fernandes 2009, table 1).
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
MAPS = {"volume": style.VOLUME_MAP, "density": style.DENSITY_MAP}


def lab(rgb: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2lab

    return rgb2lab(np.clip(rgb, 0, 1).reshape(1, -1, 3))[0]


def as_seen(rgb: np.ndarray, matrix: list) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("name", MAPS)
def test_gain_and_loss_stay_apart_for_the_colour_blind(name, blindness):
    change = np.array([0.4, 0.5, 0.6, 0.7, 0.8, 1.0])
    grey = np.full(change.shape, style.grey_levels(-850.0))
    loss, gain = (as_seen(style.blend(grey, sign * change, MAPS[name]), BLINDNESS[blindness]) for sign in (-1, 1))
    assert np.linalg.norm(lab(loss) - lab(gain), axis=1).min() > 15  # a difference of 2.3 is just noticeable


@pytest.mark.parametrize("name", MAPS)
def test_where_nothing_changed_the_ct_shows_through(name):
    grey = np.linspace(0, 1, 11)
    assert style.blend(grey, np.zeros(11), MAPS[name]) == pytest.approx(np.repeat(grey[:, None], 3, axis=1))
    assert style.blend(grey, np.full(11, np.nan), MAPS[name]) == pytest.approx(np.repeat(grey[:, None], 3, axis=1))


def test_colours_stay_inside_the_lung():
    grey = np.full((4, 4), 0.3)
    inside = np.zeros((4, 4), bool)
    inside[:2] = True
    picture = overlay(grey, np.ones((4, 4)), inside, style.DENSITY_MAP)
    assert picture[2:] == pytest.approx(0.3)
    assert np.abs(picture[:2] - 0.3).max() > 0.3


def test_halving_and_doubling_lie_equally_far_from_no_change():
    assert volume_to_unit(np.array([0.25, 0.5, 1.0, 2.0, 4.0, -0.3, np.nan])) == pytest.approx([-1, -1, 0, 1, 1, -1, 0])
    assert density_to_unit(np.array([-600.0, -150.0, 0.0, 300.0, np.nan])) == pytest.approx([-1, -0.5, 0, 1, 0])


def test_ticks_stand_at_their_values():
    for position, words in VOLUME_SCALE.ticks:
        assert volume_to_unit(np.array(float(words))) == pytest.approx(position)
    for position, words in DENSITY_SCALE.ticks:
        assert density_to_unit(np.array(float(words.replace("−", "-")))) == pytest.approx(position)


def test_the_users_settings_of_matplotlib_are_neither_used_nor_changed():
    before = matplotlib.rcParams["font.size"]
    with matplotlib.rc_context({"text.usetex": True, "font.size": 31.0}):
        with style.drawing():
            assert not matplotlib.rcParams["text.usetex"]
            assert not matplotlib.rcParams["text.parse_math"]
        assert matplotlib.rcParams["font.size"] == 31.0
    assert matplotlib.rcParams["font.size"] == before


def test_lung_window():
    assert style.grey_levels(np.array([-3000.0, -1350.0, -600.0, 150.0, 900.0])) == pytest.approx([0, 0, 0.5, 1, 1])
