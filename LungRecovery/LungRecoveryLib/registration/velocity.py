"""The stationary velocity field on a control grid, and the deformation that it and an affine map make."""

from collections.abc import Iterator
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
# A map's velocity is integrated in this many halvings of time. Its first step is taken to second order, so that fewer
# are as exact as refinement's, and fewer interpolations between nodes blur less.
_MAP_SQUARINGS = 3
# Maps are made in slabs of this many slices: they stay in the processor's cache, a native scan's in memory.
_SLAB = 16
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
        """exp(sign v) - id at nodes `spacing` voxels apart: (3, z, y, x) in voxels of the fixed box, and the axes.

        By scaling and squaring from a midpoint step u(p) = w(p + w(p) / 2) of w = v / 2^n.
        """
        axes = tuple(a.refined(spacing) for a in self.axes)
        step = self.at(axes) * (sign / spacing / 2**_MAP_SQUARINGS)
        identity = flow.voxel_coordinates(tuple(step.shape[1:]), device=step.device)
        moved = flow.warp(step, identity + step / 2)
        for _ in range(_MAP_SQUARINGS):
            moved = moved + flow.warp(moved, identity + moved)
        return moved * spacing, axes


def _saved_spacing(axes: tuple[Axis, Axis, Axis]) -> float:
    """The spacing in voxels of a saved field: fine, yet of no more than about 55 MB whatever the chest."""
    voxels = np.prod([axis.spacing * (axis.count - 1) for axis in axes])
    return max(_SAVED_SPACING, float(np.cbrt(voxels / _SAVED_NODES)))


@dataclass(eq=False)
class Slab:
    """The slices from `low` up to `high` of a grid: their own grid, exp(v) - id there, (3, z, y, x) in voxels of the
    fixed box, and the Jacobian determinant of phi (z, y, x), the affine part included."""

    low: int
    high: int
    grid: Grid
    voxels: torch.Tensor
    jacobian: torch.Tensor


