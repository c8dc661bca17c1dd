"""Fixtures of the tests on a GPU."""

from __future__ import annotations

import pytest

from gpu_device import open_device
from logitscope.errors import GpuUnavailableError


@pytest.fixture(scope="session")
def gpu_device():
    """A device as it comes."""
    return open_device()


@pytest.fixture(scope="session", params=["tree", "subgroup"])
def any_device(request):
    """A device whose threads add up by a tree, and one whose threads do so through subgroups."""
    open_device()
    try:
        return open_device(reduction=request.param)
    except GpuUnavailableError as error:
        pytest.skip(str(error))
