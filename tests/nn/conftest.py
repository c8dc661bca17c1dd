"""Set-up for the tests of the torch floor."""

import warnings

import torch

# torch loads some of its parts at the first call of an operator, and warns then of what it uses itself.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch._dynamo

torch.set_num_threads(1)
