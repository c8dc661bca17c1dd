"""``logitscope demo`` trains, records, draws and obeys its knobs, and answers what cannot be in one line."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from logitscope.__main__ import main
from logitscope.demo.dashboard import Dashboard
from logitscope.errors import LogitscopeError
from logitscope.record import RunReader

TINY = ("--layers", "2", "--heads", "2", "--width", "16", "--context", "24", "--batch", "2", "--no-window")
SUMMARY = re.compile(r"validation loss: (\d+\.\d+) nats/char, run: (\S+\.scope)$")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "logitscope", "demo", *words]


def demo(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=directory, capture_output=True, text=True, timeout=240, check=False
    )


def wait_for(condition) -> None:
    """Wait until something is so; the test's own time limit ends it otherwise."""
    while not condition():
        time.sleep(0.05)


@pytest.fixture
def endless(tmp_path):
    """A training that goes on until it is stopped, and its run file."""
    path = tmp_path / "endless.scope"
    process = subprocess.Popen(
        command("--steps", "1000000", "--run", str(path), *TINY),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or (path.exists() and steps(path) >= 3))
        assert process.poll() is None, process.communicate()[1]
        yield process, path
    finally:
        process.kill()
        process.communicate()


def steps(path: Path) -> int:
    try:
        with RunReader(path) as run:
            return len(run.scalars("loss/train").values)
    except LogitscopeError:
        return 0  # begun, and not yet a run or without a step


def test_that_a_run_ends_with_its_loss_its_picture_and_everything_recorded(tmp_path) -> None:
    pytest.importorskip("PySide6")
    done = demo(tmp_path, "--steps", "45", "--run", "runs/tiny.scope", *TINY)
    assert done.returncode == 0, done.stderr
    found = SUMMARY.search(done.stdout.strip())
    assert found
    assert found[2] == str(Path("runs/tiny.scope"))
    assert "the model writes:" in done.stdout
    assert "dashboard: demo.png" in done.stderr
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    with RunReader(tmp_path / "runs" / "tiny.scope") as run:
        assert run.info.status == "finished"
        assert run.info.meta["text"] == "pydoc_data.topics"
        counts = {tag.name: tag.count for tag in run.tags()}
        assert counts["loss/train"] == counts["learning_rate"] == counts["temperature"] == 45
        assert counts["tokens_per_second"] == 45
        for name in (
            "loss/validation",
            "grad_norm",
            "weight_norm",
            *(
                f"attention/{kind}/layer{layer}"
                for kind in ("entropy", "max_logit", "lse_mean")
                for layer in (0, 1)
            ),
            *(f"logits/{kind}" for kind in ("max", "std", "lse_mean", "entropy", "saturation", "lost_mass")),
            "text/sample",
        ):
            assert counts[name] > 1, name
        losses = run.scalars("loss/train").values
        assert losses[-5:].mean() < losses[:5].mean() - 0.1
        assert run.array("attention/map").array.shape == (2, 2, 24, 24)
        assert [knob.name for knob in run.knobs()] == ["temperature", "learning_rate_factor", "pause"]
        assert {panel.title for panel in run.panels()} >= {"Loss", "Attention maps", "Class logits", "Speed"}


