"""Optimizers for PyTorch that the papers propose, as parts that any training can use."""

import logitscope._torch  # noqa: F401 -- says so if torch is missing
from logitscope.optim.perp_grad import PerpGrad, project_orthogonal_

__all__ = ["PerpGrad", "project_orthogonal_"]
