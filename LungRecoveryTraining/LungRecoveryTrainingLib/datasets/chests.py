"""Pairs of synthetic chest scans drawn at random: build, breath, lesions, scanner, voxels, field of view.

The anatomy, motion and rendering are the library's phantom; what is drawn here is wider than its ready-made patients:
any load of lesions goes with any breath, up to 70 mm at the diaphragm, and every scan has a protocol of its own.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, maximum_filter

from LungRecoveryLib.grids import Grid, grid_of, to_array, to_image
from LungRecoveryLib.phantom.acquisition import Scanner
from LungRecoveryLib.phantom.body import Anatomy, build_anatomy
from LungRecoveryLib.phantom.build import Build
from LungRecoveryLib.phantom.frames import make_grid
from LungRecoveryLib.phantom.lattice import SPACING
from LungRecoveryLib.phantom.lesions import Stage, correlated_noise, grow_lesions
from LungRecoveryLib.phantom.motion import Motion, random_motion
from LungRecoveryLib.phantom.patient import scale_to_mean
from LungRecoveryLib.phantom.render import Material, make_texture, normal_density, render
from LungRecoveryLib.phantom.soft import BLOOD
from LungRecoveryLib.phantom.stages import NO_LESIONS, abnormal_share
from LungRecoveryLib.phantom.vasculature import grow_trees

from .samples import Map, Scan

KINDS = ("recovering", "unchanged", "worsening", "breath", "still", "pair")
CHEST_MM = (308.0, 238.0, 322.0)
"""The extent (x, y, z) mm of a field of view with a whole chest, as of the library's phantoms."""

DEEPEST_MM = 70.0
Range = tuple[float, float]


@dataclass(frozen=True)
class PhantomSettings:
    """What synthetic scans are drawn from; a range is drawn from evenly, a share is a probability.

    `kinds` of patients, each as often as the others: of ``recovering``, ``worsening`` and ``unchanged`` the lesions
    clear, grow or stay while the patient breathes as for follow-ups (mean motion up to `followup_mm`); ``breath`` and
    ``pair`` have breaths as different as `motion_mm` (mean motion of the landmarks in mm) without and with lesions, and
    the share `deep` of them moves the diaphragm by `deep_mm` instead; ``still`` does not move at all. `lesions`: the
    abnormal share of the lungs where they are most ill. `heterogeneity` scales how unevenly the lung's parts expand.
    `pixel_mm`, `slice_mm`: voxels across and along the body; `blur_mm`, `sharpen`, `noise_hu`: the reconstruction
    kernel. `cropped`: share of scans whose field of view cuts up to `crop_mm` off the lungs; `one_lung`: share of
    patients whose masks hold one lung only; `rough_masks`: share of scans whose mask errs by about a voxel.
    `contrast`: share of scans with contrast medium, `contrast_hu` more in the blood.
    `visits`: pairs made of each patient. `size` (x, y, z) voxels of the grid, None for whatever holds the chest.
    """

    kinds: tuple[str, ...] = ("recovering", "unchanged", "worsening", "breath", "pair", "pair", "pair", "still")
    motion_mm: Range = (4.0, 30.0)
    followup_mm: Range = (2.0, 12.0)
    deep: float = 0.25
    deep_mm: Range = (40.0, DEEPEST_MM)
    lesions: Range = (0.02, 0.35)
    heterogeneity: Range = (0.5, 1.3)
    pixel_mm: Range = (1.9, 3.0)
    slice_mm: Range = (1.5, 5.0)
    blur_mm: Range = (0.4, 1.0)
    sharpen: Range = (0.0, 0.6)
    noise_hu: Range = (5.0, 40.0)
    cropped: float = 0.3
    crop_mm: float = 45.0
    one_lung: float = 0.2
    rough_masks: float = 0.3
    contrast: float = 0.0
    contrast_hu: Range = (60.0, 300.0)
    visits: int = 2
    size: tuple[int, int, int] | None = None


HELD_OUT = replace(
    PhantomSettings(),
    kinds=("recovering", "worsening", "pair", "breath"),
    motion_mm=(6.0, 32.0),
    followup_mm=(3.0, 14.0),
    deep_mm=(55.0, 65.0),
    heterogeneity=(0.9, 1.2),
    pixel_mm=(1.6, 1.8),
    slice_mm=(1.2, 2.5),
    blur_mm=(0.3, 0.4),
    sharpen=(0.6, 0.9),
    noise_hu=(25.0, 55.0),
    visits=1,
)
"""For validation and testing: sharp kernels, finer voxels, more noise and other motion than any training scan has."""


@dataclass(eq=False)
class ChestScan:
    """One scan of a synthetic patient: `image` int16 HU, `lungs` uint8 (1 right, 2 left), `points` (K, 3) LPS mm, the
    branching points of its vessels (NaN for those outside the mask), and its `motion` from the patient's anatomy."""

    image: sitk.Image
    lungs: sitk.Image
    points: np.ndarray
    motion: Motion = field(repr=False)

    def as_scan(self) -> Scan:
        """The scan as samples are made of it."""
        return Scan(self.image, self.lungs, None, self.points)


