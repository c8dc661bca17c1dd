"""Fused attention with its gradient and its statistics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from logitscope.errors import ArgumentError
from logitscope.nn import composite
from logitscope.nn.functional import _on_gpu
from logitscope.nn.functional._attention_inputs import (
    check_inputs,
    checked_bias,
    checked_bins,
    checked_gate,
    checked_lengths,
    checked_mask,
    checked_sigmoid_bias,
    checked_temperature,
    drawn_seed,
    of_heads,
)
from logitscope.nn.functional._attention_operator import RESULTS, fused_attention
from logitscope.nn.functional._path import check_dtype, why_composite
from logitscope.ops._attention_problem import (
    CausalAlign,
    Kind,
    Pooling,
    Window,
    check_kind,
    check_options,
    check_pooling,
    checked_window,
)
from logitscope.ops._path_notes import note_composite
from logitscope.ops._row_figures import OF_STATISTIC
from logitscope.ops.attention import checked_top_keys
from logitscope.ops.attention_result import AttentionResult

if TYPE_CHECKING:
    from collections.abc import Collection


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    inv_temperature: float | Tensor | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    causal_align: CausalAlign = "bottom_right",
    window: Window = (-1, -1),
    q_len: int | Tensor | None = None,
    kv_len: int | Tensor | None = None,
    sinks: Tensor | None = None,
    softcap: float = 0.0,
    bias: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
    kind: Kind = "softmax",
    sigmoid_bias: str | float | Tensor = "auto",
    value_gate: Tensor | None = None,
    stats: Collection[str] = (),
    map_bins: tuple[int, int] | None = None,
    map_pooling: Pooling = "mean",
    top_keys: int = 0,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    empty: Literal["zero", "nan"] = "zero",
    device: _on_gpu.DeviceName | None = None,
) -> AttentionResult:
    """Attention that never stores its (T, S) scores; :func:`logitscope.attention` with gradients.

    Parameters
    ----------
    q
        (B, Hq, T, D), float32, float64, float16 or bfloat16; read without a copy if its last dimension is contiguous.
    k
        (B, Hk, S, D); Hq is a multiple of Hk, query head h reads key head h // (Hq / Hk).
    v
        (B, Hk, S, Dv).
    scale
        What the products are multiplied by; 1 / sqrt(D) by default.
    inv_temperature
        A further factor, one number or a tensor that broadcasts to (B, Hq, T), with a gradient.
    mask
        Bool, True where a query may see a key; broadcasts to (B, Hq, T, S) and is read where it lies.
    is_causal
        Whether a query sees only keys up to its own position.
    causal_align
        Which query and key are at the same position when T differs from S: the last ones ("bottom_right"; within
        ``q_len`` and ``kv_len``) or the first ones ("top_left", as in torch).
    window
        (left, right): how many keys before and after its own position a query sees; -1 is all of them.
    q_len, kv_len
        How many queries and keys are real, one integer or an integer tensor (B,): the queries beyond see nothing,
        the keys beyond are seen by none.
    sinks
        (Hq,): one more score for all rows of a head that has no value, with a gradient; -inf is no sink.
    softcap
        c > 0 bends scores to c tanh(score / c); 0 leaves them straight.
    bias
        Added to the scores, with a gradient; broadcasts to (B, Hq, T, S). -inf hides a key as a mask does.
    alibi_slopes
        (Hq,): what the distance of positions is multiplied by and subtracted from the scores, with a gradient.
    kind
        "softmax" or "sigmoid", which weights each key for itself.
    sigmoid_bias
        Added before the sigmoid: a number, or (Hq,) with a gradient; "auto" is -ln S, "auto_row" -ln of the number of
        keys that a row sees.
    value_gate
        What each value is multiplied by, with a gradient; broadcasts to (B, Hk, S).
    stats
        Further statistics of each row, at the cost of a few operations a score: ``"entropy"`` of its weights;
        ``"logits"``, count, mean and ``logit_m2`` of its scores; ``"variance"`` of its scores under its weights.
    map_bins, map_pooling
        (R, C): also return the weights in R bins of queries and C bins of keys: averaged over the queries and summed
        over the keys, or with ``"max"`` the largest.
    top_keys
        k: also return the k keys with the largest scores of each row, and their weights.
    dropout_p, seed
        Share of the weights that is dropped, and what decides which, an integer or an int64 tensor; by default one is
        drawn from torch's generator. Statistics, map and top keys are those of all weights.
    empty
        What a row that sees no key gives, "zero" or "nan".
    device
        ``"cpu"``, or ``"gpu"``: the tensors go to the GPU of :func:`logitscope.gpu.default_device` and the result comes
        back; `logitscope bench gpu` says from which size on that pays.

    Returns
    -------
    AttentionResult
        Tensors; ``out``, ``lse`` and ``entropy`` are differentiable, also twice. Beside ``out`` they are float32
        where q has 16 bits.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import attention
    >>> q = k = v = torch.zeros(1, 2, 8, 16)
    >>> result = attention(q, k, v, stats=("entropy",))
    >>> result.out.shape, result.entropy[0, 0, 0]
    (torch.Size([1, 2, 8, 16]), tensor(2.0794))
    """
    check_inputs(q, k, v, sinks, causal_align)
    check_options("attention", stats, empty)
    check_pooling("attention", map_pooling)
    if _on_gpu.is_sent("attention", device, q, k, v, bias):
        given = {
            "scale": scale,
            "inv_temperature": inv_temperature,
            "mask": mask,
            "is_causal": is_causal,
            "causal_align": causal_align,
            "window": window,
            "q_len": q_len,
            "kv_len": kv_len,
            "sinks": sinks,
            "softcap": softcap,
            "bias": bias,
            "alibi_slopes": alibi_slopes,
            "kind": kind,
            "sigmoid_bias": sigmoid_bias,
            "stats": stats,
            "map_bins": map_bins,
            "map_pooling": map_pooling,
            "empty": empty,
            "value_gate": value_gate,
            "top_keys": top_keys,
            "dropout_p": dropout_p,
            "seed": drawn_seed(dropout_p, seed, q),
        }
        return _on_gpu.attention(q, k, v, given)
    check_dtype("attention", bias=bias, alibi_slopes=alibi_slopes)
    check_kind("attention", kind, sigmoid_bias, sinks)
    if not 0 <= softcap < math.inf:
        message = f"attention: softcap is {softcap}; use a positive number, or 0 for none"
        raise ArgumentError(message)
    factor = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)
    temperature = None
    if isinstance(inv_temperature, Tensor):
        temperature = checked_temperature(inv_temperature, q)
    elif inv_temperature is not None:
        factor *= float(inv_temperature)
    lengths = checked_lengths("kv_len", kv_len, k.shape[2], q)
    left, right = checked_window("attention", window)
    reach = (left, 0 if is_causal else right)
    inputs = (
        q,
        k,
        v,
        temperature,
        sinks,
        checked_bias(bias, q, k),
        of_heads("alibi_slopes", alibi_slopes, q),
        checked_sigmoid_bias(kind, sigmoid_bias, q, k),
        checked_gate(value_gate, v),
        checked_mask(mask, q, k),
        checked_lengths("q_len", q_len, q.shape[2], q),
        lengths,
        drawn_seed(dropout_p, seed, q),
    )
    bins, top = checked_bins(map_bins, q, k), checked_top_keys(top_keys, k.shape[2])
    refused = why_composite(*inputs)
    if refused is not None:
        note_composite("attention", q, k, refused)
    operator = fused_attention if refused is None else composite.attention
    options = (factor, reach, causal_align, float(softcap), kind == "sigmoid", float(dropout_p))
    # In one order, so that a compiled model knows it for the same.
    names = " ".join(name for name in OF_STATISTIC if name in stats)
    output = operator(*inputs, *options, names, bins, map_pooling, top)
    parts = dict(zip(RESULTS, output, strict=True))
    if empty == "nan":
        unseen = parts["max_logit"] == -torch.inf
        parts["out"] = parts["out"].masked_fill(unseen[..., None], torch.nan)
        for name in ("lse", "max_logit", "entropy", "logit_mean", "logit_m2", "variance"):
            if parts[name].dim() > 1:
                parts[name] = parts[name].masked_fill(unseen, torch.nan)
    # What was not asked for has one dimension.
    filled: dict[str, Any] = {name: part if part.dim() > 1 else None for name, part in parts.items()}
    return AttentionResult(**filled, kind=kind)
