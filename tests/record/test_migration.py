"""Files of earlier formats: read as they are, and brought to the newest with everything that they hold."""

import gzip
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from logitscope import record
from logitscope.__main__ import main
from logitscope.errors import RunFileError
from logitscope.record import schema

STORED = Path(__file__).parent / "files" / "version-1.scope.gz"


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.scope"
    path.write_bytes(gzip.decompress(STORED.read_bytes()))
    return path


def version(path):
    return int.from_bytes(path.read_bytes()[60:64], "big")


def check(path):
    """Everything that was written into the stored file by the code of its day."""
    with record.RunReader(path) as run:
        info = run.info
        assert (info.name, info.status, info.last_step, dict(info.meta)) == (
            "an old run",
            "finished",
            19,
            {"model": "GPT"},
        )
        assert run.scalars("loss/train").values.tolist() == [4.5 / (step + 1) for step in range(20)]
        assert run.scalars("grad_norm").steps.tolist() == list(range(20))
        np.testing.assert_array_equal(run.array("map").array, np.arange(12.0).reshape(3, 4))
        assert run.array("weights").array.tolist() == [[0, 0.5, 1], [1, 2, 0]]
        assert run.text("sample").text == "once upon a time"
        assert [(event.step, event.level, event.message) for event in run.events()] == [
            (19, "warning", "enough")
        ]
        assert run.panels() == [
            record.Panel("Loss", "lines", ("loss/*",), "Training", options={"log_y": True})
        ]
        assert [(knob.name, knob.value, knob.notes) for knob in run.knobs()] == [
            ("temperature", 1.0, "softer")
        ]


def test_that_an_old_file_is_read_and_left_as_it_is(old):
    before = old.read_bytes()
    assert version(old) == 1
    check(old)
    assert old.read_bytes() == before
    assert [run.name for run in record.list_runs(old.parent)] == ["an old run"]


def test_that_a_migrated_file_has_the_newest_format_and_all_that_it_had(old, capsys):
    assert record.migrate_run(old) == 1
    assert version(old) == schema.VERSION
    check(old)
    connection = sqlite3.connect(old)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    before = old.read_bytes()
    assert record.migrate_run(old) == schema.VERSION
    assert old.read_bytes() == before
    assert main(["migrate", str(old)]) == 0
    assert "has the newest format" in capsys.readouterr().out


def test_that_the_command_tells_what_it_did(old, tmp_path, capsys):
    assert main(["migrate", str(old)]) == 0
    assert capsys.readouterr().out == f"{old}: format 1 -> {schema.VERSION}\n"
    assert main(["migrate", str(tmp_path / "none.scope")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_that_every_format_has_a_way_to_the_next():
    from logitscope.record.migrate import _STEPS

    assert sorted(schema.VERSIONS) == [*sorted(_STEPS), schema.VERSION]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scalars SET step = 99 WHERE row = 3",
        "UPDATE state SET status = 'resting'",
        "DROP TABLE panels",
    ],
)
def test_that_a_damaged_file_is_refused_and_left_as_it_is(old, statement):
    connection = sqlite3.connect(old, isolation_level=None)
    connection.execute(statement)
    connection.close()
    before = old.read_bytes()
    with pytest.raises(RunFileError):
        record.migrate_run(old)
    assert old.read_bytes() == before


def test_that_a_step_that_fails_changes_nothing(old, monkeypatch):
    def fail(database):
        database.write("DROP TABLE state", ())
        raise RuntimeError

    monkeypatch.setattr("logitscope.record.migrate._STEPS", {1: fail})
    with pytest.raises(RuntimeError):
        record.migrate_run(old)
    assert version(old) == 1
    check(old)


def test_that_a_file_that_is_being_written_is_refused(old, monkeypatch):
    connection = sqlite3.connect(old, isolation_level=None)
    values = ("running", "", 1.0, 19)
    connection.execute("UPDATE state SET status = ?, message = ?, updated = ?, last_step = ?", values)
    connection.execute('UPDATE state SET "check" = ?', (schema.checksum(values),))
    connection.close()
    monkeypatch.setattr("logitscope.record.rows.is_alive", lambda _: True)
    with pytest.raises(RunFileError, match="is being written"):
        record.migrate_run(old)
