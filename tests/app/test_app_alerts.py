import inspect
import re

import numpy as np
import pytest

from logitscope.record import Event
from logitscope_app.models.alerts import FLAT_POINTS, MOST, RULES, WINDOW, Watchman, look, nan_origin
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
    assert _found("attention/entropy_min/layer0", [0.9, 0.5, 0.01]) == []
    assert _found("attention/max_logit/layer0", np.linspace(0.1, 12, 80)) == []
    assert _found("attention/entropy_max/layer0", np.linspace(1.0, 0.9, 80)) == []
    assert _found("logits/std", np.linspace(0.1, 3.9, 80)) == []
    assert _found("logits/lost_mass", [0.0] * 50) == []
    assert _found("loss/train", []) == []


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "∞")])
def test_that_the_first_tensor_that_is_not_finite_is_named(value, name):
    curves = {
        "loss/train": _curve([*_noise(41), value, value]),
        "grad_norm": _curve([*_noise(41), value, value]),
        "attention/max_logit/layer1": Points(np.arange(0, 50, 5), np.array([1.0] * 9 + [value])),
        "attention/max_logit/layer0": Points(np.arange(0, 50, 5), np.ones(10)),
        "weight_norm": _curve([*_noise(50), value]),
    }
    origin = nan_origin(curves)
    assert (origin.rule, origin.step, origin.level) == ("nan origin", 41, "error")
    assert (
        origin.tag == "attention/max_logit/layer1"
    )  # looked at each fifth step: 45 is the first look after 41
    assert origin.message == (
        f"NaN origin: attention/max_logit/layer1 is {name} at step 45 (seen first at step 41); "
        "then loss/train, grad_norm"
    )
    assert nan_origin({"loss/train": _curve(_noise(40))}) is None
    assert Watchman().alerts(curves) == (origin,)


def test_that_what_a_watch_has_found_out_of_a_nan_counts_for_more_than_curves():
    told = Event(1, 40, 0.0, "error", "First NaN at step 40: head 2, row 7 of the attention in blocks.1")
    curves = {"loss/train": _curve([*_noise(41), np.nan])}
    (alert,) = Watchman().alerts(curves, [told])
    assert (alert.rule, alert.step, alert.level) == ("nan origin", 40, "error")
    assert alert.message.endswith("head 2, row 7 of the attention in blocks.1")


def test_that_every_alert_names_a_remedy_that_is_there():
    pytest.importorskip("torch")
    import logitscope.nn
    import logitscope.ops.attention

    for rule in RULES:
        for name in re.findall(r"\bnn\.([A-Z]\w+)", rule.remedy):
            assert hasattr(logitscope.nn, name), name
        for option in re.findall(r"\b(\w+)=", rule.remedy):
            sources = (logitscope.nn.CrossEntropyLoss.__init__, logitscope.ops.attention.attention)
            assert any(option in inspect.signature(source).parameters for source in sources), option


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
        ("attention/max_logit/layer0", [5.0] * 20 + [12.0, 25.0, 26.0], 21, "Logit drift"),
        ("attention/entropy/layer0", [0.6] * 20 + [0.4, 0.28, 0.28], 21, "layer 0 looks at single tokens"),
        ("logits/std", [2.0] * 20 + [3.0, 4.5], 21, "grew to 4.5 from 2"),
        ("logits/max", [30, 101], 1, "Logit drift"),
        ("logits/saturation", [0.2, 0.95], 1, "Saturation"),
        ("attention/sink/layer1", [0.2, 0.85], 1, "layer 1 gives nearly all its weight"),
        ("attention/entropy_max/layer2", [0.9] * 60 + [1.0] * 30, 60 + FLAT_POINTS - 1, "a head of layer 2"),
        ("loss/train", [4.0] * 10 + [8.0] * 60, 30, "Divergence"),
        ("logits/lost_mass", [0, 0, 0.25], 2, "0.25: that share of the classes"),
    ],
)
def test_that_collapse_and_drift_are_told_where_they_begin(tag, values, step, words):
    ((found, level, message),) = _found(tag, values)
    assert (found, level) == (step, "warning")
    assert words in message


def test_that_a_curve_that_fails_again_and_again_is_told_a_few_times():
    values = np.where(np.arange(400) % 2, 0.5, 0.0)
    assert len(_found("logits/lost_mass", values)) == MOST


def test_that_a_spike_needs_a_past():
    assert _found("loss/train", [*_noise(WINDOW - 1), 9.0]) == []
    assert len(_found("loss/train", [*_noise(WINDOW), 9.0])) == 1


def test_that_curves_are_looked_at_again_only_when_they_change(monkeypatch):
    looked = []

    def counting(tag, points):
        looked.append(tag)
        return look(tag, points)

    monkeypatch.setattr("logitscope_app.models.alerts.look", counting)
    watchman, curves = (
        Watchman(),
        {"logits/lost_mass": _curve([0.0, 1.0]), "logits/saturation": _curve([1.0])},
    )
    first = watchman.alerts(curves)
    assert [event.step for event in first] == [0, 1]
    curves["logits/lost_mass"] = curves["logits/lost_mass"].extended(np.array([2]), np.array([1.0]))
    assert watchman.alerts(curves) == first
    assert looked == ["logits/lost_mass", "logits/saturation", "logits/lost_mass"]


@pytest.mark.parametrize("kind", ["failing", "healthy"])
def test_that_a_seeded_training_is_told_from_a_healthy_one(tmp_path, kind):
    torch = pytest.importorskip("torch")
    seeded_trainings = pytest.importorskip("seeded_trainings")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    case = seeded_trainings.failing(0)[1] if kind == "failing" else seeded_trainings.healthy(0)[1]
    seeded_trainings.train(case, tmp_path / "run.scope", steps=180)
    torch.set_num_threads(threads)
    alerts, _ = seeded_trainings.alerts_of(tmp_path / "run.scope")
    assert bool({alert.rule for alert in alerts} & set(case.expected)) == (kind == "failing")
    assert alerts == () or kind == "failing"


def test_that_each_failing_training_is_really_made_to_fail():
    torch = pytest.importorskip("torch")
    seeded_trainings = pytest.importorskip("seeded_trainings")
    from logitscope.nn import GPT, GPTConfig

    tokens = torch.arange(24).reshape(2, 12)
    for case in seeded_trainings.failing(0):
        torch.manual_seed(0)
        model = GPT(GPTConfig(30, 64, case.layers, case.heads, case.width))
        before = model(tokens)
        last = seeded_trainings.BEGIN + 190
        for step in range(seeded_trainings.BEGIN, last + 1):
            case.sabotage(model, step)
        after = case.logits_at(model(tokens), last)
        touched = not torch.allclose(before, after, rtol=1e-3) or case.rate != type(case).rate
        jumps = any(case.rate_at(step) != 1.0 for step in range(seeded_trainings.STEPS))
        assert touched or jumps, case.name
