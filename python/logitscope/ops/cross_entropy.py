"""Cross entropy and the losses that share its kernel, with gradient and statistics in the same call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitscope import _native
from logitscope._arrays import as_numpy, is_gpu, is_tensor, like, needs_autograd
from logitscope._dtypes import name_of, wide, widen
from logitscope.errors import ArgumentError, ShapeError
from logitscope.ops._loss_problem import Options, Problem, reduced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from logitscope.ops.softmax import Empty

Reduction = Literal["mean", "sum", "none"]
SmoothOver = Literal["all", "finite"]
Link = Literal["ce", "comp_sum", "gce", "mae", "focal", "poly", "symmetric", "truncated_gce"]


@dataclass(frozen=True, slots=True, eq=False)
class LossStats:
    """Statistics of the rows of a loss; arrays of the shape of the rows, of the kind that came in.

    Logits are those after temperature and softcap. With soft targets, the target is the class with the largest.
    """

    lse: Any
    """Logarithm of the sum of the exponentials of a row's logits."""
    argmax: Any
    """The first class with the largest logit, int64; NaN is passed over."""
    margin: Any
    """The target's logit less the largest of the others; NaN where the row is ignored."""
    v: Any
    """-log of the target's probability; 0 where the row is ignored."""
    entropy: Any
    """Entropy of the softmax, in nats."""
    collapsed: Any
    """Whether the target's exponential absorbs all others in a sum of the logits' dtype, bool: a loss that is not
    in complement form is then 0, and so is its gradient at the target."""


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
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
    axis: int = -1,
    out_dtype: Any = None,
    return_grad: bool = False,
    grad_out: Any = None,
    return_stats: bool = False,
) -> Any:
    """Cross entropy of class logits, ``-log softmax(logits)[target]``, accurate down to the smallest float.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16; the classes are
        the last axis.
    targets
        (...) integers of any type, in 0..V-1 or ``ignore_index``; or (..., V) soft targets of the dtype of
        ``logits``, which need not sum to 1.
    weight
        (V,) factors of the classes, not negative.
    ignore_index
        Rows with this target have no loss and a gradient of 0, whatever their logits hold.
    label_smoothing
        The share of a target, in 0..1, that is spread evenly over the classes.
    smooth_over
        Spread over ``"all"`` classes (a logit of ``-inf`` makes the loss infinite, as in torch), or over those
        whose logit is ``"finite"``.
    reduction
        ``"mean"``: the sum over the sum of the targets' weights (as in torch; with soft targets, over the number
        of rows), rows that are ignored left out; ``"sum"`` or ``"none"``.
    normalizer
        Replaces the divisor of the mean: a number, or one a row. With the number of tokens of a whole batch, the
        gradients of its parts add up to its own.
    temperature
        What the logits are divided by.
    softcap
        c of ``c * tanh(z / c)``, through which the logits go after the division.
    lse_square_scale
        Adds this times the square of the row's logsumexp (in PaLM the "z-loss"); averaged over the number of
        rows that are not ignored.
    entropy_weight
        Adds this times the entropy of the row's softmax, averaged likewise.
    link
        What is made of v = -log p of the target: ``"ce"`` v itself, and the losses of
        :func:`~logitscope.loss.comp_sum_loss`, :func:`~logitscope.loss.focal_loss` and the like.
    link_params
        The link's parameters by name: ``tau`` for ``"comp_sum"``, ``q`` for ``"gce"``, none for ``"mae"``,
        ``gamma`` for ``"focal"``, ``epsilon`` for ``"poly"``, ``a``, ``b``, ``log_zero`` for ``"symmetric"``,
        ``q`` and ``k`` for ``"truncated_gce"``.
    complement
        Whether v and ``1 - p`` come from the sum over the other classes. ``False`` computes ``lse - z_y`` and
        ``1 - p`` as textbooks and torch do, rounding to 0 included.
    empty
        What a mean over a sum of weights of 0 is: ``"nan"`` (as in torch) or ``"zero"``.
    axis
        The axis of the classes, in logits and soft targets.
    out_dtype
        The type of the loss; by default that of ``logits``, float32 for 16-bit logits.
    return_grad
        Also return the gradient of the loss (of the sum of the losses for ``"none"``) with respect to the
        logits. It is made in the same call.
    grad_out
        An array that the gradient goes into, of the shape and dtype of ``logits``, contiguous with the classes last;
        not ``logits`` itself. It is what the call returns as the gradient. For large logits a new array costs as
        much as the loss.
    return_stats
        Also return a :class:`LossStats`.

    Returns
    -------
    loss, (loss, gradient), (loss, stats) or (loss, gradient, stats)
        Of the kind of ``logits``; a mean or sum is a NumPy scalar or a tensor without axes.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.
    TargetError
        For a target that is neither a class nor ``ignore_index``, naming its row.

    Notes
    -----
    Complement form: with R the sum of ``exp(z_k - z_y)`` over the classes k other than the target y, the loss
    is ``log1p(R)`` and the gradient at the target ``-R / (1 + R)``. Where ``logsumexp(z) - z_y`` rounds to 0
    (in float32 for a margin above 17) they stay exact. A row with NaN or ``inf``, or of ``-inf`` alone, has a
    NaN loss and gradient (a softcap makes infinities finite first); ``-inf`` at the target has the loss ``inf``;
    a mass of 0 at ``-inf`` adds nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import cross_entropy
    >>> logits = np.array([[80.0, 0.0], [0.0, 0.0]], np.float32)
    >>> loss, gradient = cross_entropy(logits, np.array([0, 1]), reduction="sum", return_grad=True)
    >>> float(np.float32(np.log(2))) == float(loss)
    True
    >>> gradient
    array([[-1.8048513e-35,  1.8048513e-35],
           [ 5.0000000e-01, -5.0000000e-01]], dtype=float32)
    >>> round(float(cross_entropy(logits, np.array([[0.5, 0.5], [0.0, 1.0]], np.float32))), 4)
    20.3466
    """
    options = Options(
        weight=weight,
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
        axis=axis,
    )
    return_grad = return_grad or grad_out is not None
    answer = loss("cross_entropy", logits, targets, options, return_grad, return_stats, grad_out)
    if out_dtype is None:
        return answer
    if is_gpu(logits):
        message = f"cross_entropy: out_dtype is {out_dtype!r} with a GpuArray; its losses are float32"
        raise ArgumentError(message)
    if not isinstance(answer, tuple):
        return _as_dtype(answer, out_dtype)
    return _as_dtype(answer[0], out_dtype), *answer[1:]


