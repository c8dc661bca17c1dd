"""Measurements that need a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def require_proc() -> None:
    """Raise ArgumentError where the system does not tell the peak of a process."""
    if not _CLEAR.exists():
        message = "bench: memory is read from /proc; use Linux"
        raise ArgumentError(message)


def number_of(module: str, way: str, *arguments: str | int) -> float:
    """Run a module of the package with these arguments in a process of its own; gives the number that it prints."""
    command = [sys.executable, "-m", module, way, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"bench: '{way}' of {module} cannot be measured: {done.stderr.strip().splitlines()[-1]}"
        raise ArgumentError(message)
    return float(done.stdout)


def peak_of(step: Callable[[], Any]) -> int:
    """Bytes that a call takes at the most above what is there before it; what it returns is still there at the end."""
    _CLEAR.write_text("5", encoding="utf-8")  # the peak starts anew from what is there now
    before = _peak()
    result = step()
    peak = _peak() - before
    del result
    return peak


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", _STATUS.read_text(encoding="utf-8"))
    return int(found[1]) * 1024 if found else 0
