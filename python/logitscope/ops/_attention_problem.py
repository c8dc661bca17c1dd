"""What an attention call works on: its inputs checked, in the form in which the compiled module reads them."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from logitscope._arrays import as_floats, as_numpy, is_tensor, same_dtype
from logitscope._dtypes import name_of, wide, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops._path_notes import note_copy
from logitscope.ops._row_figures import OF_STATISTIC

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

CausalAlign: TypeAlias = Literal["bottom_right", "top_left"]
Window: TypeAlias = tuple[int, int]
Layout: TypeAlias = Literal["bhld", "blhd"]
Kind: TypeAlias = Literal["softmax", "sigmoid"]
Pooling: TypeAlias = Literal["mean", "max"]


_AXES = {"bhld": "(batch, heads, length, head_dim)", "blhd": "(batch, length, heads, head_dim)"}


class Problem(NamedTuple):
    """Checked inputs; the compiled module reads them by these names."""

    q: NDArray[Any]
    k: NDArray[Any]
    v: NDArray[Any]
    scale: float
    inv_temperature: NDArray[Any] | None
    align: CausalAlign
    window: tuple[int | None, int | None]
    """How many keys before and after its own position a query sees; None is all of them."""
    q_len: list[int] | None
    kv_len: list[int] | None
    mask: NDArray[np.uint8] | None
    sinks: NDArray[Any] | None
    softcap: float
    bias: NDArray[Any] | None
    alibi_slopes: NDArray[Any] | None
    is_sigmoid: bool
    sigmoid_bias: NDArray[Any] | None
    """None with sigmoid weighting is minus the logarithm of the number of keys that a row sees."""
    dropout_p: float = 0.0
    seed: int = 0
    value_gate: NDArray[Any] | None = None
    """What ``v`` is multiplied by, (B, Hk, Lk)."""

    @classmethod
    def of(
        cls,
        operation: str,
        q: Any,
        k: Any,
        v: Any,
        *,
        scale: float | None,
        inv_temperature: Any,
        mask: Any,
        is_causal: bool,
        causal_align: CausalAlign,
        window: Window,
        q_len: Any,
        kv_len: Any,
        sinks: Any,
        softcap: float,
        bias: Any,
        alibi_slopes: Any,
        kind: Kind,
        sigmoid_bias: Any,
        layout: Layout,
        dropout_p: float = 0.0,
        seed: int | None = None,
        value_gate: Any = None,
    ) -> Problem:
        """Check what a user gave; the shapes of q, k and v against each other the compiled module checks."""
        arrays = {name: as_floats(operation, name, value) for name, value in (("q", q), ("k", k), ("v", v))}
        dtype = same_dtype(operation, arrays.items())
        axes = _AXES.get(layout)
        if axes is None:
            message = f"{operation}: layout is {layout!r}; use 'bhld' or 'blhd'"
            raise ArgumentError(message)
        for name, array in arrays.items():
            if array.ndim != 4:
                message = f"{operation}: {name} has shape {array.shape}; use {axes}"
                raise ShapeError(message)
            arrays[name] = heads_first(array, layout)
        (batch, heads, queries, dim), keys = arrays["q"].shape, arrays["k"].shape[2]
        check_kind(operation, kind, sigmoid_bias, sinks)
        given_bias = sigmoid_bias if kind == "sigmoid" else None
        if isinstance(given_bias, str):
            given_bias = None if given_bias == "auto_row" else -math.log(max(keys, 1))
        if isinstance(given_bias, (int, float, np.number)):
            given_bias = np.full(heads, given_bias, wide(dtype))
        of_heads = {"sinks": sinks, "alibi_slopes": alibi_slopes, "sigmoid_bias": given_bias}
        for name, value in {"inv_temperature": inv_temperature, "bias": bias, **of_heads}.items():
            if value is not None:
                # A bias is as large as the scores: of 16 bits it is widened where it is read.
                arrays[name] = as_computed(operation, name, value, dtype, widened=name != "bias")
        temperature = arrays.get("inv_temperature")
        if temperature is not None:
            rows = "(batch, heads, queries)"
            temperature = _broadcast(operation, "inv_temperature", temperature, (batch, heads, queries), rows)
        for name in of_heads:
            if name in arrays and arrays[name].shape != (heads,):
                message = (
                    f"{operation}: {name} has shape {arrays[name].shape}; "
                    f"use ({heads},), one number for each head of q"
                )
                raise ShapeError(message)
        if bias is not None:
            array = arrays["bias"]
            array = array.copy() if any(stride < 0 for stride in array.strides) else array
            axes = "(batch, heads, queries, keys)"
            arrays["bias"] = _broadcast(operation, "bias", array, (batch, heads, queries, keys), axes)
        if not 0 <= softcap < math.inf:
            message = f"{operation}: softcap is {softcap}; use a positive number, or 0 for none"
            raise ArgumentError(message)
        if scale is None:
            scale = 1 / math.sqrt(dim) if dim else 1.0
        elif not math.isfinite(scale):
            message = f"{operation}: scale is {scale}; use a finite number"
            raise ArgumentError(message)
        if causal_align not in ("bottom_right", "top_left"):
            message = f"{operation}: causal_align is {causal_align!r}; use 'bottom_right' or 'top_left'"
            raise ArgumentError(message)
        left, right = checked_window(operation, window)
        lengths = None if kv_len is None else _lengths(operation, "kv_len", kv_len, batch, keys)
        for name in "qkv":
            arrays[name] = row_contiguous(name, arrays[name])
        v = arrays["v"]
        gate = None
        if value_gate is not None:
            gate = as_computed(operation, "value_gate", value_gate, dtype)
            gate = _broadcast(operation, "value_gate", gate, v.shape[:3], "(batch, key heads, keys)")
        return cls(
            q=arrays["q"],
            k=arrays["k"],
            v=v,
            scale=float(scale),
            inv_temperature=temperature,
            align=causal_align,
            window=(None if left < 0 else left, 0 if is_causal else None if right < 0 else right),
            q_len=None if q_len is None else _lengths(operation, "q_len", q_len, batch, queries),
            kv_len=lengths,
            mask=None if mask is None else _mask(operation, mask, (batch, heads, queries, keys)),
            softcap=float(softcap),
            bias=arrays.get("bias"),
            is_sigmoid=kind == "sigmoid",
            dropout_p=float(dropout_p),
            seed=checked_seed(operation, dropout_p, seed),
            value_gate=gate,
            **{name: None if name not in arrays else np.ascontiguousarray(arrays[name]) for name in of_heads},
        )

    def check_heads(self, operation: str) -> None:
        """Raise ShapeError where q and k do not fit, for whoever does not go to the compiled module."""
        (batch, heads, _, dim), (key_batch, key_heads, _, key_dim) = self.q.shape, self.k.shape
        divides = heads % key_heads == 0 if key_heads else heads == 0
        if key_batch != batch or key_dim != dim or not divides:
            message = (
                f"{operation}: k has shape {self.k.shape}; use ({batch}, key heads, keys, {dim}) as q has "
                f"shape {self.q.shape}, with a number of heads that divides {heads}"
            )
            raise ShapeError(message)


def as_computed(
    operation: str, name: str, value: Any, dtype: np.dtype[Any], *, widened: bool = True
) -> NDArray[Any]:
    """``value``, of the ``dtype`` of q or of the one that it is computed with, as numbers of the latter if wanted."""
    array = as_floats(operation, name, value)
    if array.dtype not in (dtype, wide(dtype)):
        names = "one dtype" if wide(dtype) == dtype else f"{name_of(dtype)} or {wide(dtype)}"
        message = f"{operation}: {name} has dtype {name_of(array.dtype)}, q has {name_of(dtype)}; use {names}"
        raise DTypeError(message)
    return widen(array) if widened else array


def check_kind(operation: str, kind: str, sigmoid_bias: Any, sinks: Any) -> None:
    """Raise ArgumentError where the weighting and its options do not go together."""
    if kind not in ("softmax", "sigmoid"):
        message = f"{operation}: kind is {kind!r}; use 'softmax' or 'sigmoid'"
        raise ArgumentError(message)
    if kind == "sigmoid" and sinks is not None:
        message = f"{operation}: sinks are given with kind='sigmoid'; use kind='softmax', or no sinks"
        raise ArgumentError(message)
    if sigmoid_bias is None or isinstance(sigmoid_bias, str):
        if sigmoid_bias not in ("auto", "auto_row"):
            message = (
                f"{operation}: sigmoid_bias is {sigmoid_bias!r}; "
                f"use 'auto', 'auto_row', a number or one for each head of q"
            )
            raise ArgumentError(message)
        given = sigmoid_bias != "auto"
    else:
        given = True
    if kind == "softmax" and given:
        message = (
            f"{operation}: sigmoid_bias is given with kind='softmax'; use kind='sigmoid', or leave it out"
        )
        raise ArgumentError(message)


def check_options(operation: str, stats: Collection[str], empty: str) -> None:
    """Raise ArgumentError for statistics that there are not, and for another result of empty rows."""
    if isinstance(stats, str) or not set(stats) <= set(OF_STATISTIC):
        names = ", ".join(map(repr, OF_STATISTIC))
        message = f"{operation}: stats is {stats!r}; use a collection of {names}, or an empty one"
        raise ArgumentError(message)
    if empty not in ("zero", "nan"):
        message = f"{operation}: empty is {empty!r}; use 'zero' or 'nan'"
        raise ArgumentError(message)


def checked_bins(map_bins: Any, queries: int, keys: int) -> tuple[int, int]:
    """Give the numbers of bins of a map, two integers."""
    try:
        rows, columns = (operator.index(bins) for bins in map_bins)
    except (TypeError, ValueError):
        message = f"attention: map_bins is {map_bins!r}; use (bins of queries, bins of keys), two integers"
        raise ArgumentError(message) from None
    if not (1 <= rows <= queries and 1 <= columns <= keys):
        message = f"attention: map_bins is ({rows}, {columns}); use 1..{queries} bins of queries and 1..{keys} of keys"
        raise ArgumentError(message)
    return rows, columns


def check_pooling(operation: str, map_pooling: str) -> None:
    """Raise ArgumentError for what bins of a map cannot do."""
    if map_pooling not in ("mean", "max"):
        message = f"{operation}: map_pooling is {map_pooling!r}; use 'mean' or 'max'"
        raise ArgumentError(message)


def checked_seed(operation: str, dropout_p: float, seed: int | None) -> int:
    """Give the seed of dropout; 0 without dropout, which needs none."""
    if not 0 <= dropout_p < 1:
        message = f"{operation}: dropout_p is {dropout_p}; use 0 or more, below 1"
        raise ArgumentError(message)
    if dropout_p == 0:
        return 0
    try:
        number = operator.index(-1 if seed is None else seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        message = f"{operation}: seed is {seed!r} with dropout_p={dropout_p}; use an integer of 0..2**64 - 1"
        raise ArgumentError(message)
    return number


def checked_window(operation: str, window: Sequence[int]) -> Window:
    """``window`` as two integers, -1 for no bound."""
    try:
        left, right = (operator.index(reach) for reach in window)
    except (TypeError, ValueError):
        left = right = -2
    if left < -1 or right < -1:
        message = (
            f"{operation}: window is {window!r}; use (left, right), integers of 0 or more, -1 for no bound"
        )
        raise ArgumentError(message)
    # No sequence is longer, and the compiled module takes no larger number.
    return min(left, 2**62), min(right, 2**62)


def heads_first(array: Any, layout: Layout) -> Any:
    """``array`` of the given layout as (B, H, L, D), or one of that shape in the given layout: both are a view."""
    return array.swapaxes(1, 2) if layout == "blhd" else array


def positions_first(strides: Sequence[int]) -> bool:
    """Whether a (B, H, L, D) array with these strides lies in memory as (B, L, H, D), as a projection writes it."""
    return abs(strides[1]) < abs(strides[2])


def new_heads(model: NDArray[Any], size: int) -> NDArray[Any]:
    """Make a (B, H, L, size) array that lies in memory in the order of ``model``, so that nobody has to copy it."""
    batch, heads, length, _ = model.shape
    if positions_first(model.strides):
        turned: NDArray[Any] = np.empty((batch, length, heads, size), model.dtype).swapaxes(1, 2)
        return turned
    return np.empty((batch, heads, length, size), model.dtype)


def row_contiguous(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """``array`` itself when its last axis is contiguous and nothing runs backwards, else a copy in the same order."""
    size, (batch, head, row, column) = array.itemsize, array.strides
    if min(array.strides) < 0 or batch % size or head % size or row % size or column % size:
        note_copy(name, array, "an axis runs backwards or across numbers")
    elif array.shape[-1] > 1 and array.strides[-1] != size:
        note_copy(name, array, "its last axis is not contiguous")
    else:
        return array
    if positions_first(array.strides):
        turned: NDArray[Any] = np.ascontiguousarray(array.swapaxes(1, 2)).swapaxes(1, 2)
        return turned
    return np.ascontiguousarray(array)


def _broadcast(
    operation: str, name: str, array: NDArray[Any], shape: tuple[int, ...], axes: str
) -> NDArray[Any]:
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        message = f"{operation}: {name} has shape {array.shape}; use one that broadcasts to {axes} = {shape}"
        raise ShapeError(message) from None


def _lengths(operation: str, name: str, value: Any, batch: int, limit: int) -> list[int]:
    array = as_numpy(operation, name, value)
    if array.dtype.kind not in "iu":
        message = f"{operation}: {name} has dtype {array.dtype}; use integers"
        raise DTypeError(message)
    if array.shape not in ((), (batch,)):
        message = (
            f"{operation}: {name} has shape {array.shape}; "
            f"use one integer, or ({batch},), one for each batch element"
        )
        raise ShapeError(message)
    lengths: list[int] = np.broadcast_to(array, batch).tolist()
    for length in lengths:
        if not 0 <= length <= limit:
            message = f"{operation}: {name} is {length}; use lengths of 0..{limit}"
            raise ArgumentError(message)
    return lengths


def _mask(operation: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array = value if is_tensor(value) else as_numpy(operation, "mask", value)
    if str(array.dtype).removeprefix("torch.") != "bool":
        message = f"{operation}: mask has dtype {array.dtype}; use bool, True where a query may see a key"
        raise DTypeError(message)
    array = as_numpy(operation, "mask", array)
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    wide = _broadcast(operation, "mask", array, shape, "(batch, heads, queries, keys)")
    return wide.view(np.uint8)
