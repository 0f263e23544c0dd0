"""A network adds collapsed lobes and large masses that no threshold finds, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from LungRecoveryLib.anatomy import completion
from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT, segment_lungs
from LungRecoveryLib.anatomy.working import Working
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.phantom import make_patient

RIGHT_UPPER, LEFT_LOWER = 1, 5


@pytest.fixture(scope="module")
def healthy():
    return make_patient("unchanged", 5, (117, 91, 123), (2.6, 2.6, 2.6), days=(0,)).visits[0]


def collapsed(visit, lobe):
    """The scan with one lobe as dense as muscle, its airways open, and where that lobe is."""
    hu, where = to_array(visit.ct).astype(np.float32), to_array(visit.lobes) == lobe
    noise = ndimage.gaussian_filter(np.random.default_rng(lobe).normal(0, 40, hu.shape), 1.0)
    airless = where & (to_array(visit.airways) == 0) & (hu < 100)
    return to_image(np.where(airless, 35 + noise, hu).astype(np.int16), visit.ct), where


@pytest.mark.parametrize("lobe", [RIGHT_UPPER, pytest.param(LEFT_LOWER, marks=pytest.mark.slow)])
def test_a_collapsed_lobe_is_not_lost(healthy, lobe):
    """Thresholds lose a lobe without air; a fair part of it is found again, and next to nothing that is no lung."""
    ct, where = collapsed(healthy, lobe)
    plain, more = (to_array(segment_lungs(ct, method=method)) > 0 for method in ("classical", "network"))
    added, lungs = more & ~plain, to_array(healthy.lungs) > 0
    assert (where & plain).sum() < 0.1 * where.sum()
    assert (where & more).sum() > 0.4 * where.sum()
    assert (added & ~lungs).sum() < 0.05 * added.sum()


@pytest.mark.parametrize(
    "sides", [pytest.param((RIGHT, LEFT), marks=pytest.mark.slow), (LEFT,)], ids=["both lungs", "one was taken out"]
)
def test_healthy_lungs_stay_as_they_are(chest, on_grid, sides):
    """Heart, liver, diaphragm and the empty side of a chest are no lung."""
    made = chest(on_grid(), sides=sides)
    plain, more = (to_array(segment_lungs(made.ct, method=method)) > 0 for method in ("classical", "network"))
    assert not (plain & ~more).any()
    assert (more & ~plain).sum() < 0.01 * plain.sum()


def plain_body(masses, base=-200.0):
    """A chest of superellipsoids, of one density around lungs and spine; its lungs; and what is as dense in these:
    round `masses` (x, y, z, radius in mm), and the right lung below a plane that rises to the back, at `base` (mm)."""
    grid = Grid((118, 88, 100), (3.0, 3.0, 3.0), (-175.5, -130.5, -148.5), np.eye(3).ravel().tolist())
    x, y, z = grid.points(np.indices(grid.shape)[::-1].reshape(3, -1).T).T.reshape(3, *grid.shape)
    round_about = lambda x0, rx, ry: (np.abs(x - x0) / rx) ** 2.5 + (np.abs(y) / ry) ** 2.5
    hu = np.where(round_about(0, 172, 128) < 1, -95.0, -1000.0)
    hu[round_about(0, 158, 112) < 1] = 48.0
    heart = (x - 25) ** 2 / 52**2 + (y + 25) ** 2 / 48**2 + (z + 30) ** 2 / 55**2 < 1
    spine = x**2 + (y - 70) ** 2 < 24**2
    lungs = np.zeros(grid.shape, bool)
    for middle in (-84, 84):
        whole = round_about(middle, 66, 88) + (np.abs(z) / 130) ** 2.5 < 1
        lungs |= whole & ~heart & ~spine & (z > -70 - ((x - middle) ** 2 + y**2) / 200)
    hu[spine] = 190.0
    hu[(x**2 + y**2 < 64) & (z > 0)] = -1000.0
    dense = lungs & (x < 0) & (z - 0.3 * y < base)
    for mx, my, mz, radius in masses:
        dense |= lungs & ((x - mx) ** 2 + (y - my) ** 2 + (z - mz) ** 2 < radius**2)
    hu[lungs] = (-855 + 0.25 * y)[lungs]
    hu[dense] = 40.0
    hu += np.random.default_rng(0).normal(0, 12, hu.shape)
    return to_image(ndimage.gaussian_filter(hu, 0.3).astype(np.int16), grid), lungs, dense


def test_a_body_built_otherwise_keeps_its_muscle_and_its_masses():
    """Bodies of no kind that the network has seen: round masses on chest wall, heart and diaphragm are lung; the
    tissue around the lungs, with no rib between, is none."""
    ct, lungs, dense = plain_body([(-145, 10, 20, 24), (84, -85, 40, 22), (-84, 0, -72, 26), (30, 20, 10, 20)])
    found = to_array(segment_lungs(ct)) > 0
    assert (dense & found).sum() > 0.93 * dense.sum()
    assert (found & ~ndimage.binary_dilation(lungs)).sum() < 0.01 * lungs.sum()


def test_a_base_without_air_is_known_by_the_other_lung():
    """No edge tells the right lung's base from what lies below it; the left lung shows how far down it must reach."""
    ct, lungs, dense = plain_body([], base=-40.0)
    found = to_array(segment_lungs(ct)) > 0
    assert (dense & found).sum() > 0.93 * dense.sum()
    assert (found & ~ndimage.binary_dilation(lungs, iterations=2)).sum() < 0.01 * lungs.sum()


