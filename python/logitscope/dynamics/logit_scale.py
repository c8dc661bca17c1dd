"""How large class logits are, and by how much the target's leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitscope.dynamics.softmax_collapse import checked_rows, margins


@dataclass(frozen=True, slots=True)
class LogitScale:
    """What :func:`logit_scale` measures."""

    rms: float
    """Root of the mean square of all logits."""
    max: float
    """The largest."""
    mean_margin: float
    """Mean over the rows of the target's logit less the logsumexp of the others."""


def logit_scale(logits: Any, targets: Any = None, *, ignore_index: int = -100) -> LogitScale:
    """Measure the scale of class logits, which grows without end where nothing but cross entropy holds it.

    Parameters
    ----------
    logits
        (..., V), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16.
    targets
        (...), integers; by default each row's largest logit.
    ignore_index
        Rows with this target do not count.

    Returns
    -------
    LogitScale
        NaN for no rows.

    Raises
    ------
    DTypeError, ShapeError, TargetError, DeviceError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.dynamics import logit_scale
    >>> logit_scale(np.array([[4.0, -2.0], [2.0, 0.0]]))
    LogitScale(rms=2.449489742783178, max=4.0, mean_margin=4.0)
    """
    rows, classes = checked_rows("logit_scale", logits, targets, ignore_index)
    counted = classes != ignore_index
    rows, classes = rows[counted], classes[counted]
    if not len(rows):
        return LogitScale(np.nan, np.nan, np.nan)
    rms = float(np.sqrt(np.square(rows).mean()))
    return LogitScale(rms, float(rows.max()), float(margins(rows, classes[:, None]).mean()))
