"""Deterministic splits by patient."""

import hashlib
from collections.abc import Iterable

from LungRecoveryLib.errors import BadInput


def split_by_patient(subjects: Iterable[str], val: float = 0.1, test: float = 0.1, seed: int = 0) -> dict[str, str]:
    """train, val or test for each patient: the same for the same patients and seed, in whatever order they come.

    The patients are ordered by a hash of seed and name; the first share `test` is for testing, the next `val` for
    validation, each rounded to whole patients but never to none where the share is not 0 and three patients are there.
    Raises BadInput for shares that leave nobody to train on.
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise BadInput(f"shares of {val:g} for validation and {test:g} for testing leave nothing to train on")
    names = sorted(set(subjects), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    tested, validated = (_count(share, len(names)) for share in (test, val))
    order = ["test"] * tested + ["val"] * validated
    return {name: order[i] if i < len(order) else "train" for i, name in enumerate(names)}


def _count(share: float, patients: int) -> int:
    if share == 0 or patients < 3:
        return 0
    return max(1, round(share * patients))
