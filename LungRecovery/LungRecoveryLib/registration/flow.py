"""Numerics of deformations, in torch: warp, exponentiate, compose, Jacobian determinant.

An image is (z, y, x) or (c, z, y, x), a displacement or velocity field (3, z, y, x) with the components x, y, z in
voxels of its own grid, coordinates are (3, z, y, x) voxel indices x, y, z. Fields, coordinates and images with channels
may have a batch axis in front, all or none: refinement works on one pair, training on batches. Everything is float32
(or the dtype of the input, so that tests can use float64). `grid_sample` is called in :func:`warp` alone, so
align_corners and the normalisation of coordinates are decided in one place.
"""

import torch
import torch.nn.functional as F


def voxel_coordinates(shape: tuple[int, int, int], *, device=None, dtype=torch.float32) -> torch.Tensor:
    """The voxel indices (x, y, z) of every voxel of a grid of `shape` (z, y, x): (3, z, y, x)."""
    z, y, x = (torch.arange(n, device=device, dtype=dtype) for n in shape)
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1])


def warp(image: torch.Tensor, coordinates: torch.Tensor, padding: str = "border") -> torch.Tensor:
    """Linear interpolation of `image` (z, y, x) or ([n,] c, z, y, x) at voxel `coordinates` ([n,] 3, Z, Y, X).

    `padding` is "border" (repeat the edge) or "zeros". Returns (Z, Y, X) or ([n,] c, Z, Y, X).
    """
    if image.ndim == 5:
        normalised = _normalised(coordinates, image.shape[2:])
        return F.grid_sample(image, normalised, padding_mode=padding, align_corners=True)
    channels = image if image.ndim == 4 else image[None]
    slabs = _slabs(_normalised(coordinates[None], channels.shape[1:])[0])
    sampled = F.grid_sample(
        channels.expand(slabs.shape[0], *channels.shape), slabs, padding_mode=padding, align_corners=True
    )
    # (slab, c, z', y, x) -> (c, Z, Y, X)
    sampled = sampled.transpose(0, 1).reshape(channels.shape[0], -1, *sampled.shape[3:])[:, : coordinates.shape[1]]
    return sampled if image.ndim == 4 else sampled[0]


def _normalised(coordinates: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Voxel coordinates (n, 3, Z, Y, X) in an image of `shape` (z, y, x) as grid_sample wants them: (n, Z, Y, X, 3)."""
    return torch.stack(
        # An axis of one voxel has no extent: every coordinate on it is its centre.
        [c * (2 / (n - 1)) - 1 if n > 1 else c * 0 for c, n in zip(coordinates.unbind(1), shape[::-1], strict=True)],
        dim=-1,
    )


def _slabs(normalised: torch.Tensor) -> torch.Tensor:
    """Cut a sampling grid (Z, Y, X, 3) into as many slabs as threads: on the CPU torch parallelises over the batch."""
    count = torch.get_num_threads() if normalised.device.type == "cpu" and normalised.shape[0] > 8 else 1
    missing = -normalised.shape[0] % count
    if missing:
        normalised = torch.cat([normalised, normalised[-1:].expand(missing, -1, -1, -1)])
    return normalised.reshape(count, -1, *normalised.shape[1:])


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The displacement field of (id + outer) after (id + inner), both ([n,] 3, z, y, x) in voxels of one grid."""
    identity = voxel_coordinates(inner.shape[-3:], device=inner.device, dtype=inner.dtype)
    return inner + warp(outer, identity + inner)


def exponentiate(velocity: torch.Tensor, steps: int = 6, identity: torch.Tensor | None = None) -> torch.Tensor:
    """The displacement field exp(v) - id of a stationary velocity field by scaling and squaring (`steps` squarings).

    The inverse deformation is ``exponentiate(-velocity)``. `identity` may be passed in to save making it every time.
    Source: Arsigny et al., MICCAI 2006.
    """
    if identity is None:
        identity = voxel_coordinates(velocity.shape[-3:], device=velocity.device, dtype=velocity.dtype)
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = displacement + warp(displacement, identity + displacement)
    return displacement


def spline_matrix(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Weights (len(positions), count) of `count` cubic B-spline coefficients at continuous node `positions`.

    Rows beyond the first or last node lose the weight of the missing nodes: the spline fades to zero there.
    """
    distance = (positions[:, None] - torch.arange(count, device=positions.device, dtype=positions.dtype)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def linear_matrix(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Weights (len(positions), count) of linear interpolation of `count` nodes at continuous node `positions`."""
    distance = (positions[:, None] - torch.arange(count, device=positions.device, dtype=positions.dtype)).abs()
    return (1 - distance).clamp(min=0)


def cubic_matrix(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Weights (len(positions), count) of cubic interpolation (Keys, a = -1/2) of `count` nodes; zero beyond them."""
    distance = (positions[:, None] - torch.arange(count, device=positions.device, dtype=positions.dtype)).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def expand(nodes: torch.Tensor, matrices: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Evaluate separable weights: nodes (c, z, y, x) and matrices for the z, y and x axes -> (c, Z, Y, X)."""
    along_z, along_y, along_x = matrices
    fine = torch.einsum("czyx,Zz->cZyx", nodes, along_z)
    fine = torch.einsum("czyx,Yy->czYx", fine, along_y)
    return fine @ along_x.T


def gradient(field: torch.Tensor) -> torch.Tensor:
    """d field_i / d x_j in voxels by central differences, one-sided at the border: ([n,] c, 3, z, y, x)."""
    z, y, x = torch.gradient(field, dim=(-3, -2, -1))
    return torch.stack([x, y, z], dim=-4)


def jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    """det(I + grad u) of a displacement field ([n,] 3, z, y, x) in voxels of an isotropic grid: ([n,] z, y, x)."""
    return determinant(gradient(displacement))


def determinant(slopes: torch.Tensor) -> torch.Tensor:
    """det(I + grad u) of slopes d u_i / d x_j ([n,] 3, 3, z, y, x): ([n,] z, y, x)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-4) for row in slopes.unbind(-5))
    xx, yy, zz = xx + 1, yy + 1, zz + 1
    return xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)
