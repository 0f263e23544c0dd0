"""The watched memory holds what the work took at its peak."""

import sys

import numpy as np
import pytest

from LungRecoveryTrainingLib.memory import PeakMemory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its resident size as it goes")
def test_memory_that_was_taken_and_given_back_is_seen():
    with PeakMemory("cpu") as small:
        pass
    with PeakMemory("cpu") as large:
        block = np.ones(200_000_000, np.uint8)
        seen = block.sum()
        del block
    assert seen == 200_000_000
    assert large.mb - small.mb > 150
