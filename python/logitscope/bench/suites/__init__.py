"""The suites: one file each, with a docstring that says what it measures and ``cases(settings, peers)``.

One that measures something else than the CPU has ``measured_on()``, the name of that, and ``facts()``, what it can do.

A suite is found by the name of its file; a new one is a new file here.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logitscope.bench.cases import Case, Settings
    from logitscope.bench.peers import Peers

NAMES = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
)


def cases(name: str, settings: Settings, peers: Peers) -> Iterator[Case]:
    """Make the cases of a suite."""
    made: Iterator[Case] = import_module(f"{__name__}.{name}").cases(settings, peers)
    return made


def measured_on(name: str) -> str | None:
    """Name what a suite has measured if that is not the CPU."""
    say = getattr(import_module(f"{__name__}.{name}"), "measured_on", None) if name in NAMES else None
    return None if say is None else str(say())


def facts(name: str) -> dict[str, str]:
    """What is known of that which a suite has measured, beyond the CPU."""
    say = getattr(import_module(f"{__name__}.{name}"), "facts", None)
    return {} if say is None else dict(say())
