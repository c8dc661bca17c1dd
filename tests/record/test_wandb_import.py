"""Offline runs of W&B as runs; the stored file was written by wandb 0.31."""

import gzip
import json
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


def logged(step, **values):
    """A message of W&B with what was logged in one call."""
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    message = messages.Record()
    for key, value in {"_step": step, **values}.items():
        item = message.history.item.add()
        item.nested_key.append(key)
        item.value_json = json.dumps(value)
    return message.SerializeToString()


@pytest.fixture
def with_pictures(tmp_path):
    """A run that has logged pictures: one in grey, two in colours, and three that are not to be had."""
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / "offline" / "run-abc.wandb"
    images = path.parent / "files" / "media"
    images.mkdir(parents=True)
    colours = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pillow.fromarray(np.array([[0, 255]], np.uint8)).save(images / "grey.png")
    pillow.fromarray(colours).save(images / "a.png")
    pillow.fromarray(colours[::-1]).save(images / "b.png")
    pillow.fromarray(colours).convert("P").save(images / "palette.png")
    pillow.fromarray(colours).save(tmp_path / "outside.png")
    (images / "broken.png").write_bytes((images / "a.png").read_bytes()[:40])
    one = {"_type": "image-file"}
    path.write_bytes(
        pieces(
            logged(
                0,
                loss=1.0,
                grey={**one, "path": "media/grey.png"},
                palette={**one, "path": "media/palette.png"},
            ),
            logged(1, many={"_type": "images/separated", "filenames": ["media/a.png", "media/b.png"]}),
            logged(2, grey={**one, "path": "media/gone.png"}),
            logged(3, grey={**one, "path": "../../outside.png"}),
            logged(4, grey={**one, "path": "media/broken.png"}),
            logged(5, grey={**one, "path": 7}, many={"_type": "images/separated", "filenames": "x"}),
        )
    )
    return path


def test_that_pictures_are_read_from_their_files(with_pictures, tmp_path):
    (made,) = record.import_wandb(with_pictures, tmp_path)
    with record.RunReader(made) as run:
        assert {tag.name: tag.count for tag in run.tags()} == {
            "loss": 1, "grey": 1, "palette": 1, "many/0": 1, "many/1": 1,
        }  # fmt: skip
        assert run.array("grey").array.tolist() == [[0, 255]]
        colours = np.arange(24).reshape(2, 4, 3)
        np.testing.assert_array_equal(run.array("many/0").array, colours)
        np.testing.assert_array_equal(run.array("many/1").array, colours[::-1])
        assert run.array("many/1").step == 1
        assert run.array("palette").array.shape == (2, 4, 4)
        assert {(panel.kind, *panel.tags) for panel in run.panels()} == {
            ("image", tag) for tag in ("grey", "palette", "many/0", "many/1")
        }
        told = [event.message for event in run.events()]
        assert "2 pictures are left out: their files are not there" in told
        assert sum("pictures are left out: they cannot be read" in message for message in told) == 1


def test_that_without_pillow_pictures_alone_are_left_out(with_pictures, tmp_path, monkeypatch):
    from logitscope.record import export

    def without(name, find=export.import_module):
        return _missing("PIL") if name.startswith("PIL") else find(name)

    monkeypatch.setattr(export, "import_module", without)
    (made,) = record.import_wandb(with_pictures, tmp_path)
    with record.RunReader(made) as run:
        assert [tag.name for tag in run.tags()] == ["loss"]
        assert any("use pip install pillow" in event.message for event in run.events())
