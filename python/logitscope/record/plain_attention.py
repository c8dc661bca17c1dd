"""Attention that is plain torch: what its calls are made of."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitscope.record.scores import of_queries, of_scores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope.record.layers import Layer

PRODUCT, MULTI_HEAD, SOFTMAX = "scaled_dot_product_attention", "multi_head_attention_forward", "softmax"
FUNCTIONS = frozenset({PRODUCT, MULTI_HEAD, SOFTMAX})
_PRODUCT_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Queries, keys and values (B, H, L, D) of one call, and what is seen."""

    query: Any
    key: Any
    value: Any
    mask: Any = None
    is_causal: bool = False
    scale: float | None = None


def look(
    name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], *, sample: int, bins: Any
) -> Layer | None:
    """What a call of one of `FUNCTIONS` shows; None where it is no attention, or one with keys of its own."""
    with sys.modules["torch"].no_grad():
        scores = scores_of(name, arguments, options)
        if scores is not None:
            return of_scores(scores, sample=sample, bins=bins)
        heads = heads_of(name, arguments, options)
        if heads is None:
            return None
        return of_queries(
            heads.query,
            heads.key,
            heads.mask,
            is_causal=heads.is_causal,
            scale=heads.scale,
            sample=sample,
            bins=bins,
        )


def scores_of(name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """The scores (B, H, L, S) that a softmax over the last of four axes is given; None for another call."""
    if name != SOFTMAX:
        return None
    scores: Any = arguments[0] if arguments else options.get("input")
    axis = options.get("dim", arguments[1] if len(arguments) > 1 else None)
    found = getattr(scores, "ndim", 0) == 4 and axis in (-1, 3) and scores.is_floating_point()
    return scores if found else None


def heads_of(name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Heads | None:
    """Queries, keys and values of a call; None for another one."""
    if name == PRODUCT:
        told = {**dict(zip(_PRODUCT_ARGUMENTS, arguments, strict=False)), **options}
        return Heads(
            told["query"],
            told["key"],
            told["value"],
            told.get("attn_mask"),
            bool(told.get("is_causal")),
            told.get("scale"),
        )
    return _multi_head(arguments, options) if name == MULTI_HEAD else None


def _multi_head(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Heads | None:
    """The heads of ``nn.MultiheadAttention``, projected once more; None where it adds keys of its own."""
    functional = sys.modules["torch"].nn.functional
    told = inspect.signature(functional.multi_head_attention_forward).bind(*arguments, **options).arguments
    if any(told.get(name) is not None for name in ("bias_k", "static_k")) or told.get("add_zero_attn"):
        return None
    parts = [told[name].detach() for name in ("query", "key", "value")]
    if parts[0].ndim == 2:
        parts = [part.unsqueeze(1) for part in parts]
    if told.get("use_separate_proj_weight"):
        weights = [told[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = told["in_proj_weight"].chunk(3)
    bias = told.get("in_proj_bias")
    biases = [None] * 3 if bias is None else bias.chunk(3)
    count = told["num_heads"]
    heads = []
    for part, weight, one in zip(parts, weights, biases, strict=True):
        length, batch = part.shape[:2]
        heads.append(
            functional.linear(part, weight, one).reshape(length, batch, count, -1).permute(1, 2, 0, 3)
        )
    mask = told.get("attn_mask")
    if mask is not None and mask.ndim == 3:
        mask = mask.reshape(-1, count, *mask.shape[1:])
    padding = told.get("key_padding_mask")
    query, key, value = heads
    return Heads(query, key, value, mask=_joined(_added(mask), _added(padding, of_keys=True)))


def _added(mask: Any, *, of_keys: bool = False) -> Any:
    """A mask as what is added to the scores; here True is hidden."""
    if mask is None:
        return None
    if "bool" in str(mask.dtype):
        mask = mask.new_zeros(mask.shape, dtype=sys.modules["torch"].float32).masked_fill(mask, float("-inf"))
    return mask.reshape(-1, 1, 1, mask.shape[-1]) if of_keys else mask


def _joined(first: Any, second: Any) -> Any:
    return first if second is None else second if first is None else first + second
