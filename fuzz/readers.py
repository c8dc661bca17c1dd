"""Fuzzes what reads run files: databases, logs, tails, arrays, imported files of other programs.

``python fuzz/readers.py --seconds 20 --seed 1``: with atheris (``pip install atheris``, where there is a wheel) inputs
are found by coverage, without it they are random. Whatever the input, a reader may only answer or raise an error of
logitscope's own; anything else is a fault, and its input is kept in ``fuzz/artifacts``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import random
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ATHERIS = importlib.util.find_spec("atheris") is not None
if ATHERIS:
    import atheris

with atheris.instrument_imports(include=["logitscope.record"]) if ATHERIS else contextlib.nullcontext():
    from logitscope import record
    from logitscope.errors import LogitscopeError
    from logitscope.record import codec, log_format, schema, wandb_log
    from logitscope.record.tail import HEADER, tail_of

TABLES = {"run": 8, "state": 6, "tags": 3, "tag_sets": 2, "scalars": 5, "events": 5, "panels": 2}
"""Columns of the tables in which rows with right checksums are put."""
ARTIFACTS = Path(__file__).parent / "artifacts"


class Source:
    """Takes values from bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.place : self.place + size]
        self.place += size
        return piece.ljust(size, b"\0")

    def number(self, below: int) -> int:
        return int.from_bytes(self.take(4), "little") % max(below, 1)

    def blob(self) -> bytes:
        return self.take(self.number(64))

    def value(self) -> object:
        kind = self.number(8)
        if kind == 0:
            return None
        if kind in (1, 2):
            return struct.unpack("<q", self.take(8))[0] >> self.number(64)
        if kind == 3:
            return struct.unpack("<d", self.take(8))[0]
        if kind == 4:
            return self.blob()
        if kind == 5:
            choices = (
                "scalar",
                "text",
                "[1]",
                "[1, 2]",
                "{}",
                "[",
                "loss/train",
                "finished",
                "<f4",
                "raw",
                "info",
            )
            return choices[self.number(len(choices))]
        return self.blob().decode("utf-8", "replace")


def read(path: Path) -> None:
    """Ask a reader for everything."""
    with record.open_run(path) as run:
        for tag in run.tags():
            steps = run.steps(tag.name)
            if tag.kind == "scalar":
                run.scalars(tag.name)
            for step in steps[:3].tolist() if tag.kind != "scalar" else ():
                run.text(tag.name, step) if tag.kind == "text" else run.array(tag.name, step)
        run.panels(), run.events(), run.knobs(), run.poll()


def edit(data: bytes, source: Source) -> bytes:
    """Some bytes changed, some cut off."""
    changed = bytearray(data)
    for _ in range(1 + source.number(4)):
        place, piece = source.number(len(changed)), source.blob()
        changed[place : place + len(piece)] = piece
    return bytes(changed[: source.number(len(changed))] if source.number(8) == 7 else changed)


