"""Watching a model: the right figures at the right steps, out of the way of the training."""

import copy
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from logitscope import record
from logitscope.errors import ArgumentError, DTypeError
from logitscope.record import AttentionObservation, AttentionRequest
from logitscope.record.statistics import summarize_heads, summarize_logits


class Handle:
    def __init__(self, hooks, hook):
        self.hooks, self.hook = hooks, hook

    def remove(self):
        self.hooks.remove(self.hook)


class FakeModule:
    """As much of a torch module as is needed."""

    def __init__(self, **children):
        self.training = True
        self.hooks = []
        self.children = children
        self.parameters = {}

    def named_modules(self, prefix=""):
        yield prefix, self
        for name, child in self.children.items():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self):
        for name, module in self.named_modules():
            for parameter_name, parameter in module.parameters.items():
                yield f"{name}.{parameter_name}", parameter

    def register_forward_hook(self, hook):
        self.hooks.append(hook)
        return Handle(self.hooks, hook)

    def __call__(self, x):
        out = self.forward(x)
        for hook in self.hooks:
            hook(self, (x,), out)
        return out

    def forward(self, x):
        for child in self.children.values():
            x = child(x)
        return x


class FakeAttention(FakeModule):
    """Causal attention over random scores, with what it hands out in ``handed``."""

    def __init__(self, heads=2, seed=0):
        super().__init__()
        self.observer, self.num_heads = None, heads
        self.rng = np.random.default_rng(seed)
        self.requests = []

    def forward(self, x):
        request = self.observer.request(self) if self.observer is not None else None
        if request is not None:
            self.requests.append(request)
            self.observer.observe(self, self.observation(x, request))
        return x

    def observation(self, x, request):
        batch, length = x.shape[:2]
        scores = self.rng.normal(size=(batch, self.num_heads, length, length)) * 3
        scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
        peak = scores.max(-1)
        weights = np.exp(scores - peak[..., None])
        lse = peak + np.log(weights.sum(-1))
        weights /= weights.sum(-1, keepdims=True)
        entropy = -np.where(weights == 0, 0, weights * np.log(np.where(weights == 0, 1, weights))).sum(-1)
        self.weights = weights
        return AttentionObservation(
            peak.astype("f4"),
            entropy.astype("f4"),
            lse.astype("f4"),
            weights[request.sample].astype("f4") if request.map_bins else None,
            np.arange(1, length + 1),
        )


class FakeHead(FakeModule):
    def forward(self, x):
        return np.linspace(-4, 4, x.shape[0] * x.shape[1] * 7).reshape(*x.shape[:2], 7)


class FakeParameter:
    def __init__(self, value, grad=None):
        self.value, self.grad = np.asarray(value, float), grad

    def __array__(self, dtype=None, copy=None):
        return self.value.astype(dtype or float)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.scope"


@pytest.fixture
def model():
    return FakeModule(first=FakeAttention(seed=1), second=FakeAttention(seed=2), head=FakeHead())


