"""Small synthetic patients, each made once for all tests."""

import functools

import pytest

from LungRecoveryLib.phantom import Patient, make_pair, make_patient

SMALL = {"size": (88, 68, 92), "spacing": (3.5, 3.5, 3.5)}


@functools.cache
def _patient(kind: str, seed: int) -> Patient:
    if kind == "pair":
        return make_pair(seed, 25.0, **SMALL)
    days = (0, 30, 90, 180) if kind == "recovering" else (0, 60, 180)
    return make_patient(kind, seed, days=days, **SMALL)


@pytest.fixture(scope="session")
def small_patient():
    """A function (kind or "pair", seed=0) giving a patient of 88x68x92 voxels at 3.5 mm."""
    return lambda kind, seed=0: _patient(kind, seed)
