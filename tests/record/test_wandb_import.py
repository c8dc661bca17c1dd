"""Offline runs of W&B as runs; the stored file was written by wandb 0.31."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from logitscope import record
from logitscope.__main__ import main
from logitscope.errors import DeviceError, RunFileError
from logitscope.record.wandb_log import _PIECE, BLOCK, HEADER, _check, frames

STORED = Path(__file__).parent / "files" / "offline.wandb.gz"


@pytest.fixture
def offline(tmp_path):
    path = tmp_path / "offline" / "run-abc.wandb"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(STORED.read_bytes()))
    return path


def test_that_a_run_of_wandb_is_read(offline, tmp_path):
    pytest.importorskip("wandb")
    (made,) = record.import_wandb(offline.parent, tmp_path)
    with record.RunReader(made) as run:
        assert run.info.name == "my run"
        assert run.info.meta["lr"] == "0.001"
        assert {tag.name: tag.count for tag in run.tags()} == {
            "loss": 5,
            "acc": 5,
            "nested/a": 5,
            "h": 5,
            "t": 5,
            "late": 1,
        }
        assert run.scalars("loss").values.tolist() == [1 / (step + 1) for step in range(5)]
        assert run.scalars("late").steps.tolist() == [9]
        times = run.scalars("loss").times
        assert (np.diff(times) > 0).all()
        assert times[0] == pytest.approx(1795657577.2, abs=0.1)
        assert run.array("h").array[1].sum() == 10
        assert run.text("t", 2).text == "text 2"


def test_that_the_command_takes_both_kinds_of_files(offline, tmp_path, capsys, monkeypatch):
    pytest.importorskip("wandb")
    assert main(["import", str(offline.parent), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run-abc.scope")
    monkeypatch.setattr("logitscope.record.export.import_module", _missing)
    assert main(["import", str(offline), "--out", str(tmp_path)]) == 2
    assert "pip install wandb" in capsys.readouterr().err


def _missing(name):
    raise ModuleNotFoundError(name=name)


def pieces(*messages):
    """A file with messages, cut where a block ends as LevelDB does."""
    data = bytearray(HEADER)
    for message in messages:
        kinds, rest = [], message
        while True:
            room = BLOCK - len(data) % BLOCK - _PIECE.size
            if room <= 0:
                data += bytes(BLOCK - len(data) % BLOCK)
                continue
            part, rest = rest[:room], rest[room:]
            kind = (3 if rest else 4) if kinds else (2 if rest else 1)
            kinds.append(kind)
            data += _PIECE.pack(_check(kind, part), len(part), kind) + part
            if not rest:
                break
    return bytes(data)


def test_that_messages_over_several_blocks_are_put_together():
    messages = [b"a" * 100, bytes(range(256)) * 400, b"", b"end"]
    assert list(frames(pieces(*messages))) == messages


def test_that_what_breaks_off_is_left_and_damage_is_told():
    data = pieces(b"one", b"two" * 30000)
    assert list(frames(data[:-5])) == [b"one"]
    spoilt = bytearray(data)
    spoilt[len(HEADER) + _PIECE.size] ^= 1
    with pytest.raises(RunFileError, match="damaged at byte 7"):
        list(frames(bytes(spoilt)))
    with pytest.raises(RunFileError, match="none of W&B's"):
        list(frames(b"hello"))


def test_that_a_message_that_is_none_is_told(tmp_path):
    pytest.importorskip("wandb")
    path = tmp_path / "x.wandb"
    path.write_bytes(pieces(b"\xff\xff\xff"))
    with pytest.raises(RunFileError, match="holds a message that cannot be read"):
        record.import_wandb(path, tmp_path)


def test_that_wandb_is_only_needed_when_it_is(offline, monkeypatch):
    monkeypatch.setattr("logitscope.record.export.import_module", _missing)
    with pytest.raises(DeviceError, match="pip install wandb"):
        record.import_wandb(offline)