def patient_scans(seed: int, settings: PhantomSettings) -> tuple[str, list[ChestScan]]:
    """The kind of a synthetic patient and its scans, the baseline first: `settings.visits` + 1.

    Row i of `points` is the same branching point in every scan. The same seed and settings give the same voxels.
    """
    rng = np.random.default_rng([seed, 20_703])
    kind = str(rng.choice(settings.kinds))
    depths, means = _breaths(kind, rng, settings)
    # A patient who breathes deeper at the follow-up lay in expiration at the baseline.
    build = Build.random(rng, expired=0.75 * max(0.0, -min(depths)))
    anatomy = build_anatomy(build)
    tubes = grow_trees(anatomy, rng)
    motions = [Motion(thorax=build.thorax)]
    for depth, mean in zip(depths, means, strict=True):
        motions.append(_motion(kind, rng, build, depth, mean, tubes.landmarks, settings))
    levels = grow_lesions(rng, anatomy.coordinates, anatomy.depth, SPACING, count=int(rng.integers(8, 40)))
    material = Material(anatomy, tubes, make_texture(rng), levels)
    stages = _stages(kind, material, motions, rng, settings)
    side = int(rng.integers(1, 3))
    side = side if rng.random() < settings.one_lung else None
    scans = [_scan(material, motion, stage, side, rng, settings) for motion, stage in zip(motions, stages, strict=True)]
    return kind, scans


