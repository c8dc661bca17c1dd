"""Records what happens inside a model: attention, class logits, gradients and weights.

torch is not imported: a model is anything with ``named_modules`` and ``named_parameters``. Attention modules
hand out their statistics themselves (see `AttentionObservation`), at a step when they are asked for, so that
watching costs what the kernels give anyway. A failure in here is recorded once as an event, switches the
failing part off, and never reaches the training.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitscope.errors import ArgumentError, DTypeError
from logitscope.record import panels
from logitscope.record.arguments import check_step
from logitscope.record.norms import norms
from logitscope.record.statistics import HeadSummary, sink_mass, summarize_heads, summarize_logits
from logitscope.record.updates import Updates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from numpy.typing import NDArray

    from logitscope.record.recorder import Recorder

logger = logging.getLogger("logitscope.record")

SCHEDULES = {"economy": (20, 100), "normal": (5, 20), "full": (1, 5)}
"""Steps from one record of statistics to the next, and from one map to the next."""
_HEAD_NAMES = ("head", "lm_head")


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """What an attention module is asked to hand out in this forward pass, besides its statistics."""

    map_bins: tuple[int, int] | None
    """Rows and columns of the map that is wanted, at most; None when none is."""
    sample: int
    """Which element of the batch the map is of."""
    slices: bool = False
    """Whether the queries and keys of that element are wanted, too."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionObservation:
    """What an attention module hands out in a forward pass."""

    max_logit: NDArray[np.float32]  # (B, H, L)
    entropy: NDArray[np.float32]  # (B, H, L), nats
    lse: NDArray[np.float32]  # (B, H, L)
    map: NDArray[np.float32] | None = None  # (H, R, C)
    visible: NDArray[np.int64] | None = None  # (L,), keys that each row sees; L when not given
    query: NDArray[np.float32] | None = None  # (H, L, D), so that q . k / sqrt(D) are the scores
    key: NDArray[np.float32] | None = None  # (Hk, L, D)


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
        A torch module. Its attention modules are those with the attributes ``observer`` and ``num_heads``.
    recorder
        Where to; `Recorder.watch` fills it in.
    schedule
        How often: ``"economy"`` records statistics at every 20th step and maps at every 100th, ``"normal"`` at
        every 5th and 20th, ``"full"`` at every step and every 5th.
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
    plan = _Schedule(every, maps_every, tuple(map_bins), sample, evaluation, slices_every)
    return Watch(model, recorder, plan, _find_logits(model, logits), optimizer)


