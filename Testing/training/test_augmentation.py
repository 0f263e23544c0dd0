"""Augmentation keeps the truth: images, masks, labels, points and displacement go together."""

import numpy as np
import pytest
import torch

from LungRecoveryLib.registration import flow
from LungRecoveryTrainingLib.augmentation import Augmentation

from .batches import SAME_SCANNER, SHAPES, at_points, errors_of_the_truth, generator, make_batch

GEOMETRY = dict(
    one_lung_probability=0.0, cut_probability=0.0, lesion_probability=0.0, scanner=SAME_SCANNER, mass=(0.0, 0.0)
)
STILL = GEOMETRY | dict(
    affine_probability=0.0, difference_probability=0.0, elastic_probability=0.0, motion_probability=0.0,
    flip_x=0.0, flip_y=0.0, flip_z=0.0,
)  # fmt: skip
ALWAYS = dict(
    affine_probability=1.0, difference_probability=1.0, elastic_probability=1.0, motion_probability=1.0,
    flip_x=0.5, flip_y=0.5, flip_z=0.5,
)  # fmt: skip


def maps_drawn(settings: dict, shape: tuple[int, int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """The maps a and b (n, 3, z, y, x) that a seed draws, seen by augmenting images of the coordinates, and the batch.

    NaN where a map leads out of the old grid.
    """
    drawn = {"fixed": [], "moving": []}
    for image in (*flow.voxel_coordinates(shape), torch.ones(shape)):
        batch = make_batch(shape, count=4, whole=True)
        for scan in drawn:
            batch[scan] = image.expand(4, 1, -1, -1, -1).clone()
        after = Augmentation(**settings, ground=0.0)(batch, generator(seed))
        for scan in drawn:
            drawn[scan].append(after[scan])
    a, b = (torch.where(d[3] > 0.99999, torch.cat(d[:3], 1), torch.nan) for d in drawn.values())
    return a, b, after


@pytest.mark.parametrize("shape", SHAPES)
def test_warping_the_new_moving_image_by_the_new_truth_gives_the_new_fixed_image(shape):
    after = Augmentation(**GEOMETRY, **ALWAYS)(make_batch(shape, count=4, whole=True), generator(3))
    misplaced = (after["moving"] - after["fixed"]).abs()[after["truth"] > 0]
    error = errors_of_the_truth(after)
    assert after["truth"].float().mean() > 0.25
    # Voxels interpolated with the ground beyond the original grid (a jump of 0.6) are the few that err more.
    assert error.median() < 0.002
    assert error.quantile(0.9) < 0.008
    assert misplaced.median() > 10 * error.median()


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_truth_is_the_analytic_composition_in_float64(shape):
    settings = GEOMETRY | ALWAYS | dict(elastic_probability=0.0, motion_probability=0.0)
    a, b, after = maps_drawn(settings, shape, seed=11)
    before = make_batch(shape, count=4, whole=True)
    positions = flow.voxel_coordinates(shape).flatten(1).T.double().numpy()
    design = np.concatenate([positions, np.ones((len(positions), 1))], axis=1)
    for n in range(4):
        affines = []
        for field in (a, b):
            values = field[n].flatten(1).T.double().numpy()
            # Values of voxels that drew from beyond the old grid are not coordinates.
            inner = np.all((values > 1) & (values < np.array(shape[::-1]) - 2), axis=1)
            affines.append(np.linalg.lstsq(design[inner], values[inner], rcond=None)[0].T)
        known = after["truth"][n, 0].flatten().numpy() > 0
        old = positions[known] @ affines[0][:, :3].T + affines[0][:, 3]
        u = at_points(before["displacement"][n : n + 1].double(), torch.tensor(old)[None].float())[0].double().numpy()
        new = (old + u - affines[1][:, 3]) @ np.linalg.inv(affines[1][:, :3]).T
        truth = after["displacement"][n].flatten(1).T.numpy()[known]
        assert known.mean() > 0.2
        assert np.abs(new - positions[known] - truth).max() < 2e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_elastic_truth_meets_the_moving_map_where_the_fixed_map_and_the_old_truth_lead(shape):
    """b(p + u'(p)) = a(p) + u(a(p)), with inverses from exp(-v): within a few hundredths of a voxel."""
    a, b, after = maps_drawn(GEOMETRY | ALWAYS, shape, seed=4)
    before = make_batch(shape, count=4, whole=True)
    expected = a + flow.warp(before["displacement"], a)
    reached = flow.warp(b, flow.voxel_coordinates(shape)[None] + after["displacement"])
    error = (reached - expected).square().sum(1, keepdim=True).sqrt()[after["truth"] > 0]
    error = error[error.isfinite()]
    assert len(error) > 0.15 * a[:, 0].numel()
    assert error.mean() < 0.03
    assert error.quantile(0.999) < 0.15


def test_without_any_change_everything_stays_as_it_is():
    before = make_batch()
    after = Augmentation(**STILL)(before, generator(0))
    assert list(after) == list(before)
    for key, value in before.items():
        if key in ("truth", "displacement"):
            continue  # the border of the truth is lost, see below
        if isinstance(value, torch.Tensor) and not key.endswith("_points"):
            torch.testing.assert_close(after[key], value, atol=3e-5, rtol=0)
    kept = after["truth"] > 0
    assert kept.sum() == before["truth"].sum()
    torch.testing.assert_close(after["displacement"], before["displacement"] * kept, atol=2e-4, rtol=0)
    there = ~before["fixed_points"].isnan()
    torch.testing.assert_close(after["fixed_points"][there], before["fixed_points"][there], atol=2e-5, rtol=0)
    assert after["fixed_points"][~there].isnan().all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_mirror_images_labels_truth_and_points(axis):
    before = make_batch()
    after = Augmentation(**STILL | {f"flip_{'xyz'[axis]}": 1.0})(before, generator(0))
    dim = 4 - axis
    for key in ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels"):
        torch.testing.assert_close(after[key], before[key].flip(dim), atol=3e-5, rtol=0)
    mirrored = before["displacement"].flip(dim)
    mirrored[:, axis] *= -1
    torch.testing.assert_close(after["displacement"], mirrored * after["truth"], atol=2e-4, rtol=0)
    expected = before["fixed_points"].clone()
    expected[..., axis] = SHAPES[0][2 - axis] - 1 - expected[..., axis]
    there = ~after["fixed_points"].isnan()
    assert there.float().mean() > 0.9
    torch.testing.assert_close(after["fixed_points"][there], expected[there], atol=2e-5, rtol=0)


def test_points_follow_the_images_and_the_truth():
    before = make_batch(count=6, whole=True)
    after = Augmentation(**GEOMETRY, **ALWAYS)(before, generator(8))
    for scan in ("fixed", "moving"):
        there = ~after[f"{scan}_points"].isnan().any(-1)
        assert 0.5 < there.float().mean() < 1
        old = at_points(before[scan], before[f"{scan}_points"].nan_to_num())[there]
        new = at_points(after[scan], after[f"{scan}_points"].nan_to_num())[there]
        assert (old - new).abs().median() < 0.003
    assert after["fixed_points"][0, 3].isnan().all()
    assert after["moving_points"][0, 3].isnan().all()
    points = after["fixed_points"].nan_to_num()
    known = at_points(after["truth"], points)[..., 0] > 0.999
    shift = at_points(after["displacement"], points) - (after["moving_points"].nan_to_num() - points)
    assert known.sum() > 40
    assert shift[known & there].abs().max() < 0.1


def test_masks_and_labels_follow_the_truth():
    after = Augmentation(**GEOMETRY, **ALWAYS)(make_batch(count=4), generator(2))
    known = after["truth"] > 0
    target = flow.voxel_coordinates(SHAPES[0])[None] + after["displacement"]
    moved = flow.warp(after["moving_labels"].float(), target.round()).round()
    assert after["fixed_mask"][known].all()
    # Masks are where half of the eight neighbours' weight is, labels those of the nearest one.
    assert ((after["fixed_labels"] > 0) == (after["fixed_mask"] > 0)).float().mean() > 0.99
    assert set(after["fixed_labels"].unique().tolist()) == {0, 1, 2}
    # The test's masks are not moved by its motion (up to 2 voxels), only augmented: shells differ, the sides never do.
    sides = moved[known & (moved > 0)] == after["fixed_labels"][known & (moved > 0)]
    assert (moved[known] > 0).float().mean() > 0.75
    assert sides.all()


def test_displacement_is_zero_where_the_truth_is_not_known_and_never_mixed_with_unknown_neighbours():
    batch = make_batch(count=4)
    batch["displacement"] = torch.where(batch["truth"] > 0, 3.0, 0.0).expand(-1, 3, -1, -1, -1).clone()
    settings = STILL | dict(affine_probability=1.0, scale=1.0, rotation_degrees=0.0, shear=0.0)  # shifts alone
    after = Augmentation(**settings)(batch, generator(1))
    known = (after["truth"] > 0).expand(-1, 3, -1, -1, -1)
    assert known.any()
    assert (after["displacement"][~known] == 0).all()
    torch.testing.assert_close(
        after["displacement"][known], torch.full_like(after["displacement"][known], 3.0), atol=0.004, rtol=0
    )


def test_mass_is_kept_between_the_two_scans():
    """With the same scan on both sides, the moving lungs weigh what the fixed ones do; without the law they do not."""
    settings = GEOMETRY | ALWAYS | dict(translation=0.0, scale=1.05, rotation_degrees=3.0, difference_translation=0.0)
    settings |= dict(difference_scale=1.15, ground=0.0)
    weights = {}
    for mass in (0.0, 1.0):
        batch = make_batch(count=6)
        image = batch["moving"] * batch["moving_mask"]
        batch |= {"fixed": image, "moving": image.clone(), "displacement": torch.zeros_like(batch["displacement"])}
        after = Augmentation(**settings | {"mass": (mass, mass)})(batch, generator(6))
        weights[mass] = (after["moving"].sum((1, 2, 3, 4)) / after["fixed"].sum((1, 2, 3, 4)) - 1).abs()
    assert weights[1.0].max() < 0.02
    assert weights[0.0].max() > 0.05


def test_one_lung_is_dropped_alike_from_both_scans():
    after = Augmentation(**STILL | dict(one_lung_probability=1.0))(make_batch(count=8), generator(0))
    for n in range(8):
        sides = {tuple(after[f"{scan}_labels"][n].unique().tolist()) for scan in ("fixed", "moving")}
        assert len(sides) == 1
        assert sides.pop() in {(0, 1), (0, 2)}
        assert (after["fixed"][n][after["fixed_mask"][n] == 0] - 1).abs().max() < 1e-4
        assert not after["truth"][n][after["fixed_mask"][n] == 0].any()
    kept = {tuple(labels.unique().tolist()) for labels in after["fixed_labels"]}
    assert len(kept) == 2  # now the one, now the other


def test_a_single_lung_is_never_cut_in_two():
    batch = make_batch(count=4)
    for key in list(batch):
        if isinstance(batch[key], torch.Tensor) and not key.endswith("_points"):
            keep = torch.zeros(SHAPES[0][2]).bool()
            keep[: SHAPES[0][2] // 2] = True
            batch[key] = torch.where(keep, batch[key], 1.0 if key in ("fixed", "moving") else 0).to(batch[key].dtype)
    after = Augmentation(**STILL | dict(one_lung_probability=1.0))(batch, generator(0))
    assert (after["fixed_mask"] == batch["fixed_mask"]).all()


def test_a_cut_field_of_view_ends_masks_truth_and_points():
    settings = STILL | dict(cut_probability=1.0, cut_share=0.4, cut_slope=0.0)
    before = make_batch(count=6)
    after = Augmentation(**settings)(before, generator(0))
    for scan in ("fixed", "moving"):
        assert ((after[f"{scan}_mask"] == 0) | (before[f"{scan}_mask"] > 0)).all()
        lost = 1 - after[f"{scan}_mask"].sum() / before[f"{scan}_mask"].sum()
        assert 0.1 < lost < 0.8
        gone = (before[f"{scan}_mask"] > 0) & (after[f"{scan}_mask"] == 0)
        assert (after[scan][gone] == 1).all()
    known = after["truth"] > 0
    assert known.any()
    target = flow.voxel_coordinates(SHAPES[0])[None] + after["displacement"]
    heights = target[:, 2:3]
    for n in range(6):
        shown = after["moving_mask"][n].amax((0, 2, 3)).nonzero()
        assert heights[n][known[n]].min() >= shown.min() - 1
        assert heights[n][known[n]].max() <= shown.max() + 1
        there = ~after["moving_points"][n].isnan().any(-1)
        z = after["moving_points"][n, there, 2]
        assert ((z >= shown.min() - 1) & (z <= shown.max() + 1)).all()
    assert after["fixed_points"].isnan().sum() > before["fixed_points"].isnan().sum()


def test_a_field_of_its_own_ends_a_scan_at_its_sides():
    settings = STILL | dict(field_probability=1.0, field_share=(0.5, 0.8))
    before = make_batch(count=6, whole=True)
    after = Augmentation(**settings)(before, generator(0))
    shape = torch.tensor(before["fixed"].shape[:1:-1])
    ends = {}
    for scan in ("fixed", "moving"):
        changed = ((after[scan] - before[scan]).abs() > 1e-4)[:, 0]
        assert (after[scan][:, 0][changed] == 1).all()
        shown = after[f"{scan}_mask"][:, 0] > 0
        assert not (shown & changed).any()
        where = [one.nonzero().flip(1) for one in shown]
        ends[scan] = torch.stack([torch.stack([w.min(0).values, w.max(0).values]) for w in where])
        share = (ends[scan] - (shape - 1) / 2).abs() / (shape / 2)
        assert share.min() > 0.5 - 2 / shape.min()
        assert share.max() < 0.8
        assert ends[scan].float().std(0).min() > 0  # every sample, every side has its own
    assert not torch.equal(ends["fixed"], ends["moving"])
    target = flow.voxel_coordinates(SHAPES[0])[None] + after["displacement"]
    for n in range(6):
        reached = target[n][:, (after["truth"] > 0)[n, 0]]
        assert (reached.min(1).values >= ends["moving"][n, 0] - 1).all()
        assert (reached.max(1).values <= ends["moving"][n, 1] + 1).all()
    none = Augmentation(**STILL | dict(field_probability=1.0, field_share=(1.1, 1.2)))(before, generator(0))
    assert torch.allclose(none["fixed"], before["fixed"], atol=1e-4)


def test_the_difference_is_drawn_small_as_often_as_large():
    settings = STILL | dict(difference_probability=1.0, difference_rotation_degrees=0.0, difference_scale=1.0)
    settings |= dict(difference_shear=0.0, difference_translation=4.0, difference_strength=(0.01, 1.0))
    before = make_batch(count=64, whole=True)
    before["displacement"] = 0 * before["displacement"]
    lengths = []
    for seed in range(4):
        after = Augmentation(**settings)(before, generator(seed))
        known = after["truth"] > 0
        lengths += [
            after["displacement"][n].norm(dim=0)[known[n, 0]].mean().item() for n in range(64) if known[n].any()
        ]
    lengths = torch.tensor(lengths)
    assert lengths.max() < 4 * 3**0.5
    # Each factor of ten is as likely: half of the draws lie below a tenth of the longest.
    assert 0.35 < (lengths < 0.4).float().mean() < 0.65
    assert (lengths < 0.04).any()
    assert (lengths > 2).any()


def test_lesions_come_into_the_lungs_of_one_scan_as_added_density():
    before = make_batch(count=8)
    after = Augmentation(**STILL | dict(lesion_probability=1.0, lesion_share=(0.1, 0.3)))(before, generator(0))
    ill = {}
    for scan in ("fixed", "moving"):
        change = after[scan] - before[scan]
        inside = before[f"{scan}_mask"] > 0
        assert change.min() > -1e-4
        assert change[~inside].abs().max() < 1e-4
        ill[scan] = torch.stack([(c[m] > 0.02).float().mean() for c, m in zip(change, inside, strict=True)])
    assert (torch.minimum(ill["fixed"], ill["moving"]) == 0).all()
    assert ((ill["fixed"] + ill["moving"] > 0.02) & (ill["fixed"] + ill["moving"] < 0.5)).all()
    assert (ill["fixed"] > 0).any()
    assert (ill["moving"] > 0).any()


def test_the_generator_alone_decides_and_the_batch_is_left_as_it_was():
    batch = make_batch()
    copies = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    state = torch.get_rng_state()
    first, again, other = (Augmentation()(batch, generator(seed)) for seed in (1, 1, 2))
    assert (torch.get_rng_state() == state).all()
    for key, value in copies.items():
        assert torch.equal(batch[key].nan_to_num(), value.nan_to_num())
        assert torch.equal(first[key].nan_to_num(), again[key].nan_to_num())
    assert not torch.equal(first["fixed"], other["fixed"])


@pytest.mark.parametrize("shape", [(5, 7, 9), (48, 3, 17), (1, 20, 20)])
def test_odd_and_tiny_grids_give_finite_numbers_in_the_types_of_samples(shape):
    settings = dict(one_lung_probability=0.5, cut_probability=0.5, lesion_probability=0.5)
    batch = make_batch(shape, count=5)
    for key in ("fixed", "moving", "displacement"):
        batch[key] = batch[key].half()  # as samples are cached
    for seed in range(4):
        after = Augmentation(**settings)(batch, generator(seed))
        for key, value in after.items():
            if not isinstance(value, torch.Tensor):
                assert value == batch[key]
                continue
            assert value.shape == batch[key].shape
            if key.endswith("_points"):
                assert (value.isnan().all(-1) == value.isnan().any(-1)).all()
                continue
            assert value.isfinite().all()
            assert value.dtype == (torch.float32 if batch[key].is_floating_point() else torch.uint8)


def test_empty_masks_and_absent_labels_and_points_are_no_obstacle():
    batch = {k: v for k, v in make_batch().items() if "labels" not in k and "points" not in k}
    batch |= {key: torch.zeros_like(batch[key]) for key in ("fixed_mask", "moving_mask", "truth", "displacement")}
    batch |= {key: torch.ones_like(batch[key]) for key in ("fixed", "moving")}
    after = Augmentation(one_lung_probability=1.0, cut_probability=1.0, lesion_probability=1.0)(batch, generator(0))
    assert set(after) == set(batch)
    assert not after["truth"].any()
    assert (after["fixed"] == 1).all()


def test_outside_the_lungs_the_ground_stays():
    after = Augmentation()(make_batch(count=6), generator(9))
    for scan in ("fixed", "moving"):
        near = torch.nn.functional.max_pool3d(after[f"{scan}_mask"].float(), 7, 1, 3) > 0
        assert (~near).any()
        assert (after[scan][~near] == 1).all()
