"""The kinds of lesions are told apart; healthy lung, vessels and airways are none."""

import numpy as np
from scipy import ndimage

from LungRecoveryLib.anatomy.lesions import CONSOLIDATION, GROUND_GLASS, RETICULATION, segment_lesions
from LungRecoveryLib.grids import Grid, same_grid, to_array, to_image

GRID = Grid((72, 72, 72), (1.5, 1.5, 1.5), (0.0, 0.0, -900.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def scan(noise=15.0, lesions=True, healthy=-850.0):
    """A lung with a ball of each kind: ct, lungs, {kind: mask}."""
    z, y, x = np.indices(GRID.shape)
    lung = (z - 36) ** 2 + (y - 36) ** 2 + (x - 36) ** 2 < 34**2
    places = {GROUND_GLASS: (36, 20, 36), CONSOLIDATION: (36, 56, 30), RETICULATION: (54, 36, 48)}
    balls = {k: (z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 < 100 for k, (a, b, c) in places.items()}
    hu = np.where(lung, healthy, 40.0)
    if lesions:
        hu[balls[GROUND_GLASS]] = -580.0
        hu[balls[CONSOLIDATION]] = 20.0
        lines = ((z % 4) == 0) | ((y % 4) == 0)
        hu[balls[RETICULATION]] = np.where(lines, -350.0, -700.0)[balls[RETICULATION]]
    hu = ndimage.gaussian_filter(hu, 0.4) + np.random.default_rng(1).normal(0, noise, GRID.shape)
    return to_image(hu.astype(np.int16), GRID), to_image(lung, GRID), balls


def test_each_kind_is_found_as_what_it_is():
    ct, lungs, balls = scan()
    image = segment_lesions(ct, lungs, None, None)
    assert same_grid(image, ct)
    found = to_array(image)
    every = np.logical_or.reduce(list(balls.values()))
    assert 2 * (every & (found > 0)).sum() / (every.sum() + (found > 0).sum()) > 0.9
    for kind, ball in balls.items():
        assert (found[ndimage.binary_erosion(ball, iterations=3)] == kind).mean() > 0.9


def test_edges_in_a_lesion_are_no_lines():
    """Consolidation in ground glass is not ringed by reticulation."""
    z, y, x = np.indices(GRID.shape)
    squared = (z - 36) ** 2 + (y - 36) ** 2 + (x - 36) ** 2
    hu = np.select([squared < 7**2, squared < 18**2, squared < 34**2], [20.0, -560.0, -850.0], 40.0)
    hu = ndimage.gaussian_filter(hu, 0.5) + np.random.default_rng(2).normal(0, 15, GRID.shape)
    found = to_array(segment_lesions(to_image(hu.astype(np.int16), GRID), to_image(squared < 34**2, GRID), None, None))
    assert (found[squared < 18**2] == RETICULATION).mean() < 0.01


def test_mottled_ground_glass_is_no_reticulation():
    """Real ground glass varies by 50 HU from millimetre to millimetre, as often darker as brighter; thin lines as
    strong, of which three in ten voxels are, are reticulation."""
    z, y, x = np.indices(GRID.shape)
    lung, ball = ((z - 36) ** 2 + (y - 36) ** 2 + (x - 36) ** 2 < radius**2 for radius in (34, 16))
    rng = np.random.default_rng(4)
    mottled = ndimage.gaussian_filter(rng.normal(0, 1, GRID.shape), 0.6)
    lines = ndimage.gaussian_filter(np.where((z % 7 == 0) | (y % 7 == 0), 1.0, 0.0), 0.3)
    for texture, kind in ((mottled, GROUND_GLASS), (lines, RETICULATION)):
        hu = np.where(lung, np.where(ball, -560.0 + 75.0 * (texture - texture.mean()) / texture.std(), -850.0), 40.0)
        hu += rng.normal(0, 15, GRID.shape)
        found = to_array(segment_lesions(to_image(hu.astype(np.int16), GRID), to_image(lung, GRID), None, None))
        assert (found[ndimage.binary_erosion(ball, iterations=3)] == kind).mean() > 0.9


def test_an_offset_of_the_scale_leaves_lesions_as_they_are():
    """A scan 40 HU too dense or too thin, as air in the trachea and soft tissue tell: the lesions stay as large."""
    ct, lungs, _ = scan()
    z, y, x = np.indices(GRID.shape)
    trachea = ((y - 8) ** 2 + (x - 8) ** 2 < 5**2) & (z > 20)
    sizes = []
    for offset in (-40, 0, 40):
        hu = np.where(trachea, -992, to_array(ct)) + offset
        shifted = to_image(np.clip(hu, -1024, 3071).astype(np.int16), GRID)
        sizes.append((to_array(segment_lesions(shifted, lungs, to_image(trachea, GRID), None)) > 0).sum())
    assert np.ptp(sizes) < 0.02 * sizes[1]


def test_healthy_lung_has_none_even_in_expiration():
    for healthy in (-880.0, -690.0):
        ct, lungs, _ = scan(noise=30.0, lesions=False, healthy=healthy)
        inside = to_array(lungs) > 0
        assert (to_array(segment_lesions(ct, lungs, None, None))[inside] > 0).mean() < 0.01


def test_a_bundle_of_vessels_is_no_lesion_but_ground_glass_around_vessels_is():
    """As at a hilum vessels 6 mm thick with walls of bronchi between them make all of the lung there denser by their
    blur; beside it thinner vessels run farther apart through ground glass."""
    z, y, x = np.indices(GRID.shape)
    lung = (z - 36) ** 2 + (y - 36) ** 2 + (x - 36) ** 2 < 34**2
    bundle = lung & ((y - 20) ** 2 + (x - 36) ** 2 < 11**2)
    glass = lung & ((z - 36) ** 2 + (y - 52) ** 2 + (x - 36) ** 2 < 11**2)
    vessels = np.where(bundle, (y % 7 < 4) & (x % 7 < 4), glass & (y % 9 < 2) & (x % 9 < 2))
    walls = bundle & ((y % 7 == 5) | (x % 7 == 5))
    hu = np.select([vessels, walls, glass, lung], [40.0, -400.0, -560.0, -850.0], 40.0)
    hu = ndimage.gaussian_filter(hu, 0.9) + np.random.default_rng(3).normal(0, 15, GRID.shape)
    images = [to_image(array, GRID) for array in (hu.astype(np.int16), lung, vessels)]
    found = to_array(segment_lesions(*images[:2], None, images[2])) > 0
    assert found[ndimage.binary_erosion(glass, iterations=2)].mean() > 0.95
    assert found[bundle & ~glass].mean() < 0.05


def test_lumens_of_airways_are_no_lesion():
    ct, lungs, balls = scan()
    airways = to_image(ndimage.binary_erosion(balls[GROUND_GLASS], iterations=6), GRID)
    found = to_array(segment_lesions(ct, lungs, airways, None))
    assert not found[to_array(airways) > 0].any()


def test_without_lung_there_is_no_lesion():
    ct, _, _ = scan()
    nothing = to_image(np.zeros(GRID.shape, np.uint8), GRID)
    assert not to_array(segment_lesions(ct, nothing, None, None)).any()
