"""What is recorded is what is read."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from logitscope import record
from logitscope.errors import ArgumentError, DTypeError, RunFileError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.scope"


def test_that_scalars_come_back_in_order_with_their_bits(path):
    values = [1.5, float("nan"), float("inf"), -float("inf"), -0.0, 5e-324]
    with record.start("bits", path=path) as scope:
        for step, value in enumerate(values):
            scope.scalar("loss/train", value, step)
            scope.scalars({"loss/train": value, "grad_norm": np.float32(step)}, step)
    with record.RunReader(path) as run:
        series = run.scalars("loss/train")
        assert series.values.tobytes() == np.repeat(values, 2).tobytes()
        assert series.steps.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert np.all(np.diff(series.times) >= 0)
        assert run.scalars("grad_norm").values.tolist() == [0, 1, 2, 3, 4, 5]
        assert [(tag.name, tag.kind, tag.count) for tag in run.tags()] == [
            ("loss/train", "scalar", 12),
            ("grad_norm", "scalar", 6),
        ]


def test_that_after_row_gives_only_what_is_new(path):
    with record.start("tail", path=path) as scope, record.RunReader(path) as run:
        scope.scalars({"a": 1, "b": 2}, 0)
        assert run.poll()
        first = run.scalars("a")
        scope.scalars({"b": 3, "a": 4}, 1)
        assert len(run.scalars("a", first.last_row).values) == 0  # as of the last poll
        assert run.poll()
        second = run.scalars("a", first.last_row)
        assert (second.steps.tolist(), second.values.tolist()) == ([1], [4.0])
        assert run.scalars("a", second.last_row).last_row == second.last_row
        assert not run.poll()


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4"]
)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 7), (2, 3, 4, 5), (200, 33)])
def test_that_arrays_come_back_exactly(path, dtype, shape):
    array = np.random.default_rng(0).normal(size=shape, scale=9).astype(dtype)
    with record.start("arrays", path=path) as scope:
        scope.array("a", array, 3)
    with record.RunReader(path) as run:
        back = run.array("a")
    assert back.step == 3
    assert back.array.dtype == array.dtype.newbyteorder("=")
    assert back.array.shape == shape
    np.testing.assert_array_equal(back.array, array)


def test_that_several_arrays_of_a_step_come_back(path):
    with record.start("a", path=path) as scope:
        scope.arrays({"map": np.eye(3), "heads": np.arange(4)}, 7)
        scope.arrays({}, 8)
    with record.RunReader(path) as run:
        assert {tag.name for tag in run.tags()} == {"map", "heads"}
        np.testing.assert_array_equal(run.array("map", 7).array, np.eye(3))
        np.testing.assert_array_equal(run.array("heads", 7).array, np.arange(4))


def test_that_strided_arrays_and_infinities_come_back(path):
    array = np.full((64, 64), -np.inf, np.float32)[::2, ::-1]
    with record.start("arrays", path=path) as scope:
        scope.array("a", array, 0)
    with record.RunReader(path) as run:
        np.testing.assert_array_equal(run.array("a").array, array)


def test_that_the_newest_at_or_before_a_step_is_found(path):
    with record.start("steps", path=path) as scope:
        for step, value in [(0, 0), (20, 1), (40, 2), (20, 3)]:
            scope.array("a", np.array([value]), step)
            scope.text("t", str(value), step)
    with record.RunReader(path) as run:
        found = {
            step: (run.array("a", step).array.item(), run.text("t", step).text)
            for step in (0, 19, 20, 39, 40, 99)
        }
        assert found == {0: (0, "0"), 19: (0, "0"), 20: (3, "3"), 39: (3, "3"), 40: (2, "2"), 99: (2, "2")}
        assert run.array("a").step == run.text("t").step == 40
        assert run.steps("a").tolist() == [0, 20, 40, 20]


def test_that_nothing_is_found_before_the_first_step(path):
    with record.start("steps", path=path) as scope:
        scope.array("a", np.zeros(1), 5)
    with record.RunReader(path) as run:
        assert run.array("a", 4) is None


def test_that_a_histogram_holds_edges_and_counts_and_tells_of_nan(path):
    with record.start("h", path=path) as scope:
        scope.histogram("w", [0.0, 0.5, 1.0, 1.0, float("nan")], 7, bins=4)
        scope.histogram("none", np.empty(0), 7, bins=2)
    with record.RunReader(path) as run:
        assert run.array("w").array.tolist() == [[0, 0.25, 0.5, 0.75, 1], [1, 0, 1, 2, 0]]
        assert run.array("none").array[1].tolist() == [0, 0, 0]
        assert [tag.kind for tag in run.tags()] == ["histogram", "histogram"]
        assert [(event.level, event.step) for event in run.events()] == [("warning", 7)]


def test_that_texts_keep_every_character(path):
    texts = ["", "naïve\n\0 tab\t", "🙂" * 1000, "a\ud800b"]
    with record.start("t", path=path) as scope:
        for step, text in enumerate(texts):
            scope.text("sample", text, step)
    with record.RunReader(path) as run:
        assert [run.text("sample", step).text for step in range(4)] == [*texts[:3], "a?b"]


def test_that_panels_and_events_come_back(path):
    with record.start("p", path=path) as scope:
        scope.panel("Loss", "lines", ["loss/*"], group="Training", y_label="nats", log_y=True)
        scope.panel("Maps", "heads", ["attention/map"])
        scope.panel("Loss", "lines", ["loss/train"], group="Training")
        scope.event("started", step=0)
        scope.event("spike", level="warning")
    with record.RunReader(path) as run:
        assert run.panels() == [
            record.Panel("Loss", "lines", ("loss/train",), "Training"),
            record.Panel("Maps", "heads", ("attention/map",)),
        ]
        assert [(e.row, e.step, e.level, e.message) for e in run.events()] == [
            (1, 0, "info", "started"),
            (2, None, "warning", "spike"),
        ]
        assert [e.message for e in run.events(after_row=1)] == ["spike"]


def test_that_info_tells_of_the_run(path):
    before = time.time()
    with record.start("my run", path=path, meta={"model": "GPT", "width": 128}) as scope:
        scope.scalar("a", 1, 10)
        scope.array("b", np.zeros(3), 4)
        with record.RunReader(path) as run:
            info = run.info
    assert (info.name, info.status, info.last_step, info.path) == ("my run", "running", 10, path)
    assert info.meta == {"model": "GPT", "width": "128"}
    assert before <= info.created <= info.updated <= time.time()
    assert info.run_id == scope.run_id


def test_that_default_paths_follow_the_environment_and_never_clash(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGITSCOPE_RUNS", str(tmp_path / "here"))
    scopes = [record.start("a/b c") for _ in range(3)]
    paths = {scope.path for scope in scopes}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path / "here"}
    assert all(path.name.startswith("a-b-c-") for path in paths)
    for scope in scopes:
        scope.finish()
    monkeypatch.delenv("LOGITSCOPE_RUNS")
    monkeypatch.chdir(tmp_path)
    with record.start("x") as scope:
        assert scope.path.parent == tmp_path / "runs"


def test_that_an_existing_file_is_not_touched(path):
    path.write_text("mine")
    with pytest.raises(RunFileError, match="exists already"):
        record.start("x", path=path)
    assert path.read_text() == "mine"


def test_that_runs_are_listed_newest_first_and_others_left_out(tmp_path):
    for name in ("one", "two"):
        record.start(name, path=tmp_path / f"{name}.scope").finish()
    (tmp_path / "not.scope").write_text("no run")
    (tmp_path / "empty.scope").touch()
    (tmp_path / "directory.scope").mkdir()
    assert [run.name for run in record.list_runs(tmp_path)] == ["two", "one"]
    assert record.list_runs(tmp_path / "missing") == []


@pytest.mark.parametrize("value", ["1", b"1", None, 1j, [1.0], np.zeros(2), {}, object(), 10**400])
def test_that_a_value_that_is_no_number_is_refused_by_name(path, value):
    with record.start("x", path=path) as scope:
        with pytest.raises(DTypeError, match=r"scalars: the value of 'loss' is a .*; give one real number"):
            scope.scalar("loss", value, 0)
        scope.scalar("loss", np.float64(2), np.int64(1))
        scope.scalar("loss", True, 2)
    with record.RunReader(path) as run:
        assert run.scalars("loss").values.tolist() == [2, 1]


@pytest.mark.parametrize("step", [-1, 1.5, "3", None, 1 << 63])
def test_that_a_step_that_is_no_count_is_refused(path, step):
    with record.start("x", path=path) as scope, pytest.raises(ArgumentError, match="step is"):
        scope.scalar("loss", 1.0, step)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([object()]), np.zeros(2, complex), np.array([None])]
)
def test_that_an_array_of_something_else_is_refused(path, array):
    with record.start("x", path=path) as scope, pytest.raises(DTypeError, match=r"array: 'a' has dtype"):
        scope.array("a", array, 0)


def test_that_other_mistakes_are_told(path):
    with record.start("x", path=path) as scope:
        scope.scalar("loss", 1.0, 0)
        with pytest.raises(ArgumentError, match="holds values of kind scalar"):
            scope.array("loss", np.zeros(2), 0)
        with pytest.raises(ArgumentError, match="tag has 0 characters"):
            scope.scalar("", 1.0, 0)
        with pytest.raises(DTypeError, match="tag is a int"):
            scope.scalars({3: 1.0}, 0)
        with pytest.raises(ArgumentError, match="kind is 'pie'"):
            scope.panel("a", "pie", ["b"])
        with pytest.raises(ArgumentError, match="tags is a string"):
            scope.panel("a", "lines", "b")
        with pytest.raises(ArgumentError, match="cannot be kept"):
            scope.panel("a", "lines", ["b"], colour=object())
        with pytest.raises(ArgumentError, match="level is 'fatal'"):
            scope.event("a", level="fatal")
        with pytest.raises(ArgumentError, match="at most 256 MiB"):
            scope.array("big", np.broadcast_to(np.float32(0), (1 << 13, 1 << 14)), 0)
        with pytest.raises(ArgumentError, match="bins is 0"):
            scope.histogram("h", [1], 0, bins=0)
        scope.scalars({}, 0)
    with record.RunReader(path) as run, pytest.raises(ArgumentError, match="it has loss"):
        run.scalars("nothing")


def test_that_a_block_tells_how_it_ended(tmp_path):
    def run(error):
        path = tmp_path / f"{type(error).__name__}{error}.scope"
        with contextlib.suppress(BaseException), record.start("x", path=path):
            raise error
        with record.RunReader(path) as reader:
            return reader.info.status, reader.info.message

    assert run(ValueError("no")) == ("failed", "ValueError: no")
    assert run(KeyboardInterrupt()) == ("stopped", "interrupted from the keyboard")
    assert run(SystemExit(0)) == ("finished", "")
    assert run(SystemExit(3)) == ("failed", "exit: 3")


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        ("", "finished", ""),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt", "stopped", "interrupted from the keyboard"),
        ("os.kill(os.getpid(), 9)", "stopped", "the writing process is gone"),
        ("scope.fail('diverged')", "failed", "diverged"),
    ],
)
def test_that_a_program_that_does_not_finish_its_run_is_told_from_one_that_died(
    path, ending, status, message
):
    program = f"import os; from logitscope import record; scope = record.start('x', path={str(path)!r})\n"
    program += f"scope.scalar('a', 1, 0)\n{ending}\n"
    subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, check=False)
    with record.RunReader(path) as run:
        assert (run.info.status, run.info.message) == (status, message)
        assert run.scalars("a").values.tolist() == [1]


def test_that_what_comes_after_the_end_is_counted_and_told_once(path, caplog):
    scope = record.start("x", path=path)
    scope.finish()
    for step in range(3):
        scope.scalars({"a": 1, "b": 2}, step)
    scope.finish()
    assert scope.dropped == {"scalar": 6}
    assert len(caplog.records) == 1


def test_that_threads_lose_nothing(path):
    def write(number):
        for step in range(200):
            scope.scalar(f"thread/{number}", step, step)
            if step % 50 == 0:
                scope.array(f"array/{number}", np.full(100, step), step)

    with record.start("threads", path=path) as scope:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert scope.dropped == {}
    with record.RunReader(path) as run:
        for number in range(8):
            assert run.scalars(f"thread/{number}").values.tolist() == list(range(200))
            assert run.steps(f"array/{number}").tolist() == [0, 50, 100, 150]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_that_a_forked_child_leaves_the_file_alone(path):
    program = f"""
