"""Which process writes a run, and whether it lives: by pid and start time, so that no reused pid deceives."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process of one machine since its last boot."""

    host: str
    pid: int
    started: str
    """As the system tells it; empty where it does not."""


def this_process() -> Process:
    """Tell which process this is.

    Examples
    --------
    >>> is_alive(this_process())
    True
    """
    return Process(_host(), os.getpid(), _started(os.getpid()) or "")


def is_alive(process: Process) -> bool | None:
    """Whether a process still runs; None when that cannot be told, as for a process of another machine."""
    if process.host != _host() or not process.started:
        return None
    started = _started(process.pid)
    return None if started is None else started == process.started


@lru_cache(maxsize=1)
def _host() -> str:
    """Machine, boot and pid namespace: a pid means something only within all three."""
    parts = [platform.node()]
    for path, read in (
        ("/proc/sys/kernel/random/boot_id", Path.read_text),
        ("/proc/self/ns/pid", os.readlink),
    ):
        try:
            parts.append(str(read(Path(path))).strip())
        except OSError:
            parts.append("")
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process was started; empty when there is none, None when the system does not tell."""
    if sys.platform == "linux":
        return _started_linux(pid)
    if os.name == "posix":
        return _started_posix(pid)
    return None


def _started_linux(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the program's name may hold anything, parentheses too
    return "" if fields[0] in ("Z", "X") else fields[19]


def _started_posix(pid: int) -> str | None:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    state, _, started = result.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else " ".join(started.split())