class Fuzzer:
    """The files that inputs are made from, and a place for those made."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "fuzzed.scope"
        self.files = {}
        for storage in ("database", "log"):
            path = directory / f"base-{storage}.scope"
            with record.start("base", path=path, meta={"a": "b"}, storage=storage) as scope:
                scope.panel("Loss", "lines", ["loss/*"])
                scope.knob("k", 1, 0, 2)
                for step in range(4):
                    scope.scalars({"loss/train": 0.5 * step, "grad_norm": 1.0}, step)
                scope.array("map", np.arange(40.0), 1)
                scope.text("sample", "text", 2)
                scope.event("done", step=3)
            self.files[storage] = path.read_bytes()
        with record.RunReader(path) as run:
            self.run_id = run.info.run_id

    def one_input(self, data: bytes) -> None:
        """Try one input."""
        source = Source(data)
        ways = (self.bytes_, self.rows, self.log, self.records, self.tail, self.array, self.wandb)
        for file in self.place.parent.glob("fuzzed.scope*"):
            file.unlink()
        with contextlib.suppress(LogitscopeError):
            ways[source.number(len(ways))](source)

    def bytes_(self, source: Source) -> None:
        """A database in which bytes were changed."""
        self.place.write_bytes(edit(self.files["database"], source))
        read(self.place)

    def rows(self, source: Source) -> None:
        """A database with made up rows whose checksums are right."""
        self.place.write_bytes(self.files["database"])
        connection = sqlite3.connect(self.place, isolation_level=None)
        for _ in range(1 + source.number(3)):
            table = list(TABLES)[source.number(len(TABLES))]
            columns = tuple(source.value() for _ in range(TABLES[table]))
            checked = columns[1:] if table in ("run", "state") else columns
            marks = ", ".join("?" * (len(columns) + 1))
            with contextlib.suppress(sqlite3.Error, OverflowError):
                row = (*columns, schema.checksum(checked))
                connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)
        connection.close()
        read(self.place)

    def log(self, source: Source) -> None:
        """A log in which bytes were changed."""
        self.place.write_bytes(edit(self.files["log"], source))
        read(self.place)

    def records(self, source: Source) -> None:
        """A log with made up records whose checksums are right."""
        tables = {**log_format.SMALL_TABLES, "scalars": 3, "arrays": 6, "texts": 3, "events": 4}
        made = b""
        for _ in range(1 + source.number(4)):
            table = list(tables)[source.number(len(tables))]
            values = tuple(source.value() for _ in range(tables[table]))
            with contextlib.suppress(TypeError, ValueError):
                made += log_format.encode(table, values, source.blob())
        self.place.write_bytes(self.files["log"] + made)
        read(self.place)

    def tail(self, source: Source) -> None:
        """A tail of any bytes, or of made up rows."""
        self.place.write_bytes(self.files["database"])
        rows = b"".join(
            log_format.encode_scalars(source.number(9), 1.0, source.number(3), source.blob())
            for _ in range(3)
        )
        head = struct.pack("<16s32sQ", HEADER, self.run_id.encode(), source.number(3))
        whole = head + struct.pack("<I", __import__("zlib").crc32(head)) + rows
        tail_of(self.place).write_bytes(whole if source.number(2) else edit(whole, source))
        read(self.place)

    def array(self, source: Source) -> None:
        """An array of any head and data."""
        codec.decode(*(str(source.value()) for _ in range(3)), source.blob())

    def wandb(self, source: Source) -> None:
        """The frames of another program's file."""
        list(wandb_log.frames(edit(wandb_log.HEADER + source.take(source.number(256)), source)))


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="0 for a new one each time")
    arguments = parser.parse_args()
    ARTIFACTS.mkdir(exist_ok=True)
    memory = Path("/dev/shm")  # the files of an input live for a moment
    directory = Path(tempfile.mkdtemp(prefix="logitscope-fuzz-", dir=memory if memory.is_dir() else None))
    tempfile.tempdir = str(directory)
    chance = random.Random(arguments.seed or None)
    fuzzer = Fuzzer(directory)
    print(
        f"fuzz: readers, {'by coverage (atheris)' if ATHERIS else 'random inputs (atheris is not installed)'}"
    )
    if ATHERIS:
        options = [f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}", "-max_len=1024"]
        options += [
            "-rss_limit_mb=4096",
            "-len_control=0",
            f"-artifact_prefix={ARTIFACTS}/readers-",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        corpus = directory / "corpus"
        corpus.mkdir()
        for number in range(70):
            (corpus / str(number)).write_bytes(chance.randbytes(400))
        atheris.Setup([sys.argv[0], *options, str(corpus)], fuzzer.one_input)
        atheris.Fuzz()
        return
    end, count = time.monotonic() + arguments.seconds, 0
    while time.monotonic() < end:
        data = chance.randbytes(chance.randrange(400))
        try:
            fuzzer.one_input(data)
        except BaseException:
            (ARTIFACTS / "readers-fault").write_bytes(data)
            raise
        count += 1
    shutil.rmtree(directory)
    print(f"fuzz: {count} inputs, no fault found")


if __name__ == "__main__":
    main()