@pytest.fixture
def in_place(tmp_path, monkeypatch):
    """The command in this process, in an empty directory and without its picture, which takes the longest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(Dashboard, "finish", lambda _dashboard, _picture: None)
    return lambda *words: main(["demo", *words, *TINY])


@pytest.mark.parametrize("attention", ["selective", "sigmoid", "torch"])
def test_that_methods_are_swapped_by_name(in_place, capsys, attention) -> None:
    chosen = {"attention": attention, "activation": "polynorm", "loss": "stablemax", "optimizer": "perpgrad"}
    words = [word for kind, name in chosen.items() for word in (f"--{kind}", name)]
    assert in_place("--steps", "3", "--run", "swapped.scope", *words) == 0
    assert re.search(r"validation loss: \d+\.\d+ of stablemax, run: swapped.scope", capsys.readouterr().out)
    with RunReader("swapped.scope") as run:
        assert run.info.meta.items() >= chosen.items()


def test_that_torchs_own_training_has_the_same_losses(in_place, capsys) -> None:
    assert in_place("--steps", "12", "--compare") == 0
    assert len(list(Path("runs").glob("demo-*.scope"))) == 1
    found = re.findall(
        r"step time: [\d.]+ ms, with torch's attention and cross entropy [\d.]+ ms; "
        r"largest loss difference in 12 steps: (\S+)",
        capsys.readouterr().err,
    )
    assert len(found) == 1
    assert float(found[0]) < 1e-3


def test_that_torchs_attention_trains_too_and_is_seen_inside(in_place) -> None:
    assert in_place("--steps", "3", "--attention", "torch", "--run", "torch.scope") == 0
    with RunReader("torch.scope") as run:
        layers, heads, rows, columns = run.array("attention/map", 0).array.shape
        assert (layers, heads) == (2, 2)
        assert min(rows, columns) > 1


def test_that_ones_own_text_is_trained_on_from_the_same_seed_alike(in_place) -> None:
    Path("own.txt").write_text("to be or not to be, that is the question\n" * 80, encoding="utf-8")
    losses = []
    for name in ("a.scope", "b.scope"):
        assert in_place("--steps", "4", "--text", "own.txt", "--seed", "7", "--run", name) == 0
        with RunReader(name) as run:
            assert run.info.meta["text"] == "own.txt"
            losses.append(run.scalars("loss/train").values.tolist())
    assert losses[0] == losses[1]


def values(run: RunReader, tag: str):
    """What is recorded by now."""
    run.poll()
    return run.scalars(tag).values


def messages(run: RunReader) -> list[str]:
    """What has happened by now."""
    run.poll()
    return [event.message for event in run.events()]


def test_that_knobs_act_on_the_running_training(endless) -> None:
    process, path = endless
    with RunReader(path) as run:
        run.set_knob("temperature", 2.5)
        run.set_knob("learning_rate_factor", 0.5)
        wait_for(lambda: 2.5 in values(run, "temperature"))
        # From one step to the next the schedule alone changes far less.
        wait_for(lambda: np.exp(np.diff(np.log(values(run, "learning_rate")))).min() < 0.7)
        run.set_knob("pause", 1.0)
        wait_for(lambda: "paused by its knob" in messages(run))
        at_pause = len(values(run, "loss/train"))
        time.sleep(0.5)
        assert len(values(run, "loss/train")) == at_pause
        run.set_knob("pause", 0.0)
        wait_for(lambda: len(values(run, "loss/train")) > at_pause)
    assert process.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process on Windows")
def test_that_ctrl_c_ends_the_run_in_order(endless) -> None:
    process, path = endless
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert SUMMARY.search(out.strip())
    assert "Traceback" not in err
    with RunReader(path) as run:
        assert run.info.status == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_that_training_goes_on_when_the_disk_is_full(tmp_path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import resource, runpy, sys\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n"
            "sys.argv[:] = ['logitscope', *sys.argv[1:]]\n"
            "runpy.run_module('logitscope', run_name='__main__')",
            *command("--steps", "60", "--run", "full.scope", *TINY)[3:],
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SUMMARY.search(done.stdout.strip())
    assert "not recorded, since the run file could not be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--text", "none.txt"), "text: there is no file none.txt; give a UTF-8 text file"),
        (("--text", "short.txt"), "text: short.txt has 5 characters; give a text of 2000 characters or more"),
        (("--text", "."), "text: . is a directory; give a UTF-8 text file"),
        (("--run", "taken.scope"), "--run: taken.scope exists already; give the path of a new file"),
        (("--run", "."), "--run: . is a directory; give the path of a new file"),
        (("--run", "short.txt/a.scope"), "--run: short.txt cannot be written to"),
        pytest.param(
            ("--run", "/proc/a.scope"),
            "--run: /proc cannot be written to",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux has /proc"),
        ),
        (("--attention", "sofmax"), "attention: there is no 'sofmax'; use "),
        (("--attention", "torch", "--compare"), "--compare: --attention is torch already"),
        (("--width", "10", "--heads", "4"), "GPTConfig: width 10 is no multiple of 4 heads"),
        (("--context", "50000"), "a window needs 50001"),
        (("--steps", "0"), "argument --steps: 0 is too small; use 1 or more"),
        (("--steps", "many"), "argument --steps: invalid whole number value: 'many'"),
    ],
)
def test_that_what_cannot_be_is_answered_in_one_line(tmp_path, monkeypatch, capsys, words, line: str) -> None:
    (tmp_path / "short.txt").write_text("to be")
    (tmp_path / "taken.scope").write_text("mine")
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["demo", *words])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("logitscope demo: ")
    assert captured.err.count("\n") == 1
    assert line in captured.err
    assert (tmp_path / "taken.scope").read_text() == "mine"
    assert not list(tmp_path.glob("**/demo-*.scope"))
