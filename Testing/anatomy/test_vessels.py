"""Vessels are taken with their blurred rim, lesions are left."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from LungRecoveryLib.anatomy import vessels as anatomy_vessels
from LungRecoveryLib.anatomy.vessels import segment_vessels, vessels_with_rim
from LungRecoveryLib.grids import Grid, grid_of, same_grid, to_array, to_image

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = (0.9397, -0.3420, 0.0, 0.3420, 0.9397, 0.0, 0.0, 0.0, 1.0)
BRANCHES = [
    ((-50, 0, -50), (0, 0, 0), 4.0),
    ((0, 0, 0), (45, 20, 35), 2.5),
    ((0, 0, 0), (40, -30, 30), 2.0),
    ((20, 9, 16), (25, 45, 40), 1.2),
]
GLASS = ((-35, 30, 30), (18, 16, 18))
DENSE = ((35, 35, -30), (14, 14, 14))


def phantom(shapes, direction=IDENTITY, spacing=(1.5, 1.5, 1.5), noise=25.0, seed=0):
    """An ellipsoid of lung with a branching vessel, ground glass and consolidation; its CT, lung and their masks."""
    size = tuple(round(170 / s) for s in spacing)
    axes = np.array(direction).reshape(3, 3)
    origin = -axes @ ((np.array(size) - 1) / 2 * np.array(spacing))
    grid = Grid(size, spacing, tuple(origin.tolist()), direction)
    points = shapes["lps"](grid)
    lung = shapes["ellipsoid"](points, (0, 0, 0), (75, 70, 78))
    vessel = np.zeros(grid.shape, bool)
    for start, end, radius in BRANCHES:
        vessel |= shapes["tube"](points, start, end, radius)
    glass, dense = (shapes["ellipsoid"](points, *place) for place in (GLASS, DENSE))
    hu = np.where(lung, -860.0, 40.0)
    hu[glass] = -560.0
    hu[dense] = 30.0
    hu[vessel] = 50.0
    hu = ndimage.gaussian_filter(hu, [0.7 / s for s in spacing[::-1]])
    hu += np.random.default_rng(seed).normal(0, noise, grid.shape)
    masks = {"lung": lung, "vessel": vessel & lung, "glass": glass & ~vessel, "dense": dense & ~vessel}
    return to_image(hu.astype(np.int16), grid), to_image(lung, grid), masks


@pytest.mark.parametrize(
    "layout",
    [{}, {"direction": OBLIQUE}, {"spacing": (0.9, 0.9, 2.5)}, {"noise": 60.0}],
    ids=["plain", "oblique", "anisotropic", "noise"],
)
def test_tubes_are_taken_and_plateaus_left(shapes, layout):
    """Tubes of 2.4 to 8 mm go, ground glass and consolidation stay, healthy lung is left with no abnormal share."""
    ct, lungs, masks = phantom(shapes, **layout)
    image = vessels_with_rim(ct, lungs)
    assert same_grid(image, ct)
    assert image.GetPixelID() == sitk.sitkUInt8
    vessels, hu = to_array(image) > 0, to_array(ct)
    # Consolidation has no visible vessel: only the tube's part outside it can be asked for.
    near_dense = ndimage.binary_dilation(masks["dense"] | masks["glass"], iterations=3)
    assert vessels[masks["vessel"] & ~near_dense].mean() > 0.93
    assert vessels[masks["glass"]].mean() < 0.08
    assert vessels[masks["dense"]].mean() < 0.12
    inner = ndimage.binary_erosion(masks["lung"], iterations=2) & ~near_dense
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 0.7)
    assert ((smooth > -700) & inner & ~vessels).sum() / inner.sum() < 0.01
    assert not vessels[~masks["lung"]].any()


@pytest.mark.parametrize("noise", [10.0, 40.0])
def test_the_lumen_is_drawn_to_its_edge(shapes, noise):
    """Without the rim the vessels outside the lesions reach a Dice of 0.80, and their walls do not leak."""
    ct, lungs, masks = phantom(shapes, noise=noise)
    found = to_array(segment_vessels(ct, lungs)) > 0
    apart = ~ndimage.binary_dilation(masks["dense"] | masks["glass"], iterations=3)
    a, b = found & apart, masks["vessel"] & apart
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.80
    assert (a & ~ndimage.binary_dilation(b, iterations=2)).sum() < 0.02 * b.sum()
    assert found[masks["dense"]].mean() < 0.12


def test_a_thin_vessel_is_not_widened(shapes):
    """Blur lowers its middle, but a voxel with less than a quarter of blood is none of it."""
    _, lungs, _ = phantom(shapes)
    points = shapes["lps"](grid_of(lungs))
    hu = np.where(to_array(lungs) > 0, -860.0, 40.0)
    hu[shapes["tube"](points, (-40, -20, -30), (40, 20, 30), 1.4)] = 40.0
    hu = ndimage.gaussian_filter(hu, 0.9)
    found = to_array(segment_vessels(to_image(hu.astype(np.int16), lungs), lungs)) > 0
    inner = ndimage.binary_erosion(to_array(lungs) > 0, iterations=4)
    share = (hu + 860.0) / 900.0
    assert 0.1 < share[found & inner].max() < 0.8
    assert (share[found & inner] > 0.22).all()
    assert found[inner & (share > 0.35)].mean() > 0.95


def test_in_ground_glass_vessels_are_followed_and_lobules_left(shapes):
    """A thin vessel that runs into ground glass is found in it; dense lobules without a vessel are none."""
    grid = phantom(shapes)[1]
    points = shapes["lps"](grid_of(grid))
    glass, lobular = (shapes["ellipsoid"](points, (place, 0, 0), (24, 24, 24)) for place in (-35, 35))
    vessel = shapes["tube"](points, (-35, -60, 0), (-35, 22, 6), 1.6)
    lobules = np.zeros(vessel.shape, bool)
    for place in np.random.default_rng(3).uniform((21, -14, -14), (49, 14, 14), (40, 3)):
        lobules |= shapes["ellipsoid"](points, place, (3.5, 3.5, 3.5))
    hu = np.where(to_array(grid) > 0, -860.0, 40.0)
    hu[glass | lobular] = -560.0
    hu[vessel], hu[lobules] = 50.0, -15.0
    hu = ndimage.gaussian_filter(hu, 0.5) + np.random.default_rng(0).normal(0, 20, hu.shape)
    found = to_array(segment_vessels(to_image(hu.astype(np.int16), grid), grid)) > 0
    assert found[vessel & glass].mean() > 0.6
    assert found[lobular].mean() < 0.01


def test_walls_of_airways_are_no_vessels(shapes):
    """What lies on a lumen and is fainter than blood goes with the airway."""
    ct, lungs, masks = phantom(shapes)
    lumen = np.zeros(masks["lung"].shape, np.uint8)
    found = to_array(segment_vessels(ct, lungs)) > 0
    faint = found & (to_array(ct) < -150)
    lumen[faint] = 1
    assert not to_array(segment_vessels(ct, lungs, to_image(lumen, ct)))[faint].any()


def test_the_rim_is_included(shapes):
    """The blurred voxels around a tube, brighter than -700 HU, go with it."""
    ct, lungs, masks = phantom(shapes, noise=0.0)
    vessels, hu = to_array(vessels_with_rim(ct, lungs)) > 0, to_array(ct)
    lesions = ndimage.binary_dilation(masks["glass"] | masks["dense"], iterations=4)
    ring = ndimage.binary_dilation(masks["vessel"], iterations=2) & ~masks["vessel"] & masks["lung"] & ~lesions
    ring &= ndimage.binary_erosion(masks["lung"], iterations=3)
    assert vessels[ring & (hu > -700)].mean() > 0.97


def test_an_empty_lung_has_no_vessels(shapes):
    """Without lung there is nothing to find, and that is no error."""
    ct, lungs, _ = phantom(shapes)
    assert not to_array(vessels_with_rim(ct, to_image(np.zeros(grid_of(ct).shape, np.uint8), grid_of(lungs)))).any()


@pytest.mark.slow
@pytest.mark.realdata
def test_real_scans(real_chest):
    """A normal lung is left with under 1 % abnormal share, a COVID lung with its lesions (about 2 %)."""
    shares = {}
    for name in ("normal001", "covid_p001"):
        ct, lungs = real_chest(name)
        inner = ndimage.binary_erosion(to_array(lungs) > 0, iterations=2)
        hu, vessels = to_array(ct), to_array(vessels_with_rim(ct, lungs)) > 0
        shares[name] = ((hu >= -700) & (hu <= 100) & inner & ~vessels).sum() / inner.sum()
    assert shares["normal001"] < 0.01
    assert 0.014 < shares["covid_p001"] < 0.03


@pytest.mark.parametrize("with_bronchi", [True, False])
def test_a_hilum_lies_where_the_bronchi_come_in(with_bronchi):
    """A lesion may look like more wide tubes than the hilum has."""
    lungs = np.ones((80, 60, 60), np.uint8)
    wide, bronchi = np.zeros(lungs.shape, bool), np.zeros(lungs.shape, np.uint8)
    wide[66:76, 26:34, 20:40] = True  # a lesion far above
    wide[20:24, 28:32, 4:20] = True
    bronchi[22:26, 30:34, :16] = 3
    bronchi[26:70, 30:34, 16:20] = 6  # a long peripheral branch
    hila = anatomy_vessels._hila(wide, lungs, bronchi if with_bronchi else None, 2.0)
    assert hila[22, 30, 12] == with_bronchi
    assert hila[71, 30, 30] != with_bronchi
