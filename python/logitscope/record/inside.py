"""What a watch sees inside the passes of a torch model: plain attention, activations, the first NaN."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from logitscope.record import activations, first_nan, panels, plain_attention
from logitscope.record.activations import ActivationBoard
from logitscope.record.compiled import Plain, around
from logitscope.record.parts import bare, is_observable, part_of
from logitscope.record.passage import Passage
from logitscope.record.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logitscope.record.layers import LayerBoard
    from logitscope.record.recorder import Recorder
    from logitscope.record.schedule import Schedule

_FUNCTIONS = plain_attention.FUNCTIONS | activations.FUNCTIONS


class Inside:
    """Looks at passes of a model as a whole; ``guarded`` runs what must not reach the training if it fails.

    Layers of plain attention are numbered in the order of their calls, after the ``first`` observable ones.
    """

    def __init__(
        self,
        model: Any,
        recorder: Recorder,
        schedule: Schedule,
        board: LayerBoard,
        first: int,
        guarded: Callable[..., Any],
        flush: Callable[[], None],
    ) -> None:
        self._model, self._recorder, self._schedule = model, recorder, schedule
        self._board, self._first = board, first
        self._guarded, self._flush = guarded, flush
        self._names = {id(module): bare(name) for name, module in model.named_modules()}
        self._observable = {
            id(part)
            for _, module in model.named_modules()
            if is_observable(module)
            for part in module.modules()
        }
        self._activations = ActivationBoard()
        self._passage = Passage(model, self, _FUNCTIONS)
        self._step: int | None = None
        self._looked = False
        self._count: int | None = None
        self._survey = Survey(model)
        self._bins: tuple[int, ...] | None = None
        self._numbers: Any = None
        self._told = False
        self._declared: set[str] = set()
        self._plain = Plain()
        self.handles = around(model, self._on_pass, self._on_passed)

    @property
    def count(self) -> int:
        """How many layers of plain attention the last pass that was looked at had."""
        return self._count or 0

    def step(self, step: int) -> None:
        """Begin a step: its first pass counts."""
        self._step, self._looked = step, False

    def begin_pass(self) -> None:
        """Look at what follows as at a pass: the training calls parts of the model, not the model."""
        self._on_pass(self._model, ())

    def end_pass(self) -> None:
        """Record what was seen; of no effect when the model was called after all."""
        if self._passage.is_open:
            self._close()
            self._guarded("attention", self._flush)
            self._guarded("activations", self._record_activations)

    def enter(self, module: Any, inputs: tuple[Any, ...]) -> None:
        """Nothing: calls of functions tell."""

    def leave(self, module: Any, output: Any) -> None:
        """Nothing: calls of functions tell."""

    def before(self, name: str, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Look at what a function is given."""
        self._survey.note(module)
        if name in activations.FUNCTIONS:
            part = part_of(self._names.get(id(module), "")) or "model"
            self._guarded("activations", self._activations.take, part, name, arguments, options)
        elif id(module) not in self._observable:
            self._guarded("plain attention", self._take, name, arguments, options)

    def after(
        self, name: str, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], output: Any
    ) -> None:
        """Nothing: the inputs tell."""

    def _take(self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        layer = plain_attention.look(name, arguments, options, sample=self._schedule.sample, bins=self._bins)
        if layer is not None:
            self._declare("attention", panels.ATTENTION)
            self._board.take(self._first + self.count, layer)
            self._count = self.count + 1

    def _on_pass(self, model: Any, _arguments: Any) -> None:
        if self._step is None or self._passage.is_open or not self._schedule.covers(model):
            return
        if not self._told:
            self._numbers = sys.modules["torch"].get_rng_state()
        # A model without plain attention is looked into with its maps only: each call of torch is asked then.
        plain = self._count is None or self._count > 0
        if self._looked or not (self._schedule.due if plain else self._schedule.map_due)(self._step):
            return
        self._looked, self._count = True, 0
        self._bins = self._schedule.map_bins if self._schedule.map_due(self._step) else None
        self._guarded("forward pass", self._open)

    def _open(self) -> None:
        """Look at all of the pass, or, once it is known which modules call something, at those."""
        self._survey.begin()
        self._plain.on()
        if self._survey.is_due:
            self._passage.open()
        else:
            self._passage.open_within(self._survey.callers)

    def _close(self) -> None:
        self._passage.close()
        self._plain.off()
        self._survey.end()

    def _on_passed(self, model: Any, arguments: Any, options: Any, output: Any) -> None:
        self.end_pass()
        if not self._told and self._step is not None and output is not None and self._schedule.covers(model):
            self._guarded("first NaN", self._look_for_nan, arguments, options, output)

    def _record_activations(self) -> None:
        figures = self._activations.figures()
        if figures and self._step is not None:
            self._declare("activation", panels.ACTIVATIONS)
            self._recorder.scalars(figures, self._step)

    def _look_for_nan(self, arguments: Any, options: Any, output: Any) -> None:
        step = self._step
        if step is None or not (self._schedule.due(step) or first_nan.is_on_cpu(output)):
            return  # elsewhere the question makes the training wait for the device
        if not first_nan.is_bad(output):
            return
        self._told = True
        if self._is_one_of_many():
            place = "the output of this process's model (not looked into: others compute with it)"
        else:
            self._plain.on()
            try:
                place = first_nan.find(self._model, arguments, options, self._numbers)
            finally:
                self._plain.off()
        self._recorder.event(f"First NaN at step {step}: {place}", step=step, level="error")

    def _is_one_of_many(self) -> bool:
        distributed = sys.modules["torch"].distributed
        return bool(
            distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        )

    def _declare(self, name: str, wanted: tuple[Any, ...]) -> None:
        if name not in self._declared:
            self._declared.add(name)
            panels.declare(self._recorder, wanted)
