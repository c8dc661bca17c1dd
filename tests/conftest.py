"""Fixtures for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from logitscope import _native

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=_native.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this CPU in turn, in use for the whole process while the test runs."""
    in_use = "auto" if _native.has_bf16_products() else _native.isa()
    _native.select_isa(request.param)
    yield request.param
    _native.select_isa(in_use)
