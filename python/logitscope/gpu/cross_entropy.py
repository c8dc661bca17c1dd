"""Cross entropy and its relatives of logits on a GPU.

Targets of classes come from the CPU: they are checked before anything runs. What goes to the GPU and back besides the
logits and the gradient is a few numbers a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_numpy
from logitscope.errors import ArgumentError, ShapeError, TargetError
from logitscope.gpu import rows
from logitscope.gpu.array import GpuArray
from logitscope.ops import _loss_problem, _rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops._loss_problem import Options

_IGNORED = np.uint32(0xFFFFFFFF)
_NAMES = ("loss", "penalty", "v", "lse", "entropy", "margin", "argmax", "collapsed")


class Problem:
    """Checked arguments of a loss, and what the GPU is given."""

    def __init__(self, operation: str, logits: GpuArray, targets: Any, options: Options) -> None:
        if logits.ndim == 0 or (logits.size == 0 and 0 in (logits.shape[options.axis],)):
            message = f"{operation}: logits has shape {logits.shape}; use (..., classes), at least one class"
            raise ShapeError(message)
        self.operation, self.logits, self.options = operation, logits, options
        self.axis = _rows.axis_of(operation, logits, options.axis)
        self.columns = logits.shape[self.axis]
        self.shape = logits.shape[: self.axis] + logits.shape[self.axis + 1 :]
        self.count = int(np.prod(self.shape))
        self.is_soft = isinstance(targets, GpuArray)
        self.weight = None
        if options.weight is not None:
            model = np.empty((0, self.columns), np.float32)
            self.weight = _loss_problem.class_weight(operation, options.weight, model)
        self.native = self._checked_options()
        if self.is_soft:
            rows.checked(operation, {"logits": logits, "targets": targets})
            self.targets = rows.rows_last(targets, self.axis)
            self.weights, self.live = float(self.count), self.count
        else:
            self._take_classes(targets)

    def _checked_options(self) -> _native.LossOptions:
        """Let the CPU's kernel check the options, with rows of one class and no rows of all."""
        native = _loss_problem.native_options(self.operation, self.options, self.shape)
        without_rows: _native.LossOptions = {**native, "normalizer": None}
        for shape, weight, checks in (
            ((self.count, 1), None, native),
            ((0, self.columns), self.weight, without_rows),
        ):
            model = np.zeros(shape, np.float32)
            targets = model if self.is_soft else np.zeros(shape[:1], np.int64)
            _native.cross_entropy(
                self.operation, _loss_problem.four_axes(model), targets, weight, {**checks, "ignore_index": -1},
                np.empty(shape[:1], np.float32), None, None, None,
            )  # fmt: skip
        return native

    def _take_classes(self, targets: Any) -> None:
        classes = _loss_problem.class_indices(self.operation, targets, self.shape).reshape(-1)
        live = classes != self.options.ignore_index
        wrong = np.flatnonzero(live & ((classes < 0) | (classes >= self.columns)))
        if wrong.size:
            row = int(wrong[0])
            got = f"target {classes[row]} in row {row} is no class"
            message = f"{self.operation}: {got}; use 0..{self.columns - 1}"
            raise TargetError(message)
        words = np.where(live, classes, _IGNORED).astype(np.uint32)
        self.targets = self.uploaded(words)
        self.live = int(live.sum())
        self.weights = float(
            self.live if self.weight is None else self.weight[classes[live]].sum(dtype=np.float64)
        )

    def uploaded(self, numbers: NDArray[Any]) -> _native.GpuTensor:
        """Numbers of 32 bits on the device."""
        flat = np.ascontiguousarray(numbers).reshape(-1)
        return self.logits.device.native.upload(flat.view(np.uint8), "float32")

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

    def run(
        self, upstream: NDArray[Any] | None, *, gradient: bool
    ) -> tuple[_native.GpuTensor, GpuArray | None]:
        """Return the numbers of the rows, (rows, 8), and the gradient if it is wanted."""
        weight = None if self.weight is None else self.uploaded(self.weight.astype(np.float32))
        numbers, dx = self.logits.device.native.cross_entropy(
            rows.rows_last(self.logits, self.axis), self.columns, self.targets, self.is_soft, weight,
            self.uploaded(self.factors(upstream)), self.native, gradient,
        )  # fmt: skip
        if dx is None:
            return numbers, None
        return numbers, GpuArray.of(
            rows.rows_back(dx, self.logits, self.axis), self.logits, self.logits.shape
        )

    def reduced(self, numbers: _native.GpuTensor) -> GpuArray:
        """Return the losses of the rows, or one number without axes."""
        options, device = self.options, self.logits.device
        is_sum = options.reduction != "none"
        if options.reduction == "mean" and self.weights == 0 and self.native["normalizer"] is None:
            if options.empty == "nan":
                return GpuArray(np.float32(np.nan), device)
            if self.live == 0:
                return GpuArray(np.float32(0.0), device)
        answer = device.native.losses(numbers, self.uploaded(self.factors(None)), is_sum)
        return self.floats(answer, () if is_sum else self.shape)

    def floats(self, tensor: _native.GpuTensor, shape: tuple[int, ...]) -> GpuArray:
        """Return an array of float32 whatever the logits are stored as."""
        array = GpuArray.of(tensor, self.logits, shape)
        array.dtype = np.dtype(np.float32)
        return array


def loss(
    operation: str,
    logits: GpuArray,
    targets: Any,
    options: Options,
    return_grad: bool,
    return_stats: bool,
    grad_out: Any,
) -> Any:
    """Compute a loss of the family under the name of ``operation``."""
    if grad_out is not None:
        message = f"{operation}: grad_out is given with a GpuArray; use return_grad=True"
        raise ArgumentError(message)
    problem = Problem(operation, logits, targets, options)
    numbers, gradient = problem.run(None, gradient=return_grad)
    answer: list[Any] = [problem.reduced(numbers)]
    if gradient is not None:
        answer.append(gradient)
    if return_stats:
        answer.append(statistics(problem, numbers))
    return answer[0] if len(answer) == 1 else tuple(answer)


def statistics(problem: Problem, numbers: _native.GpuTensor) -> Any:
    """Return the LossStats of the rows; argmax and collapsed, which are no floats, as NumPy arrays."""
    from logitscope.ops.cross_entropy import LossStats

    by_name = problem.logits.device.native.transpose(numbers, (1, problem.count, len(_NAMES)))

    def shaped(name: str) -> GpuArray:
        return problem.floats(by_name.slice(_NAMES.index(name) * problem.count, problem.count), problem.shape)

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


def backward(operation: str, dloss: Any, logits: GpuArray, targets: Any, options: Options) -> GpuArray:
    """Gradient of a loss with respect to the logits."""
    problem = Problem(operation, logits, targets, options)
    upstream = dloss.numpy() if isinstance(dloss, GpuArray) else as_numpy(operation, "dloss", dloss)
    expected = problem.shape if options.reduction == "none" else ()
    if upstream.shape != expected:
        message = f"{operation}: dloss has shape {upstream.shape}; use {expected} for reduction '{options.reduction}'"
        raise ShapeError(message)
    _, gradient = problem.run(upstream, gradient=True)
    assert gradient is not None  # it was asked for
    return gradient