@dataclass(eq=False)
class Deformation:
    """phi = A . exp(v), from fixed to moving points: the affine A (LPS mm) after the deformation of the fixed box.

    `node_spacing` is the spacing in voxels at which the velocity is integrated. Refinement has fitted it on coarser
    nodes: much finer ones reproduce its deformation less well.
    """

    affine: sitk.AffineTransform
    velocity: Velocity
    box: Grid
    node_spacing: float = 2.5

    @cached_property
    def _forward(self) -> tuple[torch.Tensor, tuple[Axis, Axis, Axis]]:
        return self.velocity.displacement(self.node_spacing)

    @cached_property
    def _backward(self) -> tuple[torch.Tensor, tuple[Axis, Axis, Axis]]:
        return self.velocity.displacement(self.node_spacing, sign=-1)

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        return matrix_and_offset(self.affine)

    def transform(self) -> sitk.CompositeTransform:
        """The ITK resampling transform from fixed to moving points."""
        return sitk.CompositeTransform([self.affine, self._field_transform(*self._forward)])

    def inverse_transform(self) -> sitk.CompositeTransform:
        """From moving to fixed points: exp(-v) after the inverse of the affine."""
        return sitk.CompositeTransform([self._field_transform(*self._backward), self.affine.GetInverse()])

    def _field_transform(self, nodes: torch.Tensor, axes: tuple[Axis, Axis, Axis]) -> sitk.DisplacementFieldTransform:
        # ITK interpolates linearly: finer nodes from the cubic ones keep the saved transform close to the full field.
        coarse, axes = axes, tuple(axis.refined(_saved_spacing(axes)) for axis in axes)
        device = nodes.device
        finer = [flow.cubic_matrix(a.nodes(b.positions(device)), a.count) for a, b in zip(coarse, axes, strict=True)]
        field = flow.expand(_turned(self.box.index_to_point, nodes), finer)
        start = np.array([[a.start for a in axes[::-1]]])
        grid = Grid(
            size=tuple(a.count for a in axes[::-1]),
            spacing=tuple(self.box.spacing[0] * a.spacing for a in axes[::-1]),
            origin=tuple(self.box.points(start)[0].tolist()),
            direction=self.box.direction,
        )
        return grids.field_to_transform(field.cpu().numpy(), grid)

    def on(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """The total displacement phi(p) - p in LPS mm (3, z, y, x) and the Jacobian determinant of phi (z, y, x).

        `grid` has the axes of the box; its spacing is free. Both include the affine part. float32.
        """
        field = np.empty((3, *grid.shape), np.float32)
        jacobian = np.empty(grid.shape, np.float32)
        for slab in self.slabs(grid):
            jacobian[slab.low : slab.high] = slab.jacobian.cpu().numpy()
            field[:, slab.low : slab.high] = self.displacement(slab).cpu().numpy()
        return field, jacobian

    def slabs(self, grid: Grid) -> Iterator[Slab]:
        """The deformation of the box's axes on a grid with the same axes and any spacing, slab by slab."""
        scale = float(np.linalg.det(self._affine[0]))
        step = np.array(grid.spacing) / np.array(self.box.spacing)  # x, y, z in voxels of the box
        for low in range(0, grid.shape[0], _SLAB):
            high = min(low + _SLAB, grid.shape[0])
            # A slice more on either side, so that differences are central at the slabs' borders too.
            first, last = max(low - 1, 0), min(high + 1, grid.shape[0])
            voxels = self._voxels(grid, step, first, last)
            keep = slice(low - first, high - first)
            here = grids.crop(grid, (0, 0, low), (*grid.size[:2], high - low))
            yield Slab(low, high, here, voxels[:, keep], _determinant(voxels, step)[keep] * scale)

    def _voxels(self, grid: Grid, step: np.ndarray, low: int, high: int) -> torch.Tensor:
        """exp(v) - id at the slices from `low` up to `high` of a grid, in voxels of the box: (3, z, y, x)."""
        nodes, axes = self._forward
        first = self.box.indices(np.array([grid.origin]))[0]
        ranges = ((low, high), (0, grid.shape[1]), (0, grid.shape[2]))
        matrices = [
            flow.cubic_matrix(axis.nodes(torch.arange(*r) * step[2 - k] + first[2 - k]).float(), axis.count)
            for k, (axis, r) in enumerate(zip(axes, ranges, strict=True))
        ]
        return flow.expand(nodes, tuple(matrix.to(nodes.device) for matrix in matrices))

    def displacement(self, slab: Slab) -> torch.Tensor:
        """phi(p) - p at a slab's voxels, LPS mm (3, z, y, x)."""
        matrix, offset = self._affine
        rest = matrix - np.eye(3)
        constant = rest @ np.array(slab.grid.origin) + offset
        field = _turned(matrix @ self.box.index_to_point, slab.voxels)
        return _plus_ramp(field, rest @ slab.grid.index_to_point, constant)

    def indices(self, slab: Slab, target: Grid) -> torch.Tensor:
        """Where phi takes a slab's voxels on another grid: its continuous voxel indices x, y, z, (3, z, y, x)."""
        matrix, offset = self._affine
        to_index = np.linalg.inv(target.index_to_point)
        constant = to_index @ (matrix @ np.array(slab.grid.origin) + offset - np.array(target.origin))
        field = _turned(to_index @ matrix @ self.box.index_to_point, slab.voxels)
        return _plus_ramp(field, to_index @ matrix @ slab.grid.index_to_point, constant)


def _turned(matrix: np.ndarray, field: torch.Tensor) -> torch.Tensor:
    """A matrix (3, 3) times every vector of a field (3, z, y, x)."""
    matrix = torch.as_tensor(matrix, dtype=field.dtype, device=field.device)
    return (matrix @ field.reshape(3, -1)).reshape(field.shape)


def _plus_ramp(field: torch.Tensor, along: np.ndarray, constant: np.ndarray) -> torch.Tensor:
    """Adds along @ (x, y, z) + constant at every voxel of a field (3, z, y, x), in place."""
    x, y, z = (torch.arange(n, dtype=torch.float64) for n in field.shape[:0:-1])
    for component, (by_x, by_y, by_z), start in zip(field, along.tolist(), constant.tolist(), strict=True):
        component += (start + by_z * z[:, None] + by_y * y).float().to(field.device)[:, :, None]
        component += (by_x * x).float().to(field.device)
    return field


def _determinant(displacement: torch.Tensor, step: np.ndarray) -> torch.Tensor:
    """det(I + grad u) as :func:`flow.jacobian_determinant`, in place and without gradients for autograd: a third of
    the time. `step` is the distance of voxels (x, y, z) in the displacement's unit."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (
        [_slope(component, 2 - axis, step[axis]) for axis in range(3)] for component in displacement
    )
    for diagonal in (xx, yy, zz):
        diagonal += 1
    first = (yy * zz).addcmul_(yz, zy, value=-1)
    second = (yx * zz).addcmul_(yz, zx, value=-1)
    third = (yx * zy).addcmul_(yy, zx, value=-1)
    return (xx * first).addcmul_(xy, second, value=-1).addcmul_(xz, third)


def _slope(values: torch.Tensor, axis: int, step: float) -> torch.Tensor:
    """Central differences along an axis, one-sided at its ends."""
    count = values.shape[axis]
    if count == 1:
        return torch.zeros_like(values)
    slope = torch.empty_like(values)
    inner = slope.narrow(axis, 1, count - 2)
    torch.sub(values.narrow(axis, 2, count - 2), values.narrow(axis, 0, count - 2), out=inner)
    inner *= 0.5
    for end, low in ((0, 0), (count - 1, count - 2)):
        torch.sub(values.narrow(axis, low + 1, 1), values.narrow(axis, low, 1), out=slope.narrow(axis, end, 1))
    return slope.mul_(1 / step)
