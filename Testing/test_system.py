"""Threads are limited where asked and as they were afterwards."""

import pytest
import SimpleITK as sitk
import torch

from LungRecoveryLib.system import limited_threads


def counts() -> tuple[int, int]:
    return torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()


def test_torch_and_itk_are_limited_together_and_only_within_the_block():
    before = counts()
    with limited_threads(1):
        assert counts() == (1, 1)
    assert counts() == before


def test_threads_come_back_after_an_error_too():
    def fail():
        with limited_threads(3):
            raise KeyError

    before = counts()
    with pytest.raises(KeyError):
        fail()
    assert counts() == before


def test_no_limit_leaves_the_threads_as_they_are():
    before = counts()
    with limited_threads(None):
        assert counts() == before
