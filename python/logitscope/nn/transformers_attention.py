"""logitscope's attention for the models of Hugging Face transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from logitscope.errors import ArgumentError
from logitscope.nn.functional import attention

if TYPE_CHECKING:
    from torch import Tensor, nn


def register_transformers(name: str = "logitscope") -> str:
    """Register attention with Hugging Face transformers, for ``attn_implementation=name``.

    Models then train and generate with logitscope's kernels: causal, padding and sliding-window masks, grouped query
    heads, softcap, sinks, position bias and dropout included. ``model(..., output_attentions=True)`` returns the
    weights themselves, which torch's fused attention cannot: exact, before dropout, without a gradient, T x S a head.

    Parameters
    ----------
    name
        What the models are to call it.

    Returns
    -------
    str
        The name.

    Raises
    ------
    ModuleNotFoundError
        If transformers is not installed, or too old to take attention from outside.
    ArgumentError
        If the name is one that transformers has given itself.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import register_transformers
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    ...     num_attention_heads=4, num_key_value_heads=2, attn_implementation=register_transformers())
    >>> model = LlamaForCausalLM(config)
    >>> model(input_ids=torch.arange(10)[None], output_attentions=True).attentions[0].shape
    torch.Size([1, 4, 10, 10])
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        message = "register_transformers needs Hugging Face transformers: pip install 'transformers>=5'"
        raise ModuleNotFoundError(message, name="transformers") from error
    taken = AttentionInterface().get(name)
    if name == "eager" or (taken is not None and taken is not transformers_attention):
        message = (
            f"register_transformers: name is {name!r}, which transformers has given itself; use another one"
        )
        raise ArgumentError(message)
    AttentionInterface.register(name, transformers_attention)
    # Bool masks, True where a query may see a key; none at all where causality is all that there is.
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def transformers_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool = False,
    **_unused: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend as transformers asks for it: (B, Hq, T, D) to (B, T, Hq, Dv), and the weights where they are wanted.

    What is unused is what the mask tells already (the size of the window, the positions).
    """
    queries, keys = query.shape[2], key.shape[2]
    is_bool = attention_mask is not None and attention_mask.dtype == torch.bool
    bias = position_bias
    if attention_mask is not None and not is_bool:
        bias = attention_mask if bias is None else bias + attention_mask
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    result = attention(
        query,
        key,
        value,
        scale=scaling,
        mask=attention_mask if is_bool else None,
        bias=bias,
        # A single query is the last one; more of them without a mask count from the first key.
        is_causal=is_causal and attention_mask is None and queries > 1,
        causal_align="top_left",
        softcap=softcap or 0.0,
        sinks=s_aux,
        dropout_p=dropout,
        map_bins=(queries, keys) if output_attentions or _are_weights_collected() else None,
    )
    return result.out.transpose(1, 2).contiguous(), result.map


def _are_weights_collected() -> bool:
    """Whether the model records the weights of its layers; some, as GPT-2, do not tell their attention."""
    if torch.compiler.is_compiling():
        return False
    try:
        # Not public. Where it is missing only the models that tell are served.
        from transformers.utils.output_capturing import _active_collector
    except ImportError:
        return False
    collected = _active_collector.get()
    return collected is not None and not {"attentions", "cross_attentions"}.isdisjoint(collected)
