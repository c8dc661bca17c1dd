"""Where the first NaN of a model comes from: module, head, row, found by a second pass over the same inputs.

Each step costs one sum over the model's output. When that is not finite the pass is repeated, with the random numbers
of the first one and the weights that it had, and each module and attention call on its way is looked at.
"""

from __future__ import annotations

import contextlib
import math
import sys
from typing import TYPE_CHECKING, Any

from logitscope.record import plain_attention
from logitscope.record.parts import bare
from logitscope.record.passage import Passage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OURS = "attention.default"
"""The name of logitscope's kernel among torch's operators."""
_FUNCTIONS = plain_attention.FUNCTIONS | {_OURS}


def is_bad(output: Any) -> bool:
    """Whether what a model gives holds a NaN or +inf; of -inf masks are made. Of a dict the loss or logits count."""
    return any(_is_bad(tensor) for tensor in _tensors(_told(output)))


def is_on_cpu(output: Any) -> bool:
    """Whether looking at what a model gives waits for no other device."""
    return all(tensor.device.type == "cpu" for tensor in _tensors(_told(output)))


def find(model: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], state: Any) -> str:
    """Say where the first NaN of a pass comes from.

    Parameters
    ----------
    model
        The torch module, with the weights that it had.
    arguments, options
        What it was called with.
    state
        torch's random numbers as they were before the pass.
    """
    torch = sys.modules["torch"]
    search = _Search(model)
    passage = Passage(model, search, _FUNCTIONS)
    with _numbers_of(torch, state), torch.no_grad():
        search.enter(model, arguments)
        if not search.found:
            passage.open()
            try:
                model.forward(*arguments, **options)
            finally:
                passage.close()
    return search.found or "the model's output, which a second pass over the same inputs does not show"


class _Search:
    """Keeps the first thing that is not finite."""

    def __init__(self, model: Any) -> None:
        self.found = ""
        self._names = {id(module): bare(name) or "model" for name, module in model.named_modules()}

    def enter(self, module: Any, inputs: tuple[Any, ...]) -> None:
        if self.found:
            return
        for name, parameter in module.named_parameters(recurse=False):
            if _is_bad(parameter):
                place = f"{name} of {self._called(module)}, {_entry(parameter)}"
                self.found = f"{place}: it was so before this step's pass, by the update before"
                return
        bad = next((tensor for tensor in _tensors(inputs) if _is_bad(tensor)), None)
        if bad is not None:
            self.found = f"what {self._called(module)} is given, {_entry(bad)}"

    def leave(self, module: Any, output: Any) -> None:
        bad = None if self.found else next((t for t in _tensors(output) if _is_bad(t)), None)
        if bad is not None:
            self.found = f"the output of {self._called(module)}, {_entry(bad)}"

    def before(self, name: str, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Nothing: the result tells."""

    def after(
        self, name: str, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], output: Any
    ) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if self.found or getattr(first, "ndim", 0) < 2 or not _is_bad(first):
            return
        if name == plain_attention.SOFTMAX and plain_attention.scores_of(name, arguments, options) is None:
            return  # the module's output will tell
        evidence = ""
        if name == _OURS:
            heads: plain_attention.Heads | None = plain_attention.Heads(*arguments[:3])
        else:
            heads = plain_attention.heads_of(name, arguments, options)
        if heads is not None:
            sizes = [_largest(part) for part in (heads.query, heads.key, heads.value)]
            evidence = "; largest query {:.3g}, key {:.3g}, value {:.3g}".format(*sizes)
            if name == plain_attention.MULTI_HEAD:
                first = _weighted(heads)
        self.found = f"{_row(first)} of the attention in {self._called(module)}{evidence}"

    def _called(self, module: Any) -> str:
        return f"{self._names.get(id(module), 'a module')} ({type(module).__name__})"


def _weighted(heads: plain_attention.Heads) -> Any:
    """What attention of heads gives, (B, H, L, D), by torch's plain way."""
    product = sys.modules["torch"].nn.functional.scaled_dot_product_attention
    return product(heads.query, heads.key, heads.value, attn_mask=heads.mask, is_causal=heads.is_causal)


def _row(output: Any) -> str:
    """Head and row of the first NaN in (..., H, L, D)."""
    rows = (output != output).any(-1) | (output == math.inf).any(-1)
    rows = rows.reshape(-1, *rows.shape[-2:]) if rows.ndim > 1 else rows.reshape(1, 1, -1)
    element, head, row = (int(place) for place in rows.nonzero()[0].tolist())
    _, heads, length = rows.shape
    share = f"{int(rows[element, head].sum())} of its {length} rows, {int(rows.any(-1).any(0).sum())} of {heads} heads"
    return f"head {head}, row {row}, batch element {element} ({share})"


def _entry(tensor: Any) -> str:
    place = ((tensor != tensor) | (tensor == math.inf)).nonzero()[0].tolist()
    return f"entry ({', '.join(str(int(number)) for number in place)})"


def _largest(tensor: Any) -> float:
    return float(tensor.detach().abs().max())


def _is_bad(tensor: Any) -> bool:
    values = tensor.detach()
    total = float(values.sum(dtype=sys.modules["torch"].float32))
    return not math.isfinite(total) and bool(((values != values) | (values == math.inf)).any())


def _told(output: Any) -> Any:
    """The loss or the logits of a dictionary, such as transformers give; anything else as it is."""
    if isinstance(output, dict):
        return next(
            (output[name] for name in ("loss", "logits") if output.get(name) is not None),
            tuple(output.values()),
        )
    return output


def _tensors(value: Any) -> Iterator[Any]:
    """Tensors of real numbers in what a module takes or gives."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif hasattr(value, "is_floating_point") and value.is_floating_point() and value.numel():
        yield value


@contextlib.contextmanager
def _numbers_of(torch: Any, state: Any) -> Iterator[None]:
    """The random numbers of an earlier moment; afterwards those of now."""
    now = torch.get_rng_state()
    if state is not None:
        torch.set_rng_state(state)
    try:
        yield
    finally:
        torch.set_rng_state(now)
