"""What can be swapped by name is found, is offered once, and does what its kind does."""

import subprocess
import sys
from pathlib import Path

import pytest

from logitscope import methods
from logitscope.errors import ArgumentError
from logitscope.methods import TABLES, find_method, method_names


@pytest.mark.parametrize("kind", TABLES)
def test_that_no_name_is_offered_twice(kind) -> None:
    package, table = TABLES[kind]
    offered = []
    for path in (Path(methods.__file__).parent / package).glob("*.py"):
        if f"\n{table}" in path.read_text():
            offered += methods._keys(methods.ast.parse(path.read_text()), table)
    assert sorted(offered) == list(method_names(kind))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("attention", {"softmax", "torch"}),
        ("activation", {"gelu", "polynorm", "polyrelu", "swiglu"}),
        ("loss", {"cross_entropy", "stablemax", "taylor", "z_standardized"}),
        ("optimizer", {"adamw", "perpgrad", "sgd"}),
    ],
)
def test_that_what_is_defined_is_found(kind, names) -> None:
    assert names <= set(method_names(kind))


def test_that_names_are_known_without_torch() -> None:
    code = (
        "import sys; from logitscope.methods import *; method_names('loss'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_that_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"optimizer: there is no 'adam'; use adamw, .*sgd"):
        find_method("optimizer", "adam")


def test_that_a_new_module_needs_nothing_but_its_table(tmp_path, monkeypatch) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "new.py").write_text("x = 1\nOPTIMIZER: dict = {'new': print, **{}}\n")
    monkeypatch.setattr(methods, "__file__", str(tmp_path / "methods.py"))
    assert method_names("optimizer") == ("new",)


@pytest.mark.parametrize("name", method_names("loss"))
def test_that_a_loss_falls_along_its_gradient(name) -> None:
    torch = pytest.importorskip("torch")
    logits = torch.randn(16, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.arange(16) % 7
    loss = find_method("loss", name)()
    value = loss(logits, targets)
    value.backward()
    assert value.dim() == 0
    assert loss(logits - 0.1 * logits.grad, targets) < value


@pytest.mark.parametrize("name", method_names("optimizer"))
def test_that_an_optimizer_makes_a_loss_smaller(name) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(4, 3), torch.randn(32, 4)
    optimizer = find_method("optimizer", name)(
        [{"params": list(layer.parameters()), "weight_decay": 0.0}], lr=0.05
    )
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(layer(x), x[:, :3].argmax(dim=-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
