"""A run file may come from anywhere: what is damaged or made up is told as such, and nothing else happens."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from logitscope import record
from logitscope.errors import RunFileError
from logitscope.record import codec, schema
from logitscope.record.schema import checksum

STEPS = 60
RNG = np.random.default_rng(0)
MAPS = {step: RNG.normal(size=(2, 9, 9)).astype(np.float32) for step in range(0, STEPS, 10)}


def write(scope):
    scope.panel("Loss", "lines", ["loss/*"], group="Training", log_y=True)
    scope.knob("temperature", 1.0, 0.5, 2.0, notes="softer")
    for step in range(STEPS):
        scope.scalars({"loss/train": step / 7, "grad_norm": -step}, step)
        if step in MAPS:
            scope.array("map", MAPS[step], step)
            scope.text("sample", f"text of {step}", step)
            scope.event(f"event of {step}", step=step)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished.scope"
    with record.start("a run", path=path, meta={"model": "GPT"}) as scope:
        write(scope)
    return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "killed.scope"
    program = f"""
import os, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from logitscope import record
from test_untrusted import write
scope = record.start("a run", path={str(path)!r}, meta={{"model": "GPT"}})
write(scope)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    return path


def read_everything(path):
    """Read all there is, and compare it with what was written."""
    with record.RunReader(path) as run:
        assert (run.info.name, dict(run.info.meta)) == ("a run", {"model": "GPT"})
        assert run.info.last_step in (None, *range(STEPS))
        for tag in run.tags():
            steps = run.steps(tag.name).tolist()
            assert len(steps) == tag.count
            if tag.kind == "scalar":
                assert steps == list(range(len(steps)))
                factor = {"loss/train": 1 / 7, "grad_norm": -1}[tag.name]
                expected = [step / 7 if factor > 0 else -step for step in steps]
                assert run.scalars(tag.name).values.tolist() == expected
            else:
                assert steps == list(MAPS)[: len(steps)]
                for step in steps:
                    if tag.kind == "array":
                        assert tag.name == "map"
                        np.testing.assert_array_equal(run.array(tag.name, step).array, MAPS[step])
                    else:
                        assert (tag.name, run.text(tag.name, step).text) == ("sample", f"text of {step}")
        for event in run.events():
            assert event.message == f"event of {event.step}"
        panels = [record.Panel("Loss", "lines", ("loss/*",), "Training", options={"log_y": True})]
        assert run.panels() in ([], panels)
        assert run.knobs() in ([], [record.KnobInfo("temperature", 1.0, 0.5, 2.0, 1.0, 1.0, False, "softer")])
        run.poll()
        return {tag.name: tag.count for tag in run.tags()}


def damage(data, chance):
    data = bytearray(data)
    kind = chance.randrange(5)
    if kind == 0:
        del data[chance.randrange(len(data)) :]
    elif kind == 1:
        for _ in range(chance.choice([1, 1, 1, 8, 64])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        start = chance.randrange(len(data))
        data[start : start + chance.choice([1, 16, 4096])] = bytes(chance.choice([1, 16, 4096]))
    elif kind == 3:
        start, target = chance.randrange(len(data)), chance.randrange(len(data))
        data[target : target + 512] = data[start : start + 512]
    else:
        start = chance.randrange(len(data) // 4096) * 4096
        data[start : start + 4096] = chance.randbytes(4096)
    return bytes(data)


def test_that_the_runs_that_are_damaged_below_are_whole(finished, killed):
    counts = {"loss/train": STEPS, "grad_norm": STEPS, "map": 6, "sample": 6}
    assert read_everything(finished) == counts
    assert killed.with_name(killed.name + "-wal").stat().st_size > 100_000
    copy = shutil.copy(killed, killed.with_name("copy.scope"))
    for suffix in ("-wal", "-tail"):
        shutil.copy(f"{killed}{suffix}", f"{copy}{suffix}")
    assert read_everything(copy) == counts


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("part", ["file", "wal"])
def test_that_damage_gives_an_error_of_ours_or_true_values(finished, killed, tmp_path, part, seed):
    chance = random.Random(f"{part} {seed}")
    path = tmp_path / "run.scope"
    beside = [tmp_path / f"run.scope{suffix}" for suffix in ("-wal", "-shm")]
    outcomes = []
    for _ in range(20):
        for file in beside:
            file.unlink(missing_ok=True)
        if part == "file":
            path.write_bytes(damage(finished.read_bytes(), chance))
        else:
            shutil.copy(killed, path)
            beside[0].write_bytes(damage(killed.with_name(killed.name + "-wal").read_bytes(), chance))
        try:
            outcomes.append(read_everything(path))
        except RunFileError:
            outcomes.append(None)
    assert any(outcome is not None for outcome in outcomes) or part == "file"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is no run file"),
        (b"hello", "is no run file"),
        (b"SQLite format 3\0", "is no run file"),
        (bytes(8192), "is no run file"),
    ],
)
def test_that_other_files_are_refused(tmp_path, content, match):
    path = tmp_path / "x.scope"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=match):
        record.RunReader(path)
    assert path.read_bytes() == content


