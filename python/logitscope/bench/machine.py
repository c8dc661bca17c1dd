"""The machine that is measured: its name and caches, and one thread of it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NPROC": "1",  # the thread pool of XLA
    "JAX_PLATFORMS": "cpu",
}
_XLA_FLAG = "--xla_cpu_multi_thread_eigen=false"


@contextlib.contextmanager
def one_thread() -> Iterator[int | None]:
    """Pin this process to one CPU and the libraries to one thread; gives the CPU, or None where that is impossible.

    The variables are read when torch and JAX are imported, so enter before.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAG}".strip()
    variables = {**_ONE_THREAD, "XLA_FLAGS": flags}
    before = {name: os.environ.get(name) for name in variables}
    cpus = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    threads = _native.get_num_threads()
    os.environ.update(variables)
    _native.set_num_threads(1)
    try:
        if not cpus:
            yield None
        else:
            cpu = max(cpus)  # the first one often serves interrupts
            os.sched_setaffinity(0, {cpu})
            yield cpu
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        _native.set_num_threads(threads)
        if cpus:
            os.sched_setaffinity(0, cpus)


def age_memory() -> None:
    """Free a large array once.

    Until then glibc gives freed memory back to the system at once, and results of half a megabyte take half of their
    time to get it again. A process that has worked for a while keeps it.
    """
    np.ones(30 << 20, np.uint8)


def caches() -> dict[str, int]:
    """Bytes of the data caches, ``{"L1": ..., "L2": ..., "L3": ...}``; empty where the system does not say."""
    sizes = {}
    for index in sorted(_CACHES.glob("index*")):
        kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction":
            unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1], 1)
            sizes[f"L{level}"] = int(size.rstrip("KMG")) * unit
    return sizes


def cache_level(size: int) -> str:
    """The nearest cache that holds so many bytes; ``"memory"`` if none does, ``"?"`` if none is known."""
    known = caches()
    return next((name for name, limit in known.items() if size <= limit), "memory" if known else "?")


def cpu_name() -> str:
    """The processor as it calls itself; with family and model where the name has no number."""
    try:
        facts = dict(
            re.findall(
                r"^([^\t:]+?)\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
            )
        )
    except OSError:
        facts = {}
    name = facts.get("model name") or platform.processor() or platform.machine()
    if "model" in facts and not re.search(r"\d", name):
        name = f"{name} family {facts['cpu family']} model {facts['model']}"
    return name


def slug() -> str:
    """The processor as the name of a directory."""
    words = re.sub(r"\(r\)|\(tm\)|@.*", "", cpu_name().lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def describe(cpu: int | None) -> dict[str, Any]:
    """What the results depend on."""
    return {
        "cpu": cpu_name(),
        "isa": _native.isa(),
        "caches": caches(),
        "cpus": os.cpu_count(),
        "pinned_to": cpu,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def load() -> float | None:
    """How many processes wanted a CPU in the last minute, on average; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
