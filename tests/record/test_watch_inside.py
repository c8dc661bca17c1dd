"""Watching plain torch from inside its passes: attention, activations, where the first NaN comes from."""

import copy
import math

import numpy as np
import pytest

from logitscope import record
from logitscope.record import inside, survey

torch = pytest.importorskip("torch")
functional = torch.nn.functional

BATCH, LENGTH, WIDTH, HEADS = 3, 10, 16, 4


class Plain(torch.nn.Module):
    """Attention in one of the ways that models are written in."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.line = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.multi = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.out = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        if self.way.startswith("multi"):
            needed = self.way == "multi weights"
            return self.multi(x, x, x, attn_mask=hidden, is_causal=not needed, need_weights=needed)[0]
        q, k, v = self.heads(x)
        if self.way == "eager":
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            scores = scores + torch.zeros_like(scores).masked_fill(hidden, torch.finfo(x.dtype).min)
            mixed = functional.softmax(scores, dim=-1, dtype=torch.float32) @ v
        elif self.way == "mask":
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=~hidden)
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def heads(self, x):
        return self.line(x).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)

    @torch.no_grad()
    def weights(self, x):
        """The weights (B, H, L, L) in double precision, written down once more."""
        if self.way.startswith("multi"):
            parts = functional.linear(x, self.multi.in_proj_weight, self.multi.in_proj_bias)
            q, k, _ = parts.view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4).double()
        else:
            q, k, _ = self.heads(x).double()
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1), -math.inf)
        return scores, scores.softmax(-1)


class Model(torch.nn.Module):
    def __init__(self, way="causal", layers=2):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Plain(way) for _ in range(layers))
        self.act = torch.nn.ReLU()
        self.head = torch.nn.Linear(WIDTH, 7)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.act(x))


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.scope"


@pytest.mark.parametrize("way", ["multi", "multi weights", "eager", "mask", "causal"])
def test_that_plain_attention_shows_what_it_is(path, way):
    model = Model(way)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    with record.start("w", path=path) as scope, scope.watch(model, every=2, maps_every=2, sample=1) as watch:
        plain = copy.deepcopy(model)(x)
        for step in range(3):
            watch.step(step)
            torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
    scores, weights = model.blocks[0].weights(x)
    shown = torch.isfinite(scores)
    entropy = (
        -(weights * weights.clamp(min=1e-300).log()).sum(-1)[..., 1:] / torch.arange(2, LENGTH + 1).log()
    )
    with record.RunReader(path) as run:
        assert run.events() == []
        assert run.steps("attention/map").tolist() == [0, 2]
        assert run.array("attention/map").array.shape == (2, HEADS, LENGTH, LENGTH)
        np.testing.assert_allclose(run.array("attention/map").array[0], weights[1], atol=1e-5)
        found = {
            name: run.array(f"attention/{name}").array[0]
            for name in ("entropy", "max_logit", "lse", "logit_std")
        }
        largest = torch.where(shown, scores, -math.inf).amax((0, 2, 3))
        np.testing.assert_allclose(found["max_logit"], largest, rtol=1e-4)
        np.testing.assert_allclose(found["entropy"], entropy.mean((0, 2)), rtol=1e-4)
        np.testing.assert_allclose(found["lse"], scores.logsumexp(-1).mean((0, 2)), rtol=1e-3, atol=1e-5)
        spread = [scores[:, head][shown[:, head]].std(correction=0).item() for head in range(HEADS)]
        np.testing.assert_allclose(found["logit_std"], spread, rtol=1e-4)
        assert {"attention/sink/layer1", "attention/logit_std/layer0"} <= {tag.name for tag in run.tags()}
        assert [panel.title for panel in run.panels()].count("Attention maps") == 1


@pytest.mark.parametrize("way", ["eager", "sdpa"])
def test_that_a_model_of_transformers_is_seen(path, way):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 11}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(**sizes, **heads, attn_implementation=way)
    model = transformers.LlamaForCausalLM(config).train()
    tokens = torch.randint(0, 11, (2, 6))
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        watch.gradients(0)
    with record.RunReader(path) as run:
        assert run.events() == []
        tags = {tag.name for tag in run.tags()}
        map_ = run.array("attention/map").array
    assert map_.shape == (2, 4, 6, 6)
    assert (np.triu(map_, 1) == 0).all()
    np.testing.assert_allclose(map_.sum(-1), 1, rtol=1e-5)
    assert {"activation/saturation/model.layers.1", "grad_norm/model.layers.1", "logits/max"} <= tags


def test_that_padding_of_multi_head_attention_is_masked(path):
    module = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    model = torch.nn.Sequential()
    model.add_module("attention", module)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[0, 4:] = True
    model.forward = lambda x: module(x, x, x, key_padding_mask=padding, need_weights=False)[0]
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model(torch.randn(2, 6, WIDTH))
    with record.RunReader(path) as run:
        assert run.events() == []
        map_ = run.array("attention/map").array[0]
    assert (map_[:, :, 4:] == 0).all()
    np.testing.assert_allclose(map_.sum(-1), 1, rtol=1e-5)


def test_that_grouped_heads_and_long_sequences_are_sampled(path):
    class Grouped(torch.nn.Module):
        def forward(self, q, k):
            return functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    model = Grouped()
    q, k = torch.randn(2, 4, 1500, 8), torch.randn(2, 2, 1500, 8)
    with record.start("w", path=path) as scope, scope.watch(model, map_bins=(20, 30), sample=5) as watch:
        watch.step(0)
        model(q, k)
    weights = (q[1] @ k[1].repeat_interleave(2, 0).transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    with record.RunReader(path) as run:
        map_ = run.array("attention/map").array[0]
        assert run.events() == []
    expected = weights.reshape(4, 20, 75, 30, 50).mean((2, 4))
    np.testing.assert_allclose(map_, expected, atol=5e-4)  # of a third of the rows


def test_that_observable_layers_come_first_and_are_not_seen_twice(path):
    from logitscope.nn import CausalSelfAttention

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.plain, self.ours = Plain("causal"), CausalSelfAttention(WIDTH, HEADS)

        def forward(self, x):
            return self.ours(self.plain(x))

    model = Both()
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model(torch.randn(2, 5, WIDTH))
        watch.step(1)
    with record.RunReader(path) as run:
        assert run.array("attention/map").array.shape[0] == 2
        assert np.isfinite(run.array("attention/logit_std").array).all()
        assert {"attention/entropy/layer0", "attention/entropy/layer1"} <= {tag.name for tag in run.tags()}
        assert "attention/entropy/layer2" not in {tag.name for tag in run.tags()}


def test_that_passes_that_are_not_due_are_left_alone(path, monkeypatch):
    model = Model()
    with record.start("w", path=path) as scope, scope.watch(model, every=5, maps_every=5) as watch:
        watch.step(1)
        monkeypatch.setattr("logitscope.record.passage.Passage.open", lambda _: pytest.fail("opened"))
        model(torch.randn(1, 4, WIDTH))


def test_that_only_modules_with_calls_are_looked_into_until_fewer_are_seen(path, monkeypatch):
    monkeypatch.setattr(survey, "SURVEY_EVERY", 4)
    whole = []
    opens = inside.Passage.open
    monkeypatch.setattr(inside.Passage, "open", lambda self: whole.append(watch._step) or opens(self))
    model, x = Model(), torch.randn(1, 4, WIDTH)
    act = model.act
    with record.start("w", path=path) as scope, scope.watch(model, every=1, maps_every=1) as watch:
        for step in range(12):
            model.act = torch.nn.Identity() if step == 9 else act
            watch.step(step)
            model(x)
    with record.RunReader(path) as run:
        assert run.events() == []
        for layer in range(2):
            assert run.scalars(f"attention/entropy/layer{layer}").steps.tolist() == list(range(12))
        assert run.scalars("activation/saturation/act").steps.tolist() == [*range(9), 10, 11]
    assert whole == [0, 4, 8, 10]


def test_that_hooks_are_gone_after_a_pass_that_failed(path):
    model = Model()
    before = torch.nn.modules.module._global_forward_hooks.copy()
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        with pytest.raises(RuntimeError):
            model(torch.randn(1, 4, WIDTH + 1))
        assert torch.nn.modules.module._global_forward_hooks == before
        assert torch.overrides._get_current_function_mode_stack() == []


def test_that_flat_activations_and_dead_units_are_counted(path):
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh())
    x = torch.full((8, 4), -1.0)
    x[:, 0] = 5
    x[0, 1] = 1
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model(x)
    with record.RunReader(path) as run:
        assert run.scalars("activation/saturation/0").values.tolist() == [(32 - 8 - 1) / 32]
        assert run.scalars("activation/dead/0").values.tolist() == [2 / 4]
        assert run.scalars("activation/saturation/1").values.tolist() == [8 / 32]
        assert "Dead units" in {panel.title for panel in run.panels()}


@pytest.mark.parametrize("way", ["causal", "eager", "multi"])
def test_that_the_first_nan_is_told_with_its_head_and_row(path, way):
    model = Model(way)
    with record.start("w", path=path) as scope, scope.watch(model, every=100) as watch:
        for step in range(6):
            watch.step(step)
            x = torch.randn(BATCH, LENGTH, WIDTH)
            if step == 3:
                overflow(model.blocks[1], head=2)
            model(x)
    with record.RunReader(path) as run:
        (event,) = run.events()
    assert event.step == 3
    assert event.level == "error"
    assert event.message.startswith("First NaN at step 3: head 2, row 0, batch element 0 (")
    assert "of the attention in blocks.1" in event.message
    assert "1 of 4 heads" in event.message


def overflow(block, head):
    """Make the scores of one head overflow, so that the softmax gives NaN."""
    size = WIDTH // HEADS
    rows = slice(head * size, (head + 1) * size)
    weight, bias = (
        (block.multi.in_proj_weight, block.multi.in_proj_bias)
        if block.way.startswith("multi")
        else (block.line.weight, block.line.bias)
    )
    with torch.no_grad():
        for start in (0, WIDTH):
            weight[start + rows.start : start + rows.stop] = 0
            bias[start + rows.start : start + rows.stop] = 1e25


def test_that_a_nan_of_our_kernel_is_told_with_its_head_and_row(path):
    from logitscope.nn import GPT, GPTConfig

    model = GPT(GPTConfig(vocabulary=11, context=12, layers=2, heads=2, width=16))
    with torch.no_grad():
        model.blocks[1].attention.qkv.bias[16 + 8 : 32] = math.inf  # the keys of head 1
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model(torch.randint(0, 11, (2, 12)))
    with record.RunReader(path) as run:
        (event,) = run.events()
    assert "head 1, row 0" in event.message
    assert "attention in blocks.1.attention (CausalSelfAttention); largest query" in event.message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda m: m.blocks[1].out.weight.fill_(math.nan),
            "weight of blocks.1.out (Linear), entry (0, 0): it was so",
        ),
        (lambda m: m.blocks[0].out.weight.fill_(3e38), "the output of blocks.0.out (Linear), entry (0, "),
    ],
)
def test_that_a_nan_elsewhere_is_told_with_its_module(path, spoil, words):
    model = Model()
    with torch.no_grad():
        spoil(model)
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        watch.step(0)
        model(torch.randn(BATCH, LENGTH, WIDTH) * 10)
    with record.RunReader(path) as run:
        (event,) = run.events()
    assert words in event.message


def test_that_masked_classes_and_random_numbers_are_no_nan(path):
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 4))
    model.register_forward_hook(lambda m, a, out: out.masked_fill(torch.eye(4).bool(), -math.inf))
    with record.start("w", path=path) as scope, scope.watch(model) as watch:
        for step in range(3):
            watch.step(step)
            model(torch.ones(4, 4))
        watched = torch.rand(3)
    torch.manual_seed(0)
    fresh = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 4))
    for _ in range(3):
        fresh(torch.ones(4, 4))
    assert torch.equal(watched, torch.rand(3))
    with record.RunReader(path) as run:
        assert run.events() == []


def _by_call(model, backend):
    return torch.compile(model, backend=backend)


def _in_place(model, backend):
    model.compile(backend=backend)
    return model


def _blocks_by_call(model, backend):
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend=backend)
    return model


def _blocks_in_place(model, backend):
    for block in model.blocks:
        block.compile(backend=backend)
    return model


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, of what is between compiled blocks
@pytest.mark.filterwarnings("ignore:Using `torch.compile")  # of hooks: block and wrapper
@pytest.mark.parametrize("compiled_as", [_by_call, _in_place, _blocks_by_call, _blocks_in_place])
def test_that_a_compiled_model_is_looked_at_and_runs_compiled_otherwise(tmp_path, compiled_as):
    passes = []

    def backend(graph, _inputs):
        def run(*inputs):
            passes.append(step)
            return graph.forward(*inputs)

        return run

    torch.manual_seed(0)
    plain = Model()
    kinds = {"plain": plain, "compiled": compiled_as(copy.deepcopy(plain), backend)}
    x = torch.randn(BATCH, LENGTH, WIDTH)
    figures = {}
    for name, model in kinds.items():
        with (
            record.start(name, path=tmp_path / f"{name}.scope") as scope,
            scope.watch(model, every=2, maps_every=4) as watch,
        ):
            for step in range(5):
                watch.step(step)
                model(x)
        with record.RunReader(scope.path) as run:
            figures[name] = {tag: run.scalars(tag).values.tolist() for tag in SEEN}
            figures[name]["steps"] = run.steps("attention/map").tolist()
    assert figures["compiled"] == figures["plain"]
    assert figures["plain"]["steps"] == [0, 4]
    assert set(passes) == {1, 3}
    step = 9
    model(x)
    assert passes[-1] == 9
    assert getattr(model, "_compiled_call_impl", None) is None or compiled_as is _in_place


SEEN = ["attention/entropy/layer0", "attention/logit_std/layer1", "activation/saturation/act"]


def test_that_a_compiled_model_without_calls_of_interest_does_not_stay_plain(path):
    passes = []

    def backend(graph, _):
        return lambda *arguments: passes.append(watch._step) or graph(*arguments)

    model = torch.compile(torch.nn.Linear(4, 4), backend=backend)
    with record.start("w", path=path) as scope, scope.watch(model, every=2, maps_every=2) as watch:
        for step in range(4):
            watch.step(step)
            model(torch.ones(2, 4))
    assert {1, 3} <= set(passes)


def test_that_a_compiled_model_names_its_first_nan(tmp_path):
    model = Model()
    with torch.no_grad():
        model.blocks[1].line.weight[2, 3] = float("inf")
    compiled = torch.compile(model, backend="eager")
    with (
        record.start("nan", path=tmp_path / "nan.scope") as scope,
        scope.watch(compiled, every=5) as watch,
    ):
        watch.step(3)
        compiled(torch.randn(BATCH, LENGTH, WIDTH))
    with record.RunReader(scope.path) as run:
        assert (
            "First NaN at step 3: weight of blocks.1.line (Linear), entry (2, 3)" in run.events()[0].message
        )