@pytest.mark.parametrize(
    ("hu", "likely", "offset", "expected"),
    [(40, 0.98, 0, True), (8, 0.98, 0, False), (40, 0.92, 0, False), (40, 0.98, 5, False)],
    ids=["collapsed lobe", "effusion", "network unsure", "apart from the lung"],
)
def test_what_is_heard_of_the_network(hu, likely, offset, expected):
    """A large piece on the lung counts where it is denser than fluid, and the network sure of it."""
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    lung, piece = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    lung[5:30, 10:50, 10:50] = True
    piece[30 + offset : 48, 20:40, 20:40] = True
    volume = np.where(lung, -850.0, np.where(piece, hu, 55.0)).astype(np.float32)
    work = Working(grid, volume, np.ones(grid.shape, bool), -1000.0)
    said = np.where(lung, 1.0, np.where(piece, likely, 0.0)).astype(np.float32)
    found = completion.dense_lung(work, lung, lung, said)
    assert found.any() == expected
    assert not (found & ~piece).any()


def test_fluid_beside_a_mass_does_not_take_the_mass_with_it():
    """In one piece of what the network is sure of, the mass is lung and the fluid, twice as large, is none."""
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    lung, mass, fluid = (np.zeros(grid.shape, bool) for _ in range(3))
    lung[5:30, 10:50, 5:55] = True
    mass[30:38, 12:48, 6:22] = True
    fluid[30:38, 12:48, 22:54] = True
    volume = np.select([lung, mass, fluid], [-850.0, 45.0, 2.0], 55.0).astype(np.float32)
    work = Working(grid, volume, np.ones(grid.shape, bool), -1000.0)
    said = np.select([lung, mass | fluid], [1.0, 0.98], 0.0).astype(np.float32)
    found = completion.dense_lung(work, lung, lung, said)
    assert found[mass].mean() > 0.8
    assert found[fluid].mean() < 0.15


