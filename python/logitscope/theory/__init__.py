"""What papers prove, as numbers that can be computed beside what a model does."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.theory.dual_activation import activation_names, dual_activation
from logitscope.theory.infinite_width import nngp_kernel, ntk_kernel
from logitscope.theory.jacobian_norm import attention_jacobian_norm
from logitscope.theory.kernel_dynamics import KernelDynamics
from logitscope.theory.selective_norm import (
    optimal_position_temperature,
    specificity,
    spikiness,
    ssa_norm_lower_bound,
)
from logitscope.theory.sigmoid_lipschitz import sigmoid_attention_lipschitz

__all__ = [
    "KernelDynamics",
    "activation_names",
    "attention_jacobian_norm",
    "dual_activation",
    "nngp_kernel",
    "ntk_kernel",
    "optimal_position_temperature",
    "sigmoid_attention_lipschitz",
    "specificity",
    "spikiness",
    "ssa_norm_lower_bound",
]
