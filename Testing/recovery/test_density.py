"""Proves density by region against hand-made histograms, and the density change against breathing and true change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.recovery import density

GRID = Grid((10, 10, 10), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
NOTHING = np.zeros(GRID.shape, bool)
EVERYTHING = np.ones(GRID.shape, bool)


def image(values, dtype=np.int16):
    return to_image(np.broadcast_to(np.asarray(values, dtype), GRID.shape).copy(), GRID)


def test_every_measure_of_a_known_histogram():
    hu = np.full(1000, -800)
    hu[:100], hu[100:150], hu[150:250], hu[250:300] = -960, -600, -250, 50
    values = hu.reshape(GRID.shape)
    table = density.density_by_region(image(values), {"lungs": EVERYTHING}, None, abnormal=values == 50)["lungs"]
    assert table["volume_ml"] == pytest.approx(2.0)
    assert table["mean_hu"] == pytest.approx(hu.mean())
    assert table["sd_hu"] == pytest.approx(hu.std())
    assert table["perc15_hu"] == pytest.approx(np.percentile(hu, 15))
    assert table["mass_g"] == pytest.approx((hu + 1000).sum() / 1000 * 0.002)
    assert table["laa950_percent"] == pytest.approx(10.0)
    assert table["haa_percent"] == pytest.approx(15.0)
    assert table["abnormal_percent"] == pytest.approx(5.0)
    assert table["bands_percent"] == pytest.approx(
        {"hyperinflated": 10.0, "well_aerated": 70.0, "poorly_aerated": 5.0, "non_aerated": 15.0}
    )


def test_padding_below_air_weighs_nothing_and_counts_as_air():
    table = density.density_by_region(image(-2048), {"lungs": EVERYTHING}, None, abnormal=NOTHING)["lungs"]
    assert (table["mass_g"], table["mean_hu"], table["bands_percent"]["hyperinflated"]) == (0.0, -1024.0, 100.0)


def test_bands_include_their_lower_limit_only_and_can_be_edited():
    bands = (density.Band("a", -800, -700), density.Band("b", -700, -600))
    table = density.density_by_region(image(-700), {"lungs": EVERYTHING}, None, bands, NOTHING)["lungs"]
    assert table["bands_percent"] == {"a": 0.0, "b": 100.0}


def test_regions_are_measured_apart_and_empty_ones_left_out():
    values = np.full(GRID.shape, -900, np.int16)
    values[5:] = -500
    top = EVERYTHING.copy()
    top[5:] = False
    masks = {"lungs": EVERYTHING, "top": top, "bottom": ~top, "none": NOTHING}
    table = density.density_by_region(image(values), masks, None, abnormal=~top)
    assert list(table) == ["lungs", "top", "bottom"]
    assert [table[name]["mean_hu"] for name in table] == [-700.0, -900.0, -500.0]
    assert [table[name]["abnormal_percent"] for name in table] == [50.0, 0.0, 100.0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), low=st.integers(-1024, -500), high=st.integers(-499, 99))
def test_the_default_bands_share_out_everything_up_to_100_hu(seed, low, high):
    hu = np.random.default_rng(seed).integers(low, high + 1, GRID.shape)
    table = density.density_by_region(image(hu), {"lungs": EVERYTHING}, None, abnormal=NOTHING)["lungs"]
    assert sum(table["bands_percent"].values()) == pytest.approx(100.0)
    assert table["mass_g"] >= 0
    assert low <= table["perc15_hu"] <= high


def test_breathing_alone_changes_no_density():
    baseline, j = -850.0, 1.6
    followup = (baseline + 1000) / j - 1000
    change = density.density_change(image(baseline, np.float32), image(followup, np.float32), image(j, np.float32))
    assert to_array(change) == pytest.approx(0.0, abs=1e-3)
    plain = density.hu_change(image(baseline, np.float32), image(followup, np.float32))
    assert to_array(plain) == pytest.approx(followup - baseline, abs=1e-3)


def test_a_lesion_that_resolves_loses_its_mass():
    change = density.density_change(image(-600), image(-850), image(1.0, np.float32))
    assert to_array(change) == pytest.approx(-250.0)


def test_maps_are_zero_outside_the_lung_and_outside_the_field_of_view():
    lungs, inside = EVERYTHING.copy(), EVERYTHING.copy()
    lungs[0], inside[:, 0] = False, False
    for result in (
        density.density_change(image(-600), image(-850), image(1.0, np.float32), lungs, inside),
        density.hu_change(image(-600), image(-850), to_image(lungs, GRID), inside),
    ):
        values = to_array(result)
        assert not values[0].any()
        assert not values[:, 0].any()
        assert np.all(values[1:, 1:] == -250.0)


def test_changes_by_region_are_means_inside_both_fields_of_view():
    inside = EVERYTHING.copy()
    inside[:5] = False
    lower, upper = ~inside, inside
    values = np.where(inside, 10.0, 99.0).astype(np.float32)
    maps = [image(values * factor, np.float32) for factor in (1, 2, 0.01, 0.02)]
    table = density.change_by_region(*maps, {"lungs": EVERYTHING, "upper": upper, "unseen": lower}, inside)
    expected = {"density_change_mean_mg_ml": 10.0, "hu_change_mean": 20.0, "ssim_mean": 0.1, "lncc_mean": 0.2}
    assert set(table) == {"lungs", "upper"}
    assert table["lungs"] == pytest.approx(expected)
