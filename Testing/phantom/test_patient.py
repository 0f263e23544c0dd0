"""Synthetic patients: the same seed gives the same voxels, the truth is true, and every kind behaves as it is named."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.grids import grid_of, same_grid, sample, to_array
from LungRecoveryLib.phantom import KINDS, make_pair, make_patient

SMALL = {"size": (88, 68, 92), "spacing": (3.5, 3.5, 3.5)}


def mass_g(visit) -> float:
    hu = to_array(visit.ct, float)[to_array(visit.lungs) > 0]
    return float(np.maximum(hu + 1000, 0).sum() * grid_of(visit.ct).voxel_ml / 1000)


def test_same_seed_same_patient():
    """Every voxel and every number is the same; another seed gives another patient."""
    first, again, other = (make_pair(seed, 11.0, (60, 46, 62), (5.0,) * 3) for seed in (4, 4, 5))
    for a, b in zip(first.visits, again.visits, strict=True):
        for name in ("ct", "lungs", "lobes", "airways", "vessels", "lesions", "displacement", "jacobian"):
            assert np.array_equal(to_array(getattr(a, name)), to_array(getattr(b, name))), name
        assert np.array_equal(a.landmarks, b.landmarks)
    assert first.truth() == again.truth()
    assert not np.array_equal(to_array(first.visits[0].ct), to_array(other.visits[0].ct))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_displacement_jacobian_and_landmarks_agree(small_patient, seed):
    """In the lungs the determinant of the displacement's derivative is the Jacobian; landmarks move by it."""
    patient = small_patient("pair", seed)
    baseline, visit = patient.visits
    grid = grid_of(baseline.ct)
    displacement, jacobian = to_array(visit.displacement, float), to_array(visit.jacobian)
    inside = binary_erosion(to_array(baseline.lungs) > 0, iterations=2)
    gradient = [np.gradient(component, 3.5) for component in displacement]
    matrix = np.stack([np.stack([g[2], g[1], g[0]], -1) for g in gradient], -2) + np.eye(3)
    error = np.abs(np.linalg.det(matrix) - jacobian)[inside]
    assert error.mean() < 0.005
    assert jacobian[inside].min() > 0.2
    moved = baseline.landmarks + sample(displacement, grid, baseline.landmarks)
    assert np.linalg.norm(moved - visit.landmarks, axis=1).mean() < 0.05
    exact = visit.motion.forward(baseline.landmarks - grid.centre) + grid.centre
    assert np.abs(exact - visit.landmarks).max() < 1e-9


def test_landmarks_are_bifurcations_inside_the_lungs(small_patient):
    """At least 100 in each scan, none near the pleura."""
    for visit in small_patient("pair").visits:
        lungs, grid = to_array(visit.lungs) > 0, grid_of(visit.ct)
        assert len(visit.landmarks) >= 100
        depth = distance_transform_edt(lungs, sampling=grid.spacing[::-1])
        assert sample(depth, grid, visit.landmarks).min() > 4.0


def test_landmarks_lie_on_vessels():
    """Where voxels are small enough to show the vessels, the landmarks lie on them, at every visit."""
    for visit in make_pair(0, 25.0, (100, 64, 90), (1.75,) * 3).visits:
        grid = grid_of(visit.ct)
        away = distance_transform_edt(to_array(visit.vessels) == 0, sampling=grid.spacing[::-1])
        assert len(visit.landmarks) > 30
        assert np.quantile(sample(away, grid, visit.landmarks), 0.9) < 1.75


@pytest.mark.parametrize("motion_mm", [11.0, 25.0])
def test_mean_motion_is_as_asked(motion_mm):
    """The landmarks of a pair move by the mean that was asked for."""
    truth = make_pair(7, motion_mm, (60, 46, 62), (5.0,) * 3).truth()
    assert truth["visits"][1]["mean_landmark_motion_mm"] == pytest.approx(motion_mm, abs=0.3)


