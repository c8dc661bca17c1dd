"""The errors that logitscope raises, all under one base.

A message names the operation, what was wrong, what came and what would work.
"""

from __future__ import annotations


class LogitscopeError(Exception):
    """Base of every error that logitscope raises on purpose."""


class ShapeError(LogitscopeError, ValueError):
    """Arrays whose shapes do not fit an operation or each other."""


class ArgumentError(LogitscopeError, ValueError):
    """An option outside of what an operation accepts."""


class DTypeError(LogitscopeError, TypeError):
    """An element type that an operation does not accept."""


class TargetError(LogitscopeError, IndexError):
    """A class index outside of the classes that there are."""


class NumericalError(LogitscopeError, FloatingPointError):
    """NaN, infinities or a singular matrix where nothing can be computed with them."""


class DeviceError(LogitscopeError, RuntimeError):
    """A device, instruction set or library that is not there or cannot be used."""


class GpuUnavailableError(DeviceError):
    """No GPU, or none that can do what was asked for."""


class GpuOutOfMemoryError(DeviceError, MemoryError):
    """Memory that a GPU does not have, or sizes over its limits."""


class GpuDeviceLostError(DeviceError):
    """A GPU that was closed, reset or removed; a new device may work."""


class GpuCompileError(DeviceError):
    """A shader or a call that a driver refuses."""


class GpuTimeoutError(DeviceError, TimeoutError):
    """A GPU that does not answer in time."""


class RunFileError(LogitscopeError, OSError):
    """A run file that cannot be read or written, or that is none."""