@dataclass(frozen=True, slots=True)
class _Schedule:
    every: int
    maps_every: int
    map_bins: tuple[int, ...]
    sample: int
    evaluation: bool
    slices_every: int | None = None


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

    def __init__(
        self, model: Any, recorder: Recorder, schedule: _Schedule, head: Any, optimizer: Any
    ) -> None:
        self._recorder, self._schedule = recorder, schedule
        self._step: int | None = None
        self._updated = 0
        self._broken: set[str] = set()
        self._layers = [module for _, module in model.named_modules() if _is_observable(module)]
        self._index = {id(module): index for index, module in enumerate(self._layers)}
        self._parameters = [(_part(name), parameter) for name, parameter in model.named_parameters()]
        self._updates = Updates(self._parameters)
        self._asked: set[int] = set()
        self._seen: dict[int, tuple[HeadSummary, NDArray[np.float32] | None]] = {}
        self._slices: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._logits_seen = False
        taken = [module for module in self._layers if module.observer is not None]
        if taken:
            message = f"watch: a {type(taken[0]).__name__} is watched already; close the other Watch first"
            raise ArgumentError(message)
        self._observer = _Observer(self)
        self._handles: list[Any] = []
        for module in self._layers:
            module.observer = self._observer
        if head is not None:
            self._handles.append(head.register_forward_hook(_Hook(self._on_logits)))
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(_Hook(self._on_optimizer_step)))
        panels.declare(recorder, panels.TRAINING)
        panels.declare(recorder, panels.ATTENTION if self._layers else ())
        panels.declare(recorder, panels.SLICES if self._layers and schedule.slices_every else ())
        panels.declare(recorder, panels.LOGITS if head is not None else ())

    @property
    def due(self) -> bool:
        """Whether statistics are recorded at this step."""
        return self._step is not None and (self._step % self._schedule.every == 0 or self.map_due)

    @property
    def map_due(self) -> bool:
        """Whether attention maps are recorded at this step."""
        return self._step is not None and self._step % self._schedule.maps_every == 0

    def step(self, step: int) -> None:
        """Begin a step: the next forward pass, its gradients and its tokens belong to it."""
        step = check_step("Watch.step", step)
        self._guarded("attention", self._flush)
        self._guarded("updates", self._record_updates)
        self._step, self._logits_seen = step, False
        self._asked.clear()

    def tokens(self, tokens: Iterable[str]) -> None:
        """Record the tokens of the watched element of the batch, at a step that records maps."""
        if self.map_due and self._step is not None:
            self._recorder.text("attention/tokens", json.dumps([str(token) for token in tokens]), self._step)

    def gradients(self, step: int) -> None:
        """Record norms of gradients and weights; call it after the backward pass."""
        step = check_step("Watch.gradients", step)
        if step % self._schedule.every == 0:
            self._guarded("gradients", self._record_norms, step)
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
        self._step = None

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

    def _wants(self, module: Any) -> bool:
        return self.due and (self._schedule.evaluation or bool(getattr(module, "training", True)))

    def _request(self, module: Any) -> AttentionRequest | None:
        index = self._index.get(id(module))
        if index is None or index in self._asked or not self._wants(module):
            return None
        self._asked.add(index)  # of several passes in a step (accumulation, recomputation) the first counts
        rows, columns = self._schedule.map_bins
        slices = self._schedule.slices_every
        return AttentionRequest(
            (rows, columns) if self.map_due else None,
            self._schedule.sample,
            bool(slices) and self.map_due and self._step is not None and self._step % (slices or 1) == 0,
        )

    def _observe(self, module: Any, observation: AttentionObservation) -> None:
        summary = summarize_heads(
            observation.max_logit, observation.entropy, observation.lse, observation.visible
        )
        if summary is not None:
            seen = None if observation.map is None else np.array(observation.map, np.float32)
            self._seen[self._index[id(module)]] = summary, seen
            if observation.query is not None and observation.key is not None:
                pair = np.array(observation.query, np.float32), np.array(observation.key, np.float32)
                self._slices[self._index[id(module)]] = pair
        if len(self._seen) == len(self._layers):
            self._flush()

    def _flush(self) -> None:
        """Record what the layers have handed out in this step."""
        seen, self._seen = self._seen, {}
        slices, self._slices = self._slices, {}
        if not seen or self._step is None:
            return
        scalars = {}
        for index, (summary, _) in sorted(seen.items()):
            scalars[f"attention/max_logit/layer{index}"] = float(summary.max_logit.max())
            scalars[f"attention/entropy/layer{index}"] = float(summary.entropy.mean())
            scalars[f"attention/entropy_min/layer{index}"] = float(summary.entropy.min())
            scalars[f"attention/entropy_max/layer{index}"] = float(summary.entropy.max())
            scalars[f"attention/lse_mean/layer{index}"] = summary.lse_mean
        maps = {index: map_ for index, (_, map_) in seen.items() if map_ is not None}
        sinks = {index: sink_mass(map_) for index, map_ in sorted(maps.items())}
        scalars.update({f"attention/sink/layer{index}": float(mass.mean()) for index, mass in sinks.items()})
        self._recorder.scalars(scalars, self._step)
        if maps:
            count = len(self._layers)
            for name in ("entropy", "max_logit"):
                figures = {index: getattr(summary, name) for index, (summary, _) in seen.items()}
                self._recorder.array(f"attention/{name}", _stack(figures, count), self._step)
            self._recorder.array("attention/sink_mass", _stack(sinks, count), self._step)
            self._recorder.array("attention/map", _stack(maps, count), self._step)
        for place, name in enumerate(("query", "key") if slices else ()):
            parts = {index: pair[place] for index, pair in slices.items()}
            self._recorder.array(f"attention/{name}", _stack(parts, len(self._layers)), self._step)

    def _on_logits(self, module: Any, _arguments: Any, output: Any) -> None:
        if self._logits_seen or not self._wants(module) or self._step is None:
            return
        self._logits_seen = True
        self._guarded("logits", self._record_logits, output, self._step)

    def _record_logits(self, output: Any, step: int) -> None:
        logits = output[0] if isinstance(output, (tuple, list)) else output
        self._recorder.scalars(
            summarize_logits(logits.detach() if hasattr(logits, "detach") else logits), step
        )

    def _on_optimizer_step(self, *_arguments: Any) -> None:
        if self._step is not None:
            self.gradients(self._step)

    def _record_updates(self) -> None:
        """How far the optimizer has moved the weights since the gradients were looked at."""
        self._recorder.scalars(self._updates.after(), self._updated)

    def _record_norms(self, step: int) -> None:
        groups: dict[str, list[Any]] = {"weight_norm": [parameter for _, parameter in self._parameters]}
        for part, parameter in self._parameters:
            if parameter.grad is not None:
                groups.setdefault(f"grad_norm/{part}", []).append(parameter.grad)
        found = norms(groups)
        parts = [length for name, length in found.items() if name.startswith("grad_norm/")]
        if parts:
            found["grad_norm"] = math.hypot(*parts)
        self._recorder.scalars(found, step)


