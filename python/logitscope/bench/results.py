"""What was measured, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import geometric_mean
from types import MappingProxyType
from typing import TYPE_CHECKING

from logitscope.bench.roofline import least_seconds
from logitscope.bench.timing import Quartiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logitscope.bench.cases import Case, Contender


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender of one case."""

    name: str
    into: str
    ours: bool
    seconds: Quartiles
    of_roofline: float
    """Share of the speed that memory and arithmetic of this machine allow."""
    of_bandwidth: float
    """The same for memory alone; above 1 where the data stays in a cache between passes."""
    ratios: dict[str, Quartiles]
    """For ours: peer -> its time over this one's."""
    best_peer: str | None = None

    @property
    def label(self) -> str:
        """Name and place of the result."""
        return self.name if self.into == "fresh" else f"{self.name}, given array"

    @property
    def best_ratio(self) -> float | None:
        """The time of the fastest peer over this one's."""
        return None if self.best_peer is None else self.ratios[self.best_peer].median


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case."""

    name: str
    group: str
    shape: tuple[int, ...]
    dtype: str
    rounds: int
    rates: dict[str, float]
    """Bytes, exponentials and operations a second that were measured beside the contenders."""
    measured: list[Measured]


@dataclass(frozen=True, slots=True)
class Summary:
    """The ratios of the cases of a group."""

    group: str
    label: str
    cases: int
    ratio: dict[str, float]
    """Peer, or "best", -> geometric mean of the ratios."""
    least: float
    """The smallest ratio to the best peer."""


def evaluate(
    case: Case,
    contenders: Sequence[Contender],
    times: Mapping[str, list[float]],
    rates: dict[str, float],
    own_rates: Mapping[str, float] = MappingProxyType({}),
) -> CaseResult:
    """Put times in relation; ``own_rates`` has bytes a second of the arrays of those who name them."""
    measured = []
    for contender in contenders:
        own = times[contender.label]
        ratios = _ratios(contender, contenders, times) if contender.ours else {}
        work = contender.work or case.work
        label = contender.label
        limits = rates | {"read": own_rates[label]} if label in own_rates else rates
        seconds = Quartiles.of(own)
        measured.append(
            Measured(
                name=contender.name,
                into=contender.into,
                ours=contender.ours,
                seconds=seconds,
                of_roofline=least_seconds(work, limits) / seconds.median,
                of_bandwidth=least_seconds(work, limits, memory_only=True) / seconds.median,
                ratios=ratios,
                best_peer=min(ratios, key=lambda peer: ratios[peer].median) if ratios else None,
            )
        )
    rounds = len(times[contenders[0].label])
    return CaseResult(case.name, case.group, case.shape, case.dtype, rounds, rates, measured)


def _ratios(
    ours: Contender, contenders: Sequence[Contender], times: Mapping[str, list[float]]
) -> dict[str, Quartiles]:
    """Each peer's time over ours, round by round; into a given array where the peer offers that, too."""
    ratios = {}
    for peer in sorted({other.name for other in contenders if not other.ours}):
        offers = [other for other in contenders if other.name == peer]
        same = [other for other in offers if other.into == ours.into]
        theirs = times[(same or offers)[0].label]
        ratios[peer] = Quartiles.of([a / b for a, b in zip(theirs, times[ours.label], strict=True)])
    return ratios


def summarise(results: Sequence[CaseResult]) -> list[Summary]:
    """One line a group and contender of ours."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for result in results:
        for measured in result.measured:
            if measured.ratios:
                groups.setdefault((result.group, measured.label), []).append(measured)
    summaries = []
    for (group, label), rows in groups.items():
        peers = sorted(set.intersection(*(set(row.ratios) for row in rows)))
        ratio = {peer: geometric_mean([row.ratios[peer].median for row in rows]) for peer in peers}
        best = [row.best_ratio for row in rows if row.best_ratio is not None]
        ratio["best"] = geometric_mean(best)
        summaries.append(Summary(group, label, len(rows), ratio, min(best)))
    return summaries
