"""What papers prove, as numbers that can be computed beside what a model does."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.theory.jacobian_norm import attention_jacobian_norm
from logitscope.theory.sigmoid_lipschitz import sigmoid_attention_lipschitz

__all__ = ["attention_jacobian_norm", "sigmoid_attention_lipschitz"]
