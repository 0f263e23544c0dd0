"""What a test does whose prerequisites are absent."""

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, saying so, or fail it where LUNGRECOVERY_REQUIRE_ALL=1 asks for everything to be present."""
    if os.environ.get("LUNGRECOVERY_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
