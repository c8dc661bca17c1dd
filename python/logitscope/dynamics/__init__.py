"""What a training does, measured: quantities of logits, gradients and weights."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.dynamics.attention_entropy import AttentionEntropyProbe, EntropyReport, entropy_report
from logitscope.dynamics.attention_norm import AttentionNormProbe, AttentionNorms
from logitscope.dynamics.curvature import Curvature, CurvatureProbe
from logitscope.dynamics.empirical_ntk import empirical_ntk
from logitscope.dynamics.hessian import HessianOperator, Ritz, lanczos, spectral_density
from logitscope.dynamics.logit_scale import LogitScale, logit_scale
from logitscope.dynamics.nlm_cosine import nlm_cosine
from logitscope.dynamics.ntk_probe import NTKProbe, NTKReading
from logitscope.dynamics.per_sample import per_sample_jacobians
from logitscope.dynamics.private_inference import PrivateInferenceCost, private_inference_cost
from logitscope.dynamics.redundancy import effective_rank, layer_cosine_similarity
from logitscope.dynamics.softmax_collapse import SoftmaxCollapse, softmax_collapse

__all__ = [
    "AttentionEntropyProbe",
    "AttentionNormProbe",
    "AttentionNorms",
    "Curvature",
    "CurvatureProbe",
    "EntropyReport",
    "HessianOperator",
    "LogitScale",
    "NTKProbe",
    "NTKReading",
    "PrivateInferenceCost",
    "Ritz",
    "SoftmaxCollapse",
    "effective_rank",
    "empirical_ntk",
    "entropy_report",
    "lanczos",
    "layer_cosine_similarity",
    "logit_scale",
    "nlm_cosine",
    "per_sample_jacobians",
    "private_inference_cost",
    "softmax_collapse",
    "spectral_density",
]
