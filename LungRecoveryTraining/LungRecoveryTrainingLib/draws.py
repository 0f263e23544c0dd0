"""Random numbers for a batch, one draw for each sample, on the device, from one generator: no loop, no round trip."""

import math

import torch

from LungRecoveryLib.registration import flow

# Mean square of a cubic B-spline's values at a random place, summed over its coefficients: 151/315 for each axis.
_SPLINE_DEVIATION = (151 / 315) ** 1.5


class Draws:
    """Draws for `count` samples on `device`. The same generator state gives the same numbers, in the order of calls.

    `generator` must live on `device`; None takes torch's own.
    """

    def __init__(self, count: int, device: torch.device, generator: torch.Generator | None):
        self.count, self.device, self.generator = count, device, generator

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Numbers in low..high, (count, *shape) float32."""
        numbers = torch.rand(self.count, *shape, device=self.device, generator=self.generator)
        return low + (high - low) * numbers

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers, (count, *shape) float32."""
        return torch.randn(self.count, *shape, device=self.device, generator=self.generator)

    def chance(self, probability: float, *shape: int) -> torch.Tensor:
        """True with a probability, (count, *shape) bool."""
        return self.uniform(0, 1, *shape) < probability

    def sign(self, probability: float, *shape: int) -> torch.Tensor:
        """-1 with a probability, else 1, (count, *shape) float32."""
        return 1 - 2 * self.chance(probability, *shape).float()

    def smooth_noise(self, channels: int, shape: tuple[int, int, int], spacing: float) -> torch.Tensor:
        """Cubic B-splines with random coefficients `spacing` voxels apart: (count, channels, z, y, x) float32.

        The mean is 0 and the standard deviation 1; the gradient's is about 1.2 / spacing along each axis.
        """
        counts = [math.ceil((n - 1) / spacing) + 4 for n in shape]
        matrices = [
            flow.spline_matrix(torch.arange(n, device=self.device, dtype=torch.float32) / spacing + 1, nodes)
            for n, nodes in zip(shape, counts, strict=True)
        ]
        # A random phase for each draw would need matrices for each sample: the coefficients alone are random.
        coefficients = self.normal(channels, *counts).flatten(0, 1) / _SPLINE_DEVIATION
        return flow.expand(coefficients, matrices).unflatten(0, (self.count, channels))


def per_sample(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers (n,) as (n, 1, 1, 1, 1), to meet images (n, c, z, y, x)."""
    return numbers[:, None, None, None, None]
