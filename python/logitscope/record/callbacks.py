"""Trainers of other libraries that record into a run: Hugging Face's Trainer, Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from logitscope.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope.record.recorder import Recorder
    from logitscope.record.watch import Watch

_TAGS = {
    "loss": "loss/train",
    "train_loss": "loss/train",
    "eval_loss": "loss/validation",
    "val_loss": "loss/validation",
    "learning_rate": "learning_rate",
}
_WATCHED = frozenset({"grad_norm", "epoch"})
"""What is recorded by the watch, better, or is no figure of the model."""


class _Trained:
    """What both callbacks do: a watch from the beginning of a training to its end, and its figures."""

    def __init__(self, scope: Recorder, options: Mapping[str, Any]) -> None:
        self._scope, self._options = scope, dict(options)
        self._watch: Watch | None = None
        self._told: dict[str, Any] = {}
        self._places: dict[str, str] = {}

    def begin(self, model: Any) -> None:
        """Watch a model."""
        self.end()
        self._watch = self._scope.watch(model, **self._options)

    def step(self, step: int) -> None:
        """Begin a step."""
        if self._watch is not None:
            self._watch.step(step)

    def look(self, *, on: bool) -> None:
        """Begin or end to look at what is called: a trainer may call parts of the model, not the model."""
        if self._watch is not None:
            if on:
                self._watch.begin_pass()
            else:
                self._watch.end_pass()

    def gradients(self, step: int) -> None:
        """Record norms; after the backward pass."""
        if self._watch is not None:
            self._watch.gradients(step)

    def figures(self, values: Mapping[str, Any], step: int) -> None:
        """Record what a trainer tells: under the tags of the standard panels, else below ``trainer/``."""
        found = {}
        for name, value in values.items():
            number = _number(value)
            if number is not None and name not in _WATCHED:
                found[_TAGS.get(name, f"trainer/{name}")] = number
        self._scope.scalars(found, step)

    def fresh(self, values: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Those of a trainer's values that are new and belong to this place, the first that each was met at.

        Lightning tells the last validation's at each step of the training, and the other way round.
        """
        fresh = {
            name: value
            for name, value in values.items()
            if self._places.setdefault(name, place) == place and self._told.get(name) is not value
        }
        self._told.update(fresh)
        return fresh

    def end(self) -> None:
        """Take the watch out of the model."""
        if self._watch is not None:
            self._watch.end_pass()
            self._watch.close()
            self._watch = None


def huggingface_callback(scope: Recorder, **options: Any) -> Any:
    """Make a callback for ``transformers.Trainer`` that watches the model and records what the trainer logs.

    Parameters
    ----------
    scope
        The run, ended by who began it.
    **options
        Those of `watch`, such as ``every=10``.

    Returns
    -------
    transformers.TrainerCallback
        For ``Trainer(callbacks=[...])`` or ``trainer.add_callback(...)``.

    Examples
    --------
    >>> from logitscope import record
    >>> def train(trainer):  # a transformers.Trainer
    ...     with record.start("fine-tuning") as scope:
    ...         trainer.add_callback(record.huggingface_callback(scope))
    ...         trainer.train()
    """
    base = _needed("transformers", "huggingface_callback").TrainerCallback
    trained = _Trained(scope, options)

    class ScopeCallback(base):  # type: ignore[misc, valid-type]
        """Records into a run of logitscope."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
            trained.begin(told["model"])

        def on_step_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
            trained.step(state.global_step)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **told: Any) -> None:
            trained.gradients(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, **told: Any) -> None:
            figures = dict(told.get("logs") or {})
            if (
                "train_runtime" in figures and "train_loss" in figures
            ):  # the mean of the training, told at its end
                figures["mean_train_loss"] = figures.pop("train_loss")
            trained.figures(figures, state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **told: Any) -> None:
            trained.end()

    return ScopeCallback()


def lightning_callback(scope: Recorder, **options: Any) -> Any:
    """Make a callback for Lightning's ``Trainer`` that watches the module and records what it logs.

    Parameters
    ----------
    scope
        The run, ended by who began it.
    **options
        Those of `watch`, such as ``every=10``.

    Returns
    -------
    lightning.pytorch.Callback
        For ``Trainer(callbacks=[...])``.

    Examples
    --------
    >>> from logitscope import record
    >>> def train(Trainer, module, data):  # lightning.pytorch.Trainer
    ...     with record.start("training") as scope:
    ...         Trainer(callbacks=[record.lightning_callback(scope)]).fit(module, data)
    """
    base = _needed("lightning.pytorch", "lightning_callback").Callback
    trained = _Trained(scope, options)

    class ScopeCallback(base):  # type: ignore[misc, valid-type]
        """Records into a run of logitscope."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trained.begin(pl_module)

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            trained.look(on=False)
            trained.step(trainer.global_step)
            trained.look(on=True)

        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            trained.look(on=False)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            trained.gradients(trainer.global_step)

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            trained.look(on=False)
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            figures = {"loss": loss, **trained.fresh(trainer.callback_metrics, "training")}
            trained.figures(figures, max(0, trainer.global_step - 1))

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                figures = trained.fresh(trainer.callback_metrics, "validation")
                trained.figures(figures, max(0, trainer.global_step - 1))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            trained.end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            trained.end()

    return ScopeCallback()


def _number(value: Any) -> float | None:
    """A figure, or None for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _needed(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0]
        message = f"{what}: needs {error.name}; use pip install {name}"
        raise DeviceError(message) from None
