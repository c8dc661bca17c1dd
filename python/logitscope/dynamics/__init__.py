"""What a training does, measured: quantities of logits, gradients and weights."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.dynamics.attention_entropy import AttentionEntropyProbe, EntropyReport, entropy_report
from logitscope.dynamics.attention_norm import AttentionNormProbe, AttentionNorms
from logitscope.dynamics.logit_scale import LogitScale, logit_scale
from logitscope.dynamics.nlm_cosine import nlm_cosine
from logitscope.dynamics.private_inference import PrivateInferenceCost, private_inference_cost
from logitscope.dynamics.softmax_collapse import SoftmaxCollapse, softmax_collapse

__all__ = [
    "AttentionEntropyProbe",
    "AttentionNormProbe",
    "AttentionNorms",
    "EntropyReport",
    "LogitScale",
    "PrivateInferenceCost",
    "SoftmaxCollapse",
    "entropy_report",
    "logit_scale",
    "nlm_cosine",
    "private_inference_cost",
    "softmax_collapse",
]
