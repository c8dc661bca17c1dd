"""The GPU that tests run on: the best there is, software (Mesa's lavapipe) included."""

from __future__ import annotations

import os

import pytest

from logitscope import gpu
from logitscope.errors import GpuUnavailableError


def open_device(**options):
    """Open a device; without one the test is skipped, or fails where LOGITSCOPE_REQUIRE_GPU is 1."""
    try:
        return gpu.Device(allow_software=True, **options)
    except GpuUnavailableError as error:
        if os.environ.get("LOGITSCOPE_REQUIRE_GPU") == "1":
            pytest.fail(f"LOGITSCOPE_REQUIRE_GPU is 1, and: {error}")
        pytest.skip(str(error))
