"""What every registration network returns."""

from dataclasses import dataclass, field

import torch


@dataclass
class Prediction:
    """What a network makes of a batch of pairs; fields in voxels of the input grid, components x, y, z.

    `displacement` (n, 3, z, y, x): phi(p) - p. `inverse_displacement`: that of the inverse, None for a network that has
    no inverse. `velocity` (n, 3, z', y', x') at cell centres `spacing` voxels wide, None likewise. `log_variance`: of
    the velocity, on its grid, None for a deterministic network. `stages`: every velocity on the way, coarse to fine,
    the last one included, each with its spacing, for supervision at every stage; displacements of a rigid network.
    `motion` (n, 4, 4): of a rigid network, from fixed to moving voxels, and `descriptions` (n, c, z', y', x'): what it
    made of the cells of the fixed and of the moving image.
    """

    displacement: torch.Tensor
    inverse_displacement: torch.Tensor | None = None
    velocity: torch.Tensor | None = None
    spacing: int = 1
    log_variance: torch.Tensor | None = None
    stages: list[tuple[torch.Tensor, int]] = field(default_factory=list)
    motion: torch.Tensor | None = None
    descriptions: tuple[torch.Tensor, torch.Tensor] | None = None