def test_images_show_the_motion(small_patient):
    """Laid on the baseline by the true displacement, the follow-up's lungs are the baseline's and look alike."""
    baseline, visit = small_patient("pair").visits
    grid = grid_of(baseline.ct)
    index = np.indices(grid.shape).reshape(3, -1)[::-1].T
    lungs = to_array(baseline.lungs) > 0
    moved = grid.points(index[lungs.ravel()]) + to_array(visit.displacement, float)[:, lungs].T
    assert (sample((to_array(visit.lungs) > 0).astype(float), grid, moved) > 0.1).mean() > 0.99
    here, there = to_array(baseline.ct, float)[lungs] + 1000, sample(to_array(visit.ct, float), grid, moved) + 1000
    there *= to_array(visit.jacobian)[lungs]
    still = sample(to_array(visit.ct, float), grid, grid.points(index[lungs.ravel()]))
    inner = binary_erosion(lungs, iterations=2)[lungs]
    assert np.corrcoef(here[inner], there[inner])[0, 1] > 0.6 > 0.4 > np.corrcoef(here[inner], still[inner])[0, 1]


def test_sliding_at_the_pleura(small_patient):
    """Next to the costal pleura, the lung moves by centimetres more than the chest wall."""
    baseline, visit = small_patient("pair").visits
    up = to_array(visit.displacement)[2]
    lungs = to_array(baseline.lungs) > 0
    row = lungs.shape[0] // 3
    jumps = []
    for line in range(lungs.shape[1]):
        along = np.flatnonzero(lungs[row, line])
        if len(along) and along[0] > 3:
            jumps.append(abs(up[row, line, along[0] + 1] - up[row, line, along[0] - 3]))
    assert np.median(jumps) > 8.0


def test_breath_keeps_the_mass(small_patient):
    """Another breath changes the lungs' volume, not their mass."""
    visits = small_patient("breath").visits
    volumes = [(to_array(v.lungs) > 0).sum() for v in visits]
    masses = np.array([mass_g(v) for v in visits])
    assert max(volumes) / min(volumes) > 1.03
    assert np.abs(masses / masses[0] - 1).max() < 0.015


