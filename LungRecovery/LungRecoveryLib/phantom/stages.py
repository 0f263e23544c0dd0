"""How the disease of each kind of patient develops over the visits."""

import numpy as np

from .body import Anatomy
from .lattice import SPACING
from .lesions import Stage, diseased_density, grow_lesions, lesion_shares
from .motion import Motion
from .render import ABNORMAL_HU, Material, normal_density

NO_LESIONS = Stage(Stage.NONE, Stage.NONE, Stage.NONE)

# The abnormal share of the lungs at the baseline, and the share of it that is left at the end of each course.
_FIRST = {"recovering": 0.155, "unchanged": 0.15, "worsening": 0.08, "still": 0.14}
_COURSE = {
    "recovering": ((0.0, 1.0), (0.17, 0.65), (0.5, 0.29), (1.0, 0.08)),
    "still": ((0.0, 1.0), (0.17, 0.60), (0.5, 0.25), (1.0, 0.06)),
    "unchanged": ((0.0, 1.0), (1.0, 1.0)),
    "worsening": ((0.0, 1.0), (0.17, 1.35), (0.5, 1.8), (1.0, 2.3)),
}


def disease(kind: str, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """The lesions' levels (3, z, y, x) of a kind of patient; see :mod:`.lesions`."""
    if kind == "breath":
        return np.full((3, *anatomy.depth.shape), -4.0, np.float32)
    return grow_lesions(rng, anatomy.coordinates, anatomy.depth, SPACING, count=int(rng.integers(22, 36)))


def plan_stages(kind: str, material: Material, motions: list[Motion], days: tuple[float, ...]) -> list[Stage]:
    """The stage of the disease at each visit: its extent makes the abnormal share follow the kind's course."""
    if kind == "breath":
        return [NO_LESIONS] * len(motions)
    anatomy = material.anatomy
    lung = anatomy.channel("lung") < 0
    points = np.stack([c[lung] for c in anatomy.coordinates], axis=1)
    levels = material.levels[:, lung]
    normal = normal_density(points[:, 1], anatomy.build.expired)
    stages = []
    for number, motion in enumerate(motions):
        time = days[number] - days[0]
        time = time / (days[-1] - days[0]) if len(days) > 1 else 0.0
        target = _FIRST[kind] * float(np.interp(time, *np.array(_COURSE[kind]).T))
        jacobian = motion.jacobian(points)
        stages.append(_solve(kind, time, target, levels, normal, jacobian))
    if kind == "unchanged":
        stages = stages[:1] * len(stages)
    return stages


def _stage(kind: str, time: float, threshold: float) -> Stage:
    """The stage at a relative time (0 to 1) of a course, with ground glass at `threshold`.

    In recovery consolidation clears before ground glass does, and reticulation appears and fades slowly.
    """
    if kind in ("recovering", "still"):
        scar = 0.30 - 0.25 * min(time / 0.5, 1.0) if kind == "recovering" else 0.30
        return Stage(threshold, threshold + 0.9 * time, threshold + scar)
    return Stage(threshold, threshold, threshold + 0.30)


def _solve(
    kind: str, time: float, target: float, levels: np.ndarray, normal: np.ndarray, jacobian: np.ndarray
) -> Stage:
    low, high = -2.0, 3.0
    for _ in range(18):
        middle = 0.5 * (low + high)
        if abnormal_share(levels, normal, jacobian, _stage(kind, time, middle)) > target:
            low = middle
        else:
            high = middle
    return _stage(kind, time, 0.5 * (low + high))


def abnormal_share(levels: np.ndarray, normal: np.ndarray, jacobian: np.ndarray, stage: Stage) -> float:
    """The share of the lungs' volume at a visit that a stage makes abnormal (-700..+100 HU).

    `levels` (3, N), `normal` density (N,) and `jacobian` (N,) of the same points spread evenly over the lungs.
    """
    shares = lesion_shares(levels, stage)
    hu = diseased_density(normal, shares, 0.3) / jacobian - 1000.0
    ill = (np.max(shares, axis=0) > 0.05) & (hu >= ABNORMAL_HU[0]) & (hu <= ABNORMAL_HU[1])
    return float(jacobian[ill].sum() / jacobian.sum())