def loss(
    operation: str,
    logits: Any,
    targets: Any,
    options: Options,
    return_grad: bool,
    return_stats: bool,
    grad_out: Any = None,
) -> Any:
    """Compute a loss of the family under the name of ``operation``."""
    if is_gpu(logits):
        from logitscope.gpu import cross_entropy as on_gpu

        return on_gpu.loss(operation, logits, targets, options, return_grad, return_stats, grad_out)
    if needs_autograd(logits, targets, options.weight) and not return_grad:
        value = _differentiable(logits, targets, options)
        if not return_stats:
            return value
        detached = loss(operation, logits.detach(), targets, options, False, True)
        return value, detached[1]
    problem = Problem.of(operation, logits, targets, options)
    dtype, rows = wide(problem.logits.dtype), problem.logits.shape[:-1]
    losses = np.empty(rows, dtype)
    gradient = _gradient_array(operation, problem.logits, options.axis, grad_out) if return_grad else None
    stats = statistics_of(rows, dtype) if return_stats else None
    value = _native.cross_entropy(*problem.arguments(), losses, gradient, None, stats)
    answer = [reduced(logits, value, dtype) if options.reduction != "none" else like(logits, losses)]
    if gradient is not None:
        answer.append(like(logits, np.moveaxis(gradient, -1, options.axis)) if grad_out is None else grad_out)
    if stats is not None:
        arrays: Mapping[str, Any] = stats
        answer.append(LossStats(**{name: like(logits, array) for name, array in arrays.items()}))
    return answer[0] if len(answer) == 1 else tuple(answer)


