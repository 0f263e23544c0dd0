"""The stationary velocity field on a control grid, and the deformation that it and an affine map make."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from .. import grids
from ..grids import Grid
from . import flow
from .align import matrix_and_offset

SQUARINGS = 6
# Nodes of the control grid beyond the fixed image on each side: the deformation fades to the affine part there.
FADE_NODES = 3
# Maps are made in slabs of this many slices: a native scan's would not fit into memory at once.
_SLAB = 32
# A saved field's nodes: their spacing in voxels, and how many there may be at 24 bytes each.
_SAVED_SPACING, _SAVED_NODES = 1.6, 2_200_000


@dataclass(frozen=True)
class Axis:
    """Nodes along one axis: `count` nodes, the first at voxel `start` of the fixed box, `spacing` voxels apart."""

    start: float
    spacing: float
    count: int

    @staticmethod
    def around(length: int, spacing: float, fade: int) -> "Axis":
        """Nodes `spacing` voxels apart that cover `length` voxels and reach `fade` nodes beyond, centred on them."""
        count = int(np.ceil((length - 1) / spacing)) + 1 + 2 * fade
        return Axis((length - 1 - spacing * (count - 1)) / 2, spacing, count)

    def refined(self, spacing: float) -> "Axis":
        """Nodes `spacing` voxels apart from the same start over the same extent."""
        return Axis(self.start, spacing, int(np.floor(self.spacing * (self.count - 1) / spacing + 1e-6)) + 1)

    def nodes(self, positions: torch.Tensor) -> torch.Tensor:
        """Continuous node numbers of voxel positions."""
        return (positions - self.start) / self.spacing

    def positions(self, device=None) -> torch.Tensor:
        """The nodes' voxel positions."""
        return self.start + self.spacing * torch.arange(self.count, dtype=torch.float32, device=device)


def faded(coefficients: torch.Tensor) -> torch.Tensor:
    """The coefficients (3, z, y, x) with the two outermost layers at zero, so that the field is zero at its border."""
    return F.pad(coefficients[:, 2:-2, 2:-2, 2:-2], [2] * 6)


@dataclass(frozen=True)
class Velocity:
    """Cubic B-spline coefficients (3, z, y, x) of a velocity field, in voxels of the fixed box; `axes` are z, y, x."""

    coefficients: torch.Tensor
    axes: tuple[Axis, Axis, Axis]

    @staticmethod
    def zeros(shape: tuple[int, int, int], spacing: float, fade_voxels: float, device: torch.device) -> "Velocity":
        """A field at rest with control nodes `spacing` voxels apart over a box of `shape` and `fade_voxels` around."""
        fade = max(FADE_NODES, int(np.ceil(fade_voxels / spacing)))
        axes = tuple(Axis.around(n, spacing, fade) for n in shape)
        return Velocity(torch.zeros(3, *(a.count for a in axes), device=device), axes)

    def at(self, axes: tuple[Axis, Axis, Axis]) -> torch.Tensor:
        """The velocity at the nodes of other axes, (3, z, y, x) in voxels of the fixed box."""
        device = self.coefficients.device
        matrices = [
            flow.spline_matrix(a.nodes(b.positions(device)), a.count) for a, b in zip(self.axes, axes, strict=True)
        ]
        return flow.expand(faded(self.coefficients), matrices)

    def moved_to(self, rest: "Velocity") -> "Velocity":
        """The same field on the control grid of `rest`."""
        matrices = []
        for axis in rest.axes:
            numbers = torch.arange(axis.count, dtype=torch.float64, device=self.coefficients.device)
            matrices.append(torch.linalg.inv(flow.spline_matrix(numbers, axis.count)).float())
        return replace(rest, coefficients=flow.expand(self.at(rest.axes), matrices))

    def displacement(self, spacing: float, sign: int = 1) -> tuple[torch.Tensor, tuple[Axis, Axis, Axis]]:
        """exp(sign v) - id at nodes `spacing` voxels apart: (3, z, y, x) in voxels of the fixed box, and the axes."""
        axes = tuple(a.refined(spacing) for a in self.axes)
        velocity = self.at(axes) * sign
        return flow.exponentiate(velocity / spacing, SQUARINGS) * spacing, axes


def _saved_spacing(axes: tuple[Axis, Axis, Axis]) -> float:
    """The spacing in voxels of a saved field: fine, yet of no more than about 55 MB whatever the chest."""
    voxels = np.prod([axis.spacing * (axis.count - 1) for axis in axes])
    return max(_SAVED_SPACING, float(np.cbrt(voxels / _SAVED_NODES)))


