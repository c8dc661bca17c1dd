"""What the demo records of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from logitscope.data import TextData
    from logitscope.demo.learner import Learner
    from logitscope.record import Recorder

_LOOK_EVERY = 10
"""Steps between two looks at attention, logits and norms."""
_MAPS_EVERY = 20
_SLICES_EVERY = 100


class Recording:
    """Writes down the steps of a learner; its hooks leave the model at the end of the ``with`` block."""

    def __init__(self, scope: Recorder, learner: Learner, text: TextData) -> None:
        self._scope = scope
        self._learner = learner
        self._text = text
        self._watch = scope.watch(
            learner.model, every=_LOOK_EVERY, maps_every=_MAPS_EVERY, slices_every=_SLICES_EVERY
        )
        scope.panel("Temperature", "lines", ["temperature"], group="Training", notes="Set by its knob.")
        scope.panel("Speed", "lines", ["tokens_per_second"], group="Training", y_label="tokens/s")
        scope.panel("What it writes", "text", ["text/sample"], group="Text")

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.close()

    def begin(self, step: int) -> None:
        """Say which step comes."""
        self._watch.step(step)

    def gradients(self, step: int) -> None:
        """Take the norms, while the gradients are there."""
        self._watch.gradients(step)

    def end(self, step: int, *, loss: float, rate: float, temperature: float, speed: float) -> None:
        """Write down what the step was."""
        self._scope.scalars(
            {
                "loss/train": loss,
                "learning_rate": rate,
                "temperature": temperature,
                "tokens_per_second": speed,
            },
            step,
        )
        if self._watch.map_due:
            self._watch.tokens(self._text.decode(self._learner.first_window))
