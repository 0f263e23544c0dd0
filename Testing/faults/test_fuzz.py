"""Damaged and hostile files are read or refused: never a crash, a hang or memory without bounds."""

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.images import read_scan

SCRIPT = Path(__file__).with_name("fuzz.py")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(("count", "seed"), [(100, 1), pytest.param(1000, 0, marks=pytest.mark.slow)])
def test_no_damaged_file_crashes(count, seed):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--count", str(count), "--seed", str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["defects"] == []
    assert found["read"] + found["refused"] == count
    assert found["refused"] > 0.3 * count
    assert found["read"] > 0.05 * count


def nifti(path: Path, voxels: np.ndarray) -> bytearray:
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("shape", [(32767, 32767, 32767), (1, 32767, 32767), (32767, 32767, 1)])
def test_a_header_of_huge_sizes_is_refused_before_memory_is_taken(tmp_path, shape):
    path = tmp_path / "huge.nii"
    data = nifti(path, np.zeros((6, 6, 6), np.int16))
    data[40:56] = struct.pack("<8h", 3, *shape, 1, 1, 1, 1)
    path.write_bytes(data)
    with pytest.raises(BadInput, match="claims"):
        read_scan(path)


def test_a_zip_bomb_is_left_after_what_the_header_says(tmp_path):
    """A gigabyte of zeros behind a small scan, in a megabyte of file."""
    data = nifti(tmp_path / "small.nii", np.zeros((6, 6, 6), np.int16))
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(data)
        for _ in range(16):
            file.write(bytes(1 << 26))
    with pytest.raises(BadInput, match="far more than its header says"):
        read_scan(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_place_that_is_no_number_is_refused(tmp_path, value):
    """The position in an MHA header."""
    path = tmp_path / "scan.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((6, 6, 6), np.int16)), str(path))
    path.write_bytes(path.read_bytes().replace(b"Offset = 0 0 0", f"Offset = 0 {value} 0".encode()))
    with pytest.raises(BadInput):
        read_scan(path)