@dataclass(eq=False)
class Deformation:
    """phi = A . exp(v), from fixed to moving points: the affine A (LPS mm) after the deformation of the fixed box.

    `node_spacing` is the spacing in voxels at which the velocity is integrated.
    """

    affine: sitk.AffineTransform
    velocity: Velocity
    box: Grid
    node_spacing: float = 2.0

    @cached_property
    def _forward(self) -> tuple[torch.Tensor, tuple[Axis, Axis, Axis]]:
        return self.velocity.displacement(self.node_spacing)

    @cached_property
    def _backward(self) -> tuple[torch.Tensor, tuple[Axis, Axis, Axis]]:
        return self.velocity.displacement(self.node_spacing, sign=-1)

    def transform(self) -> sitk.CompositeTransform:
        """The ITK resampling transform from fixed to moving points."""
        return sitk.CompositeTransform([self.affine, self._field_transform(*self._forward)])

    def inverse_transform(self) -> sitk.CompositeTransform:
        """From moving to fixed points: exp(-v) after the inverse of the affine."""
        return sitk.CompositeTransform([self._field_transform(*self._backward), self.affine.GetInverse()])

    def _field_transform(self, nodes: torch.Tensor, axes: tuple[Axis, Axis, Axis]) -> sitk.DisplacementFieldTransform:
        # ITK interpolates linearly: finer nodes from the cubic ones keep the saved transform close to the full field.
        coarse, axes = axes, tuple(axis.refined(_saved_spacing(axes)) for axis in axes)
        finer = [flow.cubic_matrix(a.nodes(b.positions()), a.count) for a, b in zip(coarse, axes, strict=True)]
        nodes = flow.expand(nodes.cpu(), finer)
        start = np.array([[a.start for a in axes[::-1]]])
        grid = Grid(
            size=tuple(a.count for a in axes[::-1]),
            spacing=tuple(self.box.spacing[0] * a.spacing for a in axes[::-1]),
            origin=tuple(self.box.points(start)[0].tolist()),
            direction=self.box.direction,
        )
        return grids.field_to_transform(self._to_mm(nodes.cpu().numpy()), grid)

    def _to_mm(self, voxels: np.ndarray) -> np.ndarray:
        """Displacements in voxels of the box, (3, z, y, x), as LPS mm."""
        return np.einsum("ij,jzyx->izyx", self.box.index_to_point.astype(np.float32), voxels)

    def on(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """The total displacement phi(p) - p in LPS mm (3, z, y, x) and the Jacobian determinant of phi (z, y, x).

        `grid` has the axes of the box; its spacing is free. Both include the affine part. float32.
        """
        matrix, offset = matrix_and_offset(self.affine)
        scale = np.float32(np.linalg.det(matrix))
        field = np.empty((3, *grid.shape), np.float32)
        jacobian = np.empty(grid.shape, np.float32)
        for low in range(0, grid.shape[0], _SLAB):
            high = min(low + _SLAB, grid.shape[0])
            # A slice more on either side, so that differences are central at the slabs' borders too.
            first, last = max(low - 1, 0), min(high + 1, grid.shape[0])
            voxels = self._voxels(grid, first, last)
            keep = slice(low - first, high - first)
            in_grid_voxels = voxels / torch.tensor(self._step(grid), dtype=torch.float32)[:, None, None, None]
            jacobian[low:high] = flow.jacobian_determinant(in_grid_voxels)[keep].numpy() * scale
            slab = grids.crop(grid, (0, 0, low), (grid.size[0], grid.size[1], high - low))
            field[:, low:high] = self._with_affine(voxels[:, keep].numpy(), slab, matrix, offset)
        return field, jacobian

    def _step(self, grid: Grid) -> np.ndarray:
        """A grid's spacing (x, y, z) in voxels of the box."""
        return np.array(grid.spacing) / np.array(self.box.spacing)

    def _voxels(self, grid: Grid, low: int, high: int) -> torch.Tensor:
        """exp(v) - id at the slices `low` to `high` of a grid, in voxels of the box: (3, z, y, x)."""
        nodes, axes = self._forward
        first, step = self.box.indices(np.array([grid.origin]))[0], self._step(grid)
        ranges = ((low, high), (0, grid.shape[1]), (0, grid.shape[2]))
        matrices = [
            flow.cubic_matrix(axis.nodes(torch.arange(*r) * step[2 - k] + first[2 - k]).float(), axis.count)
            for k, (axis, r) in enumerate(zip(axes, ranges, strict=True))
        ]
        return flow.expand(nodes.cpu(), matrices)

    def _with_affine(self, voxels: np.ndarray, grid: Grid, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """matrix (p + u) + offset - p = (matrix - 1) p + offset + matrix u, in LPS mm, float32."""
        field = np.einsum("ij,jzyx->izyx", (matrix @ self.box.index_to_point).astype(np.float32), voxels)
        rest = matrix - np.eye(3)
        along = rest @ grid.index_to_point
        constant = rest @ np.array(grid.origin) + offset
        x, y, z = (np.arange(n, dtype=np.float64) for n in grid.size)
        for i in range(3):
            field[i] += (
                constant[i]
                + along[i, 2] * z[:, None, None]
                + along[i, 1] * y[None, :, None]
                + along[i, 0] * x[None, None, :]
            ).astype(np.float32)
        return field
