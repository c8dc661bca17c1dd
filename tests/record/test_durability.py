"""A call that has returned survives the death of the process; readers follow a run as it goes on."""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from logitscope import record
from logitscope.errors import ArgumentError

WRITER = """
import os, sys
import numpy as np
from logitscope import record
rng = np.random.default_rng(0)
with record.start("killed", path=sys.argv[1], meta={"a": "b"}) as scope:
    scope.panel("Loss", "lines", ["loss/train"])
    for step in range(1_000_000):
        scope.scalars({"loss/train": step * 0.5, f"other/{step % 3}": step}, step)
        if step % 4 == 0:
            scope.array("map", np.full((1 << 15,), step) + rng.integers(0, 2, 1 << 15) * 0, step)
        if step % 5 == 0:
            scope.text("sample", f"text {step}", step)
            scope.event(f"event {step}", step=step)
        os.write(1, b".")
"""


def python(*arguments, **options):
    return subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, **options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_that_every_acknowledged_row_is_there_after_a_kill_at_a_random_moment(tmp_path, seed):
    path = tmp_path / "run.scope"
    chance = random.Random(seed)
    acknowledged = 0
    goal = chance.choice([0, 1, chance.randrange(100), chance.randrange(1500)])
    with python("-c", WRITER, path) as writer:
        while acknowledged < goal:
            acknowledged += len(os.read(writer.stdout.fileno(), 1 << 16))
        time.sleep(chance.random() * 0.01)
        writer.kill()
        acknowledged += len(writer.stdout.read())
    if not acknowledged and not path.exists():
        return  # killed before it began
    try:
        run = record.RunReader(path)
    except record.RunFileError:
        assert acknowledged == 0  # killed while it made the file
        return
    with run:
        assert run.info.status == "stopped"
        if not acknowledged:
            return
        loss = run.scalars("loss/train")
        assert len(loss.values) in (acknowledged, acknowledged + 1)
        assert loss.steps.tolist() == list(range(len(loss.steps)))
        assert np.array_equal(loss.values, loss.steps * 0.5)
        for offset in range(min(3, acknowledged)):
            other = run.scalars(f"other/{offset}").values
            assert np.array_equal(other, np.arange(offset, len(loss.values), 3))
        steps = run.steps("map").tolist()
        assert steps == list(range(0, 4 * len(steps), 4))
        assert len(steps) >= (acknowledged + 3) // 4
        for step in random.Random(seed).sample(steps, min(5, len(steps))):
            assert (run.array("map", step).array == step).all()
        texts = run.steps("sample").tolist()
        assert len(texts) >= (acknowledged + 4) // 5
        assert run.text("sample", texts[-1]).text == f"text {texts[-1]}"
        assert [event.step for event in run.events()][: len(texts)] == texts[: len(run.events())]
        assert [panel.title for panel in run.panels()] == ["Loss"]


def test_that_a_reader_in_another_process_follows_without_holding_up_the_writer(tmp_path):
    path = tmp_path / "run.scope"
    program = """
import sys, time
from logitscope import record
with record.start("live", path=sys.argv[1]) as scope:
    print("started", flush=True)
    for step in range(400):
        scope.scalars({"a": step, "b": -step}, step)
        time.sleep(0.001)
    print(scope.dropped, scope.waiting, flush=True)
    sys.stdin.read()
"""
    steps, row, looks = [], 0, 0
    with python("-c", program, path, stdin=subprocess.PIPE) as writer, contextlib.ExitStack() as stack:
        writer.stdout.readline()
        run = stack.enter_context(record.RunReader(path))
        deadline = time.monotonic() + 60
        while len(steps) < 400 and time.monotonic() < deadline:
            if not run.poll():
                continue
            looks += 1
            if run.tags():
                series = run.scalars("a", row)
                row = series.last_row
                steps.extend(series.steps.tolist())
        assert steps == list(range(400))
        assert looks > 1
        assert run.info.status == "running"
        assert writer.stdout.readline().strip() == b"{} 0"
        writer.communicate()
        assert run.poll()
        assert run.info.status == "finished"


