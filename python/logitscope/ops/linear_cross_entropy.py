"""A linear layer and cross entropy in one, without the logits of all rows in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_numpy, is_gpu, like, needs_autograd
from logitscope._dtypes import wide, widen
from logitscope.errors import ShapeError
from logitscope.ops._linear_problem import LinearProblem, Plan, padded
from logitscope.ops._loss_problem import Options, reduced
from logitscope.ops.cross_entropy import LossStats, statistics_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope.ops._linear_problem import Mode
    from logitscope.ops.cross_entropy import Link, Reduction, SmoothOver
    from logitscope.ops.softmax import Empty


@dataclass(frozen=True, slots=True, eq=False)
class LinearGradients:
    """Gradients of a linear layer, each of the kind and shape of what it belongs to."""

    input: Any
    """(..., d)."""
    weight: Any
    """(V, d)."""
    bias: Any
    """(V,), or None where there is no bias."""


def linear_cross_entropy(
    input: Any,
    weight: Any,
    targets: Any,
    bias: Any = None,
    *,
    mode: Mode = "auto",
    num_chunks: int | None = None,
    filter_eps: float | None = None,
    shift: int = 0,
    class_weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    smooth_over: SmoothOver = "all",
    reduction: Reduction = "mean",
    normalizer: Any = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    lse_square_scale: float = 0.0,
    entropy_weight: float = 0.0,
    link: Link = "ce",
    link_params: Mapping[str, float] | None = None,
    complement: bool = True,
    empty: Empty = "nan",
    return_grad: bool = False,
    return_stats: bool = False,
) -> Any:
    """Cross entropy of the logits ``input @ weight.T + bias``, which are never all in memory.

    Parameters
    ----------
    input
        (..., d), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16. 16-bit numbers are
        widened as they are read: the loss is float32, gradients are summed in it and rounded once.
    weight
        (V, d), a row for each class.
    targets
        (...) integers in 0..V-1 or ``ignore_index``, or (..., V) soft targets.
    bias
        (V,) or None.
    mode
        ``"chunked"`` makes the logits of up to 256 rows at a time and turns them into their gradient where they
        lie; a reduced loss has its gradients after one pass. ``"recompute"`` holds one tile of some megabytes and
        makes the logits a second time for the gradients: the least memory, a third more work. ``"plain"`` makes
        all logits at once. ``"auto"`` is ``"chunked"``, and ``"plain"`` where that is as small.
    num_chunks
        How many chunks ``"chunked"`` makes.
    filter_eps
        Blocks of the logits' gradient (64 rows, 1024 classes) that nowhere reach this count as 0 and are passed
        over. None is exact; rare classes may get no gradient otherwise.
    shift
        The row at position t of the last axis but one is to predict the target at ``t + shift``; the last
        ``shift`` rows have none. With ``"none"``, and in statistics, they are left out.
    class_weight
        (V,) factors of the classes, not negative: the ``weight`` of :func:`~logitscope.loss.cross_entropy`.
    ignore_index, label_smoothing, smooth_over, reduction, normalizer, temperature, softcap, lse_square_scale
        As in :func:`~logitscope.loss.cross_entropy`.
    entropy_weight, link, link_params, complement, empty
        Likewise. ``"recompute"`` refuses soft targets, ``label_smoothing`` and ``complement=False``, which need
        all logits of a row at once.
    return_grad
        Also return :class:`LinearGradients`.
    return_stats
        Also return a :class:`~logitscope.loss.LossStats`.

    Returns
    -------
    loss, (loss, gradients), (loss, stats) or (loss, gradients, stats)
        Of the kind and dtype of ``input``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.
    TargetError
        For a target that is neither a class nor ``ignore_index``, naming its row.

    Notes
    -----
    Rows without a target take no part in the products: they cost nothing, and NaN in them reaches nothing. All sums
    have an order that does not depend on the number of threads. Related: Liger-Kernel (arXiv 2410.10989) and Cut
    Cross-Entropy (arXiv 2411.09009), whose loss can come out below 0 where this one cannot. Of 16-bit arrays the
    sums of the gradient of ``weight`` are float32 beside it: all of them, but in mode ``"recompute"`` those of 1024
    classes, where the sums of the gradient of ``input`` are.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import linear_cross_entropy
    >>> hidden, weight = np.ones((2, 3)), np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> loss, gradients = linear_cross_entropy(hidden, weight, np.array([0, 1]), return_grad=True)
    >>> bool(np.isclose(loss, np.log(np.exp(2) + 3 * np.e) - 1.5))
    True
    >>> gradients.weight.shape
    (4, 3)
    """
    options = Options(
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        smooth_over=smooth_over,
        reduction=reduction,
        normalizer=normalizer,
        temperature=temperature,
        softcap=softcap,
        lse_square_scale=lse_square_scale,
        entropy_weight=entropy_weight,
        link=link,
        link_params=link_params or {},
        complement=complement,
        empty=empty,
    )
    plan = Plan(mode=mode, num_chunks=num_chunks, filter_eps=filter_eps, shift=shift)
    arrays = (input, weight, targets, bias)
    if needs_autograd(*arrays, class_weight) and not return_grad:
        from logitscope.nn.functional._linear_cross_entropy import differentiable

        value = differentiable(*arrays, options, plan)
        if not return_stats:
            return value
        return value, loss(*arrays, options, plan, return_stats=True)[1]
    wanted = (True, True, bias is not None) if return_grad else None
    answer = loss(*arrays, options, plan, wanted=wanted, return_stats=return_stats)
    return answer[0] if len(answer) == 1 else answer


def loss(
    input: Any,
    weight: Any,
    targets: Any,
    bias: Any,
    options: Options,
    plan: Plan,
    *,
    wanted: tuple[bool, bool, bool] | None = None,
    states: Any = None,
    return_stats: bool = False,
) -> tuple[Any, ...]:
    """Compute the loss, the gradients that are wanted, and statistics; fill ``states`` for ``"recompute"``."""
    if is_gpu(input):
        from logitscope.gpu.linear_cross_entropy import loss as on_gpu

        return on_gpu(input, weight, targets, bias, options, plan, wanted=wanted, return_stats=return_stats)
    problem = LinearProblem.of("linear_cross_entropy", input, weight, targets, bias, options, plan)
    dtype, rows = wide(problem.dtype), len(problem.input)
    losses = np.empty(rows, dtype)
    gradients = None if wanted is None else _gradients(problem, wanted)
    stats = statistics_of((rows,), dtype) if return_stats else None
    if problem.chunk is None and states is None:
        states = np.empty((rows, 4))
    value = _native.linear_cross_entropy(problem.operation, problem, losses, gradients, states, stats)
    none = options.reduction == "none"
    answer = [like(input, problem.kept(losses)) if none else reduced(input, value, dtype)]
    if gradients is not None:
        answer.append(_as_given(input, problem, gradients))
    if stats is not None:
        arrays: Mapping[str, Any] = stats
        answer.append(LossStats(**{name: like(input, problem.kept(array)) for name, array in arrays.items()}))
    return tuple(answer)


def linear_cross_entropy_backward(
    dloss: Any,
    input: Any,
    weight: Any,
    targets: Any,
    bias: Any = None,
    *,
    mode: Mode = "auto",
    num_chunks: int | None = None,
    filter_eps: float | None = None,
    shift: int = 0,
    class_weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    smooth_over: SmoothOver = "all",
    reduction: Reduction = "mean",
    normalizer: Any = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    lse_square_scale: float = 0.0,
    entropy_weight: float = 0.0,
    link: Link = "ce",
    link_params: Mapping[str, float] | None = None,
    complement: bool = True,
    empty: Empty = "nan",
) -> LinearGradients:
    """Gradients of :func:`linear_cross_entropy`, the logits made once more.

    For ``"mean"`` and ``"sum"`` the gradients that :func:`linear_cross_entropy` returns, times ``dloss``, are the
    same and cheaper; with ``"none"`` each row needs its own factor.

    Parameters
    ----------
    dloss
        Gradient of the loss: a number, or for ``"none"`` an array of the shape of the losses.
    input, weight, targets, bias, mode, num_chunks, filter_eps, shift, class_weight, ignore_index
        As they were given to :func:`linear_cross_entropy`.
    label_smoothing, smooth_over, reduction, normalizer, temperature, softcap, lse_square_scale
        Likewise.
    entropy_weight, link, link_params, complement, empty
        Likewise.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        As :func:`linear_cross_entropy`, and when ``dloss`` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import linear_cross_entropy_backward
    >>> arrays = np.array([1.0, 4.0]), np.ones((2, 1)), np.zeros((2, 1)), np.array([0, 1])
    >>> linear_cross_entropy_backward(*arrays, reduction="none").weight
    array([[ 1.5],
           [-1.5]])
    """
    options = Options(
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        smooth_over=smooth_over,
        reduction=reduction,
        normalizer=normalizer,
        temperature=temperature,
        softcap=softcap,
        lse_square_scale=lse_square_scale,
        entropy_weight=entropy_weight,
        link=link,
        link_params=link_params or {},
        complement=complement,
        empty=empty,
    )
    plan = Plan(mode=mode, num_chunks=num_chunks, filter_eps=filter_eps, shift=shift)
    wanted = (True, True, bias is not None)
    return backward(dloss, input, weight, targets, bias, options, plan, wanted=wanted)


def backward(
    dloss: Any,
    input: Any,
    weight: Any,
    targets: Any,
    bias: Any,
    options: Options,
    plan: Plan,
    *,
    wanted: tuple[bool, bool, bool],
    states: Any = None,
) -> LinearGradients:
    """Compute the gradients that are wanted; ``states`` are what a forward pass of ``"recompute"`` has filled."""
    operation = "linear_cross_entropy_backward"
    if is_gpu(input):
        from logitscope.gpu.linear_cross_entropy import backward as on_gpu

        gpu_gradients: LinearGradients = on_gpu(
            dloss, input, weight, targets, bias, options, plan, wanted=wanted
        )
        return gpu_gradients
    problem = LinearProblem.of(operation, input, weight, targets, bias, options, plan)
    dtype, rows = wide(problem.dtype), len(problem.input)
    losses = np.empty(rows, dtype)
    upstream = widen(as_numpy(operation, "dloss", dloss))
    expected = problem.kept(losses).shape if options.reduction == "none" else ()
    if upstream.shape != expected:
        message = f"{operation}: dloss has shape {upstream.shape}; use {expected} for reduction '{options.reduction}'"
        raise ShapeError(message)
    gradients = _gradients(problem, wanted)
    factors = padded(upstream, problem.shift if expected else 0, 0.0)
    gradients["upstream"] = np.broadcast_to(factors, problem.shape).astype(dtype, order="C").reshape(rows)
    if states is None:
        scratch = np.empty((rows, 4)) if problem.chunk is None else None
        _native.linear_cross_entropy(operation, problem, losses, gradients, scratch, None)
    else:
        _native.linear_cross_entropy_backward(operation, problem, states, gradients)
    return _as_given(input, problem, gradients)


def _gradients(problem: LinearProblem, wanted: tuple[bool, bool, bool]) -> _native.LinearGradients:
    of_input, of_weight, of_bias = wanted
    dtype = problem.dtype
    return {
        "input": np.empty(problem.input.shape, dtype) if of_input else None,
        "weight": np.empty(problem.weight.shape, dtype) if of_weight else None,
        "bias": np.empty(problem.weight.shape[:1], dtype) if of_bias else None,
        "upstream": None,
    }


def _as_given(input: Any, problem: LinearProblem, gradients: _native.LinearGradients) -> LinearGradients:
    of_input, of_weight, of_bias = gradients["input"], gradients["weight"], gradients["bias"]
    if of_input is not None:
        of_input = of_input.reshape(*problem.shape, problem.input.shape[1])
    arrays = (of_input, of_weight, of_bias)
    return LinearGradients(*(None if array is None else like(input, array) for array in arrays))
