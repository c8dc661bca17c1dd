"""A killed run: a copy without its tail says so, and one file can be made of it."""

import os
import shutil
import signal

import numpy as np
import pytest

from logitscope import record
from logitscope.__main__ import main
from logitscope.errors import RunFileError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no tail")

ROWS = 50


@pytest.fixture
def killed(tmp_path):
    """A run whose process was killed with rows in its tail."""
    path = tmp_path / "killed.scope"
    pid = os.fork()
    if pid == 0:
        try:
            from logitscope.record.writer import Writer

            Writer.move = lambda self: False  # what would take the rows over, a moment later
            scope = record.start("killed", path=path)
            scope.array("map", np.eye(3), 0)
            for step in range(ROWS):
                scope.scalar("loss/train", step * 0.5, step)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    return path


def check(path):
    with record.RunReader(path) as run:
        assert run.info.status == "stopped"
        assert run.info.message == "the writing process is gone"
        assert run.scalars("loss/train").values.tolist() == [step * 0.5 for step in range(ROWS)]
        np.testing.assert_array_equal(run.array("map").array, np.eye(3))


def test_that_a_killed_run_becomes_one_file(killed, tmp_path):
    check(killed)
    assert record.compact_run(killed) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["killed.scope"]
    assert record.list_runs(tmp_path)[0].last_step == ROWS - 1
    check(killed)
    assert record.compact_run(killed) == 0
    moved = tmp_path / "elsewhere" / "copy.scope"
    moved.parent.mkdir()
    shutil.copy(killed, moved)
    check(moved)


def test_that_a_copy_without_its_tail_says_so(killed, tmp_path, capsys):
    copy = tmp_path / "copy.scope"
    for suffix in ("", "-wal"):
        shutil.copy(f"{killed}{suffix}", f"{copy}{suffix}")
    with record.RunReader(copy) as run:
        assert "copy.scope-tail is missing, and with it the newest scalars" in run.info.message
    assert main(["export", str(copy), "--out", str(tmp_path / "x.csv")]) == 0
    assert "copy.scope-tail is missing" in capsys.readouterr().err
    shutil.copy(f"{killed}-tail", f"{copy}-tail")
    check(copy)


def test_that_what_was_killed_while_it_was_compacted_is_whole(killed, monkeypatch):
    """The tail goes after the transaction only: between both nothing is lost and nothing is there twice."""
    monkeypatch.setattr("pathlib.Path.unlink", lambda self, missing_ok=False: None)
    record.compact_run(killed)
    assert killed.with_name("killed.scope-tail").exists()
    check(killed)


def test_that_a_run_that_goes_on_is_left_alone(tmp_path):
    refused = pytest.raises(RunFileError, match="is being written")
    with record.start("live", path=tmp_path / "live.scope") as scope, refused:
        record.compact_run(scope.path)
    assert record.compact_run(scope.path) == 0


def test_that_the_command_tells_what_it_did(killed, capsys):
    assert main(["compact", str(killed)]) == 0
    assert capsys.readouterr().out.startswith(f"{killed}: one file, ")
    assert main(["compact", "missing.scope"]) == 2
    assert "missing.scope cannot be read" in capsys.readouterr().err
