"""What was measured, in a run file: each panel shows the figures of the tables."""

import math

import numpy as np
import pytest

from logitscope import gpu
from logitscope.bench import recording, suites
from logitscope.bench.cases import Case, Contender, Pass, Settings
from logitscope.bench.command import measure
from logitscope.bench.peers import Peers
from logitscope.bench.results import evaluate
from logitscope.errors import ArgumentError, RunFileError
from logitscope.record import RunReader

RATES = {"copied": 1e9, "exps": 1e9}
FACTS = {"GPU": "a card", "binding bytes": "1,024"}


def result(shape, times, group="softmax on a GPU", ours=("GPU", "GPU with copies")):
    contenders = [Contender(name, int, ours=name in ours) for name in times]
    work = (Pass(copied=4 * math.prod(shape)),)
    case = Case("softmax", group, shape, "float32", work, lambda: contenders)
    return evaluate(case, contenders, {name: [seconds] for name, seconds in times.items()}, RATES)


def recorded(results, path):
    with recording.started("thing", path) as scope:
        recording.write(scope, results, FACTS)
    return RunReader(path)


def scalars(run, panel):
    return {tag.split("/", 1)[1]: run.scalars(tag).values[0] for tag in panel.tags}


def arrays(run, panel):
    return {tag.rsplit("/", 1)[1]: run.array(tag).array.tolist() for tag in panel.tags}


def test_that_copies_lie_on_the_computation_and_the_break_even_is_drawn(tmp_path):
    times = {
        (10, 1000): {"CPU": 1e-5, "GPU": 2e-5, "GPU with copies": 5e-5, "GPU's copy": 1e-5},
        (1000, 1000): {"CPU": 8e-3, "GPU": 1e-3, "GPU with copies": 2e-3, "GPU's copy": 8e-4},
        (100, 4000): {"CPU": 1e-3, "GPU": 1e-3, "GPU with copies": 9e-4, "GPU's copy": 8e-4},
    }
    with recorded([result(*case) for case in times.items()], tmp_path / "run.scope") as run:
        panels = {panel.title: panel for panel in run.panels()}
        assert [(title, panel.kind, panel.y_label) for title, panel in panels.items()] == [
            ("GPU against CPU", "scatter", "times as fast"),
            ("Bandwidth", "scatter", "GB/s"),
            ("Share of the GPU's copy", "bars", "%"),
            ("Time, 10x1000", "bars", "µs"),
            ("Time, 1000x1000", "bars", "ms"),
            ("Time, 100x4000", "bars", "ms"),
            ("What was measured on", "text", ""),
        ]
        assert {panel.group for panel in panels.values()} == {"Softmax on a GPU", "Machine"}
        # A line holds rows of one length.
        lines = arrays(run, panels["GPU against CPU"])
        assert lines["arrays there already"] == [[1e4, 1e6], pytest.approx([0.5, 8])]
        assert lines["with copies there and back"] == [[1e4, 1e6], pytest.approx([0.2, 4])]
        assert panels["GPU against CPU"].options["y_marks"] == {"break-even": 1}
        # 4 bytes in and 4 out; of rows of 1000 the largest array.
        bandwidths = arrays(run, panels["Bandwidth"])
        assert bandwidths["GPU"] == [[1000, 4000], pytest.approx([8, 3.2])]
        assert set(bandwidths) == {"CPU", "GPU", "GPU with copies", "GPU's copy"}
        shares = scalars(run, panels["Share of the GPU's copy"])
        assert list(shares.values()) == pytest.approx([50, 80, 80])
        bars = panels["Time, 10x1000"]
        assert bars.options["stacked"]
        under = "us/softmax on a GPU/10x1000"
        assert scalars(run, bars) == pytest.approx(
            {
                f"{under}/CPU/computation": 10,
                f"{under}/GPU/computation": 20,
                f"{under}/GPU's copy/computation": 10,
                f"{under}/GPU/copies there and back": 30,
            }
        )
        assert min(scalars(run, panels["Time, 100x4000"]).values()) == 0
        assert run.text("facts").text == "GPU            a card\nbinding bytes  1,024"


def test_that_cases_share_an_axis_that_shows_all_of_them(tmp_path):
    results = [
        result((rows, 100), {"logitscope": seconds, "torch": 2 * seconds}, "softmax", ("logitscope",))
        for rows, seconds in ((1, 1e-6), (9, 4e-3), (5, 1e-3), (4, 8e-4))
    ]
    with recorded(results, tmp_path / "run.scope") as run:
        titles = {panel.title: panel for panel in run.panels()}
        assert list(titles)[:-1] == [
            "Against the best peer",
            "Share of the roofline",
            "Time, 1x100",
            "Time, 9x100 to 4x100",
        ]
        assert set(scalars(run, titles["Against the best peer"]).values()) == {2}
        times = scalars(run, titles["Time, 9x100 to 4x100"])
        assert times["ms/softmax/9x100/torch"] == pytest.approx(8)
        assert [name.split("/")[2] for name in times][::2] == ["9x100", "5x100", "4x100"]


def test_that_every_suite_can_be_recorded(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    tiny = Settings(seconds=0.0, least_rounds=1, most_rounds=1, smoke=True)
    for suite in suites.NAMES:
        results = measure(suite, tiny, Peers.load(("torch",)))
        with recorded(results, tmp_path / f"{suite}.scope") as run:
            titles = [(panel.group, panel.title) for panel in run.panels()]
            assert len(set(titles)) == len(titles) > len(results and {one.group for one in results})
            for tag in run.tags():
                assert tag.kind != "scalar" or np.isfinite(run.scalars(tag.name).values).all()
    if gpu.available(allow_software=True):
        monkeypatch.setattr(suites.gpu, "default_device", lambda: gpu.Device(allow_software=True))
        device = suites.facts("gpu")
        assert device["GPU"].startswith(gpu.Device(allow_software=True).info.name)
        assert {"features", "binding bytes", "pool bytes"} <= set(device)
    assert suites.facts("loss") == {}


def test_that_a_file_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    taken = tmp_path / "taken"
    taken.touch()
    with pytest.raises(RunFileError, match="exists already"), recording.started("thing", taken):
        pass
    with pytest.raises(ArgumentError, match="cannot be written"), recording.started("thing", taken / "below"):
        pass
    monkeypatch.setenv("LOGITSCOPE_RUNS", str(taken))
    with pytest.raises(ArgumentError, match="cannot be written"), recording.started("thing", None):
        pass


def test_that_a_run_that_could_not_be_measured_says_why(tmp_path):
    with pytest.raises(ZeroDivisionError), recording.started("thing", tmp_path / "run.scope"):
        1 / 0  # noqa: B018
    with RunReader(tmp_path / "run.scope") as run:
        assert (run.info.status, run.info.name) == ("failed", "bench-thing")
