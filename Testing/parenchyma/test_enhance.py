"""The enhanced image, and the lesions that only it shows."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import grid_of, to_array, window
from LungRecoveryLib.parenchyma.baseline import Baseline, estimate_baseline
from LungRecoveryLib.parenchyma.enhance import enhanced_image, excess_of, find_lesions, native_excess
from LungRecoveryLib.parenchyma.tissue import distance_mm, tissue_of

PLACES = [(-60, 20, 5), (-50, -25, -15), (58, 5, 10), (62, 30, -10)]


def dice(a, b) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize(("radius", "seed"), [(11.0, 1), (15.0, 2)])
def test_subvisual_lesions_are_found(chest, balls_in, radius, seed):
    """20 HU under noise of 25 HU: Dice of at least 0.6, and at most half of it on the plain CT by any threshold."""
    lesions = balls_in(chest, PLACES, radius)
    ct = chest.scan(20.0 * lesions, noise=25.0, seed=seed)
    tissue = tissue_of(ct, chest.image("lungs"), chest.tubes)
    baseline = estimate_baseline(tissue)
    found = find_lesions(tissue, excess_of(tissue, baseline), baseline)
    cut = window(chest.grid, tissue.grid)
    truth, hu = lesions[cut], to_array(ct)[cut]
    enhanced_dice = dice(found > 0, truth)
    parenchyma = tissue.inside & ~tissue.tubes
    plain = max(dice(parenchyma & (hu > limit), truth) for limit in range(-920, -740, 10))
    # The very same finder, told no gradient and no tubes.
    bare = tissue_of(ct, chest.image("lungs"), None)
    flat = Baseline(float(np.median(hu[tissue.inside])), 0.0, 0.0, baseline.mad_hu, baseline.texture_hu, "lung", 0, 0)
    unenhanced = dice(find_lesions(bare, excess_of(bare, flat), flat) > 0, truth)
    assert enhanced_dice >= 0.6
    assert plain <= enhanced_dice / 2
    assert unenhanced <= enhanced_dice / 2


def test_visible_lesions_are_told_from_subtle_ones(chest, balls_in):
    dense = balls_in(chest, [PLACES[0]], 14.0)
    ct = chest.scan(300.0 * dense, noise=15.0)
    tissue = tissue_of(ct, chest.image("lungs"), chest.tubes)
    baseline = estimate_baseline(tissue)
    found = find_lesions(tissue, excess_of(tissue, baseline), baseline)
    truth = dense[window(chest.grid, tissue.grid)]
    assert dice(found == 1, truth) > 0.85
    assert np.count_nonzero(found == 2) < 0.1 * np.count_nonzero(truth)  # no halo


def test_a_healthy_lung_shows_next_to_nothing(chest):
    for noise in (10.0, 40.0):
        tissue = tissue_of(chest.scan(noise=noise), chest.image("lungs"), chest.tubes)
        baseline = estimate_baseline(tissue)
        found = find_lesions(tissue, excess_of(tissue, baseline), baseline)
        assert (found > 0).sum() < 0.01 * tissue.inside.sum()


def test_fissures_are_no_faint_lesions(chest):
    """A sheet of 60 HU and 2 mm through both lungs, which a mean raises as much as a subtle lesion."""
    z = np.indices(chest.hu.shape)[0] * chest.grid.spacing[2] + chest.grid.origin[2]
    sheet = np.abs(z + 0.5 * chest.y) < 1.2
    tissue = tissue_of(chest.scan(60.0 * sheet, noise=25.0), chest.image("lungs"), chest.tubes)
    baseline = estimate_baseline(tissue)
    found = find_lesions(tissue, excess_of(tissue, baseline), baseline)
    assert (sheet & (chest.lungs > 0)).sum() > 0.015 * (chest.lungs > 0).sum()
    assert (found > 0).sum() < 0.005 * tissue.inside.sum()


def test_a_bundle_of_tubes_is_no_lesion_but_glass_with_a_vessel_in_it_is(chest, balls_in):
    """As at a hilum: between tubes 4 mm apart 200 HU more are their blur. Around two tubes they are a lesion."""
    bundle, glass = (balls_in(chest, [place], 16.0) for place in (PLACES[0], PLACES[2]))
    _, y, x = np.indices(chest.hu.shape)
    tubes = chest.tubes | (bundle & (y % 4 < 2) & (x % 4 < 2)) | (glass & (y % 9 < 2) & (x % 9 < 2))
    tissue = tissue_of(chest.scan(200.0 * (bundle | glass), noise=15.0), chest.image("lungs"), tubes)
    baseline = estimate_baseline(tissue)
    cut = window(chest.grid, tissue.grid)
    found = find_lesions(tissue, excess_of(tissue, baseline), baseline) == 1
    assert found[glass[cut]].mean() > 0.8
    assert found[bundle[cut]].mean() < 0.05


def test_missed_vessels_are_no_lesions(chest):
    """Vessels of 2 to 6 mm that nobody segmented: next to nothing of the lung is called plainly visible."""
    tissue = tissue_of(chest.scan(noise=15.0), chest.image("lungs"), chest.airways > 0)
    baseline = estimate_baseline(tissue)
    found = find_lesions(tissue, excess_of(tissue, baseline), baseline)
    assert chest.vessels.sum() > 0.02 * tissue.inside.sum()
    assert (found == 1).sum() < 0.005 * tissue.inside.sum()


def test_lung_below_the_pleura_is_no_lesion(chest, balls_in):
    """Denser by 30 HU at the pleura, as in healthy chests: flat and empty after it, with its lesion as it was."""
    depth = distance_mm(chest.lungs > 0, chest.grid)
    rise = 30.0 * np.exp(-np.maximum(depth - 3.0, 0.0) / 5.0)
    lesion = balls_in(chest, PLACES[2:3], 14.0)
    ct = chest.scan(rise + 150.0 * lesion, noise=15.0)
    lungs = chest.image("lungs")
    tissue = tissue_of(ct, lungs, chest.tubes)
    baseline = estimate_baseline(tissue)
    np.testing.assert_allclose(baseline.rise([4.5, 6.0, 8.0, 40.0]), 30.0 * np.exp([-0.3, -0.6, -1.0, -9.0]), atol=4)
    excess = excess_of(tissue, baseline)
    found = find_lesions(tissue, excess, baseline)
    healthy, cut = (chest.lungs > 0) & ~balls_in(chest, PLACES[2:3], 20.0), window(chest.grid, tissue.grid)
    assert (found[healthy[cut]] > 0).mean() < 0.01
    assert dice(found == 1, lesion[cut]) > 0.8
    values = to_array(native_excess(ct, lungs, tissue, excess, baseline), np.float32)
    shell = healthy & ~chest.tubes & (depth > 4.0) & (depth < 7.0)
    assert abs(np.median(values[shell])) < 4.0
    assert values[balls_in(chest, PLACES[2:3], 10.0)].mean() == pytest.approx(150.0, abs=8)


def test_the_enhanced_image_is_flat_where_the_lung_is_healthy(chest, balls_in):
    """No gradient, no tube, no offset is left; the lesion stands at its contrast; nothing lies outside the lungs."""
    lesion = balls_in(chest, [PLACES[0]], 15.0)
    core = balls_in(chest, [PLACES[0]], 11.0)
    ct = chest.scan(150.0 * lesion, offset=25.0, noise=10.0)
    lungs = chest.image("lungs")
    tissue = tissue_of(ct, lungs, chest.tubes)
    baseline = estimate_baseline(tissue)
    image = enhanced_image(native_excess(ct, lungs, tissue, excess_of(tissue, baseline), baseline), baseline)
    assert grid_of(image) == grid_of(ct)
    assert image.GetPixelID() == sitk.sitkInt16
    values = to_array(image, np.float32)
    inner = (chest.lungs > 0) & ~lesion
    assert not values[chest.lungs == 0].any()
    ventral, dorsal = (np.median(values[inner & side]) for side in (chest.y < -20, chest.y > 20))
    assert abs(ventral) < 4
    assert abs(dorsal) < 4
    assert values[core].mean() == pytest.approx(150.0, abs=6)
    healthy_tubes = (chest.vessels > 0) & inner & ~balls_in(chest, [PLACES[0]], 22.0)
    assert np.percentile(values[healthy_tubes], 90) < 60  # they measure 890 HU above the parenchyma in the CT
    low, high = baseline.clip
    assert low <= values.min()
    assert values.max() <= high