def test_volume_and_jacobian_agree(small_patient):
    """The lungs' volume at a visit is the baseline's times the mean Jacobian."""
    for visit in small_patient("recovering").truth()["visits"]:
        first = small_patient("recovering").truth()["visits"][0]
        assert visit["lung_volume_ml"] == pytest.approx(first["lung_volume_ml"] * visit["mean_jacobian"], rel=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_recovering(small_patient, seed):
    """Tissue recovery goes 0, about 0.35, 0.7, 0.9: persistent, partial, complete."""
    visits = small_patient("recovering", seed).truth()["visits"]
    assert visits[0]["abnormal_share"] > 0.10
    for visit, expected in zip(visits, (0.0, 0.35, 0.70, 0.90), strict=True):
        assert visit["tissue_recovery"] == pytest.approx(expected, abs=0.06)
    assert [v["class"] for v in visits[1:]] == ["persistent", "partial", "complete"]
    assert visits[-1]["lung_volume_ml"] > 1.01 * visits[0]["lung_volume_ml"]


def test_unchanged_and_worsening(small_patient):
    """The unchanged patient's abnormal share stays, the worsening one's rises; neither recovers."""
    unchanged = small_patient("unchanged").truth()["visits"]
    assert np.ptp([v["abnormal_share"] for v in unchanged]) < 0.02
    worsening = [v["abnormal_share"] for v in small_patient("worsening").truth()["visits"]]
    assert all(b > 1.1 * a for a, b in pairwise(worsening))
    for kind in ("unchanged", "worsening"):
        assert {v["class"] for v in small_patient(kind).truth()["visits"][1:]} == {"persistent"}


def test_still_recovers_without_motion(small_patient):
    """Lesions clear while nothing moves: the displacement is zero and the Jacobian 1 everywhere."""
    patient = small_patient("still")
    for visit in patient.visits:
        assert not to_array(visit.displacement).any()
        assert (to_array(visit.jacobian) == 1).all()
    assert patient.truth()["visits"][-1]["tissue_recovery"] > 0.85
    noise = to_array(patient.visits[0].ct, float) - to_array(patient.visits[1].ct, float)
    assert noise.std() > 3.0  # each scan has its own noise


def test_breath_is_healthy(small_patient):
    """A healthy lung has no lesion, no abnormal share and no tissue recovery to speak of; it stays below -700 HU."""
    patient = small_patient("breath")
    for visit, truth in zip(patient.visits, patient.truth()["visits"], strict=True):
        assert not to_array(visit.lesions).any()
        assert truth["abnormal_share"] == 0
        assert truth["tissue_recovery"] is None
        lungs = binary_erosion(to_array(visit.lungs) > 0, iterations=2)
        tissue = lungs & (to_array(visit.vessels) == 0) & (to_array(visit.airways) == 0)
        assert np.quantile(to_array(visit.ct)[tissue], 0.5) < -780


def test_hounsfield_ranges(small_patient):
    """Air, lung, fat, muscle and bone have the HU of a real scan, and the lungs weigh more at the back."""
    visit = small_patient("recovering").visits[0]
    ct, lungs = to_array(visit.ct), to_array(visit.lungs)
    assert ct.dtype == np.int16
    assert ct.min() >= -1024
    assert 500 < ct.max() < 2000
    assert -870 < np.median(ct[lungs > 0]) < -740
    body = ct[(ct > -150) & (ct < 150)]
    low, high = np.quantile(body, (0.1, 0.6))
    assert low < -70
    assert 30 < high < 70
    healthy = (lungs > 0) & (to_array(visit.lesions) == 0) & (to_array(visit.vessels) == 0)
    height = np.nonzero(healthy)[1]
    front, back = np.quantile(height, (0.2, 0.8))
    hu = ct[healthy]
    assert np.median(hu[height > back]) > np.median(hu[height < front]) + 30
    assert set(np.unique(to_array(visit.lobes))) == {0, 1, 2, 3, 4, 5}
    assert set(np.unique(to_array(visit.airways))) == {0, 1, 2}
    assert {1, 2} <= set(np.unique(to_array(visit.lesions)))


def test_lungs_have_sides(small_patient):
    """The right lung (1) lies at the patient's right, which is the low x of LPS; the lobes agree."""
    visit = small_patient("recovering").visits[0]
    lungs, lobes = to_array(visit.lungs), to_array(visit.lobes)
    assert np.nonzero(lungs == 1)[2].mean() < np.nonzero(lungs == 2)[2].mean()
    assert set(np.unique(lobes[lungs == 1])) == {1, 2, 3}
    assert set(np.unique(lobes[lungs == 2])) == {4, 5}


def test_oblique_and_anisotropic_grids_far_off():
    """The same patient on an oblique, anisotropic grid at a -920 mm table: same landmarks, same volumes."""
    angle = np.radians(20)
    direction = (np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1)
    straight = make_pair(3, 25.0, **SMALL)
    size, centre = (140, 124, 48), (20.0, -150.0, -920.0)
    oblique = make_pair(3, 25.0, size, (2.4, 2.4, 7.0), direction, centre)
    shared = min(len(straight.visits[0].landmarks), len(oblique.visits[0].landmarks))
    assert shared >= 100
    for a, b in zip(straight.visits, oblique.visits, strict=True):
        assert same_grid(b.ct, b.displacement)
        assert np.allclose(grid_of(b.ct).centre, centre)
        assert np.allclose(a.landmarks, b.landmarks - centre, atol=1e-6)
        volumes = [(to_array(v.lungs) > 0).sum() * grid_of(v.ct).voxel_ml for v in (a, b)]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.02)
    baseline, visit = oblique.visits
    field = sample(to_array(visit.displacement, float), grid_of(baseline.ct), baseline.landmarks)
    assert np.linalg.norm(baseline.landmarks + field - visit.landmarks, axis=1).mean() < 0.2


def test_bad_requests():
    """An unknown kind and days that do not rise are refused in a sentence."""
    with pytest.raises(BadInput, match="recovering"):
        make_patient("happy")
    with pytest.raises(BadInput, match="rise"):
        make_patient(days=(0, 0))
    with pytest.raises(BadInput, match="2 to 35 mm"):
        make_pair(0, 80.0)


def test_cancelling_stops_the_work():
    """A progress function that raises ends the making at once."""

    def cancel(stage, fraction, message=""):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        make_patient("still", 0, (40, 30, 40), (7.0,) * 3, (0, 9), progress=cancel)


def test_progress_is_reported():
    """The fractions rise from 0 to 1 and name the days."""
    seen = []
    make_patient(
        "breath",
        0,
        (40, 30, 40),
        (7.0,) * 3,
        (0, 9),
        progress=lambda stage, fraction, message="": seen.append((stage, fraction)),
    )
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("day 9" in stage for stage, _ in seen)
    assert "breath" in KINDS
