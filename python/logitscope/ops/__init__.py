"""Functions on arrays, one file an operation; the public names are the root's (``logitscope.softmax`` and so on)."""
