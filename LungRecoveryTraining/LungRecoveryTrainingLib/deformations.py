"""Random transforms of a batch with exact inverses: affine maps and exponentials of smooth velocity fields.

Points and coordinates are (n, 3, z, y, x), voxel indices x, y, z of the samples' grid. Every matrix is applied element
by element, never by a matrix product: those run in TF32 on request, which is off by a tenth of a voxel.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from LungRecoveryLib.registration import flow

from .batches import PointMap
from .draws import Draws

SQUARINGS = 6
# The lattice on which velocities are integrated reaches this many voxels beyond the grid.
_MARGIN = 8.0


@dataclass(frozen=True)
class Affine:
    """p -> matrix (p - centre) + centre + translation; (n, 3, 3), (n, 3) and (3,) in voxels x, y, z."""

    matrix: torch.Tensor
    translation: torch.Tensor
    centre: torch.Tensor

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Where points (n, 3, z, y, x) go."""
        columns = self.matrix[..., None, None, None]
        offset = self.centre + self.translation - (self.matrix * self.centre).sum(-1)
        moved = offset[..., None, None, None]
        for axis in range(3):
            moved = torch.addcmul(moved, columns[:, :, axis], points[:, axis : axis + 1])
        return moved

    def inverse(self) -> "Affine":
        """The inverse map, by cofactors."""
        matrix = cofactors(self.matrix).mT / self.determinant()[:, None, None]
        return Affine(matrix, -(matrix * self.translation[:, None]).sum(-1), self.centre)

    def determinant(self) -> torch.Tensor:
        """The determinants (n,)."""
        return (self.matrix[:, 0] * cofactors(self.matrix)[:, 0]).sum(-1)

    def then(self, outer: "Affine") -> "Affine":
        """The map that sends points through this one, then through `outer`, about the same centre."""
        matrix = (outer.matrix[..., None] * self.matrix[:, None]).sum(2)
        translation = (outer.matrix * self.translation[:, None]).sum(-1) + outer.translation
        return Affine(matrix, translation, self.centre)

    def partly(self, share: torch.Tensor) -> "Affine":
        """The map that displaces every point by a share (n,) of what this one does."""
        identity = torch.eye(3, device=share.device)
        matrix = identity + share[:, None, None] * (self.matrix - identity)
        return Affine(matrix, share[:, None] * self.translation, self.centre)

    @staticmethod
    def nearest(field: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor, centre: torch.Tensor) -> "Affine":
        """The map whose displacements are nearest, by weighted squares, to a field's (n, 3, z, y, x) at positions
        (likewise); weights are (n, 1, z, y, x).

        Normal equations in float64, solved without a look at whether they can be: a diagonal makes sure.
        """
        unit = 0.5 * max(positions.shape[2:])
        terms = torch.cat([torch.ones_like(weights), (positions - centre[:, None, None, None]) / unit], dim=1)
        terms = terms.flatten(2).double()
        weighted = terms * weights.flatten(2)
        diagonal = 1e-6 * torch.eye(4, device=field.device, dtype=torch.float64)
        right = weighted @ field.flatten(2).double().mT
        coefficients = torch.linalg.solve_ex(weighted @ terms.mT + diagonal, right).result.mT.float()
        return Affine(torch.eye(3, device=field.device) + coefficients[..., 1:] / unit, coefficients[..., 0], centre)


def cofactors(matrix: torch.Tensor) -> torch.Tensor:
    """The cofactors of matrices (n, 3, 3)."""
    first, second, third = matrix.unbind(-2)
    cross = torch.linalg.cross
    return torch.stack([cross(second, third), cross(third, first), cross(first, second)], dim=-2)