def true_map(fixed: ChestScan, moving: ChestScan) -> Map:
    """The exact map from one scan's points to another's; known inside the chest wall, along which the lungs slide."""

    def known(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tissue, _, inside = fixed.motion.inverse_coordinates(tuple(np.asarray(points, np.float64).T))
        return np.stack(moving.motion.forward_coordinates(tissue)[0], axis=1), inside

    return known


def _breaths(kind: str, rng: np.random.Generator, settings: PhantomSettings) -> tuple[list[float], list[float | None]]:
    """For each visit how far the diaphragm rises (mm), and the landmarks' mean motion (mm) to scale that to, if any."""
    if kind == "still":
        return [0.0] * settings.visits, [None] * settings.visits
    sign = 1.0 if rng.random() < 0.6 else -1.0
    depths, means = [], []
    for _ in range(settings.visits):
        deep = kind in ("pair", "breath") and rng.random() < settings.deep
        low, high = settings.motion_mm if kind in ("pair", "breath") else settings.followup_mm
        mean = None if deep else float(np.exp(rng.uniform(np.log(low), np.log(high))))
        depths.append(sign * (float(rng.uniform(*settings.deep_mm)) if deep else min(2.1 * mean, DEEPEST_MM)))
        means.append(mean)
    return depths, means


def _motion(kind, rng, build: Build, depth: float, mean: float | None, landmarks, settings) -> Motion:
    if kind == "still":
        return Motion(thorax=build.thorax)
    table = min(8.0, 0.25 * mean) if mean is not None else rng.uniform(0.0, 8.0)
    motion = random_motion(
        rng,
        build.thorax,
        depth,
        table_mm=table,
        table_degrees=rng.uniform(0.0, 1.5),
        heterogeneity=rng.uniform(*settings.heterogeneity),
        bottom=build.dome[0] - 20.0,
        posture_mm=rng.uniform(0.2, 1.0) if mean is None else min(1.0, mean / 11.0),
    )
    if mean is None:
        return motion
    scaled = scale_to_mean(motion, landmarks, mean)
    deepest = abs(scaled.depth) / DEEPEST_MM
    return scaled if deepest <= 1.0 else scaled.scaled(1.0 / deepest)


def _stages(kind, material: Material, motions: list[Motion], rng, settings: PhantomSettings) -> list[Stage]:
    """A stage of the disease for each scan: the abnormal share falls, grows, stays or (pair) is anything."""
    if kind == "breath":
        return [NO_LESIONS] * len(motions)
    worst = rng.uniform(*settings.lesions)
    left = np.sort(rng.uniform(0.0, 1.0, len(motions) - 1))[::-1]
    shares = worst * np.concatenate([[1.0], left])
    if kind == "worsening":
        shares = shares[::-1]
    elif kind == "unchanged":
        shares = np.full(len(motions), worst)
    elif kind == "pair":
        shares = rng.permutation(shares)
    scar, dense = rng.uniform(-0.1, 0.3), rng.uniform(-0.2, 0.9)
    solved = _Shares(material.anatomy, material.levels, scar, dense)
    return [solved.stage(motion, float(share)) for motion, share in zip(motions, shares, strict=True)]


class _Shares:
    """Finds the stage at which a given share of the lungs is abnormal; `scar` and `dense` are the thresholds of
    reticulation and consolidation above that of ground glass."""

    STEP = 4  # every so many lattice points of the lungs are looked at

    def __init__(self, anatomy: Anatomy, levels: np.ndarray, scar: float, dense: float):
        lung = np.flatnonzero(anatomy.channel("lung").ravel() < 0)[:: self.STEP]
        self.points = np.stack([c.ravel()[lung] for c in anatomy.coordinates], axis=1)
        self.levels = levels.reshape(3, -1)[:, lung]
        self.normal = normal_density(self.points[:, 1], anatomy.build.expired)
        self.scar, self.dense = scar, dense

    def stage(self, motion: Motion, share: float) -> Stage:
        """The stage with the abnormal `share` at a visit with `motion`."""
        if share < 0.002:
            return NO_LESIONS
        jacobian = motion.jacobian(self.points)
        low, high = -2.0, 3.0
        for _ in range(12):
            middle = 0.5 * (low + high)
            more = abnormal_share(self.levels, self.normal, jacobian, self._at(middle)) > share
            low, high = (middle, high) if more else (low, middle)
        return self._at(0.5 * (low + high))

    def _at(self, threshold: float) -> Stage:
        return Stage(threshold, threshold + self.dense, threshold + self.scar)


def _scan(material, motion: Motion, stage: Stage, side: int | None, rng, settings: PhantomSettings) -> ChestScan:
    slice_mm = rng.uniform(*settings.slice_mm)
    scanner = Scanner(
        "drawn",
        blur_mm=rng.uniform(*settings.blur_mm),
        sharpen=rng.uniform(*settings.sharpen),
        slice_mm=slice_mm * rng.uniform(1.0, 1.6),
        noise_hu=rng.uniform(*settings.noise_hu),
    )
    grid = _grid(rng, slice_mm, settings)
    # Without contrast medium nothing is drawn, so that seeds keep their scans.
    if settings.contrast and rng.random() < settings.contrast:
        material = replace(material, blood_hu=BLOOD + rng.uniform(*settings.contrast_hu))
    rendered = render(material, motion, stage, grid, scanner, rng)
    lungs = rendered.lungs if side is None else np.where(rendered.lungs == side, rendered.lungs, 0)
    if rng.random() < settings.rough_masks:
        lungs = _rough(lungs, rng)
    images = [to_image(rendered.ct, grid), to_image(lungs.astype(np.uint8), grid)]
    if rng.random() < settings.cropped:
        images = _cropped(images, rng, settings.crop_mm)
    points = _seen(motion.forward(material.tubes.landmarks), images[1])
    return ChestScan(*images, points, motion)


def _grid(rng: np.random.Generator, slice_mm: float, settings: PhantomSettings) -> Grid:
    """The grid of a whole chest, centred on the origin, or of `settings.size` voxels."""
    spacing = (*(float(rng.uniform(*settings.pixel_mm)),) * 2, float(slice_mm))
    size = settings.size or tuple(int(np.ceil(e / s)) for e, s in zip(CHEST_MM, spacing, strict=True))
    return make_grid(size, spacing)


def _rough(lungs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (z, y, x) whose border errs smoothly to either side, about a voxel at most."""
    soft = gaussian_filter((lungs > 0).astype(np.float32), 1.0)
    inside = soft > 0.5 + rng.uniform(-0.12, 0.12) + 0.12 * correlated_noise(rng, lungs.shape, 4.0)
    return np.where(inside, np.where(lungs > 0, lungs, maximum_filter(lungs, 5)), 0)


def _cropped(images: list[sitk.Image], rng: np.random.Generator, most_mm: float) -> list[sitk.Image]:
    """The images (scan, mask) without what lies beyond a plane that cuts into the lungs, mostly across the body."""
    along = np.argwhere(to_array(images[1]) > 0)[:, ::-1]
    if not len(along):
        return images
    axis = 2 if rng.random() < 0.7 else int(rng.integers(0, 2))
    off = round(rng.uniform(0.1, 1.0) * most_mm / images[0].GetSpacing()[axis])
    low, high = int(along[:, axis].min()), int(along[:, axis].max())
    off = min(off, (high - low) // 3)
    size, start = list(images[0].GetSize()), [0, 0, 0]
    if rng.random() < 0.5:
        start[axis] = low + off
        size[axis] -= start[axis]
    else:
        size[axis] = high + 1 - off
    return [sitk.RegionOfInterest(image, size, start) for image in images]


def _seen(points: np.ndarray, mask: sitk.Image) -> np.ndarray:
    """The points (K, 3) with NaN for those outside a mask."""
    grid, array = grid_of(mask), to_array(mask)
    index = np.rint(grid.indices(points)).astype(int)
    seen = ((index >= 0) & (index < np.array(grid.size))).all(axis=1)
    seen[seen] = array[tuple(index[seen].T[::-1])] > 0
    return np.where(seen[:, None], points, np.nan)
