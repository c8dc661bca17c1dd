"""The logitscope dashboard: attention maps, logit scaling and training dynamics of a run, live.

Reads run files through :mod:`logitscope.record` in a process of its own and never imports torch.
``models/`` knows no Qt, ``services/`` holds the threads, ``panels/`` one widget a view, ``theme/`` one
palette for all of it.
"""

__version__ = "0.1.0"
