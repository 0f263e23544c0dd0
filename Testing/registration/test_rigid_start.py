"""The learned start of rigid registration: a motion that a network sees is the one between the scans' bodies, and a
start that does not match is no one's word."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from abdomens import mean_error_mm, small_abdomen
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration.motion6 import matrix_4x4, rotation_of
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryLib.registration.prediction import Prediction
from LungRecoveryLib.registration.rigid import register_rigid
from LungRecoveryLib.registration.rigid_network import RigidNet
from LungRecoveryLib.registration.rigid_scan import rigid_scans
from LungRecoveryLib.registration.rigid_start import learned_start
from LungRecoveryLib.registration.weights import save_weights
from LungRecoveryLib.resources import RIGID_WEIGHTS, SHIPPED_WEIGHTS

SPACING = 4.0


@pytest.fixture
def weights(tmp_path):
    """Weights of some rigid network."""
    settings = {"name": "rigid", "channels": [4, 4, 4, 4, 4], "passes": 1}
    network = build_network(settings)
    return save_weights(network, {"architecture": settings, "spacing_mm": 8.0}, tmp_path / "still.safetensors")


@pytest.mark.parametrize("masks", ["both", "fixed", "none"])
@pytest.mark.parametrize(
    ("seed", "rotation", "translation"),
    [(6, (0.0, 0.0, 30.0), (40.0, -30.0, 0.0)), (7, (-14.0, 20.0, 10.0), (10.0, 25.0, -40.0))],
)
def test_the_shipped_network_alone_comes_within_3_mm(seed, rotation, translation, masks):
    """Phantoms that it was not trained on, by the longest motions that it is for, cut by the scan's own field."""
    venous, arterial = small_abdomen(1_000 + seed, rotation, translation)
    organs = {"both": (venous.liver, arterial.liver), "fixed": (venous.liver, None), "none": (None, None)}[masks]
    scans = venous.ct, arterial.ct
    found = learned_start(scans, rigid_scans(scans, organs, SPACING), RIGID_WEIGHTS)
    assert mean_error_mm(found, arterial.from_body, venous.liver) < 3.0
    assert abs(np.linalg.det(matrix_4x4(found)[:3, :3]) - 1) < 1e-6


def given(masks: bool = True):
    venous, arterial = small_abdomen()
    organs = (venous.liver, arterial.liver) if masks else (None, None)
    return venous, arterial, organs, rigid_scans((venous.ct, arterial.ct), organs, SPACING)


def test_what_the_network_sees_in_voxels_is_a_motion_in_mm(weights, monkeypatch):
    """A turn about the box's middle, seen in the second look alone, so that both looks must be put together."""
    venous, arterial, _, prepared = given()
    rotation, seen = rotation_of(np.radians(10.0) * np.array([0.6, -0.48, 0.64])), []

    def forward(network, fixed, moving, fixed_mask, moving_mask=None, near=False):
        seen.append((moving, near))
        motion = torch.eye(4)
        if len(seen) == 2:
            middle = torch.tensor([(n - 1) / 2 for n in fixed.shape[:1:-1]])
            motion[:3, :3] = torch.from_numpy(rotation).float()
            motion[:3, 3] = middle + 0.5 * torch.ones(3) - motion[:3, :3] @ middle
        return Prediction(torch.zeros(1), motion=motion[None])

    monkeypatch.setattr(RigidNet, "forward", forward)
    found = matrix_4x4(learned_start((venous.ct, arterial.ct), prepared, weights))
    assert torch.equal(seen[0][0], seen[1][0])
    # Where the scans have been laid on each other once, nothing is looked for far away, and at last on smaller voxels.
    assert [near for _, near in seen] == [False, True, True]
    assert seen[2][0].shape[2] == round(seen[0][0].shape[2] / 0.7)
    assert np.allclose(found[:3, :3], rotation, atol=1e-5)
    middle = np.append(prepared[0].landmark, 1.0)
    assert np.allclose((found @ middle)[:3], prepared[1].landmark + 4.0, atol=1e-2)  # half a voxel of 8 mm


def test_the_network_sees_the_scans_with_their_landmarks_on_each_other(weights, monkeypatch):
    venous, arterial, _, prepared = given()
    seen = []

    def forward(network, fixed, moving, fixed_mask, moving_mask=None, near=False):
        seen.append((fixed, moving, fixed_mask))
        return Prediction(torch.zeros(1), motion=torch.eye(4)[None])

    monkeypatch.setattr(RigidNet, "forward", forward)
    learned_start((venous.ct, arterial.ct), prepared, weights)
    fixed, moving, mask = (image[0, 0] for image in seen[0])
    places = torch.nonzero(mask > 0).float().mean(0)
    assert torch.allclose(places, (torch.tensor(mask.shape) - 1) / 2, atol=1.5)  # the liver is in the middle
    inside = mask > 0
    assert float(torch.corrcoef(torch.stack([fixed[inside], moving[inside]]))[0, 1]) > 0.3
    assert 0.0 <= float(moving.min()) < float(moving.max()) <= 1.6


def test_a_start_that_matches_goes_on_and_can_be_the_end(weights, monkeypatch):
    venous, arterial, organs, _ = given()
    true = arterial.from_body
    monkeypatch.setattr("LungRecoveryLib.registration.rigid.learned_start", lambda *_: type(true)(true))
    scans = (venous.ct, arterial.ct, *organs)
    alone = register_rigid(*scans, spacing_mm=SPACING, weights=weights, optimised=False)
    refined = register_rigid(*scans, spacing_mm=SPACING, weights=weights)
    assert (alone.start, refined.start) == ("network", "network")
    errors = [mean_error_mm(found.transform, true, venous.liver) for found in (alone, refined)]
    assert errors[0] < 1e-6 < errors[1] < 0.6


def test_a_start_that_does_not_match_is_searched_for(weights, monkeypatch):
    venous, arterial, organs, _ = given()
    wrong = sitk.Euler3DTransform(middle_of(venous), 0.0, 0.0, np.pi)
    monkeypatch.setattr("LungRecoveryLib.registration.rigid.learned_start", lambda *_: wrong)
    found = register_rigid(venous.ct, arterial.ct, *organs, spacing_mm=SPACING, weights=weights)
    assert found.start == "search"
    assert "searched for" in found.notes[0]
    assert mean_error_mm(found.transform, arterial.from_body, venous.liver) < 0.6


def middle_of(scan) -> tuple[float, float, float]:
    return scan.ct.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in scan.ct.GetSize()])


def test_weights_of_another_network_are_refused():
    venous, arterial, _, prepared = given()
    with pytest.raises(BadInput, match="no rigid network"):
        learned_start((venous.ct, arterial.ct), prepared, SHIPPED_WEIGHTS)
