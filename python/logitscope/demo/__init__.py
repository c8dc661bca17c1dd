"""``logitscope demo``: train a small language model with the cores and watch it live."""
