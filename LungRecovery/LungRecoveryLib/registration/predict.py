"""A network's start for refinement: the aligned pair on the network's grid, and the velocity it predicts there."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from .. import grids
from ..grids import Grid
from . import flow
from .align import matrix_and_offset
from .networks import Prediction, Pyramid
from .prepare import PreparedPair, pool
from .velocity import FADE_NODES, Axis, Velocity

# The velocity fades to zero over this distance beyond the fixed box.
_FADE_MM = 36.0
_SAMPLES = 8


@dataclass(eq=False)
class NetworkInputs:
    """A pair as a network sees it, on `grid`: the fixed box in voxels `scale` times larger than the prepared pair's.

    `fixed`, `moving`: (1, z, y, x) float32, (HU + 1000) / 1000 in the lungs, the ground elsewhere, the moving image
    already laid on the fixed one by the alignment; `fixed_mask`, `moving_mask`: (1, z, y, x) float32, 0/1.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_mask: torch.Tensor
    moving_mask: torch.Tensor
    grid: Grid
    scale: int


def network_inputs(pair: PreparedPair, alignment: sitk.AffineTransform, spacing_mm: float = 3.0) -> NetworkInputs:
    """The pair on a grid of about `spacing_mm`: a whole number of the prepared pair's voxels."""
    scale = max(1, round(spacing_mm / pair.fixed_box.spacing[0]))
    fixed, moving, mask = pair.level(scale)
    moving_mask = torch.from_numpy(grids.to_array(pair.moving_lungs, np.float32)).clamp_(max=1).to(fixed.device)
    both = torch.stack([moving, pool(moving_mask, scale)])
    positions = pair.positions(scale, tuple(fixed.shape))
    coordinates = pair.moving_coordinates(positions, *matrix_and_offset(alignment), scale)
    moving, moving_mask = flow.warp(both, coordinates)
    return NetworkInputs(
        fixed[None],
        moving[None],
        mask[None],
        (moving_mask > 0.5).float()[None],
        coarser(pair.fixed_box, scale, fixed.shape),
        scale,
    )


def coarser(box: Grid, scale: int, shape: tuple[int, int, int]) -> Grid:
    """The grid of `shape` (z, y, x) whose voxels are blocks of `scale`^3 of a box's, from its first voxel on."""
    first = box.points(np.full((1, 3), (scale - 1) / 2))[0]
    return Grid(
        size=tuple(shape[::-1]),
        spacing=tuple(s * scale for s in box.spacing),
        origin=tuple(first.tolist()),
        direction=box.direction,
    )


def predict(network: Pyramid, inputs: NetworkInputs) -> Prediction:
    """The network's prediction for a pair, without gradients; fields in voxels of `inputs.grid`, batch axis of one."""
    images = (inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask)
    with torch.inference_mode():
        return network(*(image[None] for image in images))


def start_velocity(pair: PreparedPair, inputs: NetworkInputs, prediction: Prediction) -> Velocity:
    """The predicted velocity as a B-spline on the fixed box of the pair, fading out around it."""
    spacing = prediction.spacing * inputs.scale
    fade = max(FADE_NODES, int(np.ceil(_FADE_MM / (spacing * pair.fixed_box.spacing[0]))))
    values = prediction.velocity.clone()  # a tensor made in inference mode does not join a graph
    values = F.pad(values, [fade] * 6, mode="replicate")[0] * inputs.scale
    axes = []
    for axis in (1, 2, 3):
        count = values.shape[axis]
        # Nodes lie at the centres of the network's cells, the first of which begins at voxel -1/2.
        axes.append(Axis((spacing - 1) / 2 - fade * spacing, float(spacing), count))
        shape = [1, 1, 1, 1]
        shape[axis] = count
        values = values * _window(count, fade, values.device).reshape(shape)
    matrices = []
    for axis in axes:
        numbers = torch.arange(axis.count, dtype=torch.float64, device=values.device)
        matrices.append(torch.linalg.inv(flow.spline_matrix(numbers, axis.count)).float())
    return Velocity(flow.expand(values, tuple(matrices)), tuple(axes))


def _window(count: int, fade: int, device: torch.device) -> torch.Tensor:
    """1 inside, falling smoothly to 0 over the outermost `fade` nodes: (count,)."""
    depth = torch.arange(count, dtype=torch.float32, device=device)
    depth = torch.minimum(depth, count - 1 - depth)
    # The two outermost layers of a control grid are held at zero.
    return (0.5 - 0.5 * torch.cos(torch.pi * ((depth - 1) / (fade - 1)).clamp(0, 1))).clamp(max=1)


def uncertainty(network: Pyramid, inputs: NetworkInputs, prediction: Prediction, seed: int = 0) -> sitk.Image:
    """Standard deviation of the predicted displacement in mm, root of the sum over components, at the velocity's nodes.

    From displacements of velocities drawn from the prediction. Raises BadInput for a deterministic network.
    """
    device = prediction.velocity.device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.inference_mode():
        drawn = network.sample(prediction, _SAMPLES, generator)[:, 0]
        deviation = drawn.var(dim=0, correction=1).sum(dim=0).sqrt() * inputs.grid.spacing[0]
    return grids.to_image(deviation.cpu().numpy(), coarser(inputs.grid, prediction.spacing, deviation.shape))
