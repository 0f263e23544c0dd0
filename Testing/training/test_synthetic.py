"""Synthetic follow-ups: the truth is true, mass is kept, lesions come and go."""

import pytest
import torch

from LungRecoveryLib.registration import flow
from LungRecoveryTrainingLib import synthetic
from LungRecoveryTrainingLib.deformations import Affine
from LungRecoveryTrainingLib.draws import Draws
from LungRecoveryTrainingLib.synthetic import Synthesis, synthetic_pair

from .batches import SAME_SCANNER, SHAPES, at_points, errors_of_the_truth, generator, lungs, make_batch

CLEAN = dict(lesion_probability=0.0, inflation=1.0, mass=(0.0, 0.0), scanner=SAME_SCANNER)
DEEP = dict(breathing_probability=1.0, random_probability=1.0)
STILL = dict(
    breathing_probability=0.0, random_probability=0.0, rotation_degrees=0.0, scale=1.0, shear=0.0, translation_mm=0.0
)


@pytest.mark.parametrize("shape", SHAPES)
def test_warping_the_follow_up_by_the_truth_gives_the_scan(shape):
    batch = make_batch(shape, count=4, whole=True)
    pair = synthetic_pair(batch, Synthesis(**CLEAN, **DEEP, spacing_mm=6.0), generator(0))
    error = errors_of_the_truth(pair)
    moved = (pair["moving"] - pair["fixed"]).abs()[pair["truth"] > 0]
    assert pair["truth"].float().mean() > 0.6
    assert error.median() < 0.002
    # Voxels next to what was drawn from beyond the grid (a jump of 0.6) err more; the narrow grid has many.
    assert error.quantile(0.8) < 0.01
    assert moved.median() > 8 * error.median()
    torch.testing.assert_close(pair["fixed"], batch["fixed"])


def test_the_way_there_and_back_meets_within_hundredths_of_a_voxel():
    shape = (48, 40, 44)
    mask = (lungs(shape) > 0).float().expand(6, -1, -1, -1, -1)
    motion = synthetic.random_motion(mask, Synthesis(**DEEP), Draws(6, mask.device, generator(3)))
    positions = flow.voxel_coordinates(shape).expand(6, -1, -1, -1, -1)
    error = (motion.back(motion(positions)) - positions).square().sum(1, keepdim=True).sqrt()[mask > 0]
    assert error.mean() < 0.02
    assert error.max() < 0.25


def cone(shape: tuple[int, int, int]) -> torch.Tensor:
    """A mask (1, 1, z, y, x) of z 4 to 43 that is wide at low z."""
    x, y, z = flow.voxel_coordinates(shape)
    return ((((x - 22) ** 2 + (y - 20) ** 2).sqrt() < 4 + (44 - z) * 0.35) & (z > 3) & (z < 44)).float()[None, None]


@pytest.mark.parametrize("flipped", [False, True])
def test_the_base_is_found_whichever_way_the_scan_is_stored(flipped):
    shape = (48, 40, 44)
    mask = cone(shape).flip(2) if flipped else cone(shape)
    _, _, depth, base = synthetic._in_lungs(mask, flow.voxel_coordinates(shape)[None], mask)
    assert base.item() == (1 if flipped else -1)
    assert depth[0, 0, 43 if flipped else 4].unique().item() == pytest.approx(1)
    assert depth[0, 0, 4 if flipped else 43].unique().item() == pytest.approx(0, abs=1e-6)


def test_a_breath_moves_along_the_body_as_far_as_asked_and_leaves_alignment_nothing_to_do():
    shape, count = (48, 40, 44), 24
    settings = Synthesis(**STILL | dict(breathing_probability=1.0), affine_left=(0.0, 0.0), breathing_mm=20.0)
    mask = cone(shape).expand(count, -1, -1, -1, -1)
    motion = synthetic.random_motion(mask, settings, Draws(count, mask.device, generator(1)))
    positions = flow.voxel_coordinates(shape).expand(count, -1, -1, -1, -1)
    u = (motion(positions) - positions) * mask
    fit = Affine.nearest(u, positions, mask, torch.tensor([21.5, 19.5, 23.5]))
    assert (fit(positions) - positions).mul(mask).abs().max() < 0.1 * u.abs().max()
    size = u.abs().amax((2, 3, 4))
    assert (size[:, 2] > size[:, :2].amax(1)).float().mean() > 0.7
    largest = 3.0 * u.square().sum(1).sqrt().amax((1, 2, 3))
    assert 10 < largest.max() < 32
    assert largest.min() < 5


def test_deep_breaths_do_not_fold():
    shape = (48, 40, 44)
    mask = (lungs(shape) > 0).float().expand(8, -1, -1, -1, -1)
    settings = Synthesis(**DEEP, breathing_mm=60.0)
    motion = synthetic.random_motion(mask, settings, Draws(8, mask.device, generator(5)))
    positions = flow.voxel_coordinates(shape).expand(8, -1, -1, -1, -1)
    jacobian = flow.jacobian_determinant(motion(positions) - positions)[:, None]
    assert jacobian[mask > 0].min() > 0.05


