"""Rigid (6 DoF) registration: a network's start or a search over rotations, then coarse to fine with BFGS.

For scans between which no organ changes its size, for instance two contrast phases of one CT examination. What is
compared are values at points scattered over an organ and its surroundings, off the voxels of either scan, so that no
voxel grid is preferred to another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import optimize

from ..errors import BadInput
from ..progress import Progress, no_progress
from ..resources import NO_NETWORK, RIGID_WEIGHTS
from . import losses
from .align import generator
from .flow import voxel_coordinates, warp
from .motion6 import matrix_4x4, nearest_rigid, rigid, rotation_of
from .point_metrics import METRICS
from .prepare import pool
from .rigid_scan import RigidScan, rigid_scans
from .rigid_start import learned_start

DEFAULT_METRIC = "nmi"
SPACING_MM = 1.5


@dataclass(frozen=True)
class Stage:
    """Images of voxels of about `mm`, up to so many `points`, at most `steps` of BFGS, the `best` starts that go on."""

    mm: float
    points: int
    steps: int
    best: int


_SEARCH = Stage(9.0, 2_000, 12, 3)
_STAGES = (Stage(9.0, 6_000, 25, 2), Stage(4.5, 20_000, 20, 1), Stage(1.5, 80_000, 12, 1))
# Fewer points than this leave a histogram to chance, more than one a voxel say nothing new.
_FEWEST_POINTS = 2_000
# Descriptors of turned images differ: they are made anew so often at every level.
_MIND_ROUNDS = 2
# Less of the organ than this inside the moving scan costs, so that no registration ends by looking away.
_LEAST_OVERLAP = 0.3
# How far a start's centre may be wrong along the body's axis where no mask says where the organ lies, mm.
_UP_AND_DOWN = (0.0, -40.0, 40.0)
_PROOF_MM, _PROOF_RADIUS = 3.0, 3
# Windows whose SD is above this share of the values' range hold an edge.
_STRUCTURE = 0.08
# Livers of one patient overlap by 0.95 and more, those of different patients by less than this, however turned.
LEAST_DICE = 0.85
# Structures of one patient agree to 0.9 and more (mean squared local correlation), those of others to 0.65 or so.
LEAST_AGREEMENT = 0.7


@dataclass(eq=False)
class Rigid:
    """A rigid registration: `transform` takes fixed points to moving points (LPS mm).

    `before` and `after`: the metric's loss in the scanner's frame and at the end; `agreement`: mean squared local
    correlation in the organ, 0 to 1; `overlap`: the share of the organ that the moving scan shows; `organ_dice`: that
    of the two masks where both are given; `affine`: the affine estimate whose nearest rotation was taken, if any.
    """

    transform: sitk.Euler3DTransform
    metric: str
    before: float
    after: float
    agreement: float
    overlap: float
    organ_dice: float | None
    start: str
    affine: sitk.AffineTransform | None = None
    notes: list[str] = field(default_factory=list)


def register_rigid(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_mask: sitk.Image | None = None,
    moving_mask: sitk.Image | None = None,
    metric: str = DEFAULT_METRIC,
    initial: sitk.Transform | None = None,
    affine: bool = False,
    spacing_mm: float = SPACING_MM,
    seed: int = 0,
    same_patient: bool = True,
    weights: str | Path = RIGID_WEIGHTS,
    optimised: bool = True,
    progress: Progress = no_progress,
) -> Rigid:
    """Register a moving scan onto a fixed one by rotation and translation alone.

    Parameters: scans of like intensities, as CT in HU; masks (non-zero: the organ) on any grid, the body where None;
    `metric` one of METRICS; `initial` a linear transform (fixed to moving points, LPS mm) that replaces the search,
    brought to the nearest rotation; `affine`: all twelve parameters are optimised first and the nearest rotation goes
    on; `same_patient`: scans that match too badly to be of one patient are refused; `weights` of the rigid network that
    gives the start, "none" to search for it; where not `optimised`, the start is the result.

    Raises BadInput for an unknown metric, empty masks, an initial transform that is not linear and scans that do not
    show the same organ.
    """
    if metric not in METRICS:
        raise BadInput(f"there is no metric {metric!r}: use one of {', '.join(METRICS)}")
    rng = np.random.default_rng(seed)
    progress("prepare", 0.0)
    scans = rigid_scans((fixed, moving), (fixed_mask, moving_mask), spacing_mm)
    centre = scans[0].centre()
    task = _Task(*scans, centre, metric, rng)
    progress("search", 0.1)
    masks = (fixed_mask, moving_mask)
    start, starts, notes = "given", [] if initial is None else [nearest_rigid(initial, centre)], []
    if not starts and str(weights) != NO_NETWORK:
        start, starts = "network", [learned_start((fixed, moving), scans, weights)]
        if optimised and not _matches(task, starts[0]):
            starts = []
            notes.append("The network's start did not match the scans: it was searched for.")
    if not starts:
        start, starts = "search", _starts(task, None not in masks)
    estimate = None
    for number, stage in enumerate(_STAGES if optimised else ()):
        progress("optimise", 0.3 + 0.2 * number)
        level = task.level(stage)
        found = sorted((level.refined(one, stage.steps) for one in starts), key=lambda pair: pair[0])
        starts = [transform for _, transform in found[: stage.best]]
        if affine and number == len(_STAGES) - 2:
            estimate = level.refined_affine(starts[0], stage.steps)
            starts = [nearest_rigid(estimate, centre)]
    progress("check", 0.9)
    level, transform = task.level(_STAGES[-1]), starts[0]
    overlap = level.overlap(transform)
    if overlap < _LEAST_OVERLAP / 2:
        raise BadInput("the scans do not overlap: give two scans that show the same organ, and masks of it")
    agreement = _agreement(*scans, transform)
    dice = None if None in masks else _organ_dice(*scans, transform)
    if same_patient and dice is not None and dice < LEAST_DICE:
        raise BadInput(f"the organs differ in shape (Dice {dice:.2f} at best): give two scans of the same patient")
    if agreement < LEAST_AGREEMENT and not optimised:
        notes.append(f"The scans match badly (correlation {agreement:.2f}): the start alone may not do.")
    elif same_patient and agreement < LEAST_AGREEMENT:
        raise BadInput(f"the scans match badly (correlation {agreement:.2f}): give two scans of the same patient")
    before = level.loss(rigid(np.eye(3), centre, np.zeros(3)))
    after = level.loss(transform)
    return Rigid(transform, metric, before, after, agreement, overlap, dice, start, estimate, notes)


def _matches(task: "_Task", start: sitk.Transform) -> bool:
    """Whether a start, optimised a little, lays structures on each other as those of one patient lie."""
    _, transform = task.search_level().refined(start, _SEARCH.steps)
    return _agreement(task.fixed, task.moving, transform) >= LEAST_AGREEMENT


def _starts(task: "_Task", with_masks: bool) -> list[sitk.Euler3DTransform]:
    """The best of many rotations about the organ's centre, each optimised a little on coarse images."""
    landmark = task.fixed.landmark
    shifts = [task.moving.landmark - landmark]
    if not with_masks:
        axis = np.array([0.0, 0.0, 1.0])
        shifts = [shift + height * axis for shift in (*shifts, np.zeros(3)) for height in _UP_AND_DOWN]
    # About the landmark: where it goes takes the centre along.
    candidates = [
        rigid(rotation, task.centre, shift + (rotation - np.eye(3)) @ (task.centre - landmark))
        for shift in shifts
        for rotation in _rotations()
    ]
    level = task.search_level()
    candidates.sort(key=level.loss)
    found = [level.refined(start, _SEARCH.steps) for start in candidates[: 3 * _SEARCH.best]]
    return [transform for _, transform in sorted(found, key=lambda pair: pair[0])[: _SEARCH.best]]


