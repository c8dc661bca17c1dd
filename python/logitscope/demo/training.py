"""The training loop: one model, watched, recorded and steered by its knobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from logitscope.demo.comparison import Comparison
from logitscope.demo.learner import Learner
from logitscope.demo.recording import Recording

if TYPE_CHECKING:
    from logitscope.data import TextData
    from logitscope.demo.progress import Progress
    from logitscope.demo.settings import Settings
    from logitscope.record import Recorder

_VALIDATIONS = 24
_SAMPLES = 4
_SAMPLE_CHARACTERS = 240
_PAUSE_SECONDS = 0.1


class Training:
    """Trains and records; Ctrl-C passes through and leaves a model that can be used."""

    def __init__(self, settings: Settings, text: TextData, scope: Recorder, progress: Progress) -> None:
        self._settings = settings
        self._scope = scope
        self._progress = progress
        self.steps_done = 0
        self.learner = Learner(settings, text, attention=settings.attention)
        self._comparison = Comparison(settings, text) if settings.compare else None
        self._recording = Recording(scope, self.learner, text)
        self._temperature = scope.knob(
            "temperature", 1.0, 0.1, 10.0, log=True, notes="Divides the attention scores of all layers."
        )
        self._rate_factor = scope.knob(
            "learning_rate_factor", 1.0, 0.01, 10.0, log=True, notes="Multiplies the learning rate."
        )
        self._pause = scope.knob("pause", 0.0, 0.0, 1.0, notes="1: the training waits. 0: it goes on.")
        self._validate_every = max(1, settings.steps // _VALIDATIONS)
        self._write_every = max(1, settings.steps // _SAMPLES)
        self._speed = 0.0

    def run(self) -> None:
        """Train to the end."""
        with self._recording:
            for step in range(self._settings.steps):
                self._wait_while_paused(step)
                self._step(step)
                self.steps_done = step + 1

    def _step(self, step: int) -> None:
        rate = self._settings.learning_rate(step) * float(self._rate_factor)
        temperature = float(self._temperature)
        self._recording.begin(step)
        start = time.perf_counter()
        loss = self.learner.step(rate, temperature, look=lambda: self._recording.gradients(step))
        seconds = time.perf_counter() - start
        speed = self._settings.tokens_per_step / seconds
        self._speed = speed if step == 0 else 0.95 * self._speed + 0.05 * speed
        self._recording.end(step, loss=loss, rate=rate, temperature=temperature, speed=self._speed)
        self._progress.update(step + 1, loss, self._speed)
        if step % self._validate_every == 0 or step + 1 == self._settings.steps:
            self._scope.scalar("loss/validation", self.learner.validate(), step)
        if (step + 1) % self._write_every == 0:
            self._scope.text("text/sample", self.learner.write(_SAMPLE_CHARACTERS), step)
        if self._comparison is not None and not self._comparison.done:
            self._comparison.follow(rate, temperature, loss, seconds)
            if self._comparison.done:
                self._progress.say(self._comparison.summary())
                self._scope.event(self._comparison.summary(), step=step)

    def _wait_while_paused(self, step: int) -> None:
        if float(self._pause) < 0.5:
            return
        self._scope.event("paused by its knob", step=step)
        self._progress.say("paused: turn the knob 'pause' back to 0 to go on, or stop with Ctrl-C")
        while float(self._pause) >= 0.5:
            time.sleep(_PAUSE_SECONDS)
        self._scope.event("going on", step=step)
