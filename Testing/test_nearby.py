"""Local means: against sums written out."""

import numpy as np

from LungRecoveryLib.nearby import sums_nearby


def test_sums_are_those_written_out():
    """Over some voxels only, with unequal widths; what lies elsewhere does not count, even where it is no number."""
    rng = np.random.default_rng(0)
    shape, sigma, truncate = (9, 8, 7), (1.5, 1.0, 0.7), 2.0
    values, where = rng.normal(size=shape), rng.random(shape) < 0.4
    at = np.array([4, 4, 3])
    kernels = []
    for s in sigma:
        reach = int(truncate * s + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / s) ** 2)
        kernels.append(kernel / kernel.sum())
    total = number = 0.0
    for offset in np.ndindex(*map(len, kernels)):
        place = tuple(at + offset - np.array([len(k) // 2 for k in kernels]))
        weight = np.prod([k[o] for k, o in zip(kernels, offset, strict=True)]) * where[place]
        total, number = total + weight * values[place], number + weight
    values[~where] = np.nan
    totals, numbers = sums_nearby(values, where, sigma, truncate)
    assert np.isfinite(totals).all()
    assert abs(totals[tuple(at)] - total) < 1e-6
    assert abs(numbers[tuple(at)] - number) < 1e-6


def test_a_constant_is_its_own_mean_up_to_the_border():
    where = np.zeros((6, 6, 6), bool)
    where[:, 2:, :4] = True
    total, number = sums_nearby(np.full(where.shape, -850.0), where, 3.0)
    np.testing.assert_allclose((total / number)[where], -850.0, rtol=1e-5)
