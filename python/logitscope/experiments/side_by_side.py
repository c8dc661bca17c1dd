"""Small trainings side by side: each on one thread, as many at a time as there are cores."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from logitscope.experiments.progress import Progress

T = TypeVar("T")


def side_by_side(jobs: Sequence[Callable[[Progress], T]], progress: Progress) -> list[T]:
    """Do jobs, which must not share random numbers, and return what they give in their order.

    Parameters
    ----------
    jobs
        Functions of a progress, which each should tell often: that is where Ctrl-C stops them.
    progress
        What they tell together; its ``begin`` is not theirs to call.

    Examples
    --------
    >>> from logitscope.experiments.progress import Silent
    >>> from logitscope.experiments.side_by_side import side_by_side
    >>> side_by_side([lambda progress: 1, lambda progress: 2], Silent())
    [1, 2]
    """
    shared = _Shared(progress)
    with _one_thread(), ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        futures = [pool.submit(job, shared) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            shared.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Shared:
    """A progress of several threads, whose next word fails once one of them has failed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = Lock()
        self.stopped = Event()

    def begin(self, total: float) -> None:
        with self._lock:
            self._progress.begin(total)

    def advance(self, units: float = 1.0, note: str = "") -> None:
        if self.stopped.is_set():
            raise KeyboardInterrupt
        with self._lock:
            self._progress.advance(units, note)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On matrices this small a second thread of torch costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
