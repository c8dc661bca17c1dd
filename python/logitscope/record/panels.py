"""The panels of the quantities that a watched model records, as a viewer shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logitscope.record.types import Panel

if TYPE_CHECKING:
    from logitscope.record.recorder import Recorder

TRAINING = (
    Panel("Loss", "lines", ("loss/*",), "Training", y_label="nats/token"),
    Panel("Gradient norm", "lines", ("grad_norm", "grad_norm/*"), "Training", options={"log_y": True}),
    Panel("Weight norm", "lines", ("weight_norm",), "Training"),
    Panel("Update ratio", "lines", ("update_ratio", "update_ratio/*"), "Training", options={"log_y": True}),
    Panel("Learning rate", "lines", ("learning_rate",), "Training"),
)
ATTENTION = (
    Panel("Attention maps", "heads", ("attention/map",), "Attention"),
    Panel("Attention entropy", "lines", ("attention/entropy/*",), "Attention", y_label="of maximum"),
    Panel(
        "Flattest and sharpest head",
        "lines",
        ("attention/entropy_max/*", "attention/entropy_min/*"),
        "Attention",
        y_label="of maximum",
    ),
    Panel("Weight on the first token", "lines", ("attention/sink/*",), "Attention", y_label="of all weight"),
    Panel("Spread of attention logits", "lines", ("attention/logit_std/*",), "Logit scaling"),
    Panel("Largest attention logit", "lines", ("attention/max_logit/*",), "Logit scaling"),
    Panel("Attention log-sum-exp", "lines", ("attention/lse_mean/*",), "Logit scaling"),
)
ACTIVATIONS = (
    Panel(
        "Flat activations",
        "lines",
        ("activation/saturation/*",),
        "Training",
        y_label="of inputs",
    ),
    Panel("Dead units", "lines", ("activation/dead/*",), "Training", y_label="of units"),
)
SLICES = (
    Panel(
        "What if",
        "what-if",
        ("attention/query", "attention/key"),
        "What if",
        notes="Attention computed anew from recorded queries and keys. Nothing here reaches the training.",
    ),
)
LOGITS = (
    Panel("Class logits", "lines", ("logits/max", "logits/std", "logits/lse_mean"), "Logit scaling"),
    Panel("Prediction entropy", "lines", ("logits/entropy",), "Logit scaling", y_label="nats"),
    Panel(
        "Saturation and lost mass",
        "lines",
        ("logits/saturation", "logits/lost_mass", "logits/lost_mass/*"),
        "Logit scaling",
    ),
)


def declare(recorder: Recorder, panels: tuple[Panel, ...]) -> None:
    """Declare panels in a run."""
    for panel in panels:
        recorder.panel(
            panel.title, panel.kind, panel.tags, group=panel.group, y_label=panel.y_label, **panel.options
        )
