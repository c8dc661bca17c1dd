"""Modules for PyTorch over the cores: attention that can be watched, the loss, and a small language model."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.nn import functional
from logitscope.nn.activation import PolyNorm, PolyReLU
from logitscope.nn.attention import CausalSelfAttention
from logitscope.nn.binary_cross_entropy import BCEWithLogitsLoss, SigmoidFocalLoss
from logitscope.nn.entropy_guided_attention import EntropyGuidedAttention
from logitscope.nn.entropy_regularizer import EntropyPenalty, EntropyRegularizer
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
from logitscope.nn.ntk_linear import NTKLinear, ntk_mlp
from logitscope.nn.polycom import PolyCom
from logitscope.nn.rotary import RotaryPosition
from logitscope.nn.row_losses import (
    MarginLoss,
    SphericalSoftmaxLoss,
    StableMaxCrossEntropy,
    TaylorSoftmaxLoss,
    ZStandardizedLoss,
)
from logitscope.nn.selective_attention import SelectiveAttention, SelectiveStats, selective_temperature
from logitscope.nn.selective_conversion import (
    SelectiveMultiheadAttention,
    convert_to_selective,
    selective_param_groups,
)
from logitscope.nn.sigmoid_attention import SigmoidAttention
from logitscope.nn.sigmoid_block import LayerScale, SigmoidTransformerBlock
from logitscope.nn.softmax_only import ScaledFusedFFN, SoftmaxOnlyBlock, StaticNorm, softmax_only_gpt
from logitscope.nn.spherical_output import SphericalDrift, SphericalOutput, SphericalStats
from logitscope.nn.token_temperature import PositionTemperature, TokenTemperature
from logitscope.nn.topk_gate import GateOutput, TopKSoftmaxGate, load_balance_loss
from logitscope.nn.torch_attention import TorchCausalSelfAttention
from logitscope.nn.transformers_attention import register_transformers
from logitscope.nn.usual_activations import ReLU2, SwiGLU

__all__ = [
    "GPT",
    "BCEWithLogitsLoss",
    "CausalSelfAttention",
    "CompSumLoss",
    "CrossEntropyLoss",
    "EntropyGuidedAttention",
    "EntropyPenalty",
    "EntropyRegularizer",
    "FeedForward",
    "FocalLoss",
    "GPTConfig",
    "GateOutput",
    "GeneralizedCrossEntropy",
    "HierarchicalSoftmax",
    "LayerScale",
    "LinearCrossEntropyLoss",
    "MarginLoss",
    "NTKLinear",
    "PolyCom",
    "PolyLoss",
    "PolyNorm",
    "PolyReLU",
    "PositionTemperature",
    "ReLU2",
    "RotaryPosition",
    "ScaledFusedFFN",
    "SelectiveAttention",
    "SelectiveMultiheadAttention",
    "SelectiveStats",
    "SigmoidAttention",
    "SigmoidFocalLoss",
    "SigmoidTransformerBlock",
    "SoftmaxOnlyBlock",
    "SphericalDrift",
    "SphericalOutput",
    "SphericalSoftmaxLoss",
    "SphericalStats",
    "StableMaxCrossEntropy",
    "StaticNorm",
    "SwiGLU",
    "SymmetricCrossEntropy",
    "TaylorSoftmaxLoss",
    "TokenTemperature",
    "TopKSoftmaxGate",
    "TorchCausalSelfAttention",
    "ZStandardizedLoss",
    "convert_to_selective",
    "functional",
    "load_balance_loss",
    "ntk_mlp",
    "register_transformers",
    "selective_param_groups",
    "selective_temperature",
    "softmax_only_gpt",
]
