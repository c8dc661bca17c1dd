"""The machine below the operations: threads, instruction set, what ran last."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import operator
import platform

import numpy as np

import logitscope
from logitscope import _native
from logitscope.errors import ArgumentError
from logitscope.ops._bfloat16 import bfloat16_refusals, products_of_bfloat16


def set_num_threads(threads: int | None) -> None:
    """Set how many threads the operations use; None restores the default.

    The default is ``LOGITSCOPE_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the number of CPUs that the
    process may run on. Results have the same bits at any number of threads.

    Parameters
    ----------
    threads
        At least 1.

    Raises
    ------
    ArgumentError
        For a number below 1.

    Examples
    --------
    >>> import logitscope
    >>> logitscope.set_num_threads(2)
    >>> logitscope.get_num_threads()
    2
    >>> logitscope.set_num_threads(None)
    """
    if threads is None:
        _native.set_num_threads(0)
        return
    count = operator.index(threads)
    if not 1 <= count <= 4096:
        message = f"set_num_threads: threads is {count}; use 1..4096, or None for the default"
        raise ArgumentError(message)
    _native.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads the operations use.

    Examples
    --------
    >>> import logitscope
    >>> logitscope.get_num_threads() >= 1
    True
    """
    return _native.get_num_threads()


def last_kernel() -> str:
    """Name of the kernel that ran last on this thread: operation, element type, instruction set.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> x = np.zeros((1, 1, 4, 8), np.float32)
    >>> _ = logitscope.attention(x, x, x)
    >>> logitscope.last_kernel().startswith("attention-f32-")
    True
    """
    return _native.last_kernel()


def info() -> dict[str, str]:
    """What logitscope runs on, for bug reports: versions, instruction sets, threads, GPUs.

    Examples
    --------
    >>> import logitscope
    >>> sorted(logitscope.info())[:3]
    ['bfloat16', 'cpu', 'dashboard']
    """
    return {
        "logitscope": logitscope.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "isa": f"{_native.isa()} (this CPU runs {', '.join(_native.available_isas())})",
        "bfloat16": _bfloat16(),
        "threads": str(_native.get_num_threads()),
        "numpy": np.__version__,
        "torch": _version("torch"),
        "dashboard": _version("logitscope-app"),
        **_gpus(),
    }


def _bfloat16() -> str:
    """How attention multiplies bfloat16, and what of the CPU it leaves unused."""
    products = products_of_bfloat16()
    way = f"multiplied in {products}" if products else "widened to float32"
    return "; ".join([way, *(refusal for refusal in bfloat16_refusals() if "AMX" in refusal)])


def _gpus() -> dict[str, str]:
    """One line a GPU: name, driver, features, limits."""
    found = _native.gpu_adapters()
    if not found:
        return {"gpu": "none found (no Vulkan, Metal or Direct3D 12 driver)"}
    return {
        f"gpu {adapter['index']}": (
            f"{adapter['name']} ({adapter['kind']}, {adapter['backend']}, {adapter['driver']}); "
            f"features: {', '.join(adapter['features']) or 'none'}; "
            f"limits: {', '.join(f'{name} {limit}' for name, limit in adapter['limits'].items())}"
        )
        for adapter in found
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        module = distribution.replace("-", "_")
        return "from a source tree" if importlib.util.find_spec(module) else "not installed"
