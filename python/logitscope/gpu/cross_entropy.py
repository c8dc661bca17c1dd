"""Cross entropy and its relatives of logits on a GPU.

Targets of classes come from the CPU: they are checked before anything runs. What goes to the GPU and back besides the
logits and the gradient is a few numbers a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError, ShapeError
from logitscope.gpu import rows
from logitscope.gpu._loss import Loss, statistics
from logitscope.gpu.array import GpuArray
from logitscope.ops import _loss_problem, _rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope import _native
    from logitscope.ops._loss_problem import Options


class Problem(Loss):
    """Checked arguments of a loss, and what the GPU is given."""

    def __init__(self, operation: str, logits: GpuArray, targets: Any, options: Options) -> None:
        if logits.ndim == 0 or (logits.size == 0 and 0 in (logits.shape[options.axis],)):
            message = f"{operation}: logits has shape {logits.shape}; use (..., classes), at least one class"
            raise ShapeError(message)
        self.logits = logits
        self.axis = _rows.axis_of(operation, logits, options.axis)
        columns = logits.shape[self.axis]
        shape = logits.shape[: self.axis] + logits.shape[self.axis + 1 :]
        weight = None
        if options.weight is not None:
            model = np.empty((0, columns), np.float32)
            weight = _loss_problem.class_weight(operation, options.weight, model)
        native = _loss_problem.native_options(operation, options, shape)
        super().__init__(operation, logits.device, options, native, shape, columns, weight)
        self.is_soft = isinstance(targets, GpuArray)
        self.check_options(soft=self.is_soft)
        if self.is_soft:
            rows.checked(operation, {"logits": logits, "targets": targets})
            self.targets = rows.rows_last(targets, self.axis)
        else:
            classes = _loss_problem.class_indices(operation, targets, shape).reshape(-1)
            self.targets = self.uploaded(self.take_classes(classes))

    def run(
        self, upstream: NDArray[Any] | None, *, gradient: bool
    ) -> tuple[_native.GpuTensor, GpuArray | None]:
        """Return the numbers of the rows, (rows, 8), and the gradient if it is wanted."""
        numbers, dx = self.device.native.cross_entropy(
            rows.rows_last(self.logits, self.axis), self.columns, self.targets, self.is_soft,
            self.uploaded_weight(), self.uploaded(self.factors(upstream)), self.native, gradient,
        )  # fmt: skip
        if dx is None:
            return numbers, None
        return numbers, GpuArray.of(
            rows.rows_back(dx, self.logits, self.axis), self.logits, self.logits.shape
        )


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
    losses = problem.reduced(numbers, problem.uploaded(problem.factors(None)))
    answer: list[Any] = [losses.reshape(*problem.shape) if options.reduction == "none" else losses]
    if gradient is not None:
        answer.append(gradient)
    if return_stats:
        answer.append(statistics(problem, numbers, problem.shape))
    return answer[0] if len(answer) == 1 else tuple(answer)


def backward(operation: str, dloss: Any, logits: GpuArray, targets: Any, options: Options) -> GpuArray:
    """Gradient of a loss with respect to the logits."""
    problem = Problem(operation, logits, targets, options)
    _, gradient = problem.run(problem.upstream_of(dloss, problem.shape), gradient=True)
    assert gradient is not None  # it was asked for
    return gradient
