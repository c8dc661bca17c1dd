"""A run file that is a log: what is recorded is what is read, damage costs what it hits and nothing more."""

import os
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitscope import record
from logitscope.errors import RunFileError
from logitscope.record import log_format
from logitscope.record.log_format import HEADER, MARK, SMALL_TABLES, encode, records

STEPS = 40


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.scope"


def write(scope):
    scope.panel("Loss", "lines", ["loss/*"])
    scope.knob("temperature", 1.0, 0.5, 2.0)
    for step in range(STEPS):
        scope.scalars({"loss/train": step / 7, "grad_norm": -step}, step)
        if step % 10 == 0:
            scope.array("map", np.full((9, 9), step, np.float32), step)
            scope.text("sample", f"text of {step} ünï", step)
            scope.event(f"event of {step}", step=step)


def test_that_a_declaration_that_is_none_of_ours_takes_no_rows_away(tmp_path, caplog):
    path = tmp_path / "made-up.scope"
    with record.start("x", path=path, storage="log") as scope:
        scope.scalar("a", 1, 1)
    made_up = log_format.encode("tags", ("one", "b", "scalar", 0))
    event = log_format.encode("events", (3, 1.5, "info", "hello"))
    path.write_bytes(path.read_bytes() + made_up + event)
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == [1]
        assert [event.message for event in run.events()] == ["hello"]
    assert caplog.records == []


def test_that_a_log_is_read_as_a_database_is(path):
    with record.start("a log", path=path, storage="log", meta={"a": "b"}) as scope:
        write(scope)
        with record.RunReader(path) as live:
            assert live.info.status == "running"
            assert live.scalars("loss/train").values.tolist() == [step / 7 for step in range(STEPS)]
            scope.scalar("loss/train", float("nan"), STEPS)
            assert live.poll()
            assert np.isnan(live.scalars("loss/train").values[-1])
            assert not live.poll()
    assert path.read_bytes().startswith(HEADER)
    with record.RunReader(path) as run:
        assert (run.info.name, run.info.status, run.info.last_step) == ("a log", "finished", STEPS)
        assert (run.info.path, dict(run.info.meta)) == (path, {"a": "b"})
        assert run.info.created <= run.info.updated
        assert run.steps("map").tolist() == [0, 10, 20, 30]
        assert (run.array("map").array == 30).all()
        assert run.text("sample", 15).text == "text of 10 ünï"
        assert [event.message for event in run.events()] == [f"event of {step}" for step in (0, 10, 20, 30)]
        assert [panel.title for panel in run.panels()] == ["Loss"]
        assert run.knobs()[0].name == "temperature"
        with pytest.raises(RunFileError, match="the knobs of a log are fixed"):
            run.set_knob("temperature", 1.5)


def test_that_every_prefix_of_a_log_gives_what_was_whole(path):
    with record.start("a log", path=path, storage="log") as scope:
        write(scope)
    data = path.read_bytes()
    first = next(end for _, end in records(data[len(HEADER) :])) + len(HEADER)
    for length in random.Random(0).sample(range(first, len(data)), 40):
        path.write_bytes(data[:length])
        with record.RunReader(path) as run:
            names = {tag.name for tag in run.tags()}
            values = run.scalars("loss/train").values if "loss/train" in names else np.empty(0)
            assert values.tolist() == [step / 7 for step in range(len(values))]
            assert run.events() == run.events()[: len(values)]


@pytest.mark.parametrize("seed", range(40))
def test_that_damage_is_told_and_the_rest_is_read(path, seed):
    with record.start("a log", path=path, storage="log") as scope:
        write(scope)
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    start = data.index(b'["scalars"')
    place = chance.randrange(start, len(data) - 200)
    if seed % 2:
        data[place] ^= 1 << chance.randrange(8)
    else:
        data[place : place + chance.choice([1, 30, 300])] = chance.randbytes(chance.choice([1, 30]))
    path.write_bytes(data)
    with record.RunReader(path) as run:
        steps = run.scalars("loss/train").steps.tolist()
        assert run.scalars("loss/train").values.tolist() == [step / 7 for step in steps]
        assert set(steps) <= set(range(STEPS))
        assert len(steps) >= STEPS - 7
        assert any("damaged" in event.message for event in run.events())
        for step in run.steps("map").tolist():
            assert (run.array("map", step).array == step).all()


