"""Modules for PyTorch over the cores: attention that can be watched, the loss, and a small language model."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.nn import functional
from logitscope.nn.activation import PolyNorm, PolyReLU
from logitscope.nn.attention import CausalSelfAttention
from logitscope.nn.binary_cross_entropy import BCEWithLogitsLoss, SigmoidFocalLoss
from logitscope.nn.feed_forward import FeedForward
from logitscope.nn.gpt import GPT, GPTConfig
from logitscope.nn.hierarchical_softmax import HierarchicalSoftmax
from logitscope.nn.linked_losses import (
    CompSumLoss,
    FocalLoss,
    GeneralizedCrossEntropy,
    PolyLoss,
    SymmetricCrossEntropy,
)
from logitscope.nn.loss import CrossEntropyLoss, LinearCrossEntropyLoss
from logitscope.nn.rotary import RotaryPosition
from logitscope.nn.row_losses import (
    SphericalSoftmaxLoss,
    StableMaxCrossEntropy,
    TaylorSoftmaxLoss,
    ZStandardizedLoss,
)
from logitscope.nn.sigmoid_attention import SigmoidAttention
from logitscope.nn.sigmoid_block import LayerScale, SigmoidTransformerBlock
from logitscope.nn.spherical_output import SphericalDrift, SphericalOutput, SphericalStats
from logitscope.nn.topk_gate import GateOutput, TopKSoftmaxGate, load_balance_loss
from logitscope.nn.torch_attention import TorchCausalSelfAttention
from logitscope.nn.usual_activations import ReLU2, SwiGLU

__all__ = [
    "GPT",
    "BCEWithLogitsLoss",
    "CausalSelfAttention",
    "CompSumLoss",
    "CrossEntropyLoss",
    "FeedForward",
    "FocalLoss",
    "GPTConfig",
    "GateOutput",
    "GeneralizedCrossEntropy",
    "HierarchicalSoftmax",
    "LayerScale",
    "LinearCrossEntropyLoss",
    "PolyLoss",
    "PolyNorm",
    "PolyReLU",
    "ReLU2",
    "RotaryPosition",
    "SigmoidAttention",
    "SigmoidFocalLoss",
    "SigmoidTransformerBlock",
    "SphericalDrift",
    "SphericalOutput",
    "SphericalSoftmaxLoss",
    "SphericalStats",
    "StableMaxCrossEntropy",
    "SwiGLU",
    "SymmetricCrossEntropy",
    "TaylorSoftmaxLoss",
    "TopKSoftmaxGate",
    "TorchCausalSelfAttention",
    "ZStandardizedLoss",
    "functional",
    "load_balance_loss",
]
