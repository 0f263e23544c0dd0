"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

REQUIRE_ALL = os.environ.get("LUNGRECOVERY_REQUIRE_ALL") == "1"


def skip_or_fail(reason: str) -> None:
    """Skip a test whose prerequisites are absent, or fail it where everything is required to be present."""
    if REQUIRE_ALL:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real scans; without it the test is skipped, saying so."""
    folder = Path(os.environ.get("LUNGRECOVERY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        skip_or_fail(f"no real scans at {folder.name}: set LUNGRECOVERY_TEST_DATA")
    return folder