class _Observer:
    """What stands in the ``observer`` of an attention module. A copied or saved model has None there."""

    def __init__(self, owner: Watch) -> None:
        self._owner = owner

    def request(self, module: Any) -> AttentionRequest | None:
        """What the module is to hand out in this forward pass; None for nothing."""
        request = self._owner._guarded("attention", self._owner._request, module)
        return request if isinstance(request, AttentionRequest) else None

    def observe(self, module: Any, observation: AttentionObservation) -> None:
        """Take what the module hands out."""
        self._owner._guarded("attention", self._owner._observe, module, observation)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class _Hook:
    """A hook that does nothing in a copied or saved model."""

    def __init__(self, action: Callable[..., None]) -> None:
        self._action = action

    def __call__(self, *arguments: Any) -> None:
        self._action(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (_ignore,)


def _ignore(*_arguments: Any) -> None:
    """Do nothing, in place of a hook."""


def _is_observable(module: Any) -> bool:
    return hasattr(module, "observer") and hasattr(module, "num_heads")


def _find_logits(model: Any, logits: Any) -> Any:
    if logits is None or isinstance(logits, str):
        wanted = _HEAD_NAMES if logits is None else (logits,)
        modules = {_bare(name): module for name, module in model.named_modules()}
        found = next((modules[name] for name in wanted if name in modules), None)
        if found is None and logits is not None:
            names = ", ".join(name for name in modules if name and "." not in name) or "none"
            message = f"watch: logits is {logits!r}, which is no module of the model; it has {names}"
            raise ArgumentError(message)
        return found
    if not hasattr(logits, "register_forward_hook"):
        message = f"watch: logits is a {type(logits).__name__}; give a torch module or the name of one"
        raise DTypeError(message)
    return logits


def _bare(name: str) -> str:
    """The name without what torch.compile and data parallel wrappers put before it."""
    return name.removeprefix("_orig_mod.").removeprefix("module.")


def _part(name: str) -> str:
    """The part of a model that a parameter belongs to: ``blocks.3`` of ``blocks.3.attention.weight``."""
    first, _, rest = _bare(name).partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{second}" if second.isdigit() else first


def _stack(parts: dict[int, NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    """Arrays of layers one above the other; NaN where a layer has none or is smaller than another."""
    shape = tuple(np.max([part.shape for part in parts.values()], axis=0))
    stacked = np.full((count, *shape), np.nan, np.float32)
    for index, part in parts.items():
        stacked[index][tuple(map(slice, part.shape))] = part
    return stacked
