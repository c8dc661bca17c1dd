import numpy as np
import pytest

from logitscope_app.models.alerts import MOST, WINDOW, Watchman, look
from logitscope_app.models.series import Points


def _curve(values):
    return Points(np.arange(len(values)), np.array(values, float))


def _noise(count, level=2.0):
    return level + 0.05 * np.random.default_rng(1).standard_normal(count)


def _found(tag, values):
    return [(event.step, event.level, event.message) for event in look(tag, _curve(values))]


def test_that_healthy_curves_are_left_alone():
    falling = 4.6 * np.exp(-np.arange(600) / 300) + 0.05 * _noise(600, 0.0)
    for tag in ("loss/train", "grad_norm", "logits/max"):
        assert _found(tag, falling + 1) == []
    assert _found("attention/entropy/layer0", [0.9, 0.5, 0.06]) == []
    assert _found("logits/lost_mass", [0.0] * 50) == []
    assert _found("loss/train", []) == []


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "∞")])
def test_that_what_is_not_finite_is_an_error_at_its_first_step(value, name):
    values = [*_noise(40), value, value, value]
    assert _found("weight_norm", values) == [(40, "error", f"weight_norm is {name}")]


def test_that_a_loss_spike_is_told_with_its_evidence():
    values = _noise(100)
    values[70:73] = 6.5
    ((step, level, message),) = _found("loss/train", values)
    assert (step, level) == (70, "warning")
    assert message.startswith("Loss spike: loss/train 6.5 after a mean of 1.99")


def test_that_gradients_must_grow_tenfold():
    values = _noise(60, 1.0)
    values[50] = 9.0
    assert _found("grad_norm", values) == []
    values[50] = 12.0
    assert [step for step, _, _ in _found("grad_norm/layer1", values)] == [50]


@pytest.mark.parametrize(
    ("tag", "values", "step", "words"),
    [
        ("attention/entropy/layer2", [0.5, 0.2, 0.04, 0.03], 2, "Entropy collapse"),
        ("attention/max_logit/layer0", [10, 49, 51, 70], 2, "Logit drift"),
        ("logits/lost_mass", [0, 0, 0.25], 2, "0.25 of the classes"),
    ],
)
def test_that_collapse_and_drift_are_told_where_they_begin(tag, values, step, words):
    ((found, level, message),) = _found(tag, values)
    assert (found, level) == (step, "warning")
    assert words in message


def test_that_a_curve_that_fails_again_and_again_is_told_a_few_times():
    values = np.where(np.arange(400) % 2, np.nan, 1.0)
    assert len(_found("loss/train", values)) == MOST


def test_that_a_spike_needs_a_past():
    assert _found("loss/train", [*_noise(WINDOW - 1), 9.0]) == []
    assert len(_found("loss/train", [*_noise(WINDOW), 9.0])) == 1


def test_that_curves_are_looked_at_again_only_when_they_change(monkeypatch):
    looked = []

    def counting(tag, points):
        looked.append(tag)
        return look(tag, points)

    monkeypatch.setattr("logitscope_app.models.alerts.look", counting)
    watchman, curves = Watchman(), {"a": _curve([1.0, np.nan]), "b": _curve([np.inf])}
    first = watchman.alerts(curves)
    assert [event.step for event in first] == [0, 1]
    curves["a"] = curves["a"].extended(np.array([2]), np.array([1.0]))
    assert watchman.alerts(curves) == first
    assert looked == ["a", "b", "a"]
