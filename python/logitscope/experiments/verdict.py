"""What an experiment found: figures, what they are held against, and whether the claim holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion: a figure and the limit that was set before it was measured.

    Examples
    --------
    >>> from logitscope.experiments import Check
    >>> check = Check("error over the best other", 0.55, "at most", 0.7)
    >>> check.holds, round(check.margin, 3)
    (True, 0.214)
    """

    name: str
    value: float
    sense: Literal["at most", "at least"]
    limit: float

    @property
    def margin(self) -> float:
        """By what share of the limit it is met; below 0 if it is missed. Absolute where the limit is 0."""
        slack = self.limit - self.value if self.sense == "at most" else self.value - self.limit
        return slack / (abs(self.limit) or 1.0) if math.isfinite(self.value) else -math.inf

    @property
    def holds(self) -> bool:
        """Whether it is met; a NaN meets nothing."""
        return self.margin >= 0.0

    def __str__(self) -> str:
        """Say it in words."""
        return (
            f"{self.name}: {self.value:.4g}, {self.sense} {self.limit:.4g}: {'yes' if self.holds else 'no'}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an experiment found. Whether it reproduces the claim follows from the checks and from nothing else.

    Examples
    --------
    >>> from logitscope.experiments import Check, Verdict
    >>> verdict = Verdict(
    ...     claim="PolyNorm approximates better than GELU",
    ...     measured={"RMSE of PolyNorm": 0.02},
    ...     baseline={"RMSE of GELU": 0.04},
    ...     checks=(Check("RMSE of PolyNorm over that of GELU", 0.5, "at most", 0.7),),
    ...     caveats=("one function of three variables",),
    ... )
    >>> verdict.reproduced, round(verdict.margin, 3)
    (True, 0.286)
    """

    claim: str
    """What was tested, in a sentence."""
    measured: Mapping[str, float]
    """Figures of the method by what they are, such as ``"top-50 error of Z(1, 5), %"``; means over the seeds."""
    baseline: Mapping[str, float]
    """Figures of what it is held against: other methods, or what theory predicts."""
    checks: tuple[Check, ...]
    """What decides, with limits that were set before."""
    caveats: tuple[str, ...] = ()
    """What a reader must know to not read too much into it."""

    def __post_init__(self) -> None:
        if not self.checks:
            message = "Verdict: checks is empty; give at least one Check, since nothing else decides"
            raise ArgumentError(message)

    @property
    def margin(self) -> float:
        """By what share of its limit the check that is met least is met; below 0 if it is missed."""
        return min(check.margin for check in self.checks)

    @property
    def reproduced(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as what JSON knows; what is no finite number is None."""
        verdict = {
            "claim": self.claim,
            "measured": dict(self.measured),
            "baseline": dict(self.baseline),
            "margin": self.margin,
            "reproduced": self.reproduced,
            "checks": [asdict(check) | {"holds": check.holds} for check in self.checks],
            "caveats": list(self.caveats),
        }
        plain: dict[str, Any] = _plain(verdict)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