def test_that_the_standard_tags_are_written_at_their_steps(path, model):
    x = np.zeros((3, 8))
    with record.start("w", path=path) as scope, scope.watch(model, every=2, maps_every=4) as watch:
        for step in range(9):
            watch.step(step)
            watch.tokens("abcdefgh")
            model(x)
            watch.gradients(step)
    with record.RunReader(path) as run:
        tags = {tag.name: tag.count for tag in run.tags()}
        layers = {
            f"attention/{name}/layer{i}": 5
            for name in ("max_logit", "entropy", "entropy_min", "entropy_max", "lse_mean")
            for i in (0, 1)
        }
        layers.update({f"attention/sink/layer{i}": 3 for i in (0, 1)})
        names = ("max", "std", "lse_mean", "entropy", "saturation", "lost_mass")
        names += ("lost_mass/float16", "lost_mass/bfloat16")
        arrays = {
            f"attention/{name}": 3 for name in ("map", "entropy", "max_logit", "lse", "sink_mass", "tokens")
        }
        assert tags == {**layers, **{f"logits/{name}": 5 for name in names}, **arrays}
        assert run.steps("attention/map").tolist() == [0, 4, 8]
        assert run.steps("attention/entropy/layer1").tolist() == [0, 2, 4, 6, 8]
        last = run.array("attention/map").array
        assert last.shape == (2, 2, 8, 8)
        np.testing.assert_array_equal(last[1], model.children["second"].weights[0].astype("f4"))
        np.testing.assert_allclose(
            run.array("attention/sink_mass").array[1], last[1][:, 2:, 0].mean(axis=1), rtol=1e-6
        )
        sharpest = run.scalars("attention/entropy_min/layer1").values[-1]
        assert sharpest == run.array("attention/entropy").array[1].min()
        assert json.loads(run.text("attention/tokens").text) == list("abcdefgh")
        groups = {panel.title: panel.group for panel in run.panels()}
        assert groups["Attention maps"] == "Attention"
        assert groups["Class logits"] == "Logit scaling"
        assert groups["Loss"] == "Training"
        assert [panel.kind for panel in run.panels() if panel.title == "Attention maps"] == ["heads"]
        assert run.events() == []


def test_that_a_module_is_asked_once_a_step_and_only_when_due(path, model):
    attention = model.children["first"]
    with record.start("w", path=path) as scope:
        watch = scope.watch(model, every=3, maps_every=6, map_bins=(16, 32), sample=1)
        model(np.zeros((2, 4)))  # before the first step nothing is asked for
        for step in range(7):
            watch.step(step)
            model(np.zeros((2, 4)))
            model(np.zeros((2, 4)))
    assert attention.requests == [
        AttentionRequest((16, 32), 1),
        AttentionRequest(None, 1),
        AttentionRequest((16, 32), 1),
    ]


def test_that_evaluation_is_left_out_unless_wanted(path, model):
    for module in dict(model.named_modules()).values():
        module.training = False
    with record.start("w", path=path) as scope:
        with scope.watch(model) as watch:
            watch.step(0)
            model(np.zeros((2, 4)))
        with record.RunReader(path) as run:
            assert run.tags() == []
        with scope.watch(model, evaluation=True) as watch:
            watch.step(0)
            model(np.zeros((2, 4)))
    with record.RunReader(path) as run:
        assert "logits/max" in {tag.name for tag in run.tags()}


def test_that_a_layer_that_was_skipped_leaves_nan_in_its_place(path, model):
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model.children["second"](np.zeros((2, 4)))
        watch.step(1)
    with record.RunReader(path) as run:
        entropy = run.array("attention/entropy").array
        assert np.isnan(entropy[0]).all()
        assert np.isfinite(entropy[1]).all()
        assert [tag.name for tag in run.tags() if "lse_mean" in tag.name] == ["attention/lse_mean/layer1"]


def test_that_layers_of_different_size_are_filled_up(path):
    model = FakeModule(a=FakeAttention(heads=1), b=FakeAttention(heads=3))
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model(np.zeros((2, 4)))
    with record.RunReader(path) as run:
        assert np.isnan(run.array("attention/max_logit").array).tolist() == [[False, True, True], [False] * 3]


def test_that_a_failing_part_is_told_once_and_switched_off(path, model, caplog):
    model.children["first"].observation = lambda *_: AttentionObservation("?", "?", "?")
    model.children["head"].forward = lambda x: 3
    parameter = FakeParameter([1.0], grad="?")
    model.children["head"].parameters["weight"] = parameter
    with record.start("w", path=path) as scope, scope.watch(model, every=1) as watch:
        for step in range(3):
            watch.step(step)
            model(np.zeros((2, 4)))
            watch.gradients(step)
    with record.RunReader(path) as run:
        events = run.events()
        assert [event.level for event in events] == ["error"] * 3
        assert {event.message.split()[1] for event in events} == {"attention", "logits", "gradients"}
    assert len(caplog.records) == 3


