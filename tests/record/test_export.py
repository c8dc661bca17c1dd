"""What another program reads is what was recorded, and back."""

import csv
import math

import numpy as np
import pytest

from logitscope import record
from logitscope.__main__ import main
from logitscope.errors import ArgumentError, RunFileError


@pytest.fixture
def run(tmp_path):
    with record.start("a run", path=tmp_path / "run.scope") as scope:
        for step in range(20):
            scope.scalars({"loss/train": 4.5 / (step + 1), "grad_norm": step}, step)
        scope.scalar("loss/train", math.nan, 20)
        scope.histogram("weights", np.linspace(-1, 2, 100), 5, bins=8)
        scope.text("sample", "ünï\nline", 7)
        scope.array("map", np.ones((2, 2)), 3)
    return scope.path


def points(path, tag):
    with record.RunReader(path) as reader:
        series = reader.scalars(tag)
    return series.steps.tolist(), series.values, series.times


def test_that_a_csv_file_holds_every_scalar_with_its_bits(run, tmp_path, capsys):
    assert main(["export", str(run)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run.csv'}: 41 scalars, 3 other values left out\n"
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["tag"] == "loss/train"]
    steps, values, times = points(run, "loss/train")
    assert [int(row["step"]) for row in rows] == steps
    np.testing.assert_array_equal([float(row["value"]) for row in rows], values)
    np.testing.assert_array_equal([float(row["time"]) for row in rows], times)


def test_that_parquet_holds_the_same(run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert record.export_run(run, tmp_path / "x.parquet", format="parquet") == {"scalar": 41, "left out": 3}
    table = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    where = [index for index, tag in enumerate(table["tag"]) if tag == "loss/train"]
    steps, values, _ = points(run, "loss/train")
    assert [table["step"][index] for index in where] == steps
    np.testing.assert_array_equal([table["value"][index] for index in where], values)


@pytest.mark.filterwarnings("ignore")
def test_that_tensorboard_files_come_back_as_the_run(run, tmp_path):
    pytest.importorskip("tensorboard")
    directory = tmp_path / "board" / "first"
    assert record.export_run(run, directory, format="tensorboard") == {
        "scalar": 41,
        "histogram": 1,
        "text": 1,
        "left out": 1,
    }
    (back,) = record.import_tensorboard(tmp_path / "board", tmp_path / "back")
    for tag in ("loss/train", "grad_norm"):
        (steps, values, times), (old_steps, old_values, old_times) = points(back, tag), points(run, tag)
        assert steps == old_steps
        np.testing.assert_allclose(values, old_values, rtol=1e-6)  # TensorBoard keeps 32 bits
        np.testing.assert_allclose(times, old_times, rtol=0, atol=1e-6)
    with record.RunReader(back) as new, record.RunReader(run) as old:
        np.testing.assert_allclose(new.array("weights").array[1].sum(), 100)
        np.testing.assert_allclose(new.array("weights").array[0][-1], old.array("weights").array[0][-1])
        assert new.text("sample").text == "ünï\nline"
        assert new.info.name == "board/first"


@pytest.mark.filterwarnings("ignore")
def test_that_pictures_of_tensorboard_are_taken_over(tmp_path):
    pytest.importorskip("PIL")
    pytest.importorskip("tensorboard")
    board = pytest.importorskip("torch.utils.tensorboard")
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with board.SummaryWriter(tmp_path / "board") as writer:
        writer.add_image("sample", picture, 3, dataformats="HWC")
        writer.add_image("sample", 255 - picture, 4, dataformats="HWC")
        writer.add_scalar("loss", 0.5, 4)
    (made,) = record.import_tensorboard(tmp_path / "board", tmp_path / "back")
    with record.RunReader(made) as run:
        np.testing.assert_array_equal(run.array("sample", 3).array, picture)
        np.testing.assert_array_equal(run.array("sample").array, 255 - picture)
        assert [(panel.kind, *panel.tags) for panel in run.panels()] == [("image", "sample")]
        assert run.scalars("loss").steps.tolist() == [4]


@pytest.mark.filterwarnings("ignore")
def test_that_damaged_event_files_are_read_as_far_as_they_go(run, tmp_path):
    pytest.importorskip("tensorboard")
    record.export_run(run, tmp_path / "board", format="tensorboard")
    (file,) = (tmp_path / "board").iterdir()
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for number in range(15):
        broken = bytearray(data[: rng.integers(1, len(data))])
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        file.write_bytes(broken)
        try:
            (path,) = record.import_tensorboard(file, tmp_path / f"back{number}")
        except RunFileError:
            continue
        with record.RunReader(path) as reader:
            assert sum(tag.count for tag in reader.tags()) <= 43


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export", "missing.scope"], "cannot be read"),
        (["import", "missing"], "there is no *tfevents* file"),
    ],
)
def test_that_what_is_missing_is_told_in_a_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_that_a_directory_that_is_not_there_is_told(run, tmp_path):
    with pytest.raises(RunFileError, match="cannot be written"):
        record.export_run(run, tmp_path / "no" / "x.csv")
    with pytest.raises(RunFileError, match="use csv, parquet, tensorboard"):
        record.export_run(run, tmp_path / "x", format="xls")


def test_that_counted_histograms_are_checked(tmp_path):
    with record.start("c", path=tmp_path / "c.scope") as scope:
        scope.counts("h", [0, 1, 3], [5, 6], 1)
        with pytest.raises(ArgumentError, match="2 edges and 2 counts"):
            scope.counts("h", [0, 1], [5, 6], 1)
    with record.RunReader(scope.path) as run:
        assert run.array("h").array.tolist() == [[0, 1, 3], [5, 6, 0]]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_that_a_picture_is_made(run, tmp_path, kind):
    pytest.importorskip("logitscope_app")
    import subprocess
    import sys

    told = subprocess.check_output(
        [sys.executable, "-m", "logitscope", "export", str(run), "--format", kind], text=True
    )
    assert told == f"{run.with_suffix(f'.{kind}')}: a picture of the dashboard\n"
    data = (tmp_path / f"run.{kind}").read_bytes()
    assert data.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
