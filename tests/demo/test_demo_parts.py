"""The parts of the demo: schedule, learner, progress, and what it can know of displays."""

import sys

import pytest
import torch

from logitscope.data import topics
from logitscope.demo import dashboard
from logitscope.demo.comparison import Comparison
from logitscope.demo.dashboard import Dashboard
from logitscope.demo.learner import Learner
from logitscope.demo.progress import LineProgress
from logitscope.demo.settings import Settings

TINY = Settings(steps=8, layers=1, heads=2, width=16, context=24, batch=2)


@pytest.fixture(scope="module")
def text():
    return topics()


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_that_the_learning_rate_rises_to_its_peak_and_falls_to_a_tenth(steps: int) -> None:
    settings = Settings(steps=steps)
    rates = [settings.learning_rate(step) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(settings.peak_rate)
    if steps > 100:
        assert rates[0] < 0.1 * settings.peak_rate
        assert rates[-1] == pytest.approx(0.1 * settings.peak_rate, rel=1e-3)


def test_that_the_seed_fixes_the_training_and_its_text(text) -> None:
    first, second = (Learner(TINY, text, attention="softmax") for _ in range(2))
    for _ in range(3):
        assert first.step(1e-2, 1.0) == second.step(1e-2, 1.0)
    assert first.validate(8) == second.validate(8)
    assert first.write(30) == second.write(30)
    assert len(first.write(30)) == 30


def test_that_an_untrained_model_knows_nothing(text) -> None:
    learner = Learner(TINY, text, attention="softmax")
    assert learner.validate() == pytest.approx(torch.tensor(len(text.vocabulary)).log().item(), abs=0.2)


def test_that_validation_leaves_the_model_in_training_and_untouched(text) -> None:
    learner = Learner(TINY, text, attention="softmax")
    before = [weight.clone() for weight in learner.model.parameters()]
    learner.validate(8)
    learner.write(3)
    assert learner.model.training
    for weight, old in zip(learner.model.parameters(), before, strict=True):
        torch.testing.assert_close(weight, old, rtol=0, atol=0)


def test_that_a_comparison_ends_after_its_steps_and_reports_the_largest_difference(text) -> None:
    comparison = Comparison(TINY, text)
    learner = Learner(TINY, text, attention="softmax")
    for step in range(8):
        assert not comparison.done
        loss = learner.step(1e-2, 2.0)
        comparison.follow(1e-2, 2.0, loss + (0.5 if step == 4 else 0.0), 0.25)
    assert comparison.done
    assert comparison.largest_difference == pytest.approx(0.5, abs=1e-3)
    assert comparison.summary().startswith("step time: 250.0 ms, with torch's")


def test_that_progress_without_a_terminal_is_some_lines(capsys) -> None:
    with LineProgress(100) as progress:
        for done in range(1, 101):
            progress.update(done, 2.5, 12345.6)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[-1] == "step 100/100  loss 2.500  12,346 tokens/s  0:00 left"


def test_that_the_dashboard_opens_only_where_there_is_a_display(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not dashboard.has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert dashboard.has_display()
    monkeypatch.setattr(dashboard, "find_spec", lambda _name: None)
    missing = Dashboard(tmp_path / "run.scope", window=True)
    assert missing.open() == "the dashboard is not installed: pip install logitscope[app]"
    assert missing.finish(tmp_path / "demo.png") is None


def test_that_a_picture_that_cannot_be_drawn_says_why(tmp_path) -> None:
    pytest.importorskip("PySide6")
    shown = Dashboard(tmp_path / "no.scope", window=False)
    shown.open()
    answer = shown.finish(tmp_path / "demo.png")
    assert answer.startswith("the dashboard could not be drawn: logitscope dashboard: ")
    assert not (tmp_path / "demo.png").exists()