def test_that_closing_takes_out_every_hook(path, model):
    with record.start("w", path=path) as scope:
        watch = scope.watch(model)
        with pytest.raises(ArgumentError, match="is watched already"):
            scope.watch(model)
        watch.close()
        assert all(getattr(module, "observer", None) is None for _, module in model.named_modules())
        assert all(module.hooks == [] for _, module in model.named_modules())
        scope.watch(model).close()


def test_that_a_copied_or_saved_model_is_not_watched(path, model):
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        watch.step(0)
        for duplicate in copies:
            assert duplicate.children["first"].observer is None
            duplicate(np.zeros((2, 4)))
    with record.RunReader(path) as run:
        assert run.tags() == []


def test_that_norms_are_those_of_all_and_of_each_part(path):
    model = FakeModule(body=FakeModule(), head=FakeModule())
    model.children["body"].parameters = {
        "w": FakeParameter([3.0, 4.0], grad=np.array([1.0, 2.0])),
        "b": FakeParameter([0.0], grad=np.array([2.0])),
    }
    model.children["head"].parameters = {
        "w": FakeParameter([12.0], grad=np.array([4.0])),
        "f": FakeParameter([0.0]),
    }
    with record.start("w", path=path) as scope, scope.watch(model, logits="head") as watch:
        watch.gradients(0)
        watch.gradients(1)
    with record.RunReader(path) as run:
        found = {tag.name: run.scalars(tag.name).values.tolist() for tag in run.tags()}
    updates = {name: found.pop(name) for name in list(found) if name.startswith("update_ratio")}
    assert found == {"grad_norm": [5], "weight_norm": [13], "grad_norm/body": [3], "grad_norm/head": [4]}
    assert updates == {
        "update_ratio": [0],
        "update_ratio/body": [0],
        "update_ratio/head": [0],
    }  # nothing moved


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"every": 0}, ArgumentError, "every is 0; give 1 or more"),
        ({"map_bins": (0, 8)}, ArgumentError, "give rows and columns"),
        ({"map_bins": (8,)}, ArgumentError, "give rows and columns"),
        ({"logits": "nothing"}, ArgumentError, "it has first, second, head"),
        ({"logits": 3}, DTypeError, "logits is a int"),
    ],
)
def test_that_wrong_options_are_told(path, model, arguments, error, match):
    with record.start("w", path=path) as scope, pytest.raises(error, match=match):
        scope.watch(model, **arguments)


def test_that_a_wrapped_model_is_watched_as_if_it_were_not(path, model):
    model.children["head"].parameters["weight"] = FakeParameter([1.0], grad=np.array([2.0]))
    wrapped = FakeModule(module=model)
    with record.start("w", path=path) as scope, scope.watch(wrapped) as watch:
        watch.step(0)
        wrapped(np.zeros((2, 4)))
        watch.gradients(0)
    with record.RunReader(path) as run:
        assert {"grad_norm/head", "logits/max"} <= {tag.name for tag in run.tags()}


def test_that_something_else_than_a_model_is_told(path):
    with (
        record.start("w", path=path) as scope,
        pytest.raises(DTypeError, match="model is a list; give a torch module"),
    ):
        scope.watch([])


def test_that_entropy_is_relative_to_the_keys_a_row_sees():
    visible = np.array([0, 1, 2, 8])
    entropy = np.array([0, 0, math.log(2), math.log(8) / 2], np.float32).reshape(1, 1, 4)
    lse = np.array([-np.inf, 1, 2, 3], np.float32).reshape(1, 1, 4)
    summary = summarize_heads(lse, entropy, lse, visible)
    assert summary.entropy == pytest.approx([0.75])
    assert summary.lse_mean == 2
    assert summary.max_logit == [3]
    assert np.isnan(summarize_heads(lse, entropy, lse, np.ones(4)).entropy).all()
    assert summarize_heads(lse[:0], entropy[:0], lse[:0]) is None


