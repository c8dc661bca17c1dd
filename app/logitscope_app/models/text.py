"""Numbers, durations and token strings as a person reads them."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}
_LONGEST_LABEL = 12


def number(value: float, digits: int = 4) -> str:
    """``value`` in at most ``digits`` significant digits; NaN and the infinities by name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


def step_number(step: int | None) -> str:
    """A step with thousands separators; a dash when there is none."""
    return "–" if step is None else f"{step:,}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: ``3 min 20 s``."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(then: float, now: float) -> str:
    """How long before ``now`` the moment ``then`` was, in one unit."""
    seconds = max(0.0, now - then)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def short_labels(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags without the folders that all share: ``loss/train, loss/validation`` -> ``train, validation``."""
    if len(tags) < 2:
        return tuple(PurePosixPath(tag).name or tag for tag in tags)
    root = min(tags, key=len)
    if all(tag == root or tag.startswith(f"{root}/") for tag in tags):
        return tuple(PurePosixPath(tag).name if tag == root else tag[len(root) + 1 :] for tag in tags)
    parts = [tag.split("/") for tag in tags]
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    return tuple("/".join(p[shared:]) for p in parts)


def sentence(label: str) -> str:
    """A tag's last part as words: ``max_logit`` -> ``max logit``."""
    return label.replace("_", " ")


def token(text: str) -> str:
    """A token with its white space made visible, cut when long."""
    shown = "".join(_VISIBLE.get(character, character) for character in text) or _VISIBLE[""]
    shown = "".join(c if c.isprintable() else "�" for c in shown)
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 1] + "…"


def token_list(text: str) -> tuple[str, ...]:
    """The tokens in a JSON list of strings; none when the text is something else."""
    try:
        tokens = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(tokens, list) or not all(isinstance(item, str) for item in tokens):
        return ()
    return tuple(tokens)


def bin_labels(tokens: Sequence[str], bins: int) -> tuple[str, ...]:
    """One label for each of ``bins`` equal cells over the tokens; a binned map's cells hold several.

    Bin ``i`` holds the tokens ``floor(i n / bins)`` up to ``floor((i + 1) n / bins)``, as recorded maps do.
    No labels when there are fewer tokens than cells: a wrong label is worse than a number.
    """
    count = len(tokens)
    if bins <= 0 or count < bins:
        return ()
    edges = [index * count // bins for index in range(bins + 1)]
    return tuple(token("".join(tokens[a:b])) for a, b in pairwise(edges))