def test_labels_masks_and_points_go_with_the_tissue():
    before = make_batch(count=6)
    pair = synthetic_pair(before, Synthesis(**CLEAN, **DEEP), generator(2))
    known = pair["truth"] > 0
    target = flow.voxel_coordinates(SHAPES[0])[None] + pair["displacement"]
    for key in ("labels", "mask"):
        moved = flow.warp(pair[f"moving_{key}"].float(), target.round()).round()
        same = (moved == pair[f"fixed_{key}"])[known].float().mean()
        assert same > 0.93  # what differs lies within rounding of a border
    there = ~pair["fixed_points"].isnan().any(-1)
    shift = (pair["moving_points"] - pair["fixed_points"])[there]
    points = pair["fixed_points"].nan_to_num()
    inner = at_points(pair["truth"], points)[..., 0][there] > 0.999
    assert inner.sum() > 20
    assert (at_points(pair["displacement"], points)[there] - shift)[inner].abs().max() < 0.1
    assert pair["moving_points"][0, 3].isnan().all()


def test_mass_is_kept_and_inflation_thins_the_tissue():
    batch = make_batch(count=6)
    batch["fixed"] = batch["moving"] * batch["moving_mask"]
    settings = CLEAN | DEEP | dict(mass=(1.0, 1.0), ground=0.0, spacing_mm=6.0)
    pair = synthetic_pair(batch, Synthesis(**settings), generator(4))
    weights = pair["moving"].sum((1, 2, 3, 4)) / pair["fixed"].sum((1, 2, 3, 4))
    volumes = pair["moving_mask"].float().sum((1, 2, 3, 4)) / pair["fixed_mask"].sum((1, 2, 3, 4))
    inside = pair["truth"].float().sum((1, 2, 3, 4)) / pair["fixed_mask"].sum((1, 2, 3, 4))
    whole = inside > 0.999
    assert whole.sum() >= 3
    assert (weights[whole] - 1).abs().max() < 0.02
    assert (volumes[whole] - 1).abs().max() > 0.03
    settings = CLEAN | STILL | dict(mass=(1.0, 1.0), inflation=2.0, ground=0.0)
    pair = synthetic_pair(batch, Synthesis(**settings), generator(4))
    thinner = pair["moving"].sum((1, 2, 3, 4)) / pair["fixed"].sum((1, 2, 3, 4))
    assert thinner.min() < 0.8
    assert thinner.max() > 1.2


def test_lesions_grow_in_some_pairs_and_resolve_in_others():
    before = make_batch(count=12)
    settings = Synthesis(**CLEAN | STILL | dict(lesion_probability=1.0, lesion_share=(0.05, 0.4), healed=0.2))
    pair = synthetic_pair(before, settings, generator(0))
    inside = before["fixed_mask"] > 0
    ill = {
        scan: torch.stack(
            [(d[m] > 0.02).float().mean() for d, m in zip(pair[scan] - before["fixed"], inside, strict=True)]
        )
        for scan in ("fixed", "moving")
    }
    change = ill["moving"] - ill["fixed"]
    assert (change > 0.02).any()
    assert (change < -0.02).any()
    assert (ill["fixed"] < 0.6).all()
    # The same lesions: where both dates are ill, the smaller lies in the larger.
    both = (ill["fixed"] > 0.05) & (ill["moving"] > 0.05)
    assert both.any()
    masks = [(pair[scan] - before["fixed"] > 0.02) & inside for scan in ("fixed", "moving")]
    for n in both.nonzero().flatten():
        common = (masks[0][n] & masks[1][n]).sum()
        assert common > 0.95 * min(masks[0][n].sum(), masks[1][n].sum())


def test_a_share_of_the_batch_is_replaced_and_the_rest_stays():
    before = make_batch(count=16)
    pair = synthetic_pair(before, Synthesis(), generator(1), share=0.5)
    same = [torch.equal(pair["moving"][n], before["moving"][n]) for n in range(16)]
    assert 3 < sum(same) < 13
    for n in range(16):
        for key in ("fixed", "displacement", "truth", "moving_mask", "fixed_labels"):
            assert not same[n] or torch.equal(pair[key][n], before[key][n])
    assert set(pair) == set(before)
    assert pair["subject"] == before["subject"]


def test_the_generator_alone_decides():
    batch = make_batch()
    state = torch.get_rng_state()
    first, again, other = (synthetic_pair(batch, Synthesis(), generator(seed)) for seed in (1, 1, 2))
    assert (torch.get_rng_state() == state).all()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(), again[key].nan_to_num())
    assert not torch.equal(first["moving"], other["moving"])


@pytest.mark.parametrize("shape", [(5, 7, 9), (48, 3, 17), (1, 20, 20)])
def test_odd_and_tiny_grids_and_empty_masks_give_finite_numbers(shape):
    batch = make_batch(shape, count=4)
    batch["fixed"], batch["moving"] = batch["fixed"].half(), batch["moving"].half()
    batch["fixed_mask"][0] = 0
    for seed in range(3):
        pair = synthetic_pair(batch, Synthesis(), generator(seed), share=0.7)
        for key, value in pair.items():
            if isinstance(value, torch.Tensor) and not key.endswith("_points"):
                assert value.isfinite().all()
                assert value.dtype == (torch.float32 if batch[key].is_floating_point() else torch.uint8)


def test_a_single_scan_is_enough():
    single = {key: make_batch()[key] for key in ("fixed", "fixed_mask")}
    pair = synthetic_pair(single, Synthesis(), generator(0))
    assert set(pair) == {"fixed", "moving", "fixed_mask", "moving_mask", "displacement", "truth"}
    assert pair["moving"].dtype == torch.float32
    assert pair["truth"].dtype == torch.uint8
    assert pair["truth"].any()
