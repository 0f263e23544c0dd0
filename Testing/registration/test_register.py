"""Registration of small phantom pairs: accuracy, geometry, determinism, limits and failures."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput, OutOfMemory
from LungRecoveryLib.phantom import make_pair
from LungRecoveryLib.registration import networks, refine, weights
from LungRecoveryLib.registration.register import register, write_registration

SMALL = {"size": (88, 68, 92), "spacing": (3.5, 3.5, 3.5)}


@pytest.fixture(scope="module")
def pair():
    return make_pair(5, mean_motion_mm=18.0, **SMALL)


@pytest.fixture(scope="module")
def registration(pair):
    baseline, followup = pair.visits
    return register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="fast", spacing_mm=3.0)


def errors(transform, pair) -> np.ndarray:
    baseline, followup = pair.visits
    return np.linalg.norm(grids.transform_points(transform, baseline.landmarks) - followup.landmarks, axis=1)


def test_landmarks_are_found_again_within_half_a_voxel(registration, pair):
    assert errors(sitk.Transform(), pair).mean() > 15
    assert errors(registration.transform, pair).mean() < 1.75


def test_nothing_folds_and_the_inverse_leads_back(registration):
    assert registration.folding_percent == 0
    assert registration.inverse_p95_mm < 1.0
    assert registration.inverse_mean_mm <= registration.inverse_p95_mm


def test_the_jacobian_follows_the_true_volume_change(registration, pair):
    truth = grids.to_array(grids.resample(pair.visits[1].jacobian, registration.grid, outside=1.0))
    lung = grids.to_array(sitk.BinaryErode(registration.fixed_lungs != 0, [3, 3, 3])) != 0
    ours = grids.to_array(registration.jacobian)
    assert np.abs(np.log(ours[lung]) - np.log(truth[lung])).mean() < 0.12


def test_similarity_and_overlap_improve(registration):
    assert registration.similarity_after > registration.similarity_before + 0.1
    assert registration.lung_dice > 0.95


def test_the_saved_transform_agrees_with_the_full_field_in_the_lung(registration):
    lung = np.argwhere(sitk.GetArrayViewFromImage(registration.fixed_lungs) != 0)[::37, ::-1]
    points = registration.grid.points(lung)
    field = grids.to_array(registration.displacement)
    full = points + field[:, lung[:, 2], lung[:, 1], lung[:, 0]].T
    difference = np.linalg.norm(grids.transform_points(registration.transform, points) - full, axis=1)
    assert difference.mean() <= 0.1  # on voxels of 3 mm; half as fine nodes as at 1.5 mm
    assert difference.max() <= 0.6


def test_resampling_by_the_saved_transform_gives_the_warped_image(registration, pair):
    again = grids.resample(pair.visits[1].ct, registration.grid, registration.transform)
    lung = sitk.GetArrayViewFromImage(registration.fixed_lungs) != 0
    difference = np.abs(grids.to_array(again, float) - grids.to_array(registration.warped, float))[lung]
    assert difference.mean() < 5


def test_the_same_seed_gives_the_same_numbers(registration, pair):
    baseline, followup = pair.visits
    again = register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="fast", spacing_mm=3.0)
    np.testing.assert_allclose(grids.to_array(again.displacement), grids.to_array(registration.displacement), atol=1e-3)


def test_oblique_flipped_far_off_scans_register_as_well(pair):
    baseline, followup = pair.visits
    moved = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.05, 0.15, (30.0, -20.0, 60.0))
    images = [sitk.Image(v) for v in (followup.ct, followup.lungs)]
    axes = np.array(moved.GetMatrix()).reshape(3, 3)
    for image in images:  # carry the follow-up's grid along, then flip its z axis
        image.SetOrigin(moved.TransformPoint(image.GetOrigin()))
        image.SetDirection((axes @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    images = [sitk.Flip(image, [False, False, True]) for image in images]
    result = register(baseline.ct, images[0], baseline.lungs, images[1], preset="fast", spacing_mm=3.0)
    truth = grids.transform_points(moved, followup.landmarks)
    found = grids.transform_points(result.transform, baseline.landmarks)
    assert np.linalg.norm(found - truth, axis=1).mean() < 1.75


def test_maps_lie_on_the_working_grid_or_on_request_on_the_scan_itself(registration, pair):
    baseline, followup = pair.visits
    assert grids.same_grid(registration.jacobian, grids.isotropic_grid(grids.grid_of(baseline.ct), 3.0))
    native = register(
        baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="fast", spacing_mm=3.0, native_maps=True
    )
    for image in (native.jacobian, native.warped, native.displacement, native.inside):
        assert grids.same_grid(image, baseline.ct)


def test_a_scan_registers_onto_itself_by_the_identity(pair):
    scan = pair.visits[0]
    result = register(scan.ct, scan.ct, scan.lungs, scan.lungs, preset="fast", spacing_mm=3.0)
    lung = sitk.GetArrayViewFromImage(result.fixed_lungs) != 0
    assert np.abs(np.log(grids.to_array(result.jacobian)[lung])).mean() < 0.005
    assert np.linalg.norm(grids.to_array(result.displacement), axis=0)[lung].mean() < 0.05
    assert result.similarity_after > 0.9


def test_a_follow_up_cut_short_registers_where_both_scans_see_the_lung(pair):
    baseline, followup = pair.visits
    cut = 45  # voxels off the bottom of the follow-up
    images = [image[:, :, cut:] for image in (followup.ct, followup.lungs)]
    result = register(baseline.ct, images[0], baseline.lungs, images[1], preset="fast", spacing_mm=3.0)
    seen = grids.grid_of(images[0]).contains(followup.landmarks)
    assert 20 < seen.sum() < len(seen)
    assert errors(result.transform, pair)[seen].mean() < 2.5
    inside = sitk.GetArrayViewFromImage(result.inside)[sitk.GetArrayViewFromImage(result.fixed_lungs) != 0]
    assert 0.3 < inside.mean() < 0.95


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_running_out_of_memory_steps_down_and_says_so(pair, monkeypatch, error):
    baseline, followup = pair.visits
    real, calls = refine.refine, []

    def short_of_memory(prepared, alignment, levels, *rest):
        calls.append(min(level.scale for level in levels))
        if len(calls) == 1:
            raise error
        return real(prepared, alignment, levels, *rest)

    monkeypatch.setattr(refine, "refine", short_of_memory)
    result = register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, device="cpu", spacing_mm=3.5)
    assert calls == [1, 2]
    assert "half resolution" in result.notes[0]

    def never(*_):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(refine, "refine", never)
    with pytest.raises(OutOfMemory):
        register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, device="cpu", spacing_mm=3.5)


def test_progress_rises_and_cancels(pair):
    baseline, followup = pair.visits
    fractions = []

    class Stop(Exception):
        pass

    def progress(stage, fraction, message=""):
        fractions.append(fraction)
        if fraction > 0.5:
            raise Stop

    with pytest.raises(Stop):
        register(
            baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="fast", spacing_mm=3.5, progress=progress
        )
    assert fractions == sorted(fractions)
    assert len(fractions) > 20


@pytest.mark.parametrize("options", [{"preset": "best"}, {"device": "tpu"}, {"device": "cuda:99"}])
def test_unknown_presets_and_devices_are_refused(pair, options):
    scan = pair.visits[0]
    with pytest.raises(BadInput):
        register(scan.ct, scan.ct, scan.lungs, scan.lungs, **options)


def test_what_is_written_reads_back(registration, tmp_path, pair):
    write_registration(registration, tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"transform.h5", "inverse_transform.h5", "jacobian.nii.gz", "warped.nii.gz", "registration.json"}
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    np.testing.assert_allclose(errors(transform, pair), errors(registration.transform, pair), atol=1e-4)
    said = json.loads((tmp_path / "registration.json").read_text())
    assert said["folding_percent"] == 0
    assert said["settings"]["preset"] == "fast"
    assert set(said["seconds"]) == {"lungs", "prepare", "align", "predict", "refine", "maps"}
    assert said["weights_sha256"] == weights.load_weights().sha256


def test_the_network_alone_brings_a_breath_nearer_without_folds(pair):
    baseline, followup = pair.visits
    start = np.linalg.norm(baseline.landmarks - followup.landmarks, axis=1).mean()
    preview = register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="preview", uncertainty=True)
    assert errors(preview.transform, pair).mean() < 0.4 * start
    assert preview.folding_percent == 0
    assert preview.settings["levels"] == []
    assert sitk.GetArrayViewFromImage(preview.uncertainty).min() > 0
    assert preview.seconds["uncertainty"] > 0


def test_without_a_network_nothing_of_it_is_used(pair):
    baseline, followup = pair.visits
    made = register(
        baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="fast", spacing_mm=3.0, weights="none"
    )
    assert made.weights_sha256 is None
    assert "predict" not in made.seconds
    with pytest.raises(BadInput, match="network alone"):
        register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="preview", weights="none")


def test_a_network_that_misleads_is_not_followed(pair, tmp_path):
    """Weights that shift everything far away: refinement starts from rest instead, and the result says so."""
    baseline, followup = pair.visits
    level = {"encoder": [4, 6, 8], "decoder": [6], "final": [4]}
    network = networks.build_network({"name": "pyramid", "levels": [level]})
    with torch.no_grad():
        network.levels[0].head.mean.bias.fill_(8.0)
    card = {"architecture": {"name": "pyramid", "levels": [level]}, "spacing_mm": 3.0}
    path = weights.save_weights(network, card, tmp_path / "misleading.safetensors")
    made = register(
        baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset="fast", spacing_mm=3.0, weights=path
    )
    assert "from rest" in made.notes[0]
    assert errors(made.transform, pair).mean() < 2.0
