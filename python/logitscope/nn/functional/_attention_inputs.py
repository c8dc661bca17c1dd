"""What an attention call on tensors is given, checked and brought to the shapes that the operators take."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn.functional._path import check_dtype, wide
from logitscope.ops._attention_problem import checked_bins as bins_of
from logitscope.ops._attention_problem import checked_seed

if TYPE_CHECKING:
    from logitscope.ops._attention_problem import CausalAlign, Kind

_ALIGNMENTS: tuple[CausalAlign, ...] = ("bottom_right", "top_left")


def checked_bins(map_bins: tuple[int, int] | None, q: Tensor, k: Tensor) -> tuple[int, ...]:
    """Give the numbers of bins of the map, none if no map is wanted."""
    if map_bins is None:
        return ()
    return bins_of(map_bins, q.shape[2], k.shape[2])


def checked_temperature(inv_temperature: Tensor, q: Tensor) -> Tensor:
    """Give each query its inverse temperature."""
    try:
        return inv_temperature.expand(q.shape[:3])
    except RuntimeError:
        rows = tuple(q.shape[:3])
        message = (
            f"attention: inv_temperature of shape {tuple(inv_temperature.shape)} does not broadcast to "
            f"(B, Hq, T) = {rows}; use a shape that does"
        )
        raise ShapeError(message) from None


def checked_bias(bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Check that the bias broadcasts. It stays as it is: its gradient is summed by the kernel."""
    if bias is None:
        return None
    shape = (*q.shape[:3], k.shape[2])
    try:
        bias.expand(shape)
    except RuntimeError:
        message = (
            f"attention: bias of shape {tuple(bias.shape)} does not broadcast to (B, Hq, T, S) = {shape}; "
            f"use a shape that does"
        )
        raise ShapeError(message) from None
    return bias


def of_heads(name: str, numbers: Tensor | None, q: Tensor) -> Tensor | None:
    """Check that there is one number for each head."""
    if numbers is not None and tuple(numbers.shape) != (q.shape[1],):
        message = (
            f"attention: {name} has shape {tuple(numbers.shape)}; use ({q.shape[1]},), "
            f"one number for each head of q"
        )
        raise ShapeError(message)
    return numbers


def checked_sigmoid_bias(kind: Kind, bias: str | float | Tensor, q: Tensor, k: Tensor) -> Tensor | None:
    """One number for each head; None with softmax, and where each row has its own."""
    if kind == "softmax" or (isinstance(bias, str) and bias == "auto_row"):
        return None
    if isinstance(bias, Tensor):
        check_dtype("attention", sigmoid_bias=bias)
        return of_heads("sigmoid_bias", bias, q)
    number = -math.log(max(k.shape[2], 1)) if isinstance(bias, str) else float(bias)
    return q.new_full((q.shape[1],), number, dtype=wide(q.dtype))


def checked_mask(mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Give each score its place in the mask, without a copy."""
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        message = f"attention: mask is {mask.dtype}; use torch.bool, True where a query may see a key"
        raise DTypeError(message)
    shape = (*q.shape[:3], k.shape[2])
    try:
        return mask.expand(shape)
    except RuntimeError:
        message = (
            f"attention: mask of shape {tuple(mask.shape)} does not broadcast to (B, Hq, T, S) = {shape}; "
            f"use a shape that does"
        )
        raise ShapeError(message) from None


def checked_lengths(name: str, lengths: int | Tensor | None, limit: int, q: Tensor) -> Tensor | None:
    """Give each batch element its length. That it is within bounds the kernel checks, which knows the numbers."""
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor):
        try:
            length = operator.index(lengths)
        except TypeError:
            message = f"attention: {name} is {lengths!r}; use an integer, or a tensor of them"
            raise DTypeError(message) from None
        if not 0 <= length <= limit:
            message = f"attention: {name} is {length}; use 0..{limit}"
            raise ArgumentError(message)
        return torch.full(q.shape[:1], length, dtype=torch.int64, device=q.device)
    if lengths.dtype.is_floating_point or lengths.dtype.is_complex or lengths.dtype == torch.bool:
        message = f"attention: {name} is {lengths.dtype}; use integers"
        raise DTypeError(message)
    if tuple(lengths.shape) not in ((), tuple(q.shape[:1])):
        message = (
            f"attention: {name} has shape {tuple(lengths.shape)}; "
            f"use one integer, or ({q.shape[0]},), one for each batch element"
        )
        raise ShapeError(message)
    return lengths.expand(q.shape[0])


def checked_gate(gate: Tensor | None, v: Tensor) -> Tensor | None:
    """Give each value its gate."""
    if gate is None:
        return None
    check_dtype("attention", value_gate=gate)
    try:
        return gate.expand(v.shape[:3])
    except RuntimeError:
        message = (
            f"attention: value_gate of shape {tuple(gate.shape)} does not broadcast to "
            f"(B, Hk, S) = {tuple(v.shape[:3])}; use a shape that does"
        )
        raise ShapeError(message) from None


def drawn_seed(dropout_p: float, seed: int | Tensor | None, q: Tensor) -> Tensor | None:
    """Give the seed of dropout as a number that lies where ``q`` does; None without dropout."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1:
            message = (
                f"attention: seed is {seed.dtype} of shape {tuple(seed.shape)}; use one torch.int64 number"
            )
            raise ArgumentError(message)
        checked_seed("attention", dropout_p, 0)
        return None if dropout_p == 0 else seed.reshape(())
    number = checked_seed("attention", dropout_p, 0 if seed is None else seed)
    if dropout_p == 0:
        return None
    if seed is None:
        return torch.randint(2**63 - 1, (), dtype=torch.int64, device=q.device)
    # As int64, which has a sign.
    signed = number - 2**64 if number >= 2**63 else number
    return torch.full((), signed, dtype=torch.int64, device=q.device)


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sinks: Tensor | None,
    causal_align: str,
) -> None:
    """Raise for tensors that do not fit."""
    check_dtype("attention", q=q, k=k, v=v, sinks=sinks)
    if causal_align not in _ALIGNMENTS:
        message = f"attention: causal_align is {causal_align!r}; use {' or '.join(_ALIGNMENTS)}"
        raise ArgumentError(message)
    shapes = {name: tuple(tensor.shape) for name, tensor in (("q", q), ("k", k), ("v", v))}
    for name, shape in shapes.items():
        if len(shape) != 4:
            message = f"attention: {name} has shape {shape}; use 4 dimensions, (batch, heads, length, size)"
            raise ShapeError(message)
    fits = (
        q.shape[0] == k.shape[0] == v.shape[0]
        and k.shape[1:3] == v.shape[1:3]
        and q.shape[3] == k.shape[3]
        and (q.shape[1] == 0 if k.shape[1] == 0 else q.shape[1] % k.shape[1] == 0)
    )
    if not fits:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        message = (
            f"attention: {listed} do not fit; use q (B, Hq, T, D), k (B, Hk, S, D), v (B, Hk, S, Dv), "
            f"Hq a multiple of Hk"
        )
        raise ShapeError(message)
    of_heads("sinks", sinks, q)