def test_that_a_nan_stays_in_the_figures():
    clean = np.zeros((1, 2, 4), np.float32)
    broken = clean.copy()
    broken[0, 1, 2] = np.nan
    summary = summarize_heads(broken, broken, broken)
    assert np.isnan(summary.max_logit).tolist() == np.isnan(summary.entropy).tolist() == [False, True]
    assert np.isnan(summary.lse_mean)
    logits = np.zeros((4, 5))
    logits[2, 3] = np.nan
    assert all(np.isnan(value) for value in summarize_logits(logits).values())
    assert summarize_logits(np.array([[np.inf, 0.0]]))["logits/max"] == np.inf


def test_that_the_figures_of_class_logits_are_right():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 5, 11)) * 4
    logits[0, 0, :2] = [120, -50]  # saturated: the ten other probabilities round to 0
    logits[1, 1, 4] = -np.inf  # masked: neither lost nor counted
    found = summarize_logits(logits.astype(np.float32))
    rows = logits.astype(np.float32).astype(float).reshape(-1, 11)
    lse = np.log(np.exp(rows).sum(1))
    p = np.exp(rows - lse[:, None])
    finite = rows[np.isfinite(rows)]
    assert found == pytest.approx(
        {
            "logits/max": 120,
            "logits/std": finite.std(),
            "logits/lse_mean": lse.mean(),
            "logits/entropy": -(np.where(p == 0, 0, p * np.log(np.where(p == 0, 1, p)))).sum(1).mean(),
            "logits/saturation": np.mean(p.max(1) > 0.99),
            "logits/lost_mass": 10 / finite.size,
            "logits/lost_mass/float16": np.mean(p[np.isfinite(rows)].astype(np.float16) == 0),
            "logits/lost_mass/bfloat16": np.mean(p[np.isfinite(rows)] < 2.0**-134),
        },
        rel=1e-6,
    )
    assert summarize_logits(np.zeros((0, 5))) == {}


def test_that_many_rows_are_sampled_but_the_maximum_is_that_of_all():
    logits = np.zeros((100_000, 3), np.float32)
    logits[99_999, 1] = 7
    assert summarize_logits(logits)["logits/max"] == 7