def _rotations() -> list[np.ndarray]:
    """No rotation, and those of 24 degrees about all axes, edges and corners of the cube."""
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3), -1).reshape(-1, 3)
    lengths = np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    return [rotation_of(vector) for vector in steps / lengths * np.radians(24.0)]


@dataclass(eq=False)
class _Task:
    fixed: RigidScan
    moving: RigidScan
    centre: np.ndarray
    metric: str
    rng: np.random.Generator

    def level(self, stage: Stage) -> "_Level":
        return _Level(self, stage, self.metric)

    def search_level(self) -> "_Level":
        """Descriptors would have to be made anew for every rotation: starts for them are found by another metric."""
        return _Level(self, _SEARCH, DEFAULT_METRIC if self.metric == "mind" else self.metric)


class _Level:
    """The loss of transforms on one level's images, at the same points for all of them."""

    def __init__(self, task: _Task, stage: Stage, metric: str):
        spacing = task.fixed.grid.spacing[0]
        self.task, self.scale = task, max(1, round(stage.mm / spacing))
        self.metric, self.mind = METRICS[metric], metric == "mind"
        voxels = int(task.fixed.region.sum() / self.scale**3)
        self.points = task.fixed.points(min(stage.points, max(voxels, _FEWEST_POINTS)), task.rng)
        self.offsets = torch.from_numpy(self.points - task.centre)
        self.radius = float(np.linalg.norm(self.offsets.numpy(), axis=1).mean())
        image = task.fixed.level(self.scale)[0][None]
        features = losses.mind_ssc(image[0]) if self.mind else image
        index = _applied(torch.from_numpy(task.fixed.to_index(self.scale)), torch.from_numpy(self.points))
        self.fixed = _sampled(features, index)

    def loss(self, transform: sitk.Transform) -> float:
        """The metric of a transform."""
        with torch.no_grad():
            return float(self._function(transform)(torch.zeros(3), torch.zeros(3)))

    def overlap(self, transform: sitk.Transform) -> float:
        """The share of the points that fall where the moving scan was imaged."""
        imaged = self.task.moving.level(self.scale)[1][None]
        matrix = torch.from_numpy(self.task.moving.to_index(self.scale) @ matrix_4x4(transform))
        return float(_sampled(imaged, _applied(matrix, torch.from_numpy(self.points))).mean())

    def refined(self, start: sitk.Transform, steps: int) -> tuple[float, sitk.Euler3DTransform]:
        """The loss and the transform that BFGS finds from a start, by rotation and translation about the centre."""
        value, best = np.inf, start
        for _ in range(_MIND_ROUNDS if self.mind else 1):
            value, linear, shift = self._minimised(best, 3, steps)
            best = self._composed(best, rotation_of(linear), shift)
        return value, best

    def refined_affine(self, start: sitk.Transform, steps: int) -> sitk.AffineTransform:
        """The affine transform that BFGS finds from a start."""
        from scipy.linalg import expm

        _, linear, shift = self._minimised(start, 9, steps)
        matrix = matrix_4x4(start) @ self._about_centre(expm(linear.reshape(3, 3)), shift)
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(matrix[:3, 3].tolist())
        return affine

    def _about_centre(self, linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        matrix[:3, 3] = self.task.centre + shift - linear @ self.task.centre
        return matrix

    def _composed(self, outer: sitk.Transform, rotation: np.ndarray, shift: np.ndarray) -> sitk.Euler3DTransform:
        matrix = matrix_4x4(outer) @ self._about_centre(rotation, shift)
        moved = matrix[:3, :3] @ self.task.centre + matrix[:3, 3]
        # Products of rotations drift by rounding: the nearest rotation stays one.
        left, _, right = np.linalg.svd(matrix[:3, :3])
        return rigid(left @ right, self.task.centre, moved - self.task.centre)

    def _minimised(self, start: sitk.Transform, numbers: int, steps: int) -> tuple[float, np.ndarray, np.ndarray]:
        """BFGS over the generator of a linear map (3 or 9 numbers, in mm at the points' mean distance) and a shift."""
        function = self._function(start)
        # BFGS makes a first step of about one unit: half a voxel of the level.
        unit = 0.5 * self.scale * self.task.fixed.grid.spacing[0]

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            units = torch.tensor(x, requires_grad=True)
            variables = units * unit
            value = function(variables[:numbers] / self.radius, variables[numbers:])
            value.backward()
            return float(value.detach()), units.grad.numpy()

        # BFGS takes the curvature for 1 at first: losses are scaled to a slope of 1 where it starts.
        slope = max(float(np.linalg.norm(evaluate(np.zeros(numbers + 3))[1])), 1e-9)
        scaled = lambda x: tuple(part / slope for part in evaluate(x))
        found = optimize.minimize(
            scaled, np.zeros(numbers + 3), jac=True, method="BFGS", options={"maxiter": steps, "gtol": 3e-3}
        )
        best = found.x * unit
        return float(found.fun) * slope, best[:numbers] / self.radius, best[numbers:]

    def _function(self, start: sitk.Transform) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The loss of start . D for a small linear map D about the centre, given its generator and its shift."""
        matrix = self.task.moving.to_index(self.scale) @ matrix_4x4(start)
        moving = torch.stack(self.task.moving.level(self.scale))
        if self.mind:
            # Descriptors are not turned with the image: they are made of the image that the start has turned.
            moving, matrix = self._turned(moving, matrix), self.task.fixed.to_index(self.scale)
            moving = torch.cat([losses.mind_ssc(moving[0]), moving[1:]])
        to_index = torch.from_numpy(matrix)
        centre = torch.from_numpy(self.task.centre)

        def function(linear: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
            turned = torch.linalg.matrix_exp(generator(linear.double()))
            index = _applied(to_index, self.offsets @ turned.T + (centre + shift))
            values = _sampled(moving, index)
            weights = values[-1]
            missing = (_LEAST_OVERLAP - weights.mean()).clamp(min=0)
            if float(weights.detach().sum()) < 1.0:
                return 10 * missing
            return self.metric(values[:-1], self.fixed, weights) + 10 * missing

        return function

    def _turned(self, moving: torch.Tensor, to_moving: np.ndarray) -> torch.Tensor:
        """Moving level images (c, z, y, x) on the fixed level's voxels, 0 beyond the scan."""
        shape = self.task.fixed.level(self.scale)[0].shape
        matrix = torch.from_numpy(to_moving @ np.linalg.inv(self.task.fixed.to_index(self.scale)))
        return warp(moving, _everywhere(matrix, shape), padding="zeros")


def _applied(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _sampled(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of images (c, z, y, x) at voxel indices (n, 3) x, y, z: (c, n), 0 outside."""
    return warp(images, index.float().T[:, None, None], padding="zeros")[:, 0, 0]


def _agreement(fixed: RigidScan, moving: RigidScan, transform: sitk.Transform) -> float:
    """Mean squared local correlation of the registered scans over the fixed region, 0 to 1, where there is structure:
    what is noise in both scans agrees for nobody."""
    scale = max(1, round(_PROOF_MM / fixed.grid.spacing[0]))
    image = fixed.level(scale)[0]
    region = pool(torch.from_numpy(fixed.region.astype(np.float32)), scale) > 0.5
    matrix = torch.from_numpy(moving.to_index(scale) @ matrix_4x4(transform) @ np.linalg.inv(fixed.to_index(scale)))
    warped, imaged = warp(torch.stack(moving.level(scale)), _everywhere(matrix, image.shape), padding="zeros")
    similarity = losses.Lncc(image, region.float() * (imaged > 0.99), radius=_PROOF_RADIUS)
    similarity.mask = similarity.mask * (similarity.moments[1] > _STRUCTURE**2)
    return 0.0 if not similarity.mask.any() else 1 - float(similarity(warped))


def _organ_dice(fixed: RigidScan, moving: RigidScan, transform: sitk.Transform) -> float:
    """Dice of the organs where both scans show them."""
    voxels = np.argwhere(fixed.organ)[::5, ::-1]
    matrix = torch.from_numpy(moving.to_index(1) @ matrix_4x4(transform))
    index = _applied(matrix, torch.from_numpy(fixed.grid.points(voxels)))
    both, shown = _sampled(torch.stack([torch.from_numpy(moving.organ).float(), moving.imaged]), index).sum(1)
    back = torch.from_numpy(fixed.to_index(1) @ np.linalg.inv(matrix_4x4(transform)))
    others = np.argwhere(moving.organ)[::5, ::-1]
    index = _applied(back, torch.from_numpy(moving.grid.points(others)))
    also = _sampled(fixed.imaged[None], index).sum()
    ratio = moving.grid.voxel_ml / fixed.grid.voxel_ml
    return float(2 * both / (shown + also * ratio).clamp(min=1))


def _everywhere(matrix: torch.Tensor, shape) -> torch.Tensor:
    """Where a 4x4 matrix takes the voxels of a grid of `shape` (z, y, x): (3, z, y, x)."""
    matrix = matrix.float()
    voxels = voxel_coordinates(tuple(shape))
    return torch.einsum("ij,jzyx->izyx", matrix[:3, :3], voxels) + matrix[:3, 3, None, None, None]
