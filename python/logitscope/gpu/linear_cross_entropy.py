"""A linear layer of arrays on a GPU and its losses in one, the logits made in chunks of classes.

Input, weight and bias stay on the GPU. Targets come from the CPU and are checked first. Rows without one
are left out of everything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError, DeviceError, DTypeError
from logitscope.gpu._loss import IGNORED, Loss, statistics
from logitscope.gpu.array import GpuArray
from logitscope.ops._linear_problem import LinearProblem, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope import _native
    from logitscope.ops._linear_problem import Plan
    from logitscope.ops._loss_problem import Options


class Problem(Loss):
    """Checked arguments of a linear layer and its loss."""

    def __init__(
        self,
        operation: str,
        input: GpuArray,
        weight: Any,
        targets: Any,
        bias: Any,
        options: Options,
        plan: Plan,
    ) -> None:
        check_like(operation, "weight", weight, input)
        if bias is not None:
            check_like(operation, "bias", bias, input)
        limit = plan.filter_eps
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            message = f"{operation}: filter_eps is {limit}; use a positive finite number, or None"
            raise ArgumentError(message)
        wanted = targets.numpy() if isinstance(targets, GpuArray) else targets
        stand_ins = [None if array is None else _stand_in(array) for array in (input, weight, bias)]
        problem = LinearProblem.of(
            operation, stand_ins[0], stand_ins[1], wanted, stand_ins[2], options, plan
        )  # fmt: skip
        self.input, self.matrix, self.bias, self.plan, self.problem = input, weight, bias, plan, problem
        classes = weight.shape[0]
        super().__init__(
            operation, input.device, options, problem.options, problem.shape, classes, problem.class_weight
        )
        self.masses = problem.targets if problem.targets.dtype.kind == "f" else None
        self.check_options(soft=self.masses is not None)
        if self.masses is None:
            self.classes = self.take_classes(problem.targets.reshape(-1))
        else:
            self.masses = self.masses.reshape(-1, classes)
            self.classes = self.masses.argmax(1).astype(np.uint32)
        self.rows = np.flatnonzero(self.classes != IGNORED)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Of the rows that may have a target."""
        shift = self.problem.shift
        return (*self.shape[:-1], self.shape[-1] - shift) if shift else self.shape

    def run(
        self, rows: NDArray[np.int64], factors: NDArray[np.float32], wanted: tuple[bool, bool, bool]
    ) -> tuple[_native.GpuTensor, list[_native.GpuTensor | None]]:
        """Return the numbers of some of the rows, and the gradients that are wanted."""
        native, width = self.device.native, self.input.shape[-1]
        whole = len(rows) == self.count
        tensor = self.input.tensor
        input = native.convert(tensor, "float32") if whole else native.gather(tensor, width, rows)
        plan = self.plan
        chunks = 1 if plan.mode == "plain" else plan.num_chunks
        inputs: _native.GpuLinear = {
            "input": input,
            "weight": self.matrix.tensor,
            "bias": None if self.bias is None else native.convert(self.bias.tensor, "float32"),
            "shape": (len(rows), self.columns, width),
            "classes": self.uploaded(self.classes[rows]),
            "masses": None if self.masses is None else self.uploaded(self.masses[rows].astype(np.float32)),
            "class_weight": self.uploaded_weight(),
            "factors": self.factors_of(factors, rows),
            "options": self.native,
            "chunk": None if chunks is None else -(-self.columns // chunks),
            "filter": plan.filter_eps,
        }
        numbers, *gradients = native.linear_cross_entropy(inputs, wanted)
        return numbers, gradients

    def factors_of(self, factors: NDArray[np.float32], rows: NDArray[np.int64]) -> _native.GpuTensor:
        """Return the factors of some of the rows, or the two of all."""
        of_all = factors.ndim == 1 or len(factors) != self.count
        return self.uploaded(factors if of_all else factors[rows])

    def scattered(self, tensor: _native.GpuTensor, width: int, kept: bool) -> _native.GpuTensor:
        """Put what belongs to the live rows where all rows are, or those that may have a target; zeros elsewhere."""
        places = np.full(self.count, -1, np.int64)
        places[self.rows] = np.arange(len(self.rows))
        if kept and self.problem.shift:
            places = places.reshape(self.shape)[..., : -self.problem.shift].reshape(-1)
        return self.device.native.gather(tensor, width, places)

    def as_given(self, gradients: list[_native.GpuTensor | None]) -> Any:
        """Return the gradients, each of the dtype of what it belongs to."""
        from logitscope.ops.linear_cross_entropy import LinearGradients

        of_input, of_weight, of_bias = gradients
        if of_input is not None and len(self.rows) != self.count:
            of_input = self.scattered(of_input, self.input.shape[-1], kept=False)
        made = ((of_input, self.input), (of_weight, self.matrix), (of_bias, self.bias))
        native = self.device.native
        return LinearGradients(
            *(
                None if tensor is None else GpuArray.of(native.convert(tensor, str(of.dtype)), of, of.shape)
                for tensor, of in made
            )
        )

    def losses(self, numbers: _native.GpuTensor, factors: NDArray[np.float32]) -> GpuArray:
        """Return the loss, or those of the rows that may have a target."""
        found = self.reduced(numbers, self.factors_of(factors, self.rows))
        if self.options.reduction != "none":
            return found
        return self.floats(self.scattered(found.tensor, 1, kept=True), self.kept_shape)


def loss(
    input: GpuArray,
    weight: Any,
    targets: Any,
    bias: Any,
    options: Options,
    plan: Plan,
    *,
    wanted: tuple[bool, bool, bool] | None,
    return_stats: bool,
) -> tuple[Any, ...]:
    """Compute the loss, the gradients that are wanted, and statistics."""
    problem = Problem("linear_cross_entropy", input, weight, targets, bias, options, plan)
    factors = problem.factors(None)
    numbers, gradients = problem.run(problem.rows, factors, wanted or (False, False, False))
    answer: list[Any] = [problem.losses(numbers, factors)]
    if wanted is not None:
        answer.append(problem.as_given(gradients))
    if return_stats:
        # Rows without a target have statistics, too.
        all_rows = np.arange(problem.count)
        kept = all_rows.reshape(problem.shape)[..., : problem.kept_shape[-1]] if problem.shape else all_rows
        everything, _ = problem.run(all_rows, factors, (False, False, False))
        of_kept = problem.device.native.gather(everything, 8, kept.reshape(-1))
        answer.append(statistics(problem, of_kept, problem.kept_shape))
    return tuple(answer)


def backward(
    dloss: Any, input: GpuArray, weight: Any, targets: Any, bias: Any, options: Options, plan: Plan,
    *, wanted: tuple[bool, bool, bool],
) -> Any:  # fmt: skip
    """Gradients of the loss."""
    operation = "linear_cross_entropy_backward"
    problem = Problem(operation, input, weight, targets, bias, options, plan)
    upstream = problem.upstream_of(dloss, problem.kept_shape)
    if options.reduction == "none":
        upstream = padded(upstream, problem.problem.shift, 0.0)
    _, gradients = problem.run(problem.rows, problem.factors(upstream), wanted)
    return problem.as_given(gradients)


def check_like(operation: str, name: str, value: Any, input: GpuArray) -> None:
    """Raise DeviceError or DTypeError for what is not as the input is."""
    if not isinstance(value, GpuArray) or value.device is not input.device:
        where = repr(value.device) if isinstance(value, GpuArray) else f"a {type(value).__name__}"
        message = f"{operation}: {name} is {where}; use a GpuArray on {input.device!r}"
        raise DeviceError(message)
    if value.dtype != input.dtype:
        message = f"{operation}: {name} has dtype {value.dtype}, input {input.dtype}; use one dtype"
        raise DTypeError(message)


def _stand_in(array: GpuArray) -> NDArray[np.float32]:
    """Return an array of the same shape that takes no memory, for checks."""
    return np.broadcast_to(np.zeros(array.shape[-1:], np.float32), array.shape)
