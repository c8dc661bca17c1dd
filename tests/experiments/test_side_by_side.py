"""Trainings side by side keep their order, share one progress, and stop together."""

import threading
import time

import pytest

torch = pytest.importorskip("torch")
side_by_side = pytest.importorskip("logitscope.experiments.side_by_side").side_by_side


class Counting:
    def __init__(self) -> None:
        self.done = 0.0

    def begin(self, total: float) -> None:
        self.total = total

    def advance(self, units: float = 1.0, note: str = "") -> None:
        before = self.done
        time.sleep(1e-4)  # another thread would come between, if it could
        self.done = before + units


def test_that_results_come_in_order_and_every_word_is_counted() -> None:
    def job(number):
        def run(progress):
            for _ in range(20):
                progress.advance(1)
            return number, torch.get_num_threads()

        return run

    progress, before = Counting(), torch.get_num_threads()
    assert side_by_side([job(number) for number in range(5)], progress) == [
        (number, 1) for number in range(5)
    ]
    assert progress.done == 100
    assert torch.get_num_threads() == before


def test_that_one_failure_stops_the_others() -> None:
    started, stopped = threading.Event(), []

    def fails(progress):
        started.wait(10)
        message = "as it should"
        raise ValueError(message)

    def goes_on(progress):
        started.set()
        try:
            for _ in range(100_000):
                progress.advance(1)
        except KeyboardInterrupt:
            stopped.append(True)
            raise

    with pytest.raises(ValueError, match="as it should"):
        side_by_side([fails, goes_on], Counting())
    assert stopped