import os, sys
from logitscope import record
scope = record.start("x", path={str(path)!r})
knob = scope.knob("k", 1, 0, 2)
scope.scalar("a", 0, 0)
child = os.fork()
if child == 0:
    scope.scalar("a", 666, 1)
    scope.scalar("child", 666, 1)
    knob.value
    scope.finish()
    del scope, knob
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
for step in range(1, 100):
    scope.scalar("a", step, step)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False)
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == list(range(100))
        assert [tag.name for tag in run.tags()] == ["a"]
        assert run.info.status == "stopped"


def test_that_sync_leaves_everything_in_the_file_itself(path, tmp_path):
    with record.start("x", path=path) as scope:
        scope.scalar("a", 1, 0)
        scope.sync()
        copy = tmp_path / "copy.scope"
        copy.write_bytes(path.read_bytes())
    with record.RunReader(copy) as run:
        assert run.scalars("a").values.tolist() == [1]


def test_that_a_long_run_is_moved_into_the_file_while_it_goes_on(path):
    rng = np.random.default_rng(0)
    with record.start("x", path=path) as scope:
        for step in range(20):
            scope.array("a", rng.normal(size=1 << 18).astype(np.float32), step)
        deadline = time.monotonic() + 60
        while path.stat().st_size < 4 << 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_size >= 4 << 20
    with record.RunReader(path) as run:
        assert len(run.steps("a")) == 20


def test_that_importing_the_recorder_loads_neither_torch_nor_qt():
    program = "import sys, json, logitscope.record; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", program]))
    assert not {"torch", "PySide6"} & set(modules)
