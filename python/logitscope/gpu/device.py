"""Which GPUs there are, and the one that computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from logitscope import _native
from logitscope.errors import GpuDeviceLostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Reduction = Literal["auto", "tree", "subgroup"]

ADAPTER_VARIABLE = "LOGITSCOPE_GPU_ADAPTER"
"""Environment variable with the adapter that is used where a program names none; it may be software."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A GPU, or software that stands for one."""

    index: int
    """Its place in the list of :func:`adapters`."""
    name: str
    backend: str
    """``"vulkan"``, ``"metal"`` or ``"dx12"``."""
    kind: str
    """``"discrete"``, ``"integrated"``, ``"virtual"``, ``"software"`` or ``"other"``."""
    driver: str
    features: tuple[str, ...]
    """Of ``"f16"`` (stores float16) and ``"subgroups"``."""
    limits: Mapping[str, int]

    @classmethod
    def of(cls, facts: _native.GpuFacts) -> AdapterInfo:
        """Make one of what the compiled module says."""
        return cls(
            facts["index"], facts["name"], facts["backend"], facts["kind"], facts["driver"],
            tuple(facts["features"]), facts["limits"],
        )  # fmt: skip


def adapters() -> list[AdapterInfo]:
    """List the GPUs of this machine, the best first; software comes last.

    Returns
    -------
    list of AdapterInfo
        Empty where there is no driver.

    Examples
    --------
    >>> from logitscope import gpu
    >>> [adapter.index for adapter in gpu.adapters()] == list(range(len(gpu.adapters())))
    True
    """
    return [AdapterInfo.of(facts) for facts in _native.gpu_adapters()]


def available(*, allow_software: bool = False) -> bool:
    """Whether :class:`Device` finds a GPU: a real one, or one that ``LOGITSCOPE_GPU_ADAPTER`` names.

    Parameters
    ----------
    allow_software
        Whether software counts, too.

    Examples
    --------
    >>> from logitscope import gpu
    >>> gpu.available() <= gpu.available(allow_software=True)
    True
    """
    named = bool(os.environ.get(ADAPTER_VARIABLE))
    return any(allow_software or named or adapter.kind != "software" for adapter in adapters())


class Device:
    """A GPU that computes.

    Parameters
    ----------
    adapter
        Index in :func:`adapters`, or a part of the name; by default what the environment variable
        ``LOGITSCOPE_GPU_ADAPTER`` says, else the best.
    backends
        The interfaces that it may be driven through, of ``"vulkan"``, ``"metal"`` and ``"dx12"``; all by default.
    allow_software
        Whether the best may be software (such as Mesa's lavapipe), which is slower than the CPU's own kernels.
    reduction
        How threads add up: by a ``"tree"`` in their shared memory, through ``"subgroup"`` operations, or what suits the
        adapter.
    binding_bytes
        See at most so many bytes of a tensor at once; larger ones are worked on in parts. By default what the adapter
        allows.
    timeout
        Seconds that a result is waited for.

    Raises
    ------
    GpuUnavailableError
        Where there is none; it says what there is.
    ArgumentError
        For options that are none.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> from logitscope import gpu
    >>> device = gpu.Device(allow_software=True)
    >>> x = gpu.GpuArray(np.array([[0.0, 0.0]], np.float32), device)
    >>> logitscope.softmax(x).numpy()
    array([[0.5, 0.5]], dtype=float32)
    """

    __slots__ = ("_native", "info")

    def __init__(
        self,
        adapter: int | str | None = None,
        *,
        backends: Sequence[str] | None = None,
        allow_software: bool = False,
        reduction: Reduction = "auto",
        binding_bytes: int | None = None,
        timeout: float = 60.0,
    ) -> None:
        wanted = adapter if adapter is not None else os.environ.get(ADAPTER_VARIABLE) or None
        name = None if wanted is None else str(wanted)
        through = None if backends is None else [backends] if isinstance(backends, str) else list(backends)
        self._native = _native.GpuDevice(name, through, allow_software, reduction, binding_bytes, timeout)
        self.info = AdapterInfo.of(self._native.facts())

    @property
    def native(self) -> _native.GpuDevice:
        """The device of the compiled module; for the package itself."""
        return self._native

    @property
    def pool_bytes(self) -> int:
        """Bytes that were given back and are kept for later arrays."""
        return self._native.pool_bytes()

    @property
    def submissions(self) -> int:
        """How often recorded calls were submitted: once for each result that is read, and every 32 calls."""
        return self._native.submissions()

    @property
    def features(self) -> tuple[str, ...]:
        """Which of the features that are used it has, as :attr:`AdapterInfo.features`."""
        return self.info.features

    @property
    def limits(self) -> Mapping[str, int]:
        """Its limits, as :attr:`AdapterInfo.limits`."""
        return self.info.limits

    @property
    def has_f16(self) -> bool:
        """Whether arrays of float16 can be kept as such."""
        return "f16" in self.info.features

    def finish(self) -> None:
        """Run what is recorded and wait until it has run."""
        self._native.finish()

    def flush(self) -> None:
        """Let the device begin with what is recorded, without waiting."""
        self._native.flush()

    def check(self) -> None:
        """Raise the GpuDeviceLostError that the next call would."""
        self._native.check()

    def close(self) -> None:
        """Give everything back; later calls raise GpuDeviceLostError."""
        self._native.close()

    def __repr__(self) -> str:
        return f"<logitscope.gpu.Device {self.info.name} ({self.info.backend}, {self.info.kind})>"


_default: Device | None = None


def default_device() -> Device:
    """Return the device that arrays go to where none is named; a new one if it was lost.

    Raises
    ------
    GpuUnavailableError
        Where there is none; it says what there is.

    Examples
    --------
    >>> from logitscope import gpu
    >>> gpu.available() and gpu.default_device() is not gpu.default_device()
    False
    """
    global _default  # noqa: PLW0603 -- opened once, for whoever comes first
    if _default is not None:
        try:
            _default.check()
        except GpuDeviceLostError:
            _default = None
    if _default is None:
        _default = Device()
    return _default