def test_that_a_torch_model_is_watched_and_trains_on(path):
    torch = pytest.importorskip("torch")

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.observer, self.num_heads = None, 2
            self.line = torch.nn.Linear(6, 6)

        def forward(self, x):
            if self.observer is not None and self.observer.request(self) is not None:
                rows = np.ones((len(x), 2, x.shape[1]), np.float32)
                self.observer.observe(self, AttentionObservation(rows, rows, rows))
            return self.line(x)

    model = torch.nn.Sequential()
    model.add_module("blocks", torch.nn.ModuleList([Attention(), Attention()]))
    model.add_module("head", torch.nn.Linear(6, 9))
    model.forward = lambda x: model.head(model.blocks[1](model.blocks[0](x)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record.start("w", path=path) as scope, scope.watch(model, every=1, optimizer=optimizer) as watch:
        for step in range(3):
            watch.step(step)
            logits = model(torch.randn(2, 5, 6))
            loss = logits.square().mean()
            optimizer.zero_grad()
            loss.backward()
            expected = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
            optimizer.step()
            scope.scalar("loss/train", loss, step)
            scope.array("bf16", torch.full((3,), 1.5, dtype=torch.bfloat16), step)
        duplicate = copy.deepcopy(model)
        assert duplicate.blocks[0].observer is None
    with record.RunReader(path) as run:
        assert run.events() == []
        assert run.scalars("grad_norm").values[-1] == pytest.approx(expected, rel=1e-6)
        parts = [run.scalars(f"grad_norm/{part}").values[-1] for part in ("blocks.0", "blocks.1", "head")]
        assert math.hypot(*parts) == pytest.approx(expected, rel=1e-6)
        assert run.scalars("logits/max").values[-1] == pytest.approx(logits.max().item())
        assert run.scalars("loss/train").values[-1] == loss.item()
        assert run.array("bf16").array.tolist() == [1.5, 1.5, 1.5]
        assert run.steps("attention/max_logit/layer1").tolist() == [0, 1, 2]


def test_that_watching_does_not_import_torch(path):
    program = f"""
import sys
from types import SimpleNamespace
from logitscope import record
model = SimpleNamespace(named_modules=lambda: [], named_parameters=lambda: [])
with record.start("w", path={str(path)!r}) as scope, scope.watch(model) as watch:
    watch.step(0)
    watch.gradients(0)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_that_slices_give_the_recorded_map_anew(path):
    torch = pytest.importorskip("torch")
    from logitscope.nn import GPT, GPTConfig

    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary=11, context=12, layers=2, heads=2, width=16))
    model.set_temperature(0.5)
    with (
        record.start("w", path=path) as scope,
        scope.watch(model, maps_every=2, slices_every=4, sample=1) as watch,
    ):
        for step in range(5):
            watch.step(step)
            model(torch.randint(0, 11, (3, 12)))
    with record.RunReader(path) as run:
        assert run.steps("attention/map").tolist() == [0, 2, 4]
        assert run.steps("attention/query").tolist() == run.steps("attention/key").tolist() == [0, 4]
        assert "what-if" in {panel.kind for panel in run.panels()}
        query, key, map_ = (run.array(f"attention/{name}").array for name in ("query", "key", "map"))
    assert query.shape == key.shape == (2, 2, 12, 8)
    scores = np.where(np.tri(12) > 0, query @ key.swapaxes(2, 3) / math.sqrt(8), -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(map_, weights / weights.sum(axis=-1, keepdims=True), atol=1e-5)


def test_that_the_update_of_an_optimizer_is_measured(path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(300, 40), torch.nn.Linear(40, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    expected = []
    with record.start("w", path=path) as scope, scope.watch(model, maps_every=2) as watch:
        for step in range(5):
            watch.step(step)
            model(torch.randn(8, 300)).square().mean().backward()
            watch.gradients(step)
            before = [p.detach().clone() for p in model.parameters()]
            optimizer.step()
            moved = torch.nn.utils.get_total_norm(
                [p - q for p, q in zip(model.parameters(), before, strict=True)]
            )
            expected.append((moved / torch.nn.utils.get_total_norm(before)).item())
            optimizer.zero_grad()
    with record.RunReader(path) as run:
        assert run.events() == []
        series = run.scalars("update_ratio")
        assert series.steps.tolist() == [0, 2, 4]
        np.testing.assert_allclose(
            series.values, expected[::2], rtol=0.1
        )  # a third of the weights is looked at
        assert {"update_ratio/0", "update_ratio/1"} <= {tag.name for tag in run.tags()}


@pytest.mark.parametrize(
    ("schedule", "steps", "maps"), [("economy", [0, 20], [0]), ("full", list(range(22)), [0, 10, 20])]
)
def test_that_schedules_differ_in_how_often(path, model, schedule, steps, maps):
    with record.start("w", path=path) as scope, scope.watch(model, schedule=schedule) as watch:
        for step in range(22):
            watch.step(step)
            model(np.zeros((2, 4)))
    with record.RunReader(path) as run:
        assert run.steps("attention/entropy/layer0").tolist() == steps
        assert run.steps("attention/map").tolist() == maps


def test_that_an_unknown_schedule_is_told(path, model):
    with (
        record.start("w", path=path) as scope,
        pytest.raises(ArgumentError, match="use economy, normal, full"),
    ):
        scope.watch(model, schedule="often")
