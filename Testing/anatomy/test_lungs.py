"""The lungs are found, whole and by side, on made chests of known truth and on real scans."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT, label_sides, segment_lungs
from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.grids import Grid, crop, grid_of, same_grid, to_array, to_image

OBLIQUE = tuple(
    (
        np.array([[0.9397, -0.3420, 0], [0.3420, 0.9397, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, 0.9848, -0.1736], [0, 0.1736, 0.9848]])
    )
    .ravel()
    .tolist()
)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def dice(found: sitk.Image, truth: sitk.Image, label: int) -> float:
    a, b = (sitk.GetArrayViewFromImage(image) == label for image in (found, truth))
    return 2 * float((a & b).sum()) / max(int(a.sum() + b.sum()), 1)


def part_of(image: sitk.Image, start, size) -> sitk.Image:
    return sitk.RegionOfInterest(image, size, start)


@pytest.mark.parametrize(
    "layout",
    [
        {"direction": FLIPPED, "spacing": (1.8, 1.8, 5.0)},
        {"direction": OBLIQUE, "centre": (30.0, -20.0, -920.0)},
        {"direction": SAGITTAL, "extent": (280.0, 300.0, 360.0)},
    ],
    ids=["flipped thick slices", "oblique and far off", "sagittal slices"],
)
def test_both_lungs_on_any_grid(chest, on_grid, layout):
    """The right lung is the patient's right one and the surface is right, whatever the axes of the scan."""
    made = chest(on_grid(**layout), middle=layout.get("centre", (0.0, 0.0, 0.0)))
    found = segment_lungs(made.ct)
    assert same_grid(found, made.ct)
    assert found.GetPixelID() == sitk.sitkUInt8
    assert dice(found, made.lungs, RIGHT) > 0.975
    assert dice(found, made.lungs, LEFT) > 0.975


def test_neither_gas_nor_airways_nor_table(chest, on_grid):
    """Gas in the stomach, the trachea, foam and outside air hold no lung voxel."""
    made = chest(on_grid())
    found, truth = to_array(segment_lungs(made.ct)), to_array(made.lungs)
    hu = to_array(made.ct)
    stray = (found > 0) & (truth == 0) & (hu < -900)
    assert stray.sum() * grid_of(made.ct).voxel_ml < 3.0


@pytest.mark.parametrize("options", [{"noise": 60.0}, {"noise": 0.0, "airways": False}], ids=["noise", "bare"])
def test_noisy_and_bare_phantoms(chest, on_grid, options):
    """A noise of 60 HU, or none and no airways at all, change nothing."""
    made = chest(on_grid(), **options)
    found = segment_lungs(made.ct)
    assert min(dice(found, made.lungs, side) for side in (RIGHT, LEFT)) > 0.975


def test_touching_lungs_are_cut_at_the_junction_line(chest, on_grid):
    """Where only a blurred septum lies between the lungs each voxel still goes to its own side."""
    made = chest(on_grid(spacing=(2.0, 2.0, 3.0)), touching=True)
    found = segment_lungs(made.ct)
    x = np.indices(grid_of(found).shape)[2] * 2.0 + grid_of(found).origin[0]
    labels = to_array(found)
    assert ((labels == RIGHT) & (x > 4)).mean() < 1e-4
    assert ((labels == LEFT) & (x < -4)).mean() < 1e-4
    assert min(dice(found, made.lungs, side) for side in (RIGHT, LEFT)) > 0.97


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_a_crop_with_one_lung_is_named(chest, on_grid, side):
    """A crop that ends in the mediastinum, the lung touching its border, holds that lung and no outside air."""
    made = chest(on_grid())
    size = list(made.ct.GetSize())
    half = size[0] // 2
    start = [0 if side == RIGHT else half - 2, 8, 10]
    ct, truth = (part_of(i, start, [half + 2, size[1] - 8, size[2] - 20]) for i in (made.ct, made.lungs))
    found = segment_lungs(ct)
    assert dice(found, truth, side) > 0.97
    assert not (to_array(found) == 3 - side).any()


def test_a_lone_lung_in_a_whole_chest(chest, on_grid):
    """After the loss of one lung the other keeps its name, by the soft tissue and spine beside it."""
    made = chest(on_grid(), sides=(LEFT,))
    assert dice(segment_lungs(made.ct), made.lungs, LEFT) > 0.97


def test_padding_is_not_air(chest, on_grid):
    """A -2048 filling around a round field, which cuts the body, is neither lung nor taken for open air."""
    made = chest(on_grid())
    hu = to_array(made.ct)
    grid = grid_of(made.ct)
    _, y, x = np.indices(hu.shape)
    radius = np.hypot((x - hu.shape[2] / 2) * grid.spacing[0], (y - hu.shape[1] / 2) * grid.spacing[1])
    hu[radius > 128] = -2048
    found = segment_lungs(to_image(hu, grid))
    truth = to_array(made.lungs) * (radius <= 128)
    assert not to_array(found)[radius > 129].any()
    assert dice(found, to_image(truth.astype(np.uint8), grid), RIGHT) > 0.97