@pytest.mark.parametrize(("inner_hu", "fluid"), [(35.0, False), (0.0, True)])
def test_what_air_darkens_does_not_make_a_thin_lesion_fluid(inner_hu, fluid):
    """Beside air any tissue is dark; what lies further in tells consolidation from fluid."""
    grid = Grid((40, 40, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    volume = np.full(grid.shape, 55.0, np.float32)
    volume[:20], volume[20:22], volume[22:25] = -850.0, -40.0, inner_hu
    layer = np.zeros(grid.shape, bool)
    layer[20:25] = True
    work = Working(grid, volume, np.ones(grid.shape, bool), -1000.0)
    assert volume[layer].mean() < completion._FLUID_HU
    assert np.array_equal(completion._fluid(work, layer, completion._FLUID_HU), layer & fluid)


@pytest.mark.parametrize(
    ("place", "likely", "kept"),
    [
        ((slice(5, 35), slice(20, 26)), 0.95, True),  # sure, though it hardly touches the lung
        ((slice(5, 35), slice(20, 26)), 0.80, False),  # as the apex of the heart
        ((slice(5, 35), slice(2, 8)), 0.80, True),  # the lung is all around
        ((slice(48, 56), slice(20, 28)), 0.95, False),  # at the main bronchi
        ((slice(14, 18), slice(20, 24)), 0.80, True),  # small
    ],
)
def test_what_is_doubtful_is_taken_back(place, likely, kept):
    """A lung whose medial face is at x = 20, the main bronchi beside its upper end, and a piece added to it."""
    shape = (60, 40, 40)
    grid = Grid(shape[::-1], (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    lung, airway, added = (np.zeros(shape, bool) for _ in range(3))
    lung[:, :, :20] = True
    airway[50:60, 18:22, 22:26] = True
    added[place[0], 14:24, place[1]] = True
    lung &= ~added
    work = Working(grid, np.zeros(shape, np.float32), np.ones(shape, bool), -1000.0)
    found = completion.doubtful(work, added, lung, airway, np.where(added, likely, 0.0))
    assert np.array_equal(found, np.zeros_like(added) if kept else added)


def test_the_core_of_a_mass_is_lung_though_it_looks_like_fluid():
    """What lung and mass enclose belongs to them."""
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    off = [index - 30 for index in np.indices(grid.shape)]
    distance = np.sqrt(sum(o * o for o in off))
    lung = (np.abs(off).max(axis=0) < 25) & (distance > 16)
    mass, core = (distance <= 16) & (distance > 9), distance <= 9
    volume = np.select([lung, mass, core], [-850.0, 45.0, 0.0], 55.0).astype(np.float32)
    said = np.where(lung | mass | core, 0.99, 0.0).astype(np.float32)
    work = Working(grid, volume, np.ones(grid.shape, bool), -1000.0)
    found = completion.dense_lung(work, lung, lung, said)
    assert completion._fluid(work, core, completion._FLUID_HU)[core].mean() > 0.9
    assert np.array_equal(found, mass | core)


def test_a_network_that_does_not_know_the_scan_is_not_heard(monkeypatch):
    """It has to call the aerated lung lung; then what it says lies on the grid of the whole scan."""
    grid = Grid((60, 50, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    air = np.zeros(grid.shape, bool)
    air[28:40, 30:50, 35:60] = True
    work = Working(grid, np.where(air, -850.0, 40.0).astype(np.float32), np.ones(grid.shape, bool), -1000.0)
    for sure, heard in ((0.3, False), (0.97, True)):
        monkeypatch.setattr(completion, "_probability", lambda part, air, sure=sure: np.where(air, sure, 0.01))
        likely = completion.likely_lung(work, air)
        assert (likely is not None) == heard
    np.testing.assert_allclose(likely[air], 0.97)
    assert likely.shape == grid.shape
    assert likely[0, 0, 0] == 0.0


@pytest.mark.parametrize("size", [(60, 50, 40), (57, 51, 43)])
def test_what_the_network_says_lies_where_it_was_seen(monkeypatch, size):
    """Whatever the size of the scan, a network that calls air lung gives the aerated lung back, borders and all."""
    echo = SimpleNamespace(network=lambda seen: 8 * seen[:, 2] - 4, spacing_mm=4.0)
    monkeypatch.setattr("LungRecoveryLib.registration.weights.load_weights", lambda name: echo)
    grid = Grid(size, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    z, y, x = np.indices(grid.shape)
    air = ((z - 20) / 14) ** 2 + ((y - 24) / 17) ** 2 + ((x - 26) / 20) ** 2 < 1
    work = Working(grid, np.where(air, -850.0, 40.0).astype(np.float32), np.ones(grid.shape, bool), -1000.0)
    said = completion._probability(work, air)
    assert said.shape == air.shape
    assert 2 * ((said > 0.5) & air).sum() / ((said > 0.5).sum() + air.sum()) > 0.96
    off = [(said * (said > 0.5) * i).sum() / (said * (said > 0.5)).sum() - i[air].mean() for i in (z, y, x)]
    np.testing.assert_allclose(off, 0.0, atol=0.1)


@pytest.mark.parametrize("contrast", [True, False])
def test_contrast_medium_tells_vessels_and_effusion_from_lung(monkeypatch, contrast):
    """Where heart and vessels are bright, what takes up no contrast medium is fluid; without it nobody can say so."""
    grid = Grid((90, 80, 80), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    z, y, x = np.indices(grid.shape)
    air = (x > 50) & (x < 85) & (y > 10) & (y < 60) & (z > 10) & (z < 70)
    heart = (z - 40) ** 2 + (y - 30) ** 2 + (x - 24) ** 2 < 22**2
    effusion, collapse = ((x > 50) & (x < 85) & (y >= 60) & (y < 72) & (abs(z - level) < 14) for level in (25, 55))
    parts = [air, heart, effusion, collapse]
    hu = np.select(parts, [-850.0, 150.0 if contrast else 42.0, 12.0, 60.0], 50.0)
    hu = ndimage.gaussian_filter(hu + np.random.default_rng(0).normal(0, 25, grid.shape), 0.6).astype(np.float32)
    monkeypatch.setattr(completion, "_MARGIN_MM", 120.0)
    monkeypatch.setattr(completion, "_probability", lambda part, air: np.full(air.shape, 0.97, np.float32))
    likely = completion.likely_lung(Working(grid, hu, np.ones(grid.shape, bool), -1000.0), air)
    inner = [ndimage.binary_erosion(part, iterations=3) for part in parts]
    called = [(likely[part] > 0.5).mean() for part in inner]
    assert called[0] == 1.0
    assert called[3] > 0.99
    assert max(called[1:3]) < 0.02 if contrast else min(called[1:3]) == 1.0


def test_what_lies_outside_the_ribs_is_no_lung(monkeypatch):
    """Muscle that the network takes for lung is parted from it by the ribs, through whose gaps it hangs together."""
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    lung, lobe, muscle = (np.zeros(grid.shape, bool) for _ in range(3))
    lung[5:28, 10:50, 10:40] = True
    lobe[28:55, 10:50, 10:40] = True
    muscle[30:52, 14:46, 44:56] = True
    gap, ribs = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    gap[30:52, 14:46, 40:44] = True
    for z in (28, 40, 52):
        ribs[z : z + 4, 10:50, 40:44] = True
    volume = np.where(lung, -850.0, np.where(ribs, 600.0, 40.0)).astype(np.float32)
    said = np.where(lung | lobe | muscle | gap, 0.99, 0.0).astype(np.float32)
    monkeypatch.setattr(completion, "_MARGIN_MM", 120.0)
    found = completion.dense_lung(Working(grid, volume, np.ones(grid.shape, bool), -1000.0), lung, lung, said)
    assert found[lobe].mean() > 0.9
    assert found[muscle].mean() < 0.2


def test_another_method_is_refused(chest, on_grid):
    with pytest.raises(BadInput, match="network"):
        segment_lungs(chest(on_grid(spacing=(4.0, 4.0, 4.0))).ct, method="magic")


def test_the_channels_are_windows_of_the_scan():
    """Lung and soft tissue fill the range of their windows; the aerated lung is as it was given."""
    hu = torch.tensor([-2000.0, -1000.0, -400.0, 50.0, 250.0, 3000.0])[None, None, None]
    air = torch.rand(hu.shape)
    found = completion.channels(hu, air)
    assert found.shape == (1, 4, 1, 1, 6)
    np.testing.assert_allclose(found[0, 0].flatten(), [-1, -1, 0, 0.75, 1, 1], atol=1e-6)
    np.testing.assert_allclose(found[0, 1].flatten(), [-1, -1, -1, 0, 1, 1], atol=1e-6)
    assert torch.equal(found[0, 2], air[0])


@pytest.mark.parametrize("middle", [26, 35, 42])
def test_the_other_lung_is_mirrored_in_the_middle_of_the_body(middle):
    """Wherever the body lies, and though one lung holds no air below; each scan of a batch in its own plane."""
    z, y, x = torch.meshgrid(*(torch.arange(n) for n in (20, 24, 70)), indexing="ij")
    scans, aerated, wholes = [], [], []
    for at in (middle, 35):
        hu = torch.where((x - at).abs() < 25, 40.0, -1000.0)
        hu[((x - at).abs() < 3) & (y > 16)] = 500.0
        lungs = ((x - at).abs() > 5) & ((x - at).abs() < 20) & (y > 3) & (y < 20) & (z > 4)
        air = lungs & ~((x > at) & (z < 12))
        scans.append(torch.where(air, -850.0, hu))
        aerated.append(air.float())
        wholes.append(lungs)
    found = completion.channels(torch.stack(scans), torch.stack(aerated))[:, 3] > 0
    for mirrored, whole, air in zip(found, wholes, aerated, strict=True):
        assert torch.equal(mirrored | (air > 0), whole)
        assert mirrored[whole & (air == 0)].all()
    # A field that shows one lung is most like its mirror image in the middle of that lung.
    field = (slice(None), slice(None), slice(middle + 4, middle + 26))
    alone = completion.channels(scans[0][field][None], aerated[0][field][None])[:, 3]
    assert aerated[0][field].any()
    assert not alone.any()
