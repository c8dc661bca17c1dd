"""Asks for torch once, so that its absence is one clear line; imported first by the packages that need it."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    message = "this part of logitscope needs torch: pip install logitscope[torch]"
    raise ModuleNotFoundError(message, name="torch") from error