def test_that_missing_files_and_directories_are_refused(tmp_path):
    with pytest.raises(RunFileError, match=r"cannot be read .*No such file"):
        record.RunReader(tmp_path / "missing.scope")
    with pytest.raises(RunFileError, match="cannot be read"):
        record.RunReader(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_that_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.scope"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE run (a)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(RunFileError, match="database of another program"):
        record.RunReader(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "advice"), [(schema.VERSION + 1, "install a newer logitscope"), (0, "it is damaged")]
)
def test_that_another_format_is_told(finished, tmp_path, version, advice):
    path = changed(finished, tmp_path, f"PRAGMA user_version = {version}")
    with pytest.raises(RunFileError, match=rf"has format {version}, .* reads 1 and 2; {advice}"):
        record.RunReader(path)


def changed(source, directory, *statements):
    """A copy of a run file in which statements were executed."""
    path = directory / "changed.scope"
    shutil.copy(source, path)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(*((statement,) if isinstance(statement, str) else statement))
    connection.close()
    return path


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE panels"],
        ["ALTER TABLE panels ADD COLUMN more"],
        ["CREATE TRIGGER t AFTER UPDATE ON knobs BEGIN DELETE FROM scalars; END"],
        ["CREATE VIEW v AS SELECT 1"],
        [
            "DROP TABLE scalars",
            "CREATE VIEW scalars AS WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        ],
        ["CREATE INDEX i ON scalars (step)"],
    ],
)
def test_that_a_schema_of_its_own_is_refused(finished, tmp_path, statements):
    with pytest.raises(RunFileError, match="has tables that no run file has"):
        record.RunReader(changed(finished, tmp_path, *statements))


def with_array(finished, directory, dtype, shape, name, data):
    head = (7, 99, 1.0, 3, dtype, shape, name)
    row = (*head, checksum(head), checksum((data,)), data)
    return changed(finished, directory, ("INSERT INTO arrays VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row))


BOMB = zlib.compress(bytes(1 << 28), 9)


@pytest.mark.parametrize(
    ("dtype", "shape", "name", "data"),
    [
        ("<f4", "[1000000000000, 1000000000000]", "raw", b"1234"),
        ("<f4", "[65536, 65536]", "planes-zlib", BOMB),
        ("<f4", "[0, 268435456, 268435456, 268435456]", "raw", b""),
        ("<f4", "[4]", "planes-zlib", BOMB),
        ("<f4", "[67108865]", "raw", b""),
        ("<f4", "[2]", "raw", b"1234"),
        ("<f4", "[2]", "planes-zlib", b"no zlib"),
        ("<f4", "[9]", "planes-zlib", zlib.compress(bytes(36))[:-5]),
        ("<f4", "[9]", "planes-zlib", b""),
        ("<f4", "[9]", "nonzero", b"\x80\x00"),
        ("<f4", "[9]", "nonzero", b"\x80\x00" + bytes(8)),
        ("<f4", "[9]", "nonzero", b"\x80"),
        ("<f4", "[67108864]", "nonzero", b"\x80" + bytes(4)),
        ("<f4", "[-1]", "raw", b""),
        ("<f4", "[1.0]", "raw", b"1234"),
        ("<f4", "[true]", "raw", b"1234"),
        ("<f4", "{}", "raw", b"1234"),
        ("<f4", "[" * 900, "raw", b"1234"),
        ("<f4", str([1] * 33), "raw", b"1234"),
        ("<f4", "", "raw", b"1234"),
        ("|O", "[1]", "raw", bytes(8)),
        ("<f16", "[1]", "raw", bytes(16)),
        ("<U2", "[1]", "raw", bytes(8)),
        (">f4", "[1]", "raw", bytes(4)),
        ("V4", "[1]", "raw", bytes(4)),
        ("nonsense", "[1]", "raw", bytes(4)),
        ("<f4", "[1]", "pickle", bytes(4)),
        ("<f4", "[1]", "raw", "text"),
        ("<f4", "[1]", "raw", None),
        (None, "[1]", "raw", b"1234"),
        ("<f4", 3, "raw", b"1234"),
    ],
)
def test_that_made_up_arrays_are_refused_in_little_memory(finished, tmp_path, dtype, shape, name, data):
    path = with_array(finished, tmp_path, dtype, shape, name, data)
    tracemalloc.start()
    with record.RunReader(path) as run:
        with pytest.raises(RunFileError):
            run.array("map", 99)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.arange(100.0), "planes-zlib"),
        (np.tri(13, dtype=np.float32) / 3, "nonzero"),
        (np.where(np.arange(90) % 3, 0, -0.0), "nonzero"),
        (np.arange(99) % 2 == 0, "nonzero"),
        (np.zeros((3, 7, 5), np.int16), "nonzero"),
        (np.arange(5.0), "raw"),
    ],
)
def test_that_a_well_made_array_is_read(finished, tmp_path, array, name):
    encoded = codec.encode(array)
    assert encoded[2] == name
    path = with_array(finished, tmp_path, *encoded)
    with record.RunReader(path) as run:
        found = run.array("map", 99).array
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def signed(table, columns):
    """A statement that puts a row with a right checksum in place of the first, or as a new one."""
    marks = ", ".join("?" * (len(columns) + 1))
    return f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*columns, checksum(columns))


