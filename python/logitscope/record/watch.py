"""Records what happens inside a model: attention, class logits, activations, gradients and weights.

torch is not imported: a model is anything with ``named_modules`` and ``named_parameters``. Attention modules of
logitscope hand out their statistics themselves (see `AttentionObservation`), at a step when they are asked for, so that
watching costs what the kernels give anyway; plain torch attention is looked at from outside (inside.py). A failure in
here is recorded once as an event, switches the failing part off, and never reaches the training.
"""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any, Literal

from logitscope.errors import ArgumentError, DTypeError
from logitscope.record import panels
from logitscope.record.arguments import check_step
from logitscope.record.hooks import Hook, Observer
from logitscope.record.inside import Inside
from logitscope.record.layers import Layer, LayerBoard
from logitscope.record.norms import norms
from logitscope.record.observation import AttentionObservation, AttentionRequest
from logitscope.record.parts import find_logits, is_observable, part_of
from logitscope.record.passage import is_torch_model
from logitscope.record.schedule import SCHEDULES, Schedule
from logitscope.record.statistics import spread, summarize_heads, summarize_logits
from logitscope.record.updates import Updates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from logitscope.record.recorder import Recorder

__all__ = ["AttentionObservation", "AttentionRequest", "Watch", "watch"]

logger = logging.getLogger("logitscope.record")


def watch(
    model: Any,
    recorder: Recorder,
    *,
    schedule: Literal["economy", "normal", "full"] = "normal",
    every: int | None = None,
    maps_every: int | None = None,
    map_bins: tuple[int, int] = (128, 128),
    sample: int = 0,
    slices_every: int | None = None,
    logits: Any = None,
    optimizer: Any = None,
    evaluation: bool = False,
) -> Watch:
    """Record the attention, class logits, gradients and weights of a model as it trains.

    Parameters
    ----------
    model
        A torch module. Its attention modules are those with the attributes ``observer`` and ``num_heads``; other
        attention is seen where it calls ``scaled_dot_product_attention``, is an ``nn.MultiheadAttention``, or
        takes a softmax over the last of four axes. A pass that is looked at does not run compiled.
    recorder
        Where to; `Recorder.watch` fills it in.
    schedule
        How often: ``"economy"`` records statistics at every 20th step and maps at every 100th, ``"normal"`` at
        every 5th and 20th, ``"full"`` at every step and every 10th. With the maps come the weight on the first
        token, the spread of the scores, flat activations, norms and updates of the weights.
    every, maps_every
        Instead of the schedule's: statistics are recorded at steps that ``every`` divides, maps at those that
        ``maps_every`` divides.
    map_bins
        Rows and columns of a map at most; longer sequences are binned.
    sample
        Which element of the batch the maps are of.
    slices_every
        Queries and keys of the watched element are recorded at steps of maps that this divides too, for the
        dashboard's what-if; they are large: layers x heads x rows x head size numbers each. None for never.
    logits
        The module whose output are the class logits, or its name; by default the one called ``head`` or
        ``lm_head``, if there is one.
    optimizer
        A torch optimizer: norms are then recorded by its step, without calls of `Watch.gradients`.
    evaluation
        Whether forward passes of modules in evaluation mode are looked at too.

    Returns
    -------
    Watch
        Tell it the step at the beginning of each: ``watch.step(step)``.

    Examples
    --------
    >>> import tempfile
    >>> from types import SimpleNamespace
    >>> from logitscope import record
    >>> model = SimpleNamespace(named_modules=lambda: [], named_parameters=lambda: [])
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     watch = scope.watch(model, every=10)
    ...     for step in range(20):
    ...         watch.step(step)  # forward, backward
    ...         watch.gradients(step)
    ...     watch.close()
    """
    if schedule not in SCHEDULES:
        message = f"watch: schedule is {schedule!r}; use {', '.join(SCHEDULES)}"
        raise ArgumentError(message)
    every = SCHEDULES[schedule][0] if every is None else every
    maps_every = SCHEDULES[schedule][1] if maps_every is None else maps_every
    for name, value in (("every", every), ("maps_every", maps_every), ("slices_every", slices_every or 1)):
        if value < 1:
            message = f"watch: {name} is {value}; give 1 or more"
            raise ArgumentError(message)
    if len(map_bins) != 2 or min(map_bins) < 1:
        message = f"watch: map_bins is {map_bins}; give rows and columns, 1 or more of each"
        raise ArgumentError(message)
    if not (hasattr(model, "named_modules") and hasattr(model, "named_parameters")):
        message = f"watch: model is a {type(model).__name__}; give a torch module"
        raise DTypeError(message)
    plan = Schedule(every, maps_every, (map_bins[0], map_bins[1]), sample, evaluation, slices_every)
    return Watch(model, recorder, plan, find_logits(model, logits), optimizer)


