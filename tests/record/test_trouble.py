"""Whatever the disk and the system do, the training goes on; what is lost is counted and told once."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from logitscope import record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.scope"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Tries and looks again at once, so that no test has to wait."""
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(f"logitscope.record.outbox.{name}", 1e-9)
    monkeypatch.setattr("logitscope.record.writer._LOOK_EVERY", 0.0)


def run_python(program, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result


def test_that_a_locked_file_delays_texts_and_sheds_arrays_while_scalars_go_into_the_tail(path, caplog):
    with record.start("locked", path=path) as scope:
        scope.scalar("a", 0, 0)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for step in range(1, 10):
            scope.scalar("a", step, step)
            scope.array("b", np.zeros(9), step)
        scope.text("t", "later", 9)
        assert scope.waiting == 1
        assert scope.dropped == {"array": 9}
        with record.RunReader(path) as run:
            assert run.scalars("a").values.tolist() == list(range(10))
        other.execute("ROLLBACK")
        other.close()
        scope.scalar("a", 10, 10)
        scope.sync()
        assert scope.waiting == 0
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == list(range(11))
        assert run.text("t").text == "later"
        assert [(event.level, event.message) for event in run.events()] == [
            ("warning", "not recorded, since the file could not be written: 9 values of arrays")
        ]
    told = [entry.getMessage() for entry in caplog.records]
    assert len(told) == 2  # that it cannot be written, and at the end what is missing
    assert "database is locked" in told[0]


def test_that_the_buffer_has_an_end_and_the_oldest_goes_first(path):
    with record.start("full", path=path, buffer=3) as scope:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for step in range(10):
            scope.scalars({"a": step, "b": step}, step)
        assert scope.dropped == {"scalar": 14}
        other.execute("ROLLBACK")
        other.close()
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == [7, 8, 9]
        assert run.info.status == "finished"


def test_that_a_directory_that_appears_late_is_used_then(tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("not a directory")
    with record.start("x", path=blocked / "run.scope") as scope:
        scope.panel("A", "lines", ["a"])
        knob = scope.knob("k", 1, 0, 2)
        scope.scalar("a", 1, 1)
        assert knob.value == 1
        assert scope.waiting == 1
        blocked.unlink()
        scope.scalar("a", 2, 2)
        assert scope.waiting == 0
    with record.RunReader(blocked / "run.scope") as run:
        assert run.scalars("a").values.tolist() == [1, 2]
        assert len(run.panels()) == len(run.knobs()) == 1
    assert len(caplog.records) == 1


def test_that_a_run_that_never_could_be_written_leaves_nothing_behind(tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("not a directory")
    with record.start("x", path=blocked / "run.scope") as scope:
        scope.scalars({"a": 1, "b": 2}, 1)
        scope.histogram("h", [1, 2], 1)
    assert scope.dropped == {"scalar": 2, "histogram": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["blocked"]
    assert "1 values of histograms, 2 values of scalars" in caplog.text


def test_that_what_waited_keeps_its_order_whatever_its_number(path, monkeypatch):
    monkeypatch.setattr("logitscope.record.outbox._BATCH", 7)
    with record.start("order", path=path) as scope:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for step in range(30):
            scope.scalar("a", step, step)
        other.execute("ROLLBACK")
        other.close()
        scope.scalar("a", 30, 30)
        assert scope.waiting == 0
    with record.RunReader(path) as run:
        assert run.scalars("a").steps.tolist() == list(range(31))


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be deleted there")
@pytest.mark.parametrize("suffixes", [[""], ["", "-wal", "-shm"]])
def test_that_a_deleted_file_is_told_of_and_made_anew(path, suffixes, caplog):
    with record.start("gone", path=path) as scope:
        scope.panel("A", "lines", ["a"])
        scope.knob("k", 1, 0, 2)
        scope.scalar("a", 1, 1)
        for suffix in suffixes:
            path.with_name(path.name + suffix).unlink()
        scope.scalar("a", 2, 2)
        scope.array("b", np.ones(3), 2)
        assert scope.path == path
        assert (scope.lost_files, scope.waiting, scope.dropped) == (1, 0, {})
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "deleted or replaced while written; going on in a new one"
    ]
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == [2]
        assert run.array("b").array.tolist() == [1, 1, 1]
        assert len(run.panels()) == len(run.knobs()) == 1
        assert run.info.status == "finished"
        assert [(event.level, event.message.split(" was ")[0]) for event in run.events()] == [
            ("warning", "run.scope")
        ]


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be deleted there")
def test_that_a_lost_wal_loses_nothing(path):
    with record.start("wal", path=path) as scope:
        scope.scalar("a", 1, 1)
        path.with_name(path.name + "-wal").unlink()
        scope.scalar("a", 2, 2)
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == [1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be replaced there")
def test_that_a_file_put_in_its_place_is_left_alone(path, tmp_path):
    record.start("mine", path=tmp_path / "mine.scope").finish()
    with record.start("x", path=path) as scope:
        scope.scalar("a", 1, 1)
        os.replace(tmp_path / "mine.scope", path)
        scope.scalar("a", 2, 2)
        scope.sync()
        assert scope.path == tmp_path / "run-2.scope"
    with record.RunReader(path) as run:
        assert (run.info.name, run.tags()) == ("mine", [])
    with record.RunReader(scope.path) as run:
        assert run.scalars("a").values.tolist() == [2]


def test_that_a_file_overwritten_with_nonsense_does_not_end_the_training(path):
    with record.start("x", path=path) as scope:
        scope.scalar("a", 1, 1)
        path.write_bytes(b"nonsense" * 1000)
        for step in range(2, 50):
            scope.scalar("a", step, step)
            scope.array("b", np.zeros(100), step)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_that_a_full_disk_does_not_end_the_training_and_recording_goes_on_when_there_is_room(path):
    program = """
        import resource, signal, sys
        import numpy as np
        from logitscope import record
        import logitscope.record.outbox as outbox
        outbox._FIRST_PAUSE = outbox._LONGEST_PAUSE = 1e-9
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        noise = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
        with record.start("full", path=sys.argv[1]) as scope:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
            for step in range(100):
                scope.scalar("a", step, step)
                scope.array("noise", noise, step)
            print(scope.dropped["array"], scope.waiting)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            scope.scalar("a", 100, 100)
            scope.array("noise", noise, 100)
            print(scope.dropped["array"], scope.waiting)
    """
    result = run_python(program, path)
    first, second = (list(map(int, line.split())) for line in result.stdout.splitlines())
    assert 80 < first[0] < 100
    assert second == [first[0], 0]
    assert "cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == list(range(101))
        assert len(run.steps("noise")) == 101 - first[0]
        assert run.array("noise").step == 100
        assert run.info.status == "finished"


DROP_RIGHTS = """
import os, sys, urllib.parse  # all that is imported late: Python itself may lie where no one else may look
from logitscope import record
if os.geteuid() == 0:
    os.seteuid(65534)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_that_a_directory_without_rights_stops_nothing(tmp_path):
    tmp_path.chmod(0o555)
    program = """
scope = record.start('x', path=sys.argv[1])
scope.scalar('a', 1, 1)
print(scope.waiting)
scope.finish()
"""
    try:
        result = run_python(DROP_RIGHTS + program, tmp_path / "run.scope")
    finally:
        tmp_path.chmod(0o755)
    assert result.stdout == "1\n"
    assert "cannot be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
@pytest.mark.parametrize("left", [[""], ["", "-wal"], ["", "-wal", "-shm"]])
def test_that_runs_in_a_read_only_directory_are_read(tmp_path, left):
    source, place = tmp_path / "source.scope", tmp_path / "place"
    killed = "-wal" in left
    ending = "os.kill(os.getpid(), 9)" if killed else "scope.finish()"
    program = f"""
import os, sys
from logitscope import record
scope = record.start("x", path=sys.argv[1])
scope.knob("k", 1, 0, 2)
scope.scalar("a", 3, 1)
{ending}
"""
    subprocess.run([sys.executable, "-c", program, source], check=False)
    place.mkdir()
    for suffix in left:
        shutil.copy(source.with_name(source.name + suffix), place / f"run.scope{suffix}")
        (place / f"run.scope{suffix}").chmod(0o444)
    place.chmod(0o555)
    for directory in (tmp_path, *tmp_path.parents):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(0o755)
    program = """
with record.RunReader(sys.argv[1]) as run:
    print(run.info.status, run.scalars("a").values, run.poll())
    try:
        run.set_knob("k", 2)
    except record.RunFileError as error:
        print("refused")
print([run.name for run in record.list_runs(os.path.dirname(sys.argv[1]))])
"""
    try:
        result = run_python(DROP_RIGHTS + program, place / "run.scope")
    finally:
        place.chmod(0o755)
    status = "stopped" if killed else "finished"
    assert result.stdout.splitlines() == [f"{status} [3.] False", "refused", "['x']"]


def tail(path):
    return path.with_name(path.name + "-tail")


def test_that_a_tail_that_cannot_be_written_leaves_rows_to_the_database(path, monkeypatch):
    with record.start("x", path=path) as scope:
        scope.scalar("a", 0, 0)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("logitscope.record.tail.os.write", full)
        scope.scalar("a", 1, 1)
        with record.RunReader(path) as run:
            assert run.scalars("a").values.tolist() == [0, 1]
        monkeypatch.undo()
        scope.scalar("a", 2, 2)
    assert not tail(path).exists()
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == [0, 1, 2]


def test_that_a_tail_that_broke_off_is_cut_back_to_whole_rows(path, monkeypatch):
    write = os.write
    with record.start("x", path=path) as scope:
        scope.scalar("a", 0, 0)
        scope.scalar("a", 1, 1)
        monkeypatch.setattr("logitscope.record.tail.os.write", lambda file, data: write(file, data[:5]))
        scope.scalar("a", 2, 2)
        monkeypatch.undo()
        for step in (3, 4):
            scope.scalar("a", step, step)
        with record.RunReader(path) as run:
            assert run.scalars("a").values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.skipif(os.name != "posix", reason="there is no tail")
def test_that_a_lost_tail_is_made_anew(path):
    with record.start("x", path=path) as scope:
        for step in range(5):
            scope.scalar("a", step, step)
        tail(path).unlink()
        scope.sync()
        scope.scalar("a", 5, 5)
        scope.sync()
        scope.scalar("a", 6, 6)
        assert tail(path).exists()
        with record.RunReader(path) as run:
            assert run.scalars("a").values.tolist() == list(range(7))
    with record.RunReader(path) as run:
        assert run.scalars("a").values.tolist() == list(range(7))


@pytest.mark.skipif(os.name != "posix", reason="there is no tail")
def test_that_a_reader_follows_a_tail_that_begins_anew_again_and_again(path, monkeypatch):
    monkeypatch.setattr("logitscope.record.tail.LONGEST", 300)
    monkeypatch.setattr("logitscope.record.mover.PAUSE", 0.001)
    steps, row = [], 0
    with record.start("x", path=path) as scope:
        scope.scalar("a", 0, 0)
        with record.RunReader(path) as run:
            for step in range(1, 4000):
                scope.scalars({"a": step} if step % 7 else {"a": step, "b": 1}, step)
                if step % 10 == 0:
                    run.poll()
                    series = run.scalars("a", row)
                    row = series.last_row
                    steps.extend(series.steps.tolist())
            run.poll()
            steps.extend(run.scalars("a", row).steps.tolist())
            assert run.info.last_step == 3999
    assert steps == list(range(4000))


def test_that_threads_lose_and_double_nothing(path, monkeypatch):
    import threading

    monkeypatch.setattr("logitscope.record.mover.PAUSE", 0.001)
    with record.start("x", path=path) as scope:

        def work(name):
            for step in range(500):
                scope.scalar(name, step, step)
                if step % 50 == 0:
                    scope.array("map", np.ones(3), step)
                    scope.scalars({name: step, f"{name}/{step}": 1}, step)

        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with record.RunReader(path) as run:
        for number in range(4):
            expected = sorted([*range(500), *range(0, 500, 50)])
            assert run.scalars(f"t{number}").values.tolist() == expected
