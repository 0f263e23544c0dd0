"""Synthetic patients: dated chest CTs with known motion, lesions and recovery."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import SimpleITK as sitk

from ..errors import BadInput
from ..grids import Grid, to_image
from ..progress import Progress, no_progress, part
from .acquisition import SOFT, Scanner
from .body import build_anatomy
from .build import Build
from .frames import IDENTITY, make_grid, true_displacement
from .motion import Motion, random_motion
from .render import Material, Rendered, make_texture, render
from .stages import disease, plan_stages
from .vasculature import grow_trees

KINDS = ("recovering", "unchanged", "worsening", "breath", "still")
SIZE = (176, 136, 184)
SPACING = (1.75, 1.75, 1.75)


@dataclass
class Visit:
    """One scan of a patient, with everything that is true about it.

    `ct` (int16 HU) and the label maps (uint8) lie on the visit's grid: `lungs` 1 right, 2 left; `lobes` 1 right upper,
    2 right middle, 3 right lower, 4 left upper, 5 left lower; `airways` 1 lumen, 2 wall; `vessels` 1 artery, 2 vein;
    `lesions` 1 ground glass, 2 consolidation, 3 reticulation. `displacement` (float32 vectors, LPS mm, baseline point
    to visit point) and `jacobian` (float32, its determinant) lie on the BASELINE's grid and are exact; inside the
    lungs the displacement is smooth, at the pleura it jumps. Row i of `landmarks` (N, 3) LPS mm is the same branching
    point of the lung's arteries in every visit. `abnormal` (uint8): lung whose noise-free density lies in -700..+100
    HU because of a lesion, vessels and airways excluded.
    """

    label: str
    days: float
    ct: sitk.Image
    lungs: sitk.Image
    lobes: sitk.Image
    airways: sitk.Image
    vessels: sitk.Image
    lesions: sitk.Image
    abnormal: sitk.Image
    landmarks: np.ndarray
    motion: Motion = field(repr=False)
    baseline_grid: Grid = field(repr=False)

    @cached_property
    def displacement(self) -> sitk.Image:
        """The true displacement; computed when first asked for, like the Jacobian."""
        return self._maps[0]

    @cached_property
    def jacobian(self) -> sitk.Image:
        """The true Jacobian determinant of the displacement."""
        return self._maps[1]

    @cached_property
    def _maps(self) -> tuple[sitk.Image, sitk.Image]:
        displacement, jacobian = true_displacement(self.motion, self.baseline_grid)
        return to_image(displacement, self.baseline_grid), to_image(jacobian, self.baseline_grid)


@dataclass
class Patient:
    """A synthetic patient: the first visit is the baseline."""

    kind: str
    seed: int
    visits: list[Visit]

    def truth(self) -> dict:
        """What is true of every visit, as plain numbers; see :func:`LungRecoveryLib.phantom.truth.truth`."""
        from .truth import truth

        return truth(self)


def make_patient(
    kind: str = "recovering",
    seed: int = 0,
    size: tuple[int, int, int] = SIZE,
    spacing: tuple[float, float, float] = SPACING,
    days: tuple[float, ...] = (0, 30, 90, 180),
    progress: Progress = no_progress,
    direction: tuple[float, ...] = IDENTITY,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scanner: Scanner = SOFT,
    table_mm: float = 6.0,
) -> Patient:
    """Make a patient with one scan per entry of `days`, the first of which is the baseline.

    Kinds: ``recovering`` (lesions clear, the lung gains volume, every breath differs), ``unchanged``, ``worsening``,
    ``breath`` (healthy, another breath only) and ``still`` (lesions clear without any motion). `size` (x, y, z) in
    voxels, `spacing` in mm and `direction` (nine cosines, row by row) describe the grid of all visits, `centre` is
    the LPS point of its middle, where the middle of the chest lies. A grid smaller than a chest shows a part of it.
    `table_mm` is the SD of the table's shift between scans, `scanner` the protocol (SOFT or SHARP, or one's own).
    The same arguments give the same voxels. Raises BadInput for an unknown kind or days that do not rise.
    """
    if kind not in KINDS:
        raise BadInput(f"there is no phantom of the kind {kind!r}: choose one of {', '.join(KINDS)}")
    if len(days) < 1 or any(b <= a for a, b in pairwise(days)):
        raise BadInput("the days of a phantom's visits must rise")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    grid = make_grid(size, spacing, direction, centre)
    build = Build.random(rng)
    motions = [Motion(thorax=build.thorax)]
    for number in range(1, len(days)):
        motions.append(_visit_motion(rng, kind, build, number, len(days), table_mm))
    return _assemble(kind, seed, grid, build, motions, days, rng, scanner, progress)


def make_pair(
    seed: int = 0,
    mean_motion_mm: float = 25.0,
    size: tuple[int, int, int] = SIZE,
    spacing: tuple[float, float, float] = SPACING,
    direction: tuple[float, ...] = IDENTITY,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scanner: Scanner = SOFT,
    progress: Progress = no_progress,
    table_mm: float | None = None,
) -> Patient:
    """Two scans in very different breaths (kind ``breath``): the landmarks move by `mean_motion_mm` on average.

    Either scan can be the one in inspiration. `table_mm` is a quarter of the mean motion, at most 4, unless given. The
    other arguments are those of :func:`make_patient`. Raises BadInput for a mean motion outside 2 to 35 mm.
    """
    if not 2.0 <= mean_motion_mm <= 35.0:
        raise BadInput(f"a mean motion of {mean_motion_mm:g} mm cannot be made: choose 2 to 35 mm")
    rng = np.random.default_rng([seed, 1000 + round(mean_motion_mm * 100)])
    grid = make_grid(size, spacing, direction, centre)
    expiration = rng.random() < 0.6
    deep = 2.1 * mean_motion_mm
    build = Build.random(rng, expired=0.0 if expiration else 0.75 * deep)
    if table_mm is None:
        table_mm = min(4.0, 0.25 * mean_motion_mm)
    motion = random_motion(
        rng,
        build.thorax,
        depth=deep if expiration else -deep,
        table_mm=table_mm,
        table_degrees=1.2,
        posture_mm=min(1.0, mean_motion_mm / 11.0),
        bottom=build.dome[0] - 20.0,
    )
    motions = [Motion(thorax=build.thorax), motion]
    return _assemble("breath", seed, grid, build, motions, (0, 30), rng, scanner, progress, mean_motion_mm)


def _visit_motion(
    rng: np.random.Generator, kind: str, build: Build, number: int, count: int, table_mm: float
) -> Motion:
    if kind == "still":
        return Motion(thorax=build.thorax)
    share = number / max(count - 1, 1)
    depth = rng.uniform(-3.5, 3.5)
    if kind == "recovering":
        depth = -6.0 * share + rng.uniform(-2, 2)
    if kind == "worsening":
        depth = 7.0 * share + rng.uniform(-2, 2)
    if kind == "breath":
        depth = rng.uniform(5.0, 12.0) * rng.choice((-1, 1))
    motion = random_motion(rng, build.thorax, depth, table_mm, table_degrees=1.0, bottom=build.dome[0] - 20.0)
    if kind == "recovering":
        # The bases, where most of the lesions were, open again more than the rest.
        opening = [(side * 0.55, 0.40, -15.0, 0.55, 32.0, 6.0 * share) for side in (-1, 1)]
        motion = replace(motion, bumps=(*motion.bumps, *opening))
    return motion


def _assemble(kind, seed, grid, build, motions, days, rng, scanner, progress, mean_motion_mm=None) -> Patient:
    progress("anatomy", 0.0)
    anatomy = build_anatomy(build)
    tubes = grow_trees(anatomy, rng)
    texture = make_texture(rng)
    material = Material(anatomy, tubes, texture, disease(kind, anatomy, rng))
    if mean_motion_mm is not None:
        motions[1] = scale_to_mean(motions[1], tubes.landmarks, mean_motion_mm)
    progress("lesions", 0.15)
    stages = plan_stages(kind, material, motions, days)
    seeds = rng.integers(0, 2**63, len(motions))
    visits = []
    for number, (motion, stage) in enumerate(zip(motions, stages, strict=True)):
        report = part(
            progress,
            0.2 + 0.8 * number / len(motions),
            0.2 + 0.8 * (number + 1) / len(motions),
            f"day {days[number]:g}: ",
        )
        rendered = render(material, motion, stage, grid, scanner, np.random.default_rng(seeds[number]), report)
        visits.append(_visit(days[number], rendered, motion, grid, tubes.landmarks))
    keep = np.all([grid.contains(v.landmarks) for v in visits], axis=0)
    for visit in visits:
        visit.landmarks = visit.landmarks[keep]
    progress("done", 1.0)
    return Patient(kind, seed, visits)


def scale_to_mean(motion: Motion, landmarks: np.ndarray, mean_mm: float) -> Motion:
    """The motion with its breathing scaled so that the landmarks (N, 3) move by `mean_mm` on average."""
    low, high = 0.0, 2.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        moved = motion.scaled(middle).forward(landmarks)
        if np.linalg.norm(moved - landmarks, axis=1).mean() < mean_mm:
            low = middle
        else:
            high = middle
    return motion.scaled(0.5 * (low + high))


def _visit(days: float, rendered: Rendered, motion: Motion, grid: Grid, landmarks: np.ndarray) -> Visit:
    names = ("ct", "lungs", "lobes", "airways", "vessels", "lesions", "abnormal")
    images = {name: to_image(getattr(rendered, name), grid) for name in names}
    return Visit(
        label=f"day {days:g}",
        days=float(days),
        landmarks=motion.forward(landmarks) + grid.centre,
        motion=motion,
        baseline_grid=grid,
        **images,
    )
