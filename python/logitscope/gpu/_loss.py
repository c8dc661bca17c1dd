"""What losses of rows on a GPU share: checked options, factors of the gradients, sums, statistics."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_numpy
from logitscope.errors import ShapeError, TargetError
from logitscope.gpu.array import GpuArray
from logitscope.ops import _loss_problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.gpu.device import Device
    from logitscope.ops._loss_problem import Options

IGNORED = np.uint32(0xFFFFFFFF)
"""Stands for the class of a row without a target."""

NAMES = ("loss", "penalty", "v", "lse", "entropy", "margin", "argmax", "collapsed")
"""The numbers of a row."""


class Loss:
    """A loss of rows, of any of these shapes, over so many classes."""

    def __init__(
        self,
        operation: str,
        device: Device,
        options: Options,
        native: _native.LossOptions,
        shape: tuple[int, ...],
        columns: int,
        weight: NDArray[Any] | None,
    ) -> None:
        self.operation, self.device, self.options, self.native = operation, device, options, native
        self.shape, self.columns, self.weight = shape, columns, weight
        self.count = prod(shape)
        self.weights, self.live = float(self.count), self.count

    def check_options(self, *, soft: bool) -> None:
        """Let the CPU's kernel check the options, with rows of one class and no rows of all."""
        without_rows: _native.LossOptions = {**self.native, "normalizer": None}
        for shape, weight, checks in (
            ((self.count, 1), None, self.native),
            ((0, self.columns), self.weight, without_rows),
        ):
            model = np.zeros(shape, np.float32)
            targets = model if soft else np.zeros(shape[:1], np.int64)
            _native.cross_entropy(
                self.operation, _loss_problem.four_axes(model), targets, weight, {**checks, "ignore_index": -1},
                np.empty(shape[:1], np.float32), None, None, None,
            )  # fmt: skip

    def take_classes(self, classes: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Check the classes of the rows and count them; return what the GPU is given."""
        live = classes != self.options.ignore_index
        wrong = np.flatnonzero(live & ((classes < 0) | (classes >= self.columns)))
        if wrong.size:
            row = int(wrong[0])
            got = f"target {classes[row]} in row {row} is no class"
            message = f"{self.operation}: {got}; use 0..{self.columns - 1}"
            raise TargetError(message)
        self.live = int(live.sum())
        self.weights = float(
            self.live if self.weight is None else self.weight[classes[live]].sum(dtype=np.float64)
        )
        return np.where(live, classes, IGNORED).astype(np.uint32)

    def uploaded(self, numbers: NDArray[Any]) -> _native.GpuTensor:
        """Numbers of 32 bits on the device."""
        flat = np.ascontiguousarray(numbers).reshape(-1)
        return self.device.native.upload(flat.view(np.uint8), "float32")

    def uploaded_weight(self) -> _native.GpuTensor | None:
        """Return the factors of the classes, on the device."""
        return None if self.weight is None else self.uploaded(self.weight.astype(np.float32))

    def upstream_of(self, dloss: Any, rows: tuple[int, ...]) -> NDArray[Any]:
        """Read the gradient of the loss: of rows of this shape, or one number."""
        upstream = dloss.numpy() if isinstance(dloss, GpuArray) else as_numpy(self.operation, "dloss", dloss)
        expected = rows if self.options.reduction == "none" else ()
        if upstream.shape != expected:
            use = f"{expected} for reduction '{self.options.reduction}'"
            message = f"{self.operation}: dloss has shape {upstream.shape}; use {use}"
            raise ShapeError(message)
        return upstream

    def factors(self, upstream: NDArray[Any] | None) -> NDArray[np.float32]:
        """What the gradients of losses and penalties are multiplied by: two numbers, or two a row."""
        options, normalizer = self.options, self.native["normalizer"]
        up = np.float64(1.0) if upstream is None else upstream.reshape(-1).astype(np.float64)
        of_loss: Any
        if options.reduction != "mean":
            of_loss = of_penalty = up
        elif normalizer is not None:
            of_loss = of_penalty = up / (
                normalizer if isinstance(normalizer, float) else normalizer.reshape(-1)
            )
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                none = self.weights == 0 and options.empty == "zero"
                of_loss = up * 0.0 if none else np.divide(up, self.weights)
                of_penalty = np.divide(up, self.live)
        return np.stack(np.broadcast_arrays(of_loss, of_penalty), -1).astype(np.float32)

    def reduced(self, numbers: _native.GpuTensor, factors: _native.GpuTensor) -> GpuArray:
        """Return the losses of the rows, or one number without axes."""
        options, device = self.options, self.device
        is_sum = options.reduction != "none"
        if options.reduction == "mean" and self.weights == 0 and self.native["normalizer"] is None:
            if options.empty == "nan":
                return GpuArray(np.float32(np.nan), device)
            if self.live == 0:
                return GpuArray(np.float32(0.0), device)
        answer = device.native.losses(numbers, factors, is_sum)
        return self.floats(answer, () if is_sum else (len(answer),))

    def floats(self, tensor: _native.GpuTensor, shape: tuple[int, ...]) -> GpuArray:
        """Return an array of float32."""
        return GpuArray.of_float32(tensor, self.device, shape)


def statistics(problem: Loss, numbers: _native.GpuTensor, shape: tuple[int, ...]) -> Any:
    """Return the LossStats of rows of a shape; argmax and collapsed, which are no floats, as NumPy arrays."""
    from logitscope.ops.cross_entropy import LossStats

    count = prod(shape)
    by_name = problem.device.native.transpose(numbers, (1, count, len(NAMES)))

    def shaped(name: str) -> GpuArray:
        return problem.floats(by_name.slice(NAMES.index(name) * count, count), shape)

    def integers(name: str) -> NDArray[np.uint32]:
        return shaped(name).numpy().view(np.uint32)

    return LossStats(
        lse=shaped("lse"),
        argmax=integers("argmax").astype(np.int64),
        margin=shaped("margin"),
        v=shaped("v"),
        entropy=shaped("entropy"),
        collapsed=integers("collapsed") != 0,
    )