def _gradient_array(operation: str, rows: NDArray[Any], axis: int, grad_out: Any) -> NDArray[Any]:
    """Return the array for the gradient of rows of logits: ``grad_out``, classes last, or a new one."""
    if grad_out is None:
        return np.empty(rows.shape, rows.dtype)
    given = np.moveaxis(as_numpy(operation, "grad_out", grad_out), axis, -1)
    if given.shape != rows.shape or given.dtype != rows.dtype or not given.flags.c_contiguous:
        got = f"of shape {given.shape} and dtype {name_of(given.dtype)}"
        use = f"a C-contiguous one of shape {rows.shape} and dtype {name_of(rows.dtype)}"
        message = f"{operation}: grad_out is an array {got} (classes last); use {use}"
        raise ShapeError(message)
    if not given.flags.writeable or np.may_share_memory(given, rows):
        message = f"{operation}: grad_out is read-only or shares memory with logits; use one of its own"
        raise ArgumentError(message)
    return given


def _as_dtype(value: Any, dtype: Any) -> Any:
    """Convert a loss to another type of numbers."""
    if is_tensor(value):
        return value.to(dtype)
    return np.asarray(value).astype(dtype)[()]


def cross_entropy_backward(
    dloss: Any,
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
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
    axis: int = -1,
) -> Any:
    """Gradient of :func:`cross_entropy` with respect to the logits.

    For ``"mean"`` and ``"sum"`` the gradient that :func:`cross_entropy` returns, times ``dloss``, is the same
    and cheaper; with ``"none"`` each row needs its own factor.

    Parameters
    ----------
    dloss
        Gradient of the loss: a number, or for ``"none"`` an array of the shape of the rows.
    logits, targets, weight, ignore_index, label_smoothing, smooth_over, reduction, normalizer, temperature
        As they were given to :func:`cross_entropy`.
    softcap, lse_square_scale, entropy_weight, link, link_params, complement, empty, axis
        Likewise.

    Returns
    -------
    array
        Kind, shape and dtype of ``logits``.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError, TargetError
        As :func:`cross_entropy`, and when ``dloss`` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.loss import cross_entropy_backward
    >>> cross_entropy_backward(np.array([1.0, 4.0]), np.zeros((2, 2)), np.array([0, 1]), reduction="none")
    array([[-0.5,  0.5],
           [ 2. , -2. ]])
    """
    operation = "cross_entropy_backward"
    options = Options(
        weight=weight,
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
        axis=axis,
    )
    if is_gpu(logits):
        from logitscope.gpu import cross_entropy as on_gpu

        return on_gpu.backward(operation, dloss, logits, targets, options)
    problem = Problem.of(operation, logits, targets, options)
    dtype, rows = wide(problem.logits.dtype), problem.logits.shape[:-1]
    upstream = widen(as_numpy(operation, "dloss", dloss))
    expected = rows if reduction == "none" else ()
    if upstream.shape != expected:
        message = f"{operation}: dloss has shape {upstream.shape}; use {expected} for reduction '{reduction}'"
        raise ShapeError(message)
    factors = np.broadcast_to(upstream, rows).astype(dtype, order="C")
    losses, gradient = np.empty(rows, dtype), np.empty(problem.logits.shape, problem.logits.dtype)
    _native.cross_entropy(*problem.arguments(), losses, gradient, factors, None)
    return like(logits, np.moveaxis(gradient, -1, axis))


def statistics_of(rows: tuple[int, ...], dtype: np.dtype[Any]) -> _native.LossStatistics:
    """Arrays for the statistics of rows."""
    return {
        "lse": np.empty(rows, dtype),
        "argmax": np.empty(rows, np.int64),
        "margin": np.empty(rows, dtype),
        "v": np.empty(rows, dtype),
        "entropy": np.empty(rows, dtype),
        "collapsed": np.empty(rows, np.bool_),
    }


def _differentiable(logits: Any, targets: Any, options: Options) -> Any:
    from logitscope.nn.functional._cross_entropy import differentiable

    return differentiable(logits, targets, options)
