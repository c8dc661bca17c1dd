"""Which of several processes that train together this one is, as their launcher tells in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")),
    ("SLURM_PROCID", "SLURM_NTASKS", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
)
"""Rank, number of ranks, and what tells one job from another; torchrun and its like, Slurm."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One of the processes of a job."""

    rank: int
    world_size: int
    job: str
    """The same for all ranks of a job, another one for another job."""
    restart: int = 0
    """How many times the job was started anew (torchelastic)."""

    def meta(self) -> dict[str, str]:
        """What is written into the run, for the reader to find the others by."""
        return {
            "rank": str(self.rank),
            "world_size": str(self.world_size),
            "job": self.job,
            "restart": str(self.restart),
        }


def this_rank(environment: Mapping[str, str] | None = None) -> Rank | None:
    """The rank of this process; None where it trains alone.

    Examples
    --------
    >>> this_rank({"RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "job7"})
    Rank(rank=1, world_size=4, job='job7', restart=0)
    >>> this_rank({"RANK": "0", "WORLD_SIZE": "1"}) is None
    True
    """
    environment = os.environ if environment is None else environment
    for rank, size, job in _LAUNCHERS:
        here, all_ = _number(environment.get(rank)), _number(environment.get(size))
        if here is not None and all_ is not None and here < all_ > 1:
            name = " ".join(environment[key] for key in job if environment.get(key))
            return Rank(here, all_, name, _number(environment.get("TORCHELASTIC_RESTART_COUNT")) or 0)
    return None


def rank_of(meta: Mapping[str, str]) -> Rank | None:
    """The rank that a run says it is of; None for a run of a process alone."""
    rank, size, restart = (_number(meta.get(key)) for key in ("rank", "world_size", "restart"))
    if rank is None or size is None or not rank < size <= MOST_RANKS:
        return None
    return Rank(rank, size, meta.get("job", ""), restart or 0)


MOST_RANKS = 1 << 16
"""A file that says it is of more is not believed."""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