class Watch:
    """The hooks in a model; made by `watch`. `close`, or the end of a ``with`` block, takes them out again.

    Examples
    --------
    >>> import tempfile
    >>> from types import SimpleNamespace
    >>> from logitscope import record
    >>> model = SimpleNamespace(named_modules=lambda: [], named_parameters=lambda: [])
    >>> path = tempfile.mkdtemp() + "/example.scope"
    >>> with record.start("example", path=path) as scope, scope.watch(model, every=10) as watch:
    ...     for step in (0, 1, 10):
    ...         watch.step(step)
    ...         print(step, watch.due)
    0 True
    1 False
    10 True
    """

    def __init__(self, model: Any, recorder: Recorder, schedule: Schedule, head: Any, optimizer: Any) -> None:
        self._recorder, self._schedule = recorder, schedule
        self._step: int | None = None
        self._due = False
        self._updated = 0
        self._broken: set[str] = set()
        self._layers = [module for _, module in model.named_modules() if is_observable(module)]
        self._index = {id(module): index for index, module in enumerate(self._layers)}
        self._parameters = [(part_of(name), parameter) for name, parameter in model.named_parameters()]
        self._updates = Updates(self._parameters)
        self._asked: set[int] = set()
        self._board = LayerBoard(recorder)
        self._seen: dict[int, AttentionObservation] = {}
        self._logits_seen = False
        taken = [module for module in self._layers if module.observer is not None]
        if taken:
            message = f"watch: a {type(taken[0]).__name__} is watched already; close the other Watch first"
            raise ArgumentError(message)
        self._observer = Observer(self)
        self._handles: list[Any] = []
        for module in self._layers:
            module.observer = self._observer
        if head is not None:
            self._handles.append(head.register_forward_hook(Hook(self._on_logits)))
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(Hook(self._on_optimizer_step)))
        self._inside: Inside | None = None
        if is_torch_model(model):
            self._inside = Inside(
                model, recorder, schedule, self._board, len(self._layers), self._guarded, self._flush
            )
            self._handles += self._inside.handles
        panels.declare(recorder, panels.TRAINING)
        panels.declare(recorder, panels.ATTENTION if self._layers else ())
        panels.declare(recorder, panels.SLICES if self._layers and schedule.slices_every else ())
        panels.declare(recorder, panels.LOGITS if head is not None else ())

    @property
    def due(self) -> bool:
        """Whether statistics are recorded at this step."""
        return self._due

    @property
    def map_due(self) -> bool:
        """Whether attention maps are recorded at this step."""
        return self._schedule.map_due(self._step)

    def step(self, step: int) -> None:
        """Begin a step: the next forward pass, its gradients and its tokens belong to it."""
        step = check_step("Watch.step", step)
        self._guarded("attention", self._flush)
        self._guarded("updates", self._record_updates)
        self._step, self._logits_seen = step, False
        self._due = self._schedule.due(step)
        self._asked.clear()
        if self._inside is not None:
            self._inside.step(step)

    def begin_pass(self) -> None:
        """Take what is called until `end_pass` for a pass of the model.

        For a training that calls parts of the model, not the model: what plain torch does in it is seen so.
        """
        if self._inside is not None:
            self._inside.begin_pass()

    def end_pass(self) -> None:
        """End what `begin_pass` has begun; of no effect when that was done."""
        if self._inside is not None:
            self._inside.end_pass()

    def tokens(self, tokens: Iterable[str]) -> None:
        """Record the tokens of the watched element of the batch, at a step that records maps."""
        if self.map_due and self._step is not None:
            self._recorder.text("attention/tokens", json.dumps([str(token) for token in tokens]), self._step)

    def gradients(self, step: int) -> None:
        """Record norms of gradients, and with the maps those of weights; call it after the backward pass."""
        step = check_step("Watch.gradients", step)
        if self._schedule.due(step):
            self._guarded("gradients", self._record_norms, step)
        if self._schedule.map_due(step):
            self._updated = step
            self._guarded("updates", self._updates.before)

    def close(self) -> None:
        """Record what is still to be recorded and take all hooks out of the model."""
        self._guarded("attention", self._flush)
        self._guarded("updates", self._record_updates)
        for module in self._layers:
            if module.observer is self._observer:
                module.observer = None
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._step, self._due = None, False

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(self, part: str, action: Callable[..., Any], *arguments: Any) -> Any:
        """What an action returns; on failure None, and the part is switched off."""
        if part in self._broken:
            return None
        try:
            return action(*arguments)
        except Exception as error:
            self._broken.add(part)
            note = f"watch: {part} no longer recorded after {type(error).__name__}: {error}"
            logger.warning("%s", note)
            self._recorder.event(note[:1000], step=self._step, level="error")
            return None

    def request(self, module: Any) -> AttentionRequest | None:
        """What an observable module is to hand out in this forward pass; None for nothing."""
        if not self._due:
            return None
        request = self._guarded("attention", self._request, module)
        return request if isinstance(request, AttentionRequest) else None

    def observe(self, module: Any, observation: AttentionObservation) -> None:
        """Take what an observable module hands out."""
        self._guarded("attention", self._observe, module, observation)

    def _wants(self, module: Any) -> bool:
        return self._due and self._schedule.covers(module)

    def _request(self, module: Any) -> AttentionRequest | None:
        index = self._index.get(id(module))
        if index is None or index in self._asked or not self._wants(module):
            return None
        self._asked.add(index)  # of several passes in a step (accumulation, recomputation) the first counts
        schedule = self._schedule
        bins = schedule.map_bins if self.map_due else None
        return AttentionRequest(bins, schedule.sample, schedule.slices_due(self._step))

    def _observe(self, module: Any, seen: AttentionObservation) -> None:
        self._seen[self._index[id(module)]] = seen.copy()
        if self._inside is None and len(self._seen) == len(self._layers):
            self._flush()

    def _flush(self) -> None:
        """Record what the layers have shown in this step; reckoned together, which is quicker than between them."""
        seen, self._seen = self._seen, {}
        for index, one in seen.items():
            std = None if one.moments is None else spread(*one.moments)
            summary = summarize_heads(one.max_logit, one.entropy, one.lse, one.visible, std)
            if summary is not None:
                pair = None if one.query is None or one.key is None else (one.query, one.key)
                self._board.take(index, Layer(summary, one.map, pair))
        if self._step is not None:
            plain = 0 if self._inside is None else self._inside.count
            self._board.flush(self._step, len(self._layers) + plain)

    def _on_logits(self, module: Any, _arguments: Any, output: Any) -> None:
        if self._logits_seen or not self._wants(module) or self._step is None:
            return
        self._logits_seen = True
        self._guarded("logits", self._record_logits, output, self._step)

    def _record_logits(self, output: Any, step: int) -> None:
        logits = output[0] if isinstance(output, (tuple, list)) else output
        logits = logits.detach() if hasattr(logits, "detach") else logits
        self._recorder.scalars(summarize_logits(logits), step)

    def _on_optimizer_step(self, *_arguments: Any) -> None:
        if self._step is not None:
            self.gradients(self._step)

    def _record_updates(self) -> None:
        """How far the optimizer has moved the weights since the gradients were looked at."""
        self._recorder.scalars(self._updates.after(), self._updated)

    def _record_norms(self, step: int) -> None:
        groups: dict[str, list[Any]] = {}
        for part, parameter in self._parameters:
            gradient = parameter.grad
            if gradient is not None:
                groups.setdefault(part, []).append(gradient)
        found = {f"grad_norm/{part}": length for part, length in norms(groups).items()}
        if found:
            found["grad_norm"] = math.hypot(*found.values())
        if self._schedule.map_due(step):
            found |= norms({"weight_norm": [parameter for _, parameter in self._parameters]})
        self._recorder.scalars(found, step)
