"""Samples hold what a network sees when it is used, and truth that leads from fixed to moving tissue."""

import numpy as np
import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, grid_of, to_array, to_image
from LungRecoveryLib.images import read_image, read_mask, read_scan, write_image
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.align import align_lungs
from LungRecoveryLib.registration.predict import network_inputs
from LungRecoveryLib.registration.prepare import prepare
from LungRecoveryTrainingLib.datasets import Row
from LungRecoveryTrainingLib.datasets.samples import Scan, fit_to, make_sample, read_labels, sample_of, stack

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def pair(phantoms):
    """The fixed and the moving row of a phantom with a large breath."""
    return phantoms.pairs("train")[0]


@pytest.fixture(scope="module")
def sample(pair):
    """Its sample at 6 mm on the lungs' own box."""
    return make_sample(*pair, spacing_mm=6.0)


def cube(value: float = 1.0, low: int = 10, high: int = 30, size: int = 40) -> np.ndarray:
    """An array (z, y, x) with a cube of `value` in zeros."""
    array = np.zeros((size, size, size), np.float32)
    array[low:high, low:high, low:high] = value
    return array


def textured(grid: Grid) -> Scan:
    """A scan (HU) of random lung within a cubic mask."""
    inside = cube(size=grid.size[0]) > 0
    noise = np.random.default_rng(0).normal(-800, 60, grid.shape)
    return Scan(to_image(np.where(inside, noise, 0).astype(np.int16), grid), to_image(inside, grid))


def test_shapes_types_and_values(sample):
    """What the module promises of a sample: keys, types, the ground around the lungs, truth inside them only."""
    shape = tuple(sample["fixed"].shape[1:])
    for key in ("fixed", "moving"):
        assert sample[key].dtype == torch.float32
        assert sample[key].shape == (1, *shape)
    for key in ("fixed_mask", "moving_mask", "truth"):
        assert sample[key].dtype == torch.uint8
        assert set(sample[key].unique().tolist()) <= {0, 1}
    assert sample["displacement"].shape == (3, *shape)
    deep_outside = flow.warp(sample["fixed_mask"].float(), flow.voxel_coordinates(shape))[0] == 0
    assert (sample["fixed"][0][deep_outside] > 0.2).all()
    corner = sample["fixed"][0, 0, 0, 0]
    assert corner == 1.0
    assert -0.03 <= sample["fixed"].min() < 0.4
    assert (sample["truth"] <= sample["fixed_mask"]).all()
    assert sample["truth"].sum() > 0.98 * sample["fixed_mask"].sum()
    assert sample["displacement"][:, sample["truth"][0] == 0].abs().max() == 0
    assert sample["pair"] == f"{sample['subject']}:0-30"


def test_truth_leads_to_the_same_tissue(sample):
    """At the landmarks p + u(p) is the moving landmark within a tenth of a voxel, where alignment leaves voxels."""
    fixed, moving = sample["fixed_points"], sample["moving_points"]
    index = fixed.round().long()
    at = sample["displacement"][:, index[:, 2], index[:, 1], index[:, 0]].T
    seen = sample["truth"][0, index[:, 2], index[:, 1], index[:, 0]] > 0
    assert seen.float().mean() > 0.95
    before = (moving - fixed)[seen].norm(dim=1).mean()
    # The landmark moves as the centre of its voxel does, but for the strain times the rest of at most half a voxel.
    after = (fixed + at - moving)[seen].norm(dim=1).mean()
    assert before > 0.25
    assert after < 0.35 * before


def test_truth_warps_moving_onto_fixed(sample):
    """The moving scan read at p + u(p) lies on the fixed lungs: inside its own lungs, and more alike than before."""
    truth = sample["truth"][0] > 0
    coordinates = flow.voxel_coordinates(tuple(truth.shape)) + sample["displacement"]
    both = torch.cat([sample["moving"], sample["moving_mask"].float()])
    image, mask = flow.warp(both, coordinates)
    assert (mask[truth] > 0.5).float().mean() > 0.9
    assert (mask[truth] > 0.5).float().mean() > sample["moving_mask"][0][truth].float().mean()
    fixed, moving = sample["fixed"][0][truth], sample["moving"][0][truth]
    assert torch.corrcoef(torch.stack([fixed, image[truth]]))[0, 1] > torch.corrcoef(torch.stack([fixed, moving]))[0, 1]


def test_as_when_the_network_is_used(pair, sample):
    """Images and masks are those that `network_inputs` makes of the pair in registration, voxel for voxel."""
    scans = [read_scan(row.image).image for row in pair]
    masks = [read_mask(row.mask, scan) for row, scan in zip(pair, scans, strict=True)]
    prepared = prepare(*scans, *masks, 1.5, torch.device("cpu"))
    inputs = network_inputs(prepared, align_lungs(prepared), 6.0)
    for key in ("fixed", "moving", "fixed_mask", "moving_mask"):
        assert torch.equal(sample[key].float(), getattr(inputs, key))


