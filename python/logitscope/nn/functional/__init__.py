"""The cores as differentiable functions of torch tensors.

Each is an operator ``torch.ops.logitscope.*`` with a fake kernel and a gradient, so that ``torch.compile``
takes it without a break. CPU tensors are read where they lie. What an operator cannot do takes the plain-torch
path of ``logitscope.nn.composite`` with the same semantics: other devices, double backward, forward-mode
derivatives and ``torch.func`` transforms.
"""

from logitscope.nn.functional._attention import attention
from logitscope.nn.functional._cross_entropy import cross_entropy
from logitscope.nn.functional._linear_cross_entropy import linear_cross_entropy
from logitscope.nn.functional._log_softmax import log_softmax
from logitscope.nn.functional._logsumexp import logsumexp
from logitscope.nn.functional._margin_loss import margin_loss
from logitscope.nn.functional._poly_norm import poly_norm
from logitscope.nn.functional._poly_relu import poly_relu
from logitscope.nn.functional._scaled_dot_product_attention import scaled_dot_product_attention
from logitscope.nn.functional._sigmoid_attention import sigmoid_attention
from logitscope.nn.functional._soft_nms import soft_nms
from logitscope.nn.functional._softmax import softmax
from logitscope.nn.functional._sparsemax import entmax15, sparsemax
from logitscope.nn.functional._stablemax import log_stablemax, stablemax
from logitscope.nn.functional._topk_softmax import topk_softmax

__all__ = [
    "attention",
    "cross_entropy",
    "entmax15",
    "linear_cross_entropy",
    "log_softmax",
    "log_stablemax",
    "logsumexp",
    "margin_loss",
    "poly_norm",
    "poly_relu",
    "scaled_dot_product_attention",
    "sigmoid_attention",
    "soft_nms",
    "softmax",
    "sparsemax",
    "stablemax",
    "topk_softmax",
]
