"""Selective attention in models that have ordinary attention already, trained or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from logitscope.errors import ArgumentError
from logitscope.nn.attention import SelfAttention
from logitscope.nn.selective_attention import SelectiveAttention

if TYPE_CHECKING:
    from collections.abc import Callable


class SelectiveMultiheadAttention(nn.Module):
    """:class:`SelectiveAttention` behind the call of ``torch.nn.MultiheadAttention``; it returns no weights.

    Parameters
    ----------
    source
        The module whose weights it takes over: one without ``add_bias_kv``, ``add_zero_attn`` and sizes of its own
        for keys and values.
    options
        Options of :class:`SelectiveAttention`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SelectiveMultiheadAttention
    >>> plain = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = torch.randn(1, 5, 8)
    >>> selective = SelectiveMultiheadAttention(plain, position=False)
    >>> bool(torch.allclose(selective(x, x, x)[0], plain(x, x, x)[0], atol=1e-6))
    True
    """

    in_proj_bias = None  # keeps torch's encoder layers from their fused path, which would pass by this module

    def __init__(self, source: nn.MultiheadAttention, **options: Any) -> None:
        super().__init__()
        if source.in_proj_weight is None or source.bias_k is not None or source.add_zero_attn:
            message = (
                "convert_to_selective: a MultiheadAttention has kdim, vdim, add_bias_kv or add_zero_attn; "
                "use a module_filter that leaves it out"
            )
            raise ArgumentError(message)
        self.batch_first = source.batch_first
        biased = source.in_proj_bias is not None
        self.inner = SelectiveAttention(
            source.embed_dim,
            source.num_heads,
            bias=biased,
            causal=False,
            batch_first=source.batch_first,
            **options,
        )
        self.inner.to(source.in_proj_weight.dtype)
        with torch.no_grad():
            self.inner.qkv.weight.copy_(source.in_proj_weight)
            self.inner.out.weight.copy_(source.out_proj.weight)
            if biased:
                self.inner.qkv.bias.copy_(source.in_proj_bias)
                self.inner.out.bias.copy_(source.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend; ``key`` and ``value`` must be the same tensor. Masks are torch's: True, or -inf, hides a key."""
        if value is not key:
            message = "SelectiveMultiheadAttention: key and value differ; use the same tensor for both"
            raise ArgumentError(message)
        visible = None
        if attn_mask is not None:
            seen = _visible("attn_mask", attn_mask)
            visible = seen if seen.dim() == 2 else seen.view(-1, self.inner.num_heads, *seen.shape[1:])
        if key_padding_mask is not None:
            padding = _visible("key_padding_mask", key_padding_mask)[:, None, None]
            visible = padding if visible is None else visible & padding
        kv = None if key is query else key
        return self.inner(query, kv=kv, mask=visible), None


def convert_to_selective(
    model: nn.Module, module_filter: Callable[[str, nn.Module], bool] | None = None, **options: Any
) -> nn.Module:
    """Replace ordinary attention of a model, in place, by selective attention with the same weights.

    Parameters
    ----------
    model
        A module with attention of ``logitscope.nn`` or ``torch.nn.MultiheadAttention`` in it.
    module_filter
        Says by name and module which to replace; all by default.
    options
        Options of :class:`SelectiveAttention`, such as ``alpha_init``. With the default the model gives almost what it
        gave; with ``position=False`` exactly.

    Returns
    -------
    Module
        ``model``.

    Raises
    ------
    ArgumentError
        If there is nothing to replace, or it cannot be.

    Examples
    --------
    >>> from logitscope.nn import GPT, GPTConfig, convert_to_selective
    >>> model = convert_to_selective(GPT(GPTConfig(vocabulary=10, context=16, layers=1, heads=2, width=8)))
    >>> type(model.blocks[0].attention).__name__
    'SelectiveAttention'
    """
    chosen = [
        (name, module)
        for name, module in model.named_modules()
        if name
        and isinstance(module, SelfAttention | nn.MultiheadAttention)
        and not isinstance(module, SelectiveAttention)
        and (module_filter is None or module_filter(name, module))
    ]
    if not chosen:
        message = "convert_to_selective: no attention was chosen; use a model with logitscope's or torch's attention"
        raise ArgumentError(message)
    for name, module in chosen:
        parent, _, last = name.rpartition(".")
        new = (
            _converted(module, options)
            if isinstance(module, SelfAttention)
            else SelectiveMultiheadAttention(module, **options)
        )
        setattr(model.get_submodule(parent), last, new.train(module.training))
    return model


def selective_param_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameters of the gates alone, as a group for an optimizer, without weight decay.

    Examples
    --------
    >>> from logitscope.nn import SelectiveAttention, selective_param_groups
    >>> (group,) = selective_param_groups(SelectiveAttention(8, 2))
    >>> [tuple(parameter.shape) for parameter in group["params"]], group["weight_decay"]
    ([(2, 4), (2, 4), ()], 0.0)
    """
    parts = ("query_gate", "value_gate", "query_position", "value_position")
    gates = [
        parameter
        for module in model.modules()
        if isinstance(module, SelectiveAttention)
        for part in parts
        if getattr(module, part) is not None
        for parameter in getattr(module, part).parameters()
    ]
    return [{"params": gates, "weight_decay": 0.0}]


def _converted(module: SelfAttention, options: dict[str, Any]) -> SelectiveAttention:
    selective = SelectiveAttention(
        module.out.out_features,
        module.num_heads,
        num_kv_heads=module.num_kv_heads,
        head_dim=module.head_dim,
        bias=module.qkv.bias is not None,
        causal=getattr(module, "causal", True),
        **options,
    )
    selective.to(module.qkv.weight.dtype)
    selective.qkv.load_state_dict(module.qkv.state_dict())
    selective.out.load_state_dict(module.out.state_dict())
    selective.temperature = module.temperature
    return selective


def _visible(name: str, mask: Tensor) -> Tensor:
    """Turn torch's mask around: True where a key is seen."""
    if mask.dtype == torch.bool:
        return ~mask
    seen = mask != -torch.inf
    if (mask.masked_fill(~seen, 0) != 0).any():
        message = f"SelectiveMultiheadAttention: {name} adds to the scores; use a mask of True or -inf"
        raise ArgumentError(message)
    return seen