def test_that_a_lost_declaration_costs_its_values_alone(path):
    with record.start("a log", path=path, storage="log") as scope:
        write(scope)
    data = bytearray(path.read_bytes())
    data[data.index(b'"map"')] ^= 1
    path.write_bytes(data)
    with record.RunReader(path) as run:
        assert "map" not in {tag.name for tag in run.tags()}
        assert len(run.scalars("loss/train").steps) == STEPS
        assert any("4 values were skipped" in event.message for event in run.events())


@pytest.mark.parametrize(
    "data", [HEADER, HEADER + b"rubbish", HEADER + encode("events", (1, 0.0, "info", "a"))]
)
def test_that_a_log_without_a_run_is_told(path, data):
    path.write_bytes(data)
    with pytest.raises(RunFileError, match="holds no run"):
        record.RunReader(path)


@given(st.binary(max_size=300), st.booleans())
def test_that_any_bytes_are_parsed_or_left(data, marked):
    data = MARK + data if marked else data
    end = 0
    for _, after in records(data):
        assert end < after <= len(data)
        end = after


_VALUES = st.lists(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    max_size=13,
)


_TABLES = st.sampled_from([*SMALL_TABLES, "scalars", "arrays", "texts", "events", "x"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_TABLES, _VALUES, st.binary(max_size=40)), max_size=6))
def test_that_made_up_records_are_read_or_refused(tmp_path_factory, made_up):
    path = tmp_path_factory.mktemp("made") / "run.scope"
    run = encode("run", ("id", "name", 1.0, "{}", "host", 1, ""))
    path.write_bytes(
        HEADER + run + b"".join(encode(table, tuple(values), data) for table, values, data in made_up)
    )
    try:
        with record.RunReader(path) as reader:
            for tag in reader.tags():
                (reader.scalars if tag.kind == "scalar" else reader.steps)(tag.name)
            reader.events(), reader.panels(), reader.knobs()
    except RunFileError:
        pass


def test_that_a_full_disk_takes_nothing_half_and_the_training_goes_on(path):
    program = """
        import resource, signal, sys
        import numpy as np
        from logitscope import record
        import logitscope.record.outbox as outbox
        outbox._FIRST_PAUSE = outbox._LONGEST_PAUSE = 1e-9
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        noise = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
        with record.start("full", path=sys.argv[1], storage="log") as scope:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
            for step in range(100):
                scope.scalar("a", step, step)
                scope.array("noise", noise, step)
            print(scope.dropped["array"])
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            scope.scalar("a", 100, 100)
            assert scope.waiting == 0
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    dropped = int(result.stdout)
    assert 80 < dropped < 100
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == list(range(101))
        assert len(run.steps("noise")) == 100 - dropped
        assert not any("damaged" in event.message for event in run.events())


def test_that_a_disk_error_never_reaches_the_training(path, monkeypatch, caplog):
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(f"logitscope.record.outbox.{name}", 1e-9)
    real, broken = os.write, []

    def write_badly(file, data):
        if broken:
            real(file, bytes(data[: len(data) // 2]))  # a torn write, and then the error
            raise OSError(5, "Input/output error")
        return real(file, data)

    with record.start("broken", path=path, storage="log") as scope:
        scope.scalar("a", 0, 0)
        monkeypatch.setattr(os, "write", write_badly)
        broken.append(True)
        for step in range(1, 9):
            scope.scalar("a", step, step)
        assert scope.waiting == 8
        broken.clear()
        scope.scalar("a", 9, 9)
        assert scope.waiting == 0
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == list(range(10))
        assert run.events() == []
    assert "Input/output error" in caplog.text


def test_that_a_deleted_log_is_begun_anew(path, monkeypatch):
    monkeypatch.setattr("logitscope.record.log_writer._LOOK_EVERY", 0.0)
    with record.start("again", path=path, storage="log") as scope:
        scope.scalar("a", 0, 0)
        path.unlink()
        scope.scalar("a", 1, 1)
        assert scope.lost_files == 1
    with record.RunReader(scope.path) as run:
        assert run.scalars("a").values.tolist() == [1]
        assert [event.level for event in run.events()] == ["warning"]
        assert run.info.status == "finished"


def test_that_a_forked_child_leaves_the_log_alone(path):
    with record.start("forked", path=path, storage="log") as scope:
        scope.scalar("a", 0, 0)
        pid = os.fork()
        if pid == 0:
            scope.scalar("a", 9, 9)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        scope.scalar("a", 1, 1)
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == [0, 1]
