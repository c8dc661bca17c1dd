"""The libraries that are measured beside this one: those that import; of the others it is said why not."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = ("float32", "float64", "float16", "bfloat16")
_MODULES = {"torch": ("torch",), "jax": ("jax", "jax.numpy"), "scipy": ("scipy", "scipy.special")}


@dataclass(frozen=True, slots=True)
class Peers:
    """The modules, by name."""

    modules: dict[str, Any]
    versions: dict[str, str]
    missing: dict[str, str]
    """Name -> why it is not measured."""

    @classmethod
    def load(cls, only: tuple[str, ...] = tuple(_MODULES)) -> Peers:
        """Import what is there."""
        peers = cls({}, {}, {})
        for name in only:
            try:
                peers.modules[name], *_ = map(importlib.import_module, _MODULES[name])
            except ImportError as error:
                peers.missing[name] = str(error)
                continue
            peers.versions[name] = importlib.metadata.version(name)
        if (torch := peers.modules.get("torch")) is not None:
            torch.set_num_threads(1)
        if (jax := peers.modules.get("jax")) is not None:
            jax.config.update("jax_enable_x64", True)
            # With one CPU a second thread that computes only costs switches.
            jax.config.update("jax_cpu_enable_async_dispatch", False)
        return peers

    def __getattr__(self, name: str) -> Any:
        """Give a module, None if it is missing."""
        if name in _MODULES:
            return self.modules.get(name)
        raise AttributeError(name)

    def jit(self, function: Any) -> Any:
        """``jax.jit``."""
        return self.modules["jax"].jit(function)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The element type of this name."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        message = "bench: --dtype bfloat16 needs ml_dtypes: pip install ml_dtypes"
        raise ArgumentError(message) from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def as_torch(torch: Any, array: NDArray[Any]) -> Any:
    """A tensor that shares the memory of an array."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_array(value: Any) -> NDArray[Any]:
    """What a contender returned, in float64, some 10 000 elements of it."""
    if hasattr(value, "detach"):
        value = value.detach().double().numpy()
    flat = np.asarray(value).reshape(-1)
    return flat[:: max(1, flat.size // 10_000)].astype(np.float64)