def test_that_a_knob_goes_round_between_two_processes(tmp_path):
    path = tmp_path / "run.scope"
    program = """
import sys
from logitscope import record
with record.start("knobs", path=sys.argv[1]) as scope:
    knob = scope.knob("temperature", 1.0, 0.1, 10.0, log=True, notes="softer")
    other = scope.knob("pause", 0, 0, 1)
    print(float(knob), flush=True)
    while knob.value != 2.5:
        pass
    print(knob.value, other.value, flush=True)
    sys.stdin.read()
"""
    with python("-c", program, path, stdin=subprocess.PIPE) as writer, contextlib.ExitStack() as stack:
        assert writer.stdout.readline() == b"1.0\n"
        run = stack.enter_context(record.RunReader(path))
        knob = run.knobs()[0]
        assert knob == record.KnobInfo("temperature", 1.0, 0.1, 10.0, 1.0, 1.0, True, "softer")
        run.set_knob("temperature", 2.5)
        assert writer.stdout.readline() == b"2.5 0.0\n"
        assert run.poll()
        knob, _ = run.knobs()
        assert (knob.value, knob.applied) == (2.5, 2.5)
        writer.communicate()
    assert writer.returncode == 0


def test_that_knobs_are_clamped_and_bad_values_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("logitscope.record.knob.POLL_SECONDS", 0)
    with record.start("knobs", path=tmp_path / "run.scope") as scope:
        knob = scope.knob("k", 0.5, 0, 1)
        with record.RunReader(scope.path) as run:
            run.set_knob("k", 7)
            assert run.poll()
            assert run.knobs()[0].value == 1
            assert run.knobs()[0].applied == 0.5
            assert knob.value == 1
            assert run.poll()
            assert run.knobs()[0].applied == 1
            with pytest.raises(ArgumentError, match="'z' is no knob of this run; it has k"):
                run.set_knob("z", 1)
            with pytest.raises(ArgumentError, match="not finite"):
                run.set_knob("k", float("nan"))
        assert repr(knob) == "Knob('k', 1 in 0..1)"


def test_that_a_foreign_value_in_a_knob_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("logitscope.record.knob.POLL_SECONDS", 0)
    with record.start("knobs", path=tmp_path / "run.scope") as scope:
        knob = scope.knob("k", 0.5, 0, 1)
        other = sqlite3.connect(scope.path, isolation_level=None)
        for value in ("'text'", "NULL", "0.9", "9e999"):
            other.execute(f"UPDATE knobs SET value = {value}")
            assert knob.value == 0.5
        other.close()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((2, 0, 1), "low <= default <= high"),
        ((0, 0, 0), "low < high"),
        ((float("nan"), 0, 1), "low <= default"),
        ((1, 0, float("inf")), "low <= default"),
    ],
)
def test_that_a_knob_without_sense_is_refused(tmp_path, arguments, match):
    with record.start("knobs", path=tmp_path / "run.scope") as scope:
        with pytest.raises(ArgumentError, match=match):
            scope.knob("k", *arguments)
        with pytest.raises(ArgumentError, match="use low > 0"):
            scope.knob("k", 1, 0, 1, log=True)
        scope.knob("k", 1, 0, 1)
        with pytest.raises(ArgumentError, match="exists already"):
            scope.knob("k", 1, 0, 1)


def test_that_a_knob_is_read_while_the_file_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr("logitscope.record.knob.POLL_SECONDS", 0)
    with record.start("knobs", path=tmp_path / "run.scope") as scope:
        knob = scope.knob("k", 0.5, 0, 1)
        with record.RunReader(scope.path) as run:
            run.set_knob("k", 0.75)
            other = sqlite3.connect(scope.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            assert knob.value == 0.75
            assert run.knobs()[0].applied == 0.5
            other.execute("ROLLBACK")
            other.close()
            assert knob.value == 0.75
            assert run.knobs()[0].applied == 0.75
