"""Small disks for the tests of faults."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[..., Path]]:
    """The function that mounts a disk (tmpfs) of so many MB; skips where only root may, even if all is required."""
    mounted: list[Path] = []

    def mount(megabytes: int, read_only: bool = False) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        options = f"size={megabytes}m" + (",ro" if read_only else "")
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
                check=True, capture_output=True, encoding="utf-8",
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small disk is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
