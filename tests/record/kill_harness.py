"""Kills processes that record at random moments, and counts acknowledged rows that are lost.

``python tests/record/kill_harness.py --kills 1000`` runs as many as wanted. Writers are forked from one process, so
that a kill costs milliseconds; each tells through a pipe of every row after the call that recorded it has returned.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from logitscope import record

if TYPE_CHECKING:
    from collections.abc import Callable

STORAGES = ("database", "log")


@dataclass
class Outcome:
    """What many kills have left."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    unreadable: int = 0
    wrong: int = 0


def write(path: Path, storage: str, pipe: int) -> None:
    """Record without end, a dot a row that has been acknowledged."""
    scope = record.start("killed", path=path, storage=storage)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, 1 << 12)
    for step in range(1 << 30):
        scope.scalars({"loss/train": step * 0.5, f"other/{step % 3}": step}, step)
        os.write(pipe, b".")
        if step % 4 == 0:
            scope.array("map", noise + step, step)
        if step % 5 == 0:
            scope.text("sample", f"text {step}", step)


def check(path: Path, acknowledged: int, outcome: Outcome) -> None:
    """Read what a killed writer has left and compare it with what it was told to keep."""
    outcome.acknowledged += acknowledged
    try:
        run = record.RunReader(path)
    except record.RunFileError:
        outcome.unreadable += acknowledged > 0
        outcome.lost += acknowledged
        return
    with run:
        loss = run.scalars("loss/train") if acknowledged else None
        if loss is None:
            return
        outcome.lost += max(0, acknowledged - len(loss.values))
        outcome.wrong += not np.array_equal(loss.values, np.arange(len(loss.values)) * 0.5)
        steps = run.steps("map").tolist() if "map" in {tag.name for tag in run.tags()} else []
        outcome.lost += max(0, (acknowledged - 1 + 3) // 4 - len(steps))
        if steps:
            map_ = run.array("map", steps[-1])
            outcome.wrong += map_ is None or not np.isin(map_.array - steps[-1], (0, 1)).all()


def kill_once(directory: Path, seed: int, outcome: Outcome) -> None:
    """Let one to four writers run for a random time, kill them all, and look at what is left."""
    chance = random.Random(seed)
    writers = []
    for index in range(chance.randint(1, 4)):
        path = directory / f"{seed}-{index}.scope"
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                write(path, chance.choice(STORAGES) if index else STORAGES[seed % 2], writing)
            finally:
                os._exit(1)
        os.close(writing)
        writers.append((path, pid, reading))
    goal, heard = chance.choice([0, 1, chance.randrange(400)]), 0
    while heard < goal:
        heard += len(os.read(writers[0][2], 1 << 16))
    time.sleep(chance.random() * 0.01)
    for _, pid, _ in writers:
        os.kill(pid, signal.SIGKILL)
    for index, (path, pid, reading) in enumerate(writers):
        os.waitpid(pid, 0)
        dots = heard if index == 0 else 0
        while piece := os.read(reading, 1 << 16):
            dots += len(piece)
        os.close(reading)
        outcome.kills += 1
        check(path, dots, outcome)
        for file in directory.glob(f"{path.name}*"):
            file.unlink()


def kill_many(rounds: int, first_seed: int = 0, tell: Callable[[object], None] | None = None) -> Outcome:
    """Do so many times; ``tell`` hears of each hundred."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(first_seed, first_seed + rounds):
            kill_once(Path(directory), seed, outcome)
            if tell is not None and (seed + 1 - first_seed) % 100 == 0:
                tell(outcome)
    return outcome


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="rounds; each kills one to four writers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = kill_many(arguments.kills, arguments.seed, lambda outcome: print(outcome, flush=True))
    print(found)
    sys.exit(bool(found.lost or found.unreadable or found.wrong))
