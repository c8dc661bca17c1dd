"""What the recorded quantities are and what a healthy value looks like, for tooltips."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Meaning:
    """One quantity in words."""

    pattern: str
    what: str
    healthy: str
    unit: str = ""


GLOSSARY = (
    Meaning(
        "loss/validation*",
        "Cross entropy on text that is not trained on.",
        "Follows the training loss down; when it rises while the training loss falls, the model memorises.",
        "nats/token",
    ),
    Meaning(
        "loss*",
        "Cross entropy: the mean of −log p(right token). Guessing evenly among V tokens gives ln V.",
        "Falls fast, then slowly. A spike that does not come back within some tens of steps is a warning.",
        "nats/token",
    ),
    Meaning(
        "grad_norm*",
        "Length of the gradient vector (of all weights, or of one part of the model).",
        "Settles within the first steps and stays within a factor of a few; growth by 10 foretells a spike.",
    ),
    Meaning(
        "weight_norm*",
        "Length of the vector of all weights.",
        "Changes slowly and smoothly.",
    ),
    Meaning(
        "update_ratio*",
        "How far a step of the optimizer moves the weights, as a share of their length.",
        "Around 1e-3, falling with the learning rate. Over 1e-2 for long: the learning rate is too high.",
    ),
    Meaning(
        "learning_rate",
        "Step size of the optimizer.",
        "Warms up, then falls on its schedule; a knob may hold it.",
    ),
    Meaning(
        "temperature",
        "What the logits are divided by before the softmax.",
        "1 unless you turn the knob: lower sharpens, higher flattens the distribution.",
    ),
    Meaning(
        "tokens_per_second",
        "Training speed.",
        "Constant; a slow fall is a leak or a busy machine.",
        "tokens/s",
    ),
    Meaning(
        "attention/max_logit*",
        "Largest attention score before the softmax.",
        "Stays below about 50. Steady growth is logit drift: attention is about to become one-hot.",
    ),
    Meaning(
        "attention/entropy_min*",
        "Entropy of the layer's sharpest head, of the largest possible.",
        "May be near 0: a head that looks at the token before is sharp and useful. Only all heads at 0 are a collapse.",
        "of maximum",
    ),
    Meaning(
        "attention/entropy_max*",
        "Entropy of the layer's flattest head, of the largest possible.",
        "Falls below 1 as heads learn where to look; a head that stays at 1 only averages: it is dead.",
        "of maximum",
    ),
    Meaning(
        "attention/sink*",
        "Share of the attention weight that goes to the first token; rows early in the text are left out.",
        "Below about 0.5. Heads with nothing to say park their weight there; all of it means that attention is idle.",
        "of all weight",
    ),
    Meaning(
        "attention/entropy*",
        "Entropy of the attention rows divided by the largest possible: 1 looks everywhere, 0 at one token.",
        "Between 0.2 and 0.9, different among heads. All near 0: entropy collapse, near 1: nothing learnt.",
        "of maximum",
    ),
    Meaning(
        "attention/lse_mean*",
        "Mean log-sum-exp of the attention scores: their soft maximum.",
        "Moves slowly; steady growth means that the scores grow.",
    ),
    Meaning(
        "attention/logit_std*",
        "Spread of the attention scores of the keys that a row sees.",
        "Near 1 at the start; a few once heads have learnt where to look. Steady growth sharpens every head.",
    ),
    Meaning(
        "activation/saturation*",
        "Share of an activation's inputs at which its slope is under 0.01: no gradient passes there.",
        "About half for ReLU, near 0 for GELU and SiLU. Growth towards 1 means that the layer falls silent.",
        "of inputs",
    ),
    Meaning(
        "activation/dead*",
        "Share of units that are flat at every row that was looked at.",
        "0, or a few per cent with ReLU. A unit that stays dead never learns again.",
        "of units",
    ),
    Meaning(
        "curvature/sharpness",
        "Largest eigenvalue of the loss's Hessian: how sharply the loss bends.",
        "Rises until it meets 2 / learning rate and hovers there; far above, the training is about to diverge.",
    ),
    Meaning(
        "curvature/limit",
        "2 / learning rate: along a sharper direction a plain step of gradient descent overshoots.",
        "A ceiling for the sharpness, of plain gradient descent; adaptive optimizers have one of their own.",
    ),
    Meaning(
        "curvature/density",
        "Density of the Hessian's eigenvalues.",
        "A peak at 0 and a few large ones to the right. Much weight below 0: a saddle.",
    ),
    Meaning(
        "curvature/*",
        "Lowest eigenvalue and trace of the loss's Hessian.",
        "The lowest near 0 and far smaller than the sharpness.",
    ),
    Meaning(
        "gradient_noise",
        "Gradient noise scale: the batch at which noise and signal of the gradient are even.",
        "Grows as the loss falls. Batches far smaller than it are mostly noise, far larger ones waste.",
        "samples",
    ),
    Meaning(
        "effective_learning_rate",
        "Learning rate times half the sharpness: 1 is the edge of stability.",
        "Below 1, or hovering at it.",
    ),
    Meaning(
        "attention/map*",
        "Attention weights: row = the token that looks, column = the token looked at.",
        "Heads differ: diagonals (recent tokens), stripes (special ones), blocks. A bright column 0: a sink.",
        "weight",
    ),
    Meaning(
        "logits/max*",
        "Largest class logit.",
        "Grows while the model gains confidence, then levels off. Unbounded growth is drift.",
    ),
    Meaning(
        "logits/std*",
        "Spread of the class logits.",
        "Grows early, then levels off, typically between 1 and 10.",
    ),
    Meaning(
        "logits/lse_mean*",
        "Mean log-sum-exp (log Z) of the class logits.",
        "Near a constant; drifting away costs precision in low-precision training.",
        "nats",
    ),
    Meaning(
        "logits/entropy*",
        "Entropy of the predicted distribution.",
        "Falls together with the loss; far below the loss means over-confidence.",
        "nats",
    ),
    Meaning(
        "logits/saturation*",
        "Share of predictions whose top probability is over 0.99: their gradient has almost vanished.",
        "Small (a few per cent) while the loss is high.",
        "of rows",
    ),
    Meaning(
        "logits/lost_mass/*",
        "Share of entries whose probability would round to 0 if it were kept in that type.",
        "0 where the softmax is computed in that type; float16 loses what is 17 below the maximum.",
        "of entries",
    ),
    Meaning(
        "logits/lost_mass*",
        "Share of entries so far below the row's maximum that their probability rounds to 0 in float32.",
        "0. Above that, the softmax loses classes to rounding.",
        "of entries",
    ),
)


def meaning(tag: str) -> Meaning | None:
    """The entry of the glossary for a tag, if it has one."""
    return next((entry for entry in GLOSSARY if fnmatchcase(tag, entry.pattern)), None)


def tooltip(tag: str) -> str:
    """A tag's tooltip: its name, what it is and what a healthy value looks like."""
    entry = meaning(tag)
    if entry is None:
        return f"{tag}\nRecorded by the run; the glossary has no entry for it."
    unit = f" [{entry.unit}]" if entry.unit else ""
    return f"{tag}{unit}\n{entry.what}\nHealthy: {entry.healthy}"
