"""What papers prove, as numbers that can be computed beside what a model does."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.theory.jacobian_norm import attention_jacobian_norm
from logitscope.theory.selective_norm import (
    optimal_position_temperature,
    specificity,
    spikiness,
    ssa_norm_lower_bound,
)
from logitscope.theory.sigmoid_lipschitz import sigmoid_attention_lipschitz

__all__ = [
    "attention_jacobian_norm",
    "optimal_position_temperature",
    "sigmoid_attention_lipschitz",
    "specificity",
    "spikiness",
    "ssa_norm_lower_bound",
]