def test_vessels_and_lesions_belong_to_the_lung(chest, on_grid, shapes):
    """A vessel, a tumour inside and consolidation at the dorsal chest wall are lung; the heart is not."""
    ellipsoid, tube = shapes["ellipsoid"], shapes["tube"]
    extras = [
        (lambda p: tube(p, (-35, 5, 0), (-95, 20, -30), 4), 40.0, 1),
        (lambda p: ellipsoid(p, (75, 10, 30), (14, 14, 14)), 30.0, 2),
        (lambda p: ellipsoid(p, (-80, 74, 20), (22, 14, 25)) & ellipsoid(p, (-70, 5, 5), (56, 78, 120)), 40.0, 1),
    ]
    made = chest(on_grid(), extras=extras)
    found = to_array(segment_lungs(made.ct))
    for (inside, _, side), share in zip(extras, (0.95, 0.98, 0.7), strict=True):
        where = inside(shapes["lps"](grid_of(made.ct))) & (to_array(made.lungs) == side)
        assert (found[where] == side).mean() > share
    heart = ellipsoid(shapes["lps"](grid_of(made.ct)), (18, -25, -45), (38, 38, 48))
    assert (found[heart] > 0).mean() < 0.01


def test_no_lung_is_refused(chest, on_grid, shapes):
    """A body without lungs, and bare air, are refused in one sentence."""
    airless = chest(on_grid(), sides=(), airways=False)
    for hu in (to_array(airless.ct), np.full((40, 40, 40), -1000, np.int16)):
        with pytest.raises(BadInput, match="no lung in the field"):
            segment_lungs(to_image(hu, Grid(hu.shape[::-1], (3.0,) * 3, (0.0,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1))))


def test_it_can_be_cancelled(chest, on_grid):
    """Progress is told in rising fractions, and what it raises ends the work."""
    told = []

    def progress(stage, fraction, message=""):
        told.append(fraction)
        if fraction > 0.4:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        segment_lungs(chest(on_grid()).ct, progress)
    assert told == sorted(told)


def test_given_masks_get_their_sides(chest, on_grid):
    """Binary, swapped and lobar label maps all become 1 on the right and 2 on the left; right ones stay as they are."""
    made = chest(on_grid(direction=FLIPPED))
    truth = to_array(made.lungs)
    grid = grid_of(made.lungs)
    upper = np.indices(truth.shape)[0] > truth.shape[0] // 2
    lobes = truth * 10 + (truth > 0) * upper
    swapped = np.choose(truth, (0, 2, 1))
    for given, ct in ((truth, None), (truth > 0, None), (swapped, None), (lobes, None), (lobes, made.ct)):
        labelled = label_sides(to_image(np.asarray(given).astype(np.uint8), grid), ct)
        assert np.array_equal(to_array(labelled), truth)


def test_a_lone_given_mask_is_named_by_the_scan(chest, on_grid):
    """With its CT a binary mask of one lung gets that lung's name."""
    made = chest(on_grid())
    for side in (RIGHT, LEFT):
        one = (to_array(made.lungs) == side).astype(np.uint8)
        labelled = to_array(label_sides(to_image(one, grid_of(made.ct)), made.ct))
        assert np.array_equal(labelled, one * side)


def test_empty_and_misplaced_masks_are_refused(chest, on_grid):
    """An empty mask, or one that lies beside the scan, is refused."""
    made = chest(on_grid())
    grid = grid_of(made.ct)
    with pytest.raises(BadInput, match="empty"):
        label_sides(to_image(np.zeros(grid.shape, np.uint8), grid))
    beside = crop(grid, (1000, 0, 0), grid.size)
    with pytest.raises(BadInput, match="overlap"):
        label_sides(to_image(to_array(made.lungs) > 0, beside), made.ct)


@pytest.mark.realdata
@pytest.mark.parametrize("date", ["baseline", "followup"])
def test_the_real_pair(real_data, date):
    """The lone lung of the real pair is called right and agrees with the given mask."""
    folder = real_data / "lung-followup-pair"
    found = segment_lungs(sitk.ReadImage(str(folder / f"{date}.mha")))
    given = sitk.ReadImage(str(folder / f"{date}_lung_mask.mha"))
    assert set(np.unique(to_array(found))) == {0, RIGHT}
    assert dice(found, given, RIGHT) > 0.98


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "right_ml", "left_ml"),
    [
        ("covid_p001", 3103, 3040),
        ("lidc0314", 1111, 1924),
        ("lung1_002", 2355, 1957),
        ("normal001", 1865, 1615),
        ("pneumonia_cap001", 2922, 3160),
        ("popi_phase00", 3006, 2449),
    ],
)
def test_real_chests(real_chest, name, right_ml, left_ml):
    """Volumes as of the masks that were looked at, and next to no pure air (table, stomach, trachea) in them."""
    ct, lungs = real_chest(name)
    labels, hu = to_array(lungs), to_array(ct)
    volumes = [float((labels == side).sum()) * grid_of(ct).voxel_ml for side in (RIGHT, LEFT)]
    assert volumes == pytest.approx([right_ml, left_ml], rel=0.03)
    assert (hu[labels > 0] < -1010).mean() < 0.02
    # Nothing dorsal of the body: the table begins where the last soft tissue ends.
    rows = np.flatnonzero(((hu > -200) & (hu < 200)).mean(axis=(0, 2)) > 0.1)
    assert not labels[:, rows[-1] :].any()
