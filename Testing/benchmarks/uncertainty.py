"""What the uncertainty of registrations is worth on phantoms, and the exponents that fit it.

``python Testing/benchmarks/uncertainty.py`` prints for each pair and preset which share of the squared error the most
uncertain tenth of the lungs' voxels holds, which one the tenth with the largest errors holds, and the root mean squares
of the error and of what was expected. With ``--fit`` it ends with the exponents of `registration/uncertainty.py`,
fitted to these pairs by gamma regression, for the network alone and refined, and with the shares that they reach on
pairs left out of the fit.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, optimize

from LungRecoveryLib import grids
from LungRecoveryLib.phantom import make_pair, make_patient
from LungRecoveryLib.registration import uncertainty
from LungRecoveryLib.registration.register import register

# kind:seed, a number in place of the kind being the mean motion of a pair in mm.
PAIRS = ("18:401", "worsening:402", "10:403", "recovering:404", "breath:405", "worsening:406", "26:407")
EVERY = 5  # of the voxels for the fit: neighbours say the same


@dataclass(eq=False)
class Found:
    """One registration's voxels inside the lungs: squared errors and what was expected (mm^2), logarithms of clues."""

    pair: str
    preset: str
    square: np.ndarray
    expected: np.ndarray
    clues: np.ndarray

    @property
    def refined(self) -> bool:
        """Whether the field is more than a network's own."""
        return self.preset != "preview"

    def share(self, expected: np.ndarray) -> float:
        """The share of the squared error in the tenth of the voxels for which most is expected."""
        return self.square[np.argsort(-expected)[: len(expected) // 10]].sum() / self.square.sum()


def visits(pair: str) -> tuple:
    """The baseline and the follow-up that a pair's name stands for."""
    kind, seed = pair.split(":")
    if kind.replace(".", "").isdigit():
        return make_pair(int(seed), float(kind)).visits[:2]
    return make_patient(kind, int(seed), days=(0, 90)).visits[:2]


@contextmanager
def kept_clues() -> Iterator[list]:
    """The clues that registrations inside the block looked at."""
    kept, look = [], uncertainty.clues
    uncertainty.clues = lambda *given: kept.append(look(*given)) or kept[-1]
    try:
        yield kept
    finally:
        uncertainty.clues = look


def measured(pair: str, preset: str) -> Found:
    """Register a pair, and compare its errors with what it expects of them."""
    baseline, followup = visits(pair)
    with kept_clues() as kept:
        result = register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset=preset, uncertainty=True)
    grid = grids.grid_of(result.uncertainty)
    error = result.displacement_mm - grids.to_array(grids.resample(followup.displacement, result.grid))
    square = grids.to_image(np.square(error).sum(0).astype(np.float32), result.grid)
    lungs = grids.to_array(grids.resample_mask(baseline.lungs, grid)) > 0
    seen = grids.to_array(grids.resample_mask(sitk.Cast(result.inside, sitk.sitkUInt8), grid)) > 0
    inner = ndimage.binary_erosion(lungs & seen)  # at the pleura the truth jumps
    clues = [np.log(getattr(kept[-1], name)[inner] + least) for name, least in uncertainty._LEAST.items()]
    expected = grids.to_array(result.uncertainty)[inner].astype(float) ** 2
    return Found(pair, preset, grids.to_array(grids.resample(square, grid))[inner], expected, np.stack(clues, 1))


def fitted(founds: list[Found]) -> np.ndarray:
    """The exponents of the clues, and last the logarithm of the constant: gamma regression with a logarithmic link."""
    clues = np.concatenate([found.clues[::EVERY] for found in founds])
    square = np.concatenate([found.square[::EVERY] for found in founds]) + 1e-4
    middle, width = clues.mean(0), clues.std(0)
    unit = np.column_stack([(clues - middle) / width, np.ones(len(clues))])

    def deviance(powers: np.ndarray) -> tuple[float, np.ndarray]:
        logarithm = unit @ powers
        ratio = square * np.exp(-logarithm)
        return float((ratio + logarithm).mean()), unit.T @ (1 - ratio) / len(unit)

    powers = optimize.minimize(deviance, np.zeros(unit.shape[1]), jac=True, method="L-BFGS-B").x
    powers[:-1] /= width
    powers[-1] -= powers[:-1] @ middle
    return powers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), help="kind:seed, or millimetres:seed")
    parser.add_argument("--presets", nargs="+", default=["preview", "fast", "standard"])
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    founds = []
    print("| pair | preset | share | share at best | error, mm | expected, mm |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for pair in given.pairs:
        for preset in given.presets:
            found = measured(pair, preset)
            founds.append(found)
            root = [np.sqrt(squares.mean()) for squares in (found.square, found.expected)]
            shares = found.share(found.expected), found.share(found.square)
            cells = [pair, preset, *(f"{value:.2f}" for value in (*shares, *root))]
            print(f"| {' | '.join(cells)} |", flush=True)
    if not given.fit:
        return
    for refined in sorted({found.refined for found in founds}):
        alike = [found for found in founds if found.refined == refined]
        told = zip((*uncertainty._LEAST, "constant"), fitted(alike), strict=True)
        print(
            "\nrefined: " if refined else "\nnetwork alone: ", ", ".join(f"{name} {power:.2f}" for name, power in told)
        )
        for found in alike:
            others = [other for other in alike if other.pair != found.pair]
            if others:
                share = found.share(found.clues @ fitted(others)[:-1])
                print(f"{found.pair} {found.preset}, fitted without it: {share:.2f}")


if __name__ == "__main__":
    main()
