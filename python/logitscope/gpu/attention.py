"""Attention of arrays on a GPU, with the statistics of its rows, and its gradients.

What belongs to heads, rows and batch elements (temperatures, sinks, slopes, lengths, masks, biases) comes from the CPU
and is checked there by the same code as a call on the CPU; q, k, v and what is made of them stay on the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from logitscope.gpu.array import GpuArray
from logitscope.ops import _attention_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from logitscope import _native

_STATE = ("lse", "max_logit", "inv_sum", "entropy")
_ROW = {"dinv_temperature": 6, "dsinks": 7, "dalibi_slopes": 8, "dsigmoid_bias": 9}
_LARGEST_HEAD = 256


class Attention:
    """Checked inputs, those from the CPU uploaded."""

    def __init__(self, operation: str, q: Any, k: Any, v: Any, options: Mapping[str, Any]) -> None:
        for name, value in (("k", k), ("v", v)):
            _check_like(operation, name, value, q)
        if options["layout"] != "bhld":
            message = f"{operation}: layout is {options['layout']!r} with a GpuArray; use 'bhld'"
            raise ArgumentError(message)
        self.operation, self.q, self.k, self.v = operation, q, k, v
        asked = {name: _on_cpu(value) for name, value in options.items()}
        problem = _attention_problem.Problem.of(operation, _stand_in(q), _stand_in(k), _stand_in(v), **asked)
        problem.check_heads(operation)
        (batch, heads, queries, dim), (_, key_heads, keys, _) = q.shape, k.shape
        if v.shape[:3] != (batch, key_heads, keys):
            message = f"{operation}: v has shape {v.shape}; use ({batch}, {key_heads}, {keys}, any) as k"
            raise ShapeError(message)
        if max(dim, v.shape[3]) > _LARGEST_HEAD:
            got = max(dim, v.shape[3])
            message = f"{operation}: heads of {got} numbers; use at most {_LARGEST_HEAD} on a GPU"
            raise ShapeError(message)
        if problem.is_sigmoid and problem.sigmoid_bias is None:
            message = f"{operation}: sigmoid_bias is 'auto_row' with a GpuArray; use 'auto' or numbers"
            raise ArgumentError(message)
        self.problem, self.rows = problem, (batch, heads, queries)
        self.inputs = self._inputs()

    def _inputs(self) -> _native.GpuAttention:
        problem, (batch, heads, queries) = self.problem, self.rows
        keys = self.k.shape[2]
        of_heads = np.zeros((heads, 3), np.float32)
        for column, numbers in enumerate((problem.alibi_slopes, problem.sinks, problem.sigmoid_bias)):
            if numbers is not None:
                of_heads[:, column] = numbers
        lengths = np.empty((batch, 2), np.float32)
        lengths[:, 0] = queries if problem.q_len is None else problem.q_len
        lengths[:, 1] = keys if problem.kv_len is None else problem.kv_len
        aside = [of_heads.reshape(-1), lengths.reshape(-1)]
        if problem.inv_temperature is not None:
            aside.append(problem.inv_temperature.reshape(-1))
        bias, strides = self._bias()
        return {
            "q": self.q.tensor,
            "k": self.k.tensor,
            "v": self.v.tensor,
            "shape": (batch, heads, self.k.shape[1], queries, keys, self.q.shape[3], self.v.shape[3]),
            "aside": self.uploaded(np.concatenate(aside)),
            "bias": bias,
            "bias_strides": strides,
            "scale": problem.scale,
            "softcap": problem.softcap,
            "window": problem.window,
            "bottom_right": problem.align == "bottom_right",
            "temperature": problem.inv_temperature is not None,
            "sinks": problem.sinks is not None,
            "sigmoid": problem.is_sigmoid,
        }

    def _bias(self) -> tuple[_native.GpuTensor | None, tuple[int, int, int, int]]:
        """Upload bias and mask as one: a mask is a bias of -inf."""
        bias, mask = self.problem.bias, self.problem.mask
        if mask is not None:
            hidden = np.where(_not_repeated(mask) != 0, np.float32(0), np.float32(-np.inf))
            bias = hidden if bias is None else _not_repeated(bias) + hidden
        if bias is None:
            return None, (0, 0, 0, 0)
        compact = np.ascontiguousarray(_not_repeated(bias), np.float32)
        if compact.size >= 1 << 31:
            message = f"{self.operation}: bias has {compact.size} numbers; use fewer than 2**31 on a GPU"
            raise ShapeError(message)
        steps = [
            0 if length == 1 else stride // 4
            for length, stride in zip(compact.shape, compact.strides, strict=True)
        ]
        return self.uploaded(compact), (steps[0], steps[1], steps[2], steps[3])

    def uploaded(self, numbers: NDArray[Any]) -> _native.GpuTensor:
        """Upload numbers as float32."""
        flat = np.ascontiguousarray(numbers, np.float32).reshape(-1)
        tensor: _native.GpuTensor = self.q.device.native.upload(flat.view(np.uint8), "float32")
        return tensor

    def columns(self, tensor: _native.GpuTensor, width: int) -> GpuArray:
        """(rows, width) of a tensor as (width, B, H, L), float32."""
        count = int(np.prod(self.rows))
        turned = self.q.device.native.transpose(tensor, (1, count, width))
        array = GpuArray.of(turned, self.q, (width, *self.rows))
        array.dtype = np.dtype(np.float32)
        return array


def attention(
    q: GpuArray, k: Any, v: Any, *, stats: Any, map_bins: tuple[int, int] | None, empty: str, **options: Any
) -> Any:
    """Attention, see :func:`logitscope.attention`."""
    from logitscope.ops.attention import AttentionResult

    if empty != "zero":
        message = f"attention: empty is {empty!r} with a GpuArray; use 'zero'"
        raise ArgumentError(message)
    problem = Attention("attention", q, k, v, options)
    native = q.device.native
    out, state = native.attention(problem.inputs)
    columns = problem.columns(state, len(_STATE))
    map_ = None
    if map_bins is not None:
        map_ = GpuArray.of(
            native.attention_map(problem.inputs, state, map_bins), q, (*q.shape[:2], *map_bins)
        )
        map_.dtype = np.dtype(np.float32)
    found = {name: columns[place] for place, name in enumerate(_STATE)}
    if "entropy" not in stats:
        del found["entropy"]
    return AttentionResult(out=GpuArray.of(out, q, (*q.shape[:3], v.shape[3])), map=map_, **found)


def attention_backward(
    dout: Any,
    q: GpuArray,
    k: Any,
    v: Any,
    result: Any,
    *,
    dlse: Any,
    dentropy: Any,
    with_dbias: bool,
    **options: Any,
) -> Any:
    """Gradients of attention, see :func:`logitscope.attention_backward`."""
    from logitscope.ops.attention import AttentionGradients

    operation = "attention_backward"
    problem = Attention(operation, q, k, v, options)
    if problem.problem.bias is not None and with_dbias:
        message = f"{operation}: with_dbias is True with a GpuArray; use False, or the CPU"
        raise ArgumentError(message)
    if problem.problem.is_sigmoid and (dlse is not None or dentropy is not None):
        message = f"{operation}: dlse or dentropy is given with kind='sigmoid'; use neither on a GPU"
        raise ArgumentError(message)
    if dentropy is not None and result.entropy is None:
        message = f"{operation}: dentropy is given but result holds no entropy; call attention with stats=('entropy',)"
        raise ArgumentError(message)
    for name, value in (("dout", dout), ("result.out", result.out)):
        _check_like(operation, name, value, q)
        if value.shape != (*q.shape[:3], v.shape[3]):
            message = f"{operation}: {name} has shape {value.shape}; use {(*q.shape[:3], v.shape[3])}"
            raise ShapeError(message)
    state = problem.uploaded(
        np.stack([_rows_of(problem, f"result.{name}", getattr(result, name)) for name in _STATE], -1)
    )
    upstream = None
    if dlse is not None or dentropy is not None:
        given = [_rows_of(problem, name, value) for name, value in (("dlse", dlse), ("dentropy", dentropy))]
        upstream = problem.uploaded(np.stack(given, -1))
    dq, dk, dv, rows = q.device.native.attention_backward(
        problem.inputs,
        result.out.tensor,
        state,
        dout.tensor,
        upstream,
        (dlse is not None, dentropy is not None),
    )
    asked = {
        "dinv_temperature": problem.problem.inv_temperature is not None,
        "dsinks": problem.problem.sinks is not None,
        "dalibi_slopes": problem.problem.alibi_slopes is not None,
        "dsigmoid_bias": problem.problem.is_sigmoid,
    }
    further: dict[str, GpuArray] = {}
    if any(asked.values()):
        columns = problem.columns(rows, 12)
        for name, wanted in asked.items():
            if wanted and name == "dinv_temperature":
                further[name] = columns[_ROW[name]]
            elif wanted:
                # A number a head: added up where float64 is.
                total = columns[_ROW[name]].numpy().sum((0, 2), dtype=np.float64)
                further[name] = GpuArray(total.astype(np.float32), q.device)
    return AttentionGradients(
        dq=GpuArray.of(dq, q, q.shape),
        dk=GpuArray.of(dk, k, k.shape),
        dv=GpuArray.of(dv, v, v.shape),
        **further,
    )


def _rows_of(problem: Attention, name: str, value: Any) -> NDArray[Any]:
    """Read one number a row; 0 where there is none."""
    if value is None:
        return np.zeros(problem.rows, np.float32)
    array = np.asarray(_on_cpu(value), np.float32)
    if array.shape != problem.rows:
        message = f"{problem.operation}: {name} has shape {array.shape}; use {problem.rows}"
        raise ShapeError(message)
    return array


def _on_cpu(value: Any) -> Any:
    return value.numpy() if isinstance(value, GpuArray) else value


def _stand_in(array: GpuArray) -> NDArray[np.float32]:
    """Return an array of the same shape that takes no memory, for checks."""
    last = array.shape[-1] if array.ndim else 0
    return np.lib.stride_tricks.as_strided(
        np.zeros(max(last, 1), np.float32), array.shape, [0] * (array.ndim - 1) + [4] * (array.ndim > 0)
    )


def _not_repeated(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array without the repetitions of its broadcast axes."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def _check_like(operation: str, name: str, value: Any, q: GpuArray) -> None:
    if not isinstance(value, GpuArray) or value.device is not q.device:
        where = repr(value.device) if isinstance(value, GpuArray) else f"a {type(value).__name__}"
        message = f"{operation}: {name} is {where}; use a GpuArray on {q.device!r}"
        raise DeviceError(message)
    if value.dtype != q.dtype:
        message = f"{operation}: {name} has dtype {value.dtype}; use {q.dtype}"
        raise DTypeError(message)
