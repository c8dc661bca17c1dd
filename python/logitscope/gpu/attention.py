"""Attention of arrays on a GPU, with the statistics of its rows, and its gradients.

What belongs to heads, rows and batch elements (temperatures, sinks, slopes, lengths, masks, biases) comes from the CPU
and is checked there by the same code as a call on the CPU; q, k, v and what is made of them stay on the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._dtypes import widen
from logitscope.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from logitscope.gpu.array import GpuArray
from logitscope.ops import _attention_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from logitscope import _native

_STATE = ("lse", "max_logit", "inv_sum", "entropy")
_STATE_WIDTH = 5
_MOMENTS = {"logits": {"logit_count": 0, "logit_mean": 1, "logit_m2": 2}, "variance": {"variance": 4}}
_MOMENTS_WIDTH = 5
_ROW = {"dinv_temperature": 6, "dsinks": 7, "dalibi_slopes": 8, "dsigmoid_bias": 9}
_ROW_WIDTH = 12


class Attention:
    """Checked inputs, those from the CPU uploaded."""

    def __init__(
        self, operation: str, q: Any, k: Any, v: Any, options: Mapping[str, Any], empty: str = "zero"
    ) -> None:
        for name, value in (("k", k), ("v", v)):
            _check_like(operation, name, value, q)
        self.operation, self.layout, self.empty = operation, options["layout"], empty
        asked = {name: _on_cpu(value) for name, value in options.items()}
        problem = _attention_problem.Problem.of(operation, _stand_in(q), _stand_in(k), _stand_in(v), **asked)
        problem.check_heads(operation)
        self.q, self.k, self.v = (self.heads_first(x) for x in (q, k, v))
        (batch, heads, queries, _), (_, key_heads, keys, _) = self.q.shape, self.k.shape
        if self.v.shape[:3] != (batch, key_heads, keys):
            message = f"{operation}: v has shape {v.shape}; use {(*k.shape[:3], 'any')} as k"
            raise ShapeError(message.replace("'any'", "any"))
        self.problem, self.rows = problem, (batch, heads, queries)
        self.gate = None if problem.value_gate is None else self.uploaded(problem.value_gate)
        self.given_v = self.v
        if self.gate is not None:
            self.v = GpuArray.of(self.gated(self.v, self.gate, None)[0], self.v, self.v.shape)
        self.inputs = self._inputs()

    def heads_first(self, array: GpuArray) -> GpuArray:
        """(B, H, L, D) of an array in the layout of the call, or back; another order of the rows is a copy."""
        if self.layout == "bhld":
            return array
        first, second, third, width = array.shape
        places = np.arange(first * second * third).reshape(first, second, third).swapaxes(1, 2)
        native = array.device.native
        turned = native.gather(array.tensor, width, places.reshape(-1))
        return GpuArray.of(native.convert(turned, str(array.dtype)), array, (*places.shape, width))

    def gated(
        self, v: GpuArray, gate: _native.GpuTensor, dgated: _native.GpuTensor | None
    ) -> tuple[_native.GpuTensor, _native.GpuTensor | None]:
        """Values times their gates; with the gradient of that product, the gradients of values and gates."""
        (batch, key_heads, keys, width), kv_len = v.shape, self.problem.kv_len
        lengths = np.full(batch, keys, np.uint32) if kv_len is None else np.asarray(kv_len, np.uint32)
        native = v.device.native
        there = native.upload(lengths.view(np.uint8), "float32")
        return native.value_gate(v.tensor, gate, there, (batch, key_heads, keys, width), dgated)

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
            "auto_row": problem.is_sigmoid and problem.sigmoid_bias is None,
            "empty_is_nan": self.empty == "nan",
            "dropout": (problem.dropout_p, problem.seed) if problem.dropout_p else None,
        }

    def _bias(self) -> tuple[_native.GpuTensor | None, tuple[int, int, int, int]]:
        """Upload bias and mask as one: a mask is a bias of -inf."""
        bias, mask = self.problem.bias, self.problem.mask
        if mask is not None:
            hidden = np.where(_not_repeated(mask) != 0, np.float32(0), np.float32(-np.inf))
            bias = hidden if bias is None else widen(_not_repeated(bias)) + hidden
        if bias is None:
            return None, (0, 0, 0, 0)
        compact = np.ascontiguousarray(widen(_not_repeated(bias)), np.float32)
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

    def axes_of(self, shape: tuple[int, ...]) -> tuple[bool, bool, bool, bool]:
        """Say of which axes of the scores a bias of this shape has a number for each; an empty axis is one."""
        lengths = (*self.rows, self.k.shape[2])
        given = (1,) * (4 - len(shape)) + shape
        batch, heads, queries, keys = (
            mine == length and mine != 1 for mine, length in zip(given, lengths, strict=True)
        )
        return batch, heads, queries, keys

    def of_rows(self, name: str, value: Any) -> _native.GpuTensor:
        """Return one number a row, on the device."""
        array = value if isinstance(value, GpuArray) else GpuArray(value, self.q.device, dtype=np.float32)
        if array.shape != self.rows or array.device is not self.q.device:
            got = f"shape {array.shape} on {array.device!r}"
            message = f"{self.operation}: {name} has {got}; use {self.rows} on {self.q.device!r}"
            raise ShapeError(message)
        return self.q.device.native.convert(array.tensor, "float32")

    def floats(self, tensor: _native.GpuTensor, shape: tuple[int, ...]) -> GpuArray:
        """Return an array of float32, whatever q is stored as."""
        return GpuArray.of_float32(tensor, self.q.device, shape)

    def columns(self, tensor: _native.GpuTensor, width: int) -> GpuArray:
        """(rows, width) of a tensor as (width, B, H, L), float32."""
        count = int(np.prod(self.rows))
        return self.floats(self.q.device.native.transpose(tensor, (1, count, width)), (width, *self.rows))


def attention(
    q: GpuArray,
    k: Any,
    v: Any,
    *,
    stats: Any,
    map_bins: tuple[int, int] | None,
    map_pooling: str,
    top_keys: int,
    empty: str,
    **options: Any,
) -> Any:
    """Attention, see :func:`logitscope.attention`."""
    from logitscope.ops.attention_result import AttentionResult

    problem = Attention("attention", q, k, v, options, empty)
    native = q.device.native
    wanted = [name for name in _MOMENTS if name in stats]
    out, state, moments = native.attention(problem.inputs, bool(wanted))
    columns = problem.columns(state, _STATE_WIDTH)
    map_ = None
    if map_bins is not None:
        map_ = problem.floats(
            native.attention_map(problem.inputs, state, map_bins, map_pooling == "max"),
            (*problem.rows[:2], *map_bins),
        )
    found: dict[str, Any] = {name: columns[place] for place, name in enumerate(_STATE)}
    if moments is not None:
        figures = problem.columns(moments, _MOMENTS_WIDTH)
        for name in wanted:
            found.update({figure: figures[place] for figure, place in _MOMENTS[name].items()})
    if top_keys:
        keys, weights = native.attention_top_keys(problem.inputs, state, top_keys)
        shape = (*problem.rows, top_keys)
        # Integers come as a NumPy array: no key is all ones, which is -1.
        found["top_keys"] = problem.floats(keys, shape).numpy().view(np.int32).astype(np.int64)
        found["top_weights"] = problem.floats(weights, shape)
    if "entropy" not in stats:
        del found["entropy"]
    by_heads = GpuArray.of(out, q, (*problem.rows, problem.v.shape[3]))
    return AttentionResult(out=problem.heads_first(by_heads), map=map_, **found)


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
    from logitscope.ops.attention_result import AttentionGradients

    operation = "attention_backward"
    problem = Attention(operation, q, k, v, options)
    if dentropy is not None and result.entropy is None:
        message = f"{operation}: dentropy is given but result holds no entropy; call attention with stats=('entropy',)"
        raise ArgumentError(message)
    shape = (*q.shape[:3], v.shape[3])
    for name, value in (("dout", dout), ("result.out", result.out)):
        _check_like(operation, name, value, q)
        if value.shape != shape:
            message = f"{operation}: {name} has shape {value.shape}; use {shape}"
            raise ShapeError(message)
    bias = options["bias"] if with_dbias else None
    axes = None if bias is None else problem.axes_of(np.shape(_on_cpu(bias)))
    native = q.device.native
    dq, dk, dv, rows, dbias = native.attention_backward(
        problem.inputs,
        problem.heads_first(result.out).tensor,
        problem.heads_first(dout).tensor,
        {
            "max_logit": problem.of_rows("result.max_logit", result.max_logit),
            "inv_sum": problem.of_rows("result.inv_sum", result.inv_sum),
            "entropy": None if dentropy is None else problem.of_rows("result.entropy", result.entropy),
            "dlse": None if dlse is None else problem.of_rows("dlse", dlse),
            "dentropy": None if dentropy is None else problem.of_rows("dentropy", dentropy),
        },
        axes,
    )
    further: dict[str, GpuArray] = {}
    if problem.problem.inv_temperature is not None:
        further["dinv_temperature"] = problem.columns(rows, _ROW_WIDTH)[_ROW["dinv_temperature"]]
    for name in ("dsinks", "dalibi_slopes", "dsigmoid_bias"):
        if getattr(problem.problem, name[1:]) is not None:
            further[name] = problem.floats(
                native.attention_of_heads(rows, _ROW[name], problem.rows), problem.rows[1:2]
            )
    if dbias is not None:
        further["dbias"] = problem.floats(dbias, np.shape(_on_cpu(bias)))
    if problem.gate is not None:
        dv, dgate = problem.gated(problem.given_v, problem.gate, dv)
        if dgate is not None:
            further["dvalue_gate"] = problem.floats(dgate, problem.v.shape[:3])
    made = {"dq": (dq, problem.q), "dk": (dk, problem.k), "dv": (dv, problem.v)}
    turned = {
        name: problem.heads_first(GpuArray.of(tensor, like, like.shape))
        for name, (tensor, like) in made.items()
    }
    return AttentionGradients(**turned, **further)


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
