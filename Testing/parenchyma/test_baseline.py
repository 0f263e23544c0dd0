"""The baseline: right whatever the scanner, the grid and the disease; refused where there is none."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import to_image
from LungRecoveryLib.parenchyma.baseline import estimate_baseline
from LungRecoveryLib.parenchyma.enhance import excess_of, native_excess
from LungRecoveryLib.parenchyma.tissue import tissue_of

LEVEL, SLOPE = -850.0, 0.4  # of the made chest


def baseline_of(chest, ct, tubes=True, regions=None):
    tissue = tissue_of(ct, chest.image("lungs"), chest.tubes if tubes else None)
    return estimate_baseline(tissue, regions)


def excess_in(chest, ct, mask) -> tuple[float, float]:
    """The mean HU above the baseline in a mask, vessels replaced, and the baseline's level."""
    lungs = chest.image("lungs")
    tissue = tissue_of(ct, lungs, chest.tubes)
    baseline = estimate_baseline(tissue)
    excess = native_excess(ct, lungs, tissue, excess_of(tissue, baseline), baseline)
    return float(sitk.GetArrayViewFromImage(excess)[mask].mean()), baseline.level_hu


def test_scan_bias_is_taken_out_of_the_lesions_mean(chest, balls_in):
    """Offsets of -40 to 40 HU, two kernels and three doses leave the lesion's mean within 5 HU."""
    places = [(-60, 20, 0), (55, -10, 10)]
    lesion, inner = (balls_in(chest, places, radius) for radius in (16.0, 13.0))  # a kernel blurs its edge
    excesses, levels = [], []
    for offset, kernel, noise in (
        (-40, 0.6, 12), (-40, 1.3, 45), (-20, 0.6, 25), (0, 0.6, 12), (0, 1.3, 12), (20, 1.3, 25), (40, 0.6, 45),
        (40, 1.3, 12),
    ):  # fmt: skip
        excess, level = excess_in(chest, chest.scan(250.0 * lesion, offset, noise, kernel), inner)
        excesses.append(excess)
        levels.append(level - offset)
    assert np.ptp(excesses) < 5.0
    assert np.ptp(levels) < 5.0


def test_gravity_is_fitted(chest):
    baseline = baseline_of(chest, chest.scan())
    assert baseline.slope == pytest.approx(SLOPE, abs=0.04)
    assert baseline.at(np.array([0.0]))[0] == pytest.approx(LEVEL, abs=4)
    assert baseline.sample == "ring"


def test_grid_does_not_matter(chest_of):
    """An oblique, anisotropic grid far off gives the same baseline along the patient's own axis."""
    c, s = np.cos(0.35), np.sin(0.35)
    direction = (1.0, 0.0, 0.0, 0.0, c, -s, 0.0, s, c)
    chest = chest_of((1.6, 1.6, 3.0), direction, (30.0, -20.0, -920.0))
    baseline = baseline_of(chest, chest.scan())
    assert baseline.slope == pytest.approx(SLOPE, abs=0.06)
    assert baseline.at(np.array([-20.0]))[0] == pytest.approx(LEVEL, abs=6)


@pytest.mark.parametrize("contrast", [60.0, 300.0])
def test_lesions_in_a_third_of_the_lung_do_not_move_it(chest, contrast):
    dorsal = (chest.lungs > 0) & (chest.y > 15)
    assert 0.25 < dorsal.sum() / (chest.lungs > 0).sum() < 0.45
    patchy = dorsal & (np.random.default_rng(3).random(len(chest.hu)) < 0.8)[:, None, None]
    baseline = baseline_of(chest, chest.scan(contrast * patchy))
    assert baseline.at(np.array([-20.0]))[0] == pytest.approx(LEVEL - 20 * SLOPE, abs=12)
    assert baseline.rejected_percent > 10


def test_window_shows_the_healthy_parenchyma(chest):
    level, width = baseline_of(chest, chest.scan(noise=20)).window
    assert level == pytest.approx(LEVEL, abs=5)
    assert 90 < width < 200


def test_regions_have_their_own_level(chest):
    ct = chest.scan(np.where(chest.lungs == 2, 15.0, 0.0), noise=10)
    tissue = tissue_of(ct, chest.image("lungs"), chest.tubes)
    regions = {"right": tissue.lungs == 1, "left": tissue.lungs == 2, "none": np.zeros(tissue.hu.shape, bool)}
    levels = estimate_baseline(tissue, regions).regions
    assert levels["left"] - levels["right"] == pytest.approx(15.0, abs=4)
    assert "none" not in levels


def test_without_tubes_the_whole_lung_is_sampled(chest):
    baseline = baseline_of(chest, chest.scan(), tubes=False)
    assert baseline.sample == "lung"
    assert baseline.at(np.array([0.0]))[0] == pytest.approx(LEVEL, abs=8)


def test_a_lung_without_healthy_parenchyma_is_refused(chest):
    with pytest.raises(BadInput, match="no healthy parenchyma"):
        baseline_of(chest, chest.scan(700.0))


def test_a_sliver_of_lung_is_refused(chest):
    lungs = chest.lungs.copy()
    lungs[:, :, 14:] = 0
    with pytest.raises(BadInput, match="clear of vessels"):
        estimate_baseline(tissue_of(chest.scan(), to_image(lungs, chest.grid), chest.tubes))