@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), OBLIQUE])
def test_known_translation(direction):
    """Tissue moved by (4, -6, 8) mm: without alignment u is that shift in voxels along the grid's own axes, x first."""
    grid = Grid((40, 40, 40), (2.0, 2.0, 2.0), (-40.0, -40.0, -960.0), direction)
    fixed = textured(grid)
    shift = np.array([4.0, -6.0, 8.0])
    moved = Grid(grid.size, grid.spacing, tuple(np.array(grid.origin) + shift), direction)
    moving = Scan(to_image(to_array(fixed.image), moved), to_image(to_array(fixed.mask), moved))

    def known(points):
        return points + shift, np.ones(len(points), bool)

    plain = sample_of(fixed, moving, known, spacing_mm=4.0, align=False)
    expected = torch.tensor(np.array(direction).reshape(3, 3).T @ shift / 4.0, dtype=torch.float32)
    found = plain["displacement"][:, plain["truth"][0] > 0]
    assert found.shape[1] > 400
    assert torch.allclose(found, expected[:, None].expand_as(found), atol=1e-4)
    aligned = sample_of(fixed, moving, known, spacing_mm=4.0)
    assert aligned["displacement"].abs().max() < 0.1


def test_displacement_file_is_read_within_the_mask_only(tmp_path):
    """What the chest wall does beyond the pleura (50 mm here) must not bleed into the lung's truth (3 mm)."""
    grid = Grid((40, 40, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), OBLIQUE)
    scan = textured(grid)
    field = np.full((3, *grid.shape), 50.0, np.float32)
    field[:, cube() > 0] = 3.0
    for name, image in (("ct", scan.image), ("mask", scan.mask), ("u", to_image(field, grid))):
        write_image(image, tmp_path / f"{name}.nii.gz")
    rows = [Row("a", t, tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz") for t in (0.0, 1.0)]
    moving = Row("a", 1.0, rows[1].image, rows[1].mask, displacement=tmp_path / "u.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("LungRecoveryTrainingLib.datasets.samples.images.read_scan", lambda path: _Read(path))
        sample = make_sample(rows[0], moving, 3.0, align=False)
    found = sample["displacement"][:, sample["truth"][0] > 0]
    expected = torch.tensor(np.array(OBLIQUE).reshape(3, 3).T @ np.ones(3), dtype=torch.float32)
    assert sample["truth"].sum() > 0.95 * sample["fixed_mask"].sum()
    assert torch.allclose(found, expected[:, None].expand_as(found), atol=1e-3)


class _Read:
    """A cube of lung is no chest CT for the reader; this stands for it."""

    def __init__(self, path):
        self.image = read_image(path)


def test_fit_to_keeps_places():
    """Padding and cropping move images, truth and points together, centred on the mask, filled with the ground."""
    sample = {
        "fixed": torch.full((1, 8, 10, 12), 0.5),
        "moving": torch.full((1, 8, 10, 12), 0.5),
        "fixed_mask": torch.zeros((1, 8, 10, 12), dtype=torch.uint8),
        "displacement": torch.zeros((3, 8, 10, 12)),
        "fixed_points": torch.tensor([[4.0, 5.0, 2.0], [float("nan")] * 3]),
        "subject": "a",
    }
    sample["fixed_mask"][0, 2:4, 4:8, 4:6] = 1
    sample["fixed"][0, 2, 5, 4] = 7.0
    sample["displacement"][:, 2, 5, 4] = torch.tensor([1.0, 2.0, 3.0])
    fitted = fit_to(sample, (6, 4, 16))
    assert fitted["fixed"].shape == (1, 6, 4, 16)
    x, y, z = (int(v) for v in fitted["fixed_points"][0])
    assert fitted["fixed"][0, z, y, x] == 7.0
    assert fitted["displacement"][:, z, y, x].tolist() == [1.0, 2.0, 3.0]
    assert fitted["fixed_mask"].sum() == sample["fixed_mask"].sum()
    along_z = fitted["fixed_mask"][0].any(dim=2).any(dim=1).nonzero().flatten()
    assert along_z.float().mean() == 2.5
    assert fitted["fixed"].max() == 7.0
    assert fitted["fixed"][0, :, :, 0].unique().tolist() == [1.0]
    assert fitted["fixed_points"][1].isnan().all()
    assert fitted["subject"] == "a"


def test_stack():
    """Batches stack tensors, fill points up with NaN, leave texts out, and refuse what does not fit together."""
    one = {"fixed": torch.zeros(1, 2, 2, 2), "fixed_points": torch.ones(2, 3), "pair": "a:0-1"}
    two = {"fixed": torch.ones(1, 2, 2, 2), "fixed_points": torch.ones(1, 3), "pair": "b:0-1"}
    batch = stack([one, two])
    assert batch["fixed"].shape == (2, 1, 2, 2, 2)
    assert batch["fixed_points"].isnan().all(dim=2).tolist() == [[False, False], [False, True]]
    assert "pair" not in batch
    with pytest.raises(BadInput, match="some have none"):
        stack([one, {"fixed": two["fixed"]}])
    with pytest.raises(BadInput, match="differ in size"):
        stack([one, two | {"fixed": torch.ones(1, 2, 2, 3)}])


def test_brains(tmp_path):
    """A brain is scaled by its 99.5th percentile, is 0 around, keeps its labels, and needs a mask."""
    grid = Grid((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), OBLIQUE)
    labels = cube(3.0)
    labels[:, :, 20:] *= 5.0 / 3.0
    image = cube(200.0) * np.random.default_rng(0).uniform(0.5, 1.0, labels.shape) + 7.0
    write_image(to_image(image.astype(np.float32), grid), tmp_path / "norm.nii.gz")
    write_image(to_image(labels, grid), tmp_path / "labels.nii.gz")
    rows = [Row(name, 0.0, tmp_path / "norm.nii.gz", labels=tmp_path / "labels.nii.gz") for name in "ab"]
    sample = make_sample(*rows, spacing_mm=1.0, size=(32, 32, 32), align=False, anatomy="brain")
    assert torch.equal(sample["fixed"], sample["moving"])
    assert sample["fixed"][sample["fixed_mask"] == 0].abs().max() == 0
    inside = image[labels > 0]
    assert sample["fixed"].max() == pytest.approx(inside.max() / np.percentile(inside, 99.5), rel=1e-5)
    assert sample["fixed_labels"].unique().tolist() == [0, 3, 5]
    assert sample["truth"].sum() == 0
    assert sample["pair"] == "a:0-b:0"
    with pytest.raises(BadInput, match=r"subject a at 0: .*needs its mask or its labels"):
        make_sample(Row("a", 0.0, rows[0].image), rows[1], anatomy="brain", align=False)


def test_labels_are_whole_numbers(tmp_path):
    """Fractions and negative or huge labels are refused, and the row is named."""
    grid = Grid((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), OBLIQUE)
    reference = to_image(cube(), grid)
    for value, message in ((0.5, "no whole numbers"), (-1.0, "from -1 to 0"), (2035.0, "up to|to 2035")):
        write_image(to_image(cube(value), grid), tmp_path / "labels.nii.gz")
        with pytest.raises(BadInput, match=message):
            read_labels(tmp_path / "labels.nii.gz", reference)
    write_image(reference, tmp_path / "norm.nii.gz")
    write_image(to_image(cube(0.5), grid), tmp_path / "labels.nii.gz")
    row = Row("s7", 0.0, tmp_path / "norm.nii.gz", labels=tmp_path / "labels.nii.gz")
    with pytest.raises(BadInput, match=r"subject s7 at 0: .*labels.nii.gz: its labels are no whole numbers"):
        make_sample(row, row, anatomy="brain")


def test_bad_pairs(pair, tmp_path):
    """Landmarks that do not match, a truth that is no vector image, an unknown anatomy: each one sentence."""
    fixed, moving = pair
    points = tmp_path / "points.csv"
    points.write_text("x,y,z\n0,0,0\n")
    with pytest.raises(BadInput, match=r"has 1 landmarks|and the moving one 1"):
        make_sample(fixed, Row("a", 1.0, moving.image, moving.mask, landmarks=points), align=False)
    with pytest.raises(BadInput, match="no image of three-dimensional vectors"):
        make_sample(fixed, Row("a", 1.0, moving.image, moving.mask, displacement=moving.image), align=False)
    with pytest.raises(BadInput, match="no anatomy 'liver'"):
        make_sample(fixed, moving, anatomy="liver")
    empty = tmp_path / "mask.nii.gz"
    image = read_image(fixed.image)
    write_image(to_image(np.zeros(grid_of(image).shape, np.uint8), image), empty)
    with pytest.raises(BadInput, match=r"subject a at 0: .*the mask is empty"):
        make_sample(Row("a", 0.0, fixed.image, empty), moving)


@pytest.mark.realdata
def test_real_pair(real_data, tmp_path):
    """The real follow-up of one lung, padded with -2048: values stay those of lung, and landmarks lie nearer together
    than the scans do, at a mean of less than 8 mm."""
    folder = real_data / "lung-followup-pair"
    points = np.loadtxt(folder / "landmarks_lps_mm.csv", delimiter=",", skiprows=1, ndmin=2)[:, -6:]
    rows = []
    for number, name in enumerate(("baseline", "followup")):
        path = tmp_path / f"{name}.csv"
        np.savetxt(path, points[:, 3 * number : 3 * number + 3], delimiter=",", header="x,y,z", comments="")
        rows.append(Row("real", number, folder / f"{name}.mha", folder / f"{name}_lung_mask.mha", landmarks=path))
    sample = make_sample(*rows, size=(112, 88, 112))
    distance = (sample["fixed_points"] - sample["moving_points"]).norm(dim=1) * 3.0
    assert distance.mean() < 8.0
    inside = sample["fixed"][sample["fixed_mask"] > 0]
    assert 0.05 < inside.median() < 0.5
    assert sample["fixed"].min() >= -0.03
    assert sample["truth"].sum() == 0
