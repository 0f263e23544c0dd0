"""A network adds dense lung that no threshold finds, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from LungRecoveryLib.anatomy import completion
from LungRecoveryLib.anatomy.lesions import CONSOLIDATION
from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT, segment_lungs
from LungRecoveryLib.anatomy.working import working_volume
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import grid_of, to_array
from LungRecoveryLib.phantom import make_patient
from LungRecoveryLib.registration import weights


@pytest.mark.slow
def test_more_of_the_consolidation_is_lung():
    """Of the dense lung on chest wall, diaphragm and mediastinum the network finds a third of what is missed."""
    visit = make_patient("worsening", 22, (117, 91, 123), (2.6, 2.6, 2.6), days=(0, 180)).visits[1]
    lungs, dense = to_array(visit.lungs) > 0, to_array(visit.lesions) == CONSOLIDATION
    plain, more = (to_array(segment_lungs(visit.ct, method=method)) > 0 for method in ("classical", "network"))
    assert dense.sum() * grid_of(visit.ct).voxel_ml > 20
    assert (dense & ~more).sum() < 0.67 * (dense & ~plain).sum()
    assert (more & ~lungs).sum() < 1.3 * (plain & ~lungs).sum()


@pytest.mark.parametrize(
    "sides", [pytest.param((RIGHT, LEFT), marks=pytest.mark.slow), (LEFT,)], ids=["both lungs", "one was taken out"]
)
def test_healthy_lungs_stay_as_they_are(chest, on_grid, sides):
    """Heart, liver, diaphragm and the empty side of a chest are no lung."""
    made = chest(on_grid(), sides=sides)
    plain, more = (to_array(segment_lungs(made.ct, method=method)) > 0 for method in ("classical", "network"))
    assert not (plain & ~more).any()
    assert (more & ~plain).sum() < 0.01 * plain.sum()


def test_a_scan_that_the_network_does_not_know_is_left_alone(chest, on_grid, monkeypatch):
    """Where it does not even call the aerated lung lung, its word on the rest counts for nothing."""
    made = chest(on_grid())
    work = working_volume(made.ct)
    air = (work.hu < -600) & (work.hu > -880)
    sure = lambda images: torch.full_like(images[:, 0], 9.0)
    unsure = lambda images: torch.full_like(images[:, 0], -9.0)
    for network, expected in ((sure, True), (unsure, False)):
        fake = SimpleNamespace(network=network, spacing_mm=5.0)
        monkeypatch.setattr(weights, "load_weights", lambda name, fake=fake: fake)
        assert completion.dense_lung(work, air, air).any() == expected


def test_another_method_is_refused(chest, on_grid):
    with pytest.raises(BadInput, match="network"):
        segment_lungs(chest(on_grid(spacing=(4.0, 4.0, 4.0))).ct, method="magic")


def test_the_channels_are_windows_of_the_scan():
    """Lung and soft tissue fill the range of their windows; the aerated lung is as it was given."""
    hu = torch.tensor([-2000.0, -1000.0, -400.0, 50.0, 250.0, 3000.0])[None, None, None]
    air = torch.rand(hu.shape)
    found = completion.channels(hu, air)
    assert found.shape == (1, 3, 1, 1, 6)
    np.testing.assert_allclose(found[0, 0].flatten(), [-1, -1, 0, 0.75, 1, 1], atol=1e-6)
    np.testing.assert_allclose(found[0, 1].flatten(), [-1, -1, -1, 0, 1, 1], atol=1e-6)
    assert torch.equal(found[0, 2], air[0])
