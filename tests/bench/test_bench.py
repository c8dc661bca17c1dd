"""Measuring: what is computed from times, what is compared, one thread, and the command."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from logitscope import _native, gpu
from logitscope.__main__ import main
from logitscope.bench import machine, memory, report, statistics, suites
from logitscope.bench.cases import Case, Contender, Pass, Settings
from logitscope.bench.command import WrongAnswerError, measure_case
from logitscope.bench.peers import Peers
from logitscope.bench.results import evaluate, summarise
from logitscope.bench.roofline import Roofline, least_seconds
from logitscope.bench.timing import Quartiles, take_turns
from logitscope.errors import ArgumentError
from logitscope.record import RunReader

RATES = {"read": 10.0, "copied": 5.0, "exps": 2.0, "flops": 100.0}
TINY = Settings(seconds=0.0, least_rounds=2, most_rounds=2)


def case(contenders, **more):
    return Case("thing", "things", (4,), "float32", (Pass(read=10),), lambda: contenders, **more)


def test_that_memory_and_arithmetic_overlap_in_a_pass_and_passes_do_not():
    assert least_seconds((Pass(read=10),), RATES) == 1
    assert least_seconds((Pass(read=10, copied=10),), RATES) == 3
    assert least_seconds((Pass(read=10, exps=8),), RATES) == 4
    assert least_seconds((Pass(read=10, exps=8),), RATES, memory_only=True) == 1
    assert least_seconds((Pass(read=10, exps=8), Pass(flops=100)), RATES) == 5


def test_that_ratios_are_taken_round_by_round_and_into_the_same_place():
    contenders = [
        Contender("logitscope", int, ours=True),
        Contender("logitscope", int, into="given", ours=True),
        Contender("torch", int),
        Contender("torch", int, into="given"),
        Contender("jax", int),
    ]
    times = {
        "logitscope": [1.0, 2.0, 4.0],
        "logitscope, given array": [1.0, 1.0, 1.0],
        "torch": [2.0, 4.0, 8.0],
        "torch, given array": [1.5, 1.5, 1.5],
        "jax": [3.0, 6.0, 40.0],
    }
    result = evaluate(case(contenders), contenders, times, RATES)
    fresh, given, torch, *_ = result.measured
    assert fresh.seconds == Quartiles(2, 1.5, 3)
    assert fresh.ratios == {"torch": (2, 2, 2), "jax": (3, 3, 6.5)}
    assert (fresh.best_peer, fresh.best_ratio) == ("torch", 2)
    assert given.ratios["torch"].median == 1.5
    assert given.ratios["jax"].median == 6
    assert fresh.of_roofline == 0.5
    assert (torch.ratios, torch.best_ratio) == ({}, None)


def test_that_a_summary_has_geometric_means_and_the_least():
    results = []
    for factor in (2.0, 8.0):
        contenders = [Contender("logitscope", int, ours=True), Contender("torch", int)]
        times = {"logitscope": [1.0], "torch": [factor]}
        results.append(evaluate(case(contenders), contenders, times, RATES))
    (summary,) = summarise(results)
    assert (summary.group, summary.label, summary.cases) == ("things", "logitscope", 2)
    assert summary.ratio == pytest.approx({"torch": 4, "best": 4})
    assert summary.least == 2
    page = report.markdown(report.tables(results))
    assert "| things | logitscope | 2 | 4.00 | 4.00 | 2.00 |" in page


def test_that_every_contender_has_its_turn_in_every_round():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    shares = []
    times = take_turns(runs, Settings(seconds=0.0, least_rounds=3, most_rounds=3), shares.append)
    assert {name: len(rounds) for name, rounds in times.items()} == {"a": 3, "b": 3, "c": 3}
    turns = [name for name, before in zip(order[6:], ["", *order[6:]], strict=False) if name != before]
    assert "".join(turns) == "abcacbcab"
    assert shares == [1 / 3, 2 / 3, 1]


def test_that_a_wrong_answer_is_no_result():
    right = Contender("right", lambda: np.ones(5), ours=True)
    wrong = Contender("wrong", lambda: np.ones(5) + 0.1)
    lost = Contender("lost", lambda: np.full(5, np.nan))
    with pytest.raises(WrongAnswerError, match=r"^bench: thing 4 float32: wrong and right differ by 1.0e-01"):
        measure_case(case([right, wrong]), TINY)
    with pytest.raises(WrongAnswerError):
        measure_case(case([right, lost]), TINY)
    assert measure_case(case([right, wrong], tolerance=0.2), TINY).rounds == 2


def test_that_probes_give_the_rates_that_works_need():
    other = Contender("other", int, work=(Pass(flops=5, bf16_flops=5),))
    roofline = Roofline((Pass(copied=1 << 16, exps=5),), [other])
    rates = roofline.rates(take_turns(roofline.runs, TINY))
    assert set(rates) == {"copied", "exps", "flops", "bf16_flops"}
    assert all(math.isfinite(rate) and rate > 1e6 for rate in rates.values())


def test_that_who_names_what_it_reads_is_held_against_reading_that():
    x, y = np.ones((2, 1 << 12), np.float32), np.ones((2, 4, 1 << 10), ml_dtypes.bfloat16)
    contenders = [
        Contender("a", int, ours=True, reads=(x,)),
        Contender("b", int, reads=(x,)),
        Contender("c", int, reads=(x, y)),
        Contender("d", int),
    ]
    roofline = Roofline((Pass(read=1 << 14),), contenders)
    own, rest = [name for name in roofline.runs if name != "read"], {"read": [1.0]}
    assert len(own) == 2
    assert set(roofline.own_rates(take_turns(roofline.runs, TINY))) == {"a", "b", "c"}
    rates = roofline.own_rates(rest | dict(zip(own, [[1.0], [4.0]], strict=True)))
    assert rates == {"a": 1 << 15, "b": 1 << 15, "c": (1 << 13) + (1 << 12)}
    times = {name: [2.0] for name in "abcd"}
    result = evaluate(
        Case("thing", "things", (4,), "float32", (Pass(read=1 << 15),), lambda: contenders),
        contenders,
        times,
        {"read": float(1 << 16)},
        rates,
    )
    assert [one.of_roofline for one in result.measured] == [0.5, 0.5, pytest.approx(4 / 3), 0.25]
    assert [one.of_bandwidth for one in result.measured][3] == 0.25


def test_that_an_unknown_probe_is_refused():
    x = np.ones(16, np.float32)
    with pytest.raises(ArgumentError, match=r"^roofline: probe is 'fly'; use 'read', 'write', 'copy'"):
        _native.roofline("fly", x, x.copy(), 1)


def test_that_one_thread_is_given_back():
    threads, variables = _native.get_num_threads(), dict(os.environ)
    cpus = os.sched_getaffinity(0) if sys.platform == "linux" else None
    with machine.one_thread() as cpu:
        assert _native.get_num_threads() == 1
        assert "--xla_cpu_multi_thread_eigen=false" in os.environ["XLA_FLAGS"]
        if cpus is not None:
            assert os.sched_getaffinity(0) == {cpu}
    assert (_native.get_num_threads(), dict(os.environ)) == (threads, variables)
    if cpus is not None:
        assert os.sched_getaffinity(0) == cpus


def test_that_a_library_that_does_not_import_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    peers = Peers.load(("scipy",))
    assert (peers.scipy, peers.versions) == (None, {})
    assert "scipy" in peers.missing["scipy"]


def test_that_suites_are_found_by_their_files():
    assert {"loss", "softmax"} <= set(suites.NAMES)
    for name in suites.NAMES:
        cases = list(suites.cases(name, Settings(smoke=True), Peers({}, {}, {})))
        assert cases or (name == "gpu" and not gpu.available(allow_software=True))
        assert len({(case.group, case.title) for case in cases}) == len(cases)


def test_that_the_page_of_gpus_shows_the_kept_figures():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "how-to" / "gpu.md").read_text()
    (kept,) = re.findall(r"kept in `(benches/\S+)\.md`", page)
    numbers = json.loads((root / f"{kept}.json").read_text())
    assert numbers["device"].partition(" (software")[0] in page
    for result in numbers["results"]:
        by_name = {one["name"]: one for one in result["measured"]}
        times = [report._time(by_name[name]["seconds"][0]) for name in ("CPU", "GPU", "GPU with copies")]
        ratio = by_name["GPU with copies"]["ratios"]["CPU"][0]
        cells = (result["name"], str(result["shape"][0]), *times, f"{ratio:.4f}")
        assert f"| {' | '.join(cells)} |" in page


def test_that_the_command_keeps_numbers_and_tables(tmp_path):
    numbers = tmp_path / "deep" / "numbers.json"
    words = [
        "bench",
        "loss",
        "--quick",
        "--sizes",
        "4x9",
        "--json",
        str(numbers),
        "--save",
        str(tmp_path / "kept"),
        "--record",
        str(tmp_path / "bench.scope"),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "logitscope", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cross entropy, forward and backward" in done.stdout
    found = json.loads(numbers.read_text())
    assert found["suite"] == "loss"
    assert found["machine"]["isa"] == _native.isa()
    assert [result["shape"] for result in found["results"]] == [[4, 9]]
    assert {*found["versions"], *found["missing"]} == {"logitscope", "torch", "jax", "scipy"}
    kept = list((tmp_path / "kept").rglob("*"))
    assert {path.relative_to(tmp_path / "kept" / machine.slug()).name for path in kept if path.is_file()} == {
        "loss.json",
        "loss.md",
    }
    (result,) = found["results"]
    with RunReader(tmp_path / "bench.scope") as run:
        assert (run.info.status, run.info.meta["suite"]) == ("finished", "loss")
        shown = {
            panel.title: [run.scalars(tag).values[0] for tag in panel.tags] for panel in run.panels()[:3]
        }
        assert found["machine"]["cpu"] in run.text("facts").text
    measured = result["measured"]
    assert shown.pop("Share of the roofline") == [100 * one["of_roofline"] for one in measured]
    ours = [one for one in measured if one["best_peer"]]
    assert shown.pop("Against the best peer") == [one["ratios"][one["best_peer"]][0] for one in ours]
    assert shown == {"Time, 4x9": pytest.approx([1e6 * one["seconds"][0] for one in measured])}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["fly"], "argument SUITE: invalid choice: 'fly'"),
        (["loss", "--sizes", "3x"], "argument --sizes: invalid list of sizes value: '3x'"),
        (["loss", "--sizes", "0x3"], "argument --sizes: '0x3' has no elements; use 1 or more"),
        (["loss", "--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["loss", "--json", "/proc/none/x"], "bench: /proc/none/x cannot be written"),
        (["loss", "--record", "/proc/none/x"], "bench: /proc/none/x cannot be written"),
        (["memory", "--record"], "memory has a table alone, nothing to draw; use it without --record"),
        (["memory", "--sizes", "9x9"], "memory has arrays of its own; use it without --sizes"),
        (["accuracy", "--dtype", "float16"], "accuracy has arrays of its own, in float32; use it without"),
    ],
)
def test_that_a_wrong_option_is_refused_in_a_line(words, line, capsys):
    try:
        code = main(["bench", *words])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert line in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_that_the_peak_of_a_way_is_that_of_its_logits(monkeypatch):
    monkeypatch.setattr(memory, "WAYS", ("torch", "plain", "recompute"))
    peaks = {peak.way: peak for peak in memory.measure(512, 16, 20_000)}
    logits = 4 * 512 * 20_000
    assert peaks["torch"].bytes > 1.8 * logits  # and their gradient
    assert 0.9 * logits < peaks["plain"].bytes < 1.5 * logits
    assert peaks["recompute"].bytes < 0.3 * logits
    assert peaks["torch"].share == 1
    rows = memory.table(list(peaks.values())).rows
    assert [row[0] for row in rows] == list(peaks)
    assert rows[0][2] == "100%"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_that_what_statistics_cost_is_held_against_limits():
    checks = {check.name: check for check in statistics.measure(TINY, lengths=(64,), mapped=256)}
    assert {"cost of all statistics", "memory beyond the results", "memory of the map, a head"} <= {*checks}
    assert checks["error of the statistics"].met
    assert all(math.isfinite(check.measured) for check in checks.values())
    rows = statistics.table(
        [
            statistics.Check("a", "b", 2.0, 1.8, is_least=True),
            statistics.Check("c", "d", 4096, 2048, unit="B"),
        ]
    ).rows
    assert rows == [["a", "b", "2", ">= 1.8", "yes"], ["c", "d", "4 KiB", "<= 2 KiB", "no"]]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_that_16_bit_arrays_are_not_widened_as_a_whole(monkeypatch):
    monkeypatch.setattr(memory, "WAYS", ("torch", "chunked", "recompute"))
    rows, features, classes = 300, 256, 20_000
    peaks = {peak.way: peak.bytes for peak in memory.measure(rows, features, classes, "bfloat16")}
    weight = 2 * classes * features
    chunk = 4 * rows * classes // 2
    # The gradient of the weight, and beside it its sums in float32 where all classes are worked on at once.
    assert peaks["recompute"] < weight + 16 * 2**20
    assert peaks["chunked"] < weight + 2 * weight + chunk + 8 * 2**20


def test_that_a_way_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(memory, "WAYS", ("fly",))
    with pytest.raises(ArgumentError, match=r"^bench: 'fly' of .* cannot be measured: .*mode is 'fly'; use"):
        memory.measure(8, 8, 8)