def grid_centre(shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """The centre of a grid of `shape` (z, y, x) in voxels x, y, z: (3,)."""
    return torch.stack([torch.full((), (n - 1) / 2, device=device) for n in shape[::-1]])


def random_affine(
    draws: Draws,
    centre: torch.Tensor,
    strength: torch.Tensor,
    rotation_degrees: float,
    scale: float,
    shear: float,
    translation: float,
    flips: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Affine:
    """A random map about `centre`, each number drawn between minus and plus its limit.

    `strength` (n,) in 0..1 multiplies the limits sample by sample. `scale` is the largest factor: each axis is scaled
    by scale^-1..scale. `translation` is in voxels, `flips` are the probabilities for x, y and z.
    """
    limit = strength[:, None]
    angles = torch.deg2rad(draws.uniform(-rotation_degrees, rotation_degrees, 3) * limit)
    factors = torch.exp(draws.uniform(-1, 1, 3) * limit * torch.log(torch.full_like(limit, scale)))
    slants = draws.uniform(-shear, shear, 3) * limit
    shift = draws.uniform(-translation, translation, 3) * limit
    signs = torch.cat([draws.sign(p, 1) for p in flips], dim=1)
    matrix = _rotation(angles) @ _upper_triangle(slants) * (factors * signs)[:, None]
    return Affine(matrix, shift, centre)


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """Rotations about x, then y, then z by angles (n, 3) in radians: (n, 3, 3)."""
    zero, one = torch.zeros_like(angles[:, 0]), torch.ones_like(angles[:, 0])
    (a, b, c), (u, v, w) = angles.sin().unbind(1), angles.cos().unbind(1)
    about_x = torch.stack([one, zero, zero, zero, u, -a, zero, a, u], dim=1).unflatten(1, (3, 3))
    about_y = torch.stack([v, zero, b, zero, one, zero, -b, zero, v], dim=1).unflatten(1, (3, 3))
    about_z = torch.stack([w, -c, zero, c, w, zero, zero, zero, one], dim=1).unflatten(1, (3, 3))
    return about_z @ about_y @ about_x


def _upper_triangle(slants: torch.Tensor) -> torch.Tensor:
    """Shears xy, xz and yz (n, 3) as matrices (n, 3, 3)."""
    zero, one = torch.zeros_like(slants[:, 0]), torch.ones_like(slants[:, 0])
    a, b, c = slants.unbind(1)
    return torch.stack([one, a, b, zero, one, c, zero, zero, one], dim=1).unflatten(1, (3, 3))


@dataclass(frozen=True)
class Lattice:
    """Nodes `step` voxels apart over a grid and a margin around it: where velocities live and are integrated."""

    shape: tuple[int, int, int]
    step: float

    @staticmethod
    def over(shape: tuple[int, int, int], step: float) -> "Lattice":
        """The lattice for a grid of `shape` (z, y, x)."""
        return Lattice(tuple(int((n - 1 + 2 * _MARGIN) // step) + 2 for n in shape), step)

    def positions(self, device: torch.device) -> torch.Tensor:
        """The nodes in voxels of the grid: (3, z, y, x)."""
        return flow.voxel_coordinates(self.shape, device=device) * self.step - _MARGIN

    def at(self, field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """A field (n, c, z, y, x) on the nodes at points of the grid: (n, c, Z, Y, X)."""
        start = torch.full((), _MARGIN / self.step, device=points.device)
        return flow.warp(field, torch.add(start, points, alpha=1 / self.step))


@dataclass(frozen=True)
class Flow:
    """exp(v) of a stationary velocity field, its inverse exp(-v) and its Jacobian, on a lattice's nodes.

    `forward` and `backward` (n, 3, z, y, x) are displacements in voxels of the grid.
    """

    forward: torch.Tensor
    backward: torch.Tensor
    lattice: Lattice

    @staticmethod
    def of(velocity: torch.Tensor, lattice: Lattice) -> "Flow":
        """Integrate a velocity (n, 3, z, y, x) in voxels of the grid, given on the lattice's nodes."""
        both = torch.cat([velocity, -velocity]) / lattice.step
        forward, backward = (flow.exponentiate(both, SQUARINGS) * lattice.step).chunk(2)
        return Flow(forward, backward, lattice)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Where exp(v) takes points (n, 3, z, y, x) of the grid."""
        return points + self.lattice.at(self.forward, points)

    def inverse(self) -> "Flow":
        """exp(-v)."""
        return Flow(self.backward, self.forward, self.lattice)

    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """The Jacobian determinant of exp(v) at points of the grid: (n, 1, z, y, x)."""
        return self.lattice.at(self._determinant, points)

    @cached_property
    def _determinant(self) -> torch.Tensor:
        return flow.jacobian_determinant(self.forward / self.lattice.step)[:, None]


def on_grid(function: PointMap, shape: tuple[int, int, int], count: int, device: torch.device) -> torch.Tensor:
    """A smooth function of points (n, 3, z, y, x) on the voxels of a grid: (n, c, *shape).

    It is evaluated at about every other voxel and linear between, which is exact for affine maps and costs an eighth.
    """
    nodes = [torch.linspace(0, n - 1, n // 2 + 1 if n > 1 else 1, device=device) for n in shape]
    points = torch.stack(torch.meshgrid(*nodes, indexing="ij")[::-1]).expand(count, -1, -1, -1, -1)
    return F.interpolate(function(points), shape, mode="trilinear", align_corners=True)


def nearest_voxel(labels: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Masks or labels (n, c, z, y, x), floats with whole values, at the voxels nearest to coordinates; 0 outside."""
    return flow.warp(labels, coordinates.round(), padding="zeros").round()


def inside_grid(points: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Which points (n, 3, ...) lie within the voxel centres of a grid of `shape` (z, y, x): (n, 1, ...) bool."""
    inside = torch.ones_like(points[:, :1], dtype=torch.bool)
    for axis, length in enumerate(shape[::-1]):
        along = points[:, axis : axis + 1]
        inside = inside & (along >= 0) & (along <= length - 1)
    return inside
