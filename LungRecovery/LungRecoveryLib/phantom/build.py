"""What differs between synthetic patients: their build."""

from dataclasses import dataclass

import numpy as np

from .motion import Thorax


@dataclass(frozen=True)
class Build:
    """What differs between patients; lengths in mm."""

    thorax: Thorax
    dome: tuple[float, float]
    dome_drop: float
    heart: tuple[float, float, float]
    heart_radii: tuple[float, float, float]
    fat: float
    muscle: float
    rib_phase: float
    apex: float
    gas: float
    expired: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator, expired: float = 0.0) -> "Build":
        """A patient of ordinary build whose diaphragm stands `expired` mm above full inspiration at the baseline."""
        u = rng.uniform
        smaller = 1.0 - 0.0006 * expired
        thorax = Thorax(width=u(116, 124) * smaller, depth=u(80, 87) * smaller, shoulder=u(92, 99), spine=u(41, 45))
        dome = u(-58, -48) + expired
        return cls(
            thorax=thorax,
            dome=(dome, dome - u(8, 16)),
            dome_drop=u(56, 70),
            heart=(u(18, 25), u(-42, -34), u(-28, -20) + 0.35 * expired),
            heart_radii=(u(46, 54), u(38, 44), u(46, 52)),
            fat=u(4, 13),
            muscle=u(6, 10),
            rib_phase=u(0, 24),
            apex=u(117, 122),
            gas=u(0.6, 1.0),
            expired=expired,
        )
