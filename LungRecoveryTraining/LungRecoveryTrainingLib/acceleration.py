"""The fused CUDA kernels in the place of the library's own functions, where they can be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from unittest.mock import patch

import torch

from LungRecoveryLib.registration import flow, losses


def kernels_for(device: torch.device | str) -> ModuleType | None:
    """The module `kernels` where `device` is a CUDA device of this machine and Triton is installed, else None."""
    if torch.device(device).type != "cuda" or not torch.cuda.is_available() or find_spec("triton") is None:
        return None
    return import_module(".kernels", __package__)


@contextmanager
def fused(device: torch.device | str) -> Iterator[bool]:
    """Within the block, float32 batches on a CUDA device go through the fused kernels; yields whether there are any.

    `flow.exponentiate` and `losses.Lncc` are replaced, by functions that take everything else to the originals.
    """
    kernels = kernels_for(device)
    if kernels is None:
        yield False
        return
    exponentiate, lncc = flow.exponentiate, losses.Lncc

    @wraps(exponentiate)
    def fused_exponentiate(velocity, steps=6, identity=None):
        if _is_batch(velocity):
            return kernels.exponentiate(velocity, steps)
        return exponentiate(velocity, steps, identity)

    def fused_lncc(fixed, mask, radius=2, epsilon=1e-4, masked_windows=False):
        if _is_batch(fixed) and not masked_windows:
            return kernels.Lncc(fixed, mask, radius, epsilon)
        return lncc(fixed, mask, radius, epsilon, masked_windows)

    with patch.object(flow, "exponentiate", fused_exponentiate), patch.object(losses, "Lncc", fused_lncc):
        yield True


def _is_batch(tensor: torch.Tensor) -> bool:
    return tensor.is_cuda and tensor.ndim == 5 and tensor.dtype == torch.float32
