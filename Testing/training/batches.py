"""Small batches of samples with a known smooth motion, for the tests beside this file."""

import torch

from LungRecoveryLib.registration import flow
from LungRecoveryTrainingLib.appearance import Scanner

SHAPES = [(40, 36, 44), (33, 47, 21)]
SAME_SCANNER = Scanner(
    slices_probability=0.0, noise_probability=0.0, kernel_probability=0.0, tone_probability=0.0, limits=(-1e6, 1e6)
)


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def smooth_image(points: torch.Tensor) -> torch.Tensor:
    """An analytic image (n, 1, ...) at points (n, 3, ...), with structure along every axis."""
    x, y, z = points.split(1, dim=1)
    return 0.4 + 0.1 * torch.sin(x / 4 + 1) * torch.cos(y / 5) + 0.1 * torch.sin(z / 4) + 0.05 * torch.cos((x + z) / 6)


def lungs(shape: tuple[int, int, int]) -> torch.Tensor:
    """Two ellipsoids, labelled 1 (low x) and 2, uint8 (1, 1, z, y, x)."""
    x, y, z = flow.voxel_coordinates(shape)
    centre = [(n - 1) / 2 for n in shape[::-1]]
    labels = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    for label, share in ((1, 0.26), (2, 0.74)):
        distance = (
            ((x - share * (shape[2] - 1)) / (0.2 * shape[2])) ** 2
            + ((y - centre[1]) / (0.32 * shape[1])) ** 2
            + ((z - centre[2]) / (0.38 * shape[0])) ** 2
        )
        labels[0, 0][distance < 1] = label
    return labels


def known_motion(points: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """A smooth displacement (n, 3, ...) at points (n, 3, ...), in voxels."""
    x, y, z = (points[:, i : i + 1] / n for i, n in enumerate(shape[::-1]))
    return torch.cat([torch.sin(3 * y), 1.2 * torch.cos(2 * z + x), 2 * torch.sin(2 * x + 2 * z)], dim=1)


def make_batch(shape: tuple[int, int, int] = SHAPES[0], count: int = 3, whole: bool = False) -> dict:
    """Samples whose moving image is the analytic one and whose fixed image is it pulled back by a known motion.

    `whole`: the mask and the truth are the whole grid, else two lungs on ground. The fixed point 3 of the first sample
    is absent.
    """
    positions = flow.voxel_coordinates(shape).expand(count, -1, -1, -1, -1).clone()
    motion = known_motion(positions, shape)
    labels = (torch.ones(1, 1, *shape, dtype=torch.uint8) if whole else lungs(shape)).repeat(count, 1, 1, 1, 1)
    moving_labels = labels.clone()
    inside = labels > 0
    fixed_points = torch.rand(count, 20, 3, generator=generator(5))
    fixed_points = (0.2 + 0.6 * fixed_points) * (torch.tensor(shape[::-1]) - 1)
    shift = known_motion(fixed_points.mT[..., None, None], shape)[..., 0, 0].mT
    moving_points = fixed_points + shift
    fixed_points[0, 3] = torch.nan
    return {
        "fixed": torch.where(inside, smooth_image(positions + motion), 1.0),
        "moving": torch.where(inside, smooth_image(positions), 1.0),
        "fixed_mask": inside.to(torch.uint8),
        "moving_mask": inside.to(torch.uint8),
        "displacement": motion * inside,
        "truth": inside.to(torch.uint8),
        "fixed_labels": labels,
        "moving_labels": moving_labels,
        "fixed_points": fixed_points,
        "moving_points": moving_points,
        "subject": [f"s{i}" for i in range(count)],
    }


def errors_of_the_truth(batch: dict) -> torch.Tensor:
    """|moving(p + u(p)) - fixed(p)| at every voxel where the truth is known."""
    shape = batch["fixed"].shape[2:]
    warped = flow.warp(batch["moving"], flow.voxel_coordinates(shape)[None] + batch["displacement"])
    return (warped - batch["fixed"]).abs()[batch["truth"] > 0]


def at_points(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """An image (n, c, z, y, x) at points (n, K, 3): (n, K, c)."""
    return flow.warp(image.float(), points.mT[..., None, None])[..., 0, 0].mT
