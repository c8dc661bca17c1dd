"""logitscope: fast softmax, attention and loss cores, and a live scope for what the logits do while a model trains.

The names below are imported on first use, so ``import logitscope`` costs NumPy and nothing more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__version__ = "0.1.0"

_FUNCTIONS = {
    "softmax": "softmax",
    "softmax_backward": "softmax",
    "log_softmax": "log_softmax",
    "log_softmax_backward": "log_softmax",
    "logsumexp": "logsumexp",
    "logsumexp_backward": "logsumexp",
    "ext_exp": "ext_exp",
    "ext_add": "ext_exp",
    "ext_sum": "ext_exp",
    "softmax_stats": "softmax_stats",
    "SoftmaxStats": "softmax_stats",
    "sparsemax": "sparsemax",
    "sparsemax_backward": "sparsemax",
    "entmax15": "sparsemax",
    "entmax15_backward": "sparsemax",
    "stablemax": "stablemax",
    "stablemax_backward": "stablemax",
    "log_stablemax": "stablemax",
    "log_stablemax_backward": "stablemax",
    "topk_softmax": "topk_softmax",
    "topk_softmax_backward": "topk_softmax",
    "attention": "attention",
    "attention_backward": "attention_backward",
    "AttentionResult": "attention_result",
    "attention_decode": "attention_decode",
    "attention_map": "attention_map",
    "attention_summary": "attention_summary",
    "AttentionSummary": "attention_summary",
    "attention_varlen": "attention_varlen",
    "attention_varlen_backward": "attention_varlen_backward",
    "explain": "explain",
    "Explanation": "explain",
    "KVCache": "kv_cache",
    "PagedKVCache": "paged_kv_cache",
    "merge_states": "merge_states",
    "set_num_threads": "runtime",
    "get_num_threads": "runtime",
    "last_kernel": "runtime",
    "info": "runtime",
}
"""Public name -> module of ``logitscope.ops`` that holds it."""

_NAMESPACES = (
    "activation",
    "detection",
    "dynamics",
    "errors",
    "experiments",
    "gpu",
    "loss",
    "nn",
    "ops",
    "optim",
    "record",
    "theory",
)

__all__ = ["__version__", *_FUNCTIONS, *_NAMESPACES]  # noqa: PLE0604 -- names from the tables above


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        value = getattr(import_module(f"logitscope.ops.{_FUNCTIONS[name]}"), name)
    elif name in _NAMESPACES:
        value = import_module(f"logitscope.{name}")
    else:
        message = f"module 'logitscope' has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value


def __dir__() -> Iterable[str]:
    return sorted(__all__)
