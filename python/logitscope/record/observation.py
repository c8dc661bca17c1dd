"""What an attention module is asked for and hands out, between a model and who watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """What an attention module is asked to hand out in this forward pass, besides its statistics."""

    map_bins: tuple[int, int] | None
    """Rows and columns of the map that is wanted, at most; None when none is."""
    sample: int
    """Which element of the batch the map is of."""
    slices: bool = False
    """Whether the queries and keys of that element are wanted, too."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionObservation:
    """What an attention module hands out in a forward pass."""

    max_logit: NDArray[np.float32]  # (B, H, L)
    entropy: NDArray[np.float32]  # (B, H, L), nats
    lse: NDArray[np.float32]  # (B, H, L)
    map: NDArray[np.float32] | None = None  # (H, R, C)
    visible: NDArray[np.int64] | None = None  # (L,), keys that each row sees; L when not given
    query: NDArray[np.float32] | None = None  # (H, L, D), so that q . k / sqrt(D) are the scores
    key: NDArray[np.float32] | None = None  # (Hk, L, D)
    moments: tuple[NDArray[np.float32], ...] | None = None
    """Of the scores that each row sees: number, mean, sum of squared distances from it; (B, H, L) each."""

    def copy(self) -> AttentionObservation:
        """The same figures in arrays that nobody else writes to."""
        return AttentionObservation(
            np.array(self.max_logit),
            np.array(self.entropy),
            np.array(self.lse),
            _copy(self.map),
            _copy(self.visible),
            _copy(self.query),
            _copy(self.key),
            None if self.moments is None else tuple(np.array(part) for part in self.moments),
        )


def _copy(array: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if array is None else np.array(array)