def run_row(**fields):
    columns = {
        "id": "r",
        "name": "a run",
        "created": 1.0,
        "meta": "{}",
        "host": "h",
        "pid": 1,
        "started": "1",
    }
    columns = tuple({**columns, **fields}.values())
    return "INSERT OR REPLACE INTO run VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", (*columns, checksum(columns))


def state_row(*columns):
    columns = (*columns, 0)
    return "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", (*columns, checksum(columns))


PANEL = {"title": "t", "kind": "lines", "tags": [], "group": "", "x_label": "", "y_label": "", "notes": ""}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM run",
        'INSERT INTO run SELECT 2, run_id, name, created, meta, host, pid, pid_started, "check" FROM run',
        "UPDATE run SET name = 'other'",
        "UPDATE state SET last_step = 1000",
        "DELETE FROM state",
        "DELETE FROM scalars WHERE row = 30",
        "DELETE FROM arrays WHERE row = 1",
        "UPDATE scalars SET step = 1000 WHERE row = 30",
        "UPDATE arrays SET data = zeroblob(100)",
        "UPDATE texts SET text = 'another'",
        "UPDATE events SET message = 'another'",
        "UPDATE tags SET name = 'another'",
        "DELETE FROM tags WHERE id = 1",
        "DELETE FROM tag_sets",
        "UPDATE knobs SET value = 1.5",
        "UPDATE knobs SET high = 1e9",
        run_row(name=3),
        run_row(created="yesterday"),
        run_row(created=float("inf")),
        run_row(meta="[]"),
        run_row(meta="{"),
        run_row(meta="[" * 100_000),
        run_row(pid="1"),
        run_row(host=None),
        state_row("resting", "", 1.0, 1),
        state_row("finished", "", 1.0, "1"),
        signed("tags", (9, "loss/train", "scalar")),
        signed("tags", (9, "new", "pickle")),
        signed("tags", (1, "loss/train", "text")),
        signed("tag_sets", (1, "[]")),
        signed("tag_sets", (1, "[1, 99]")),
        signed("tag_sets", (1, '["1", "2"]')),
        signed("tag_sets", (1, "[1]")),
        signed("tag_sets", (1, "[1, 2, 1]")),
        signed("scalars", (STEPS + 1, 1, 1.0, 1, "text")),
        signed("scalars", (STEPS + 1, 1, 1.0, 1, b"1234")),
        signed("scalars", (STEPS + 1, 1, 1.0, 77, bytes(16))),
        signed("scalars", (STEPS + 1, None, 1.0, 1, bytes(16))),
        signed("scalars", (STEPS + 2, 1, 1.0, 1, bytes(16))),
        signed("events", (7, 1, 1.0, "fatal", "m")),
        signed("events", (7, 1, "now", "info", "m")),
        signed("panels", (2, "3")),
        signed("panels", (2, json.dumps({**PANEL, "options": {}, "more": 1}))),
        signed("panels", (2, json.dumps({**PANEL, "options": []}))),
        signed("panels", (2, json.dumps({**PANEL, "options": {}, "tags": [3]}))),
        signed("panels", (2, json.dumps({**PANEL, "options": {}, "title": None}))),
        signed("panels", (2, b"{}")),
    ],
)
def test_that_rows_that_do_not_fit_are_refused(finished, tmp_path, statement):
    with pytest.raises(RunFileError, match="run file: "):
        read_everything(changed(finished, tmp_path, statement))


def test_that_a_checksum_covers_every_column():
    values = (1, 2.5, "text", None, b"bytes")
    for index in range(len(values)):
        other = [*values]
        other[index] = "other"
        assert checksum(other) != checksum(values)
    assert checksum(("ab", "c")) != checksum(("a", "bc"))


def test_that_the_schema_is_documented_with_its_version(finished):
    connection = sqlite3.connect(finished)
    assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_that_a_closed_reader_says_so(finished):
    run = record.RunReader(finished)
    run.close()
    run.close()
    with pytest.raises(RunFileError, match="was closed"):
        run.poll()
