"""The operations on any GPU: Vulkan, Metal and Direct3D 12, through WGSL compute shaders.

A :class:`GpuArray` goes into the functions of ``logitscope`` and ``logitscope.loss`` where a NumPy array would, and one
comes back. Calls are recorded and run when a result is read with :meth:`GpuArray.numpy`, so a chain of them stays on
the GPU. Results agree with the CPU's within 1e-4 relatively; what NaN, infinities and empty rows give is the same.
"""

from __future__ import annotations

from logitscope.gpu.array import GpuArray
from logitscope.gpu.device import AdapterInfo, Device, adapters, available, default_device
from logitscope.gpu.sending import sending

__all__ = ["AdapterInfo", "Device", "GpuArray", "adapters", "available", "default_device", "sending"]
