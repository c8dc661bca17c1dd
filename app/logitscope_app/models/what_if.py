"""Attention anew, from recorded queries and keys: with another temperature, cap, window, sink or normaliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import attention, entmax15, sparsemax
from logitscope.record import KnobInfo

if TYPE_CHECKING:
    from logitscope_app.models.states import FloatArray

NORMALISERS = ("softmax", "sigmoid", "sparsemax", "entmax 1.5")
KNOBS = (
    KnobInfo(
        "temperature", 1.0, 0.05, 20.0, 1.0, 1.0, True, "Divides the scores: lower sharpens, higher flattens."
    ),
    KnobInfo(
        "softcap", 0.0, 0.0, 60.0, 0.0, 0.0, False, "Bends scores so that none exceeds it; 0 is no cap."
    ),
    KnobInfo(
        "window", 0.0, 0.0, 1.0, 0.0, 0.0, False, "Share of the keys that a row sees before it; 0 is all."
    ),
    KnobInfo(
        "sink", -10.0, -10.0, 10.0, -10.0, -10.0, False, "Score of a key that holds nothing; −10 is none."
    ),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be different; the defaults change nothing."""

    temperature: float = 1.0
    softcap: float = 0.0
    window: float = 0.0
    sink: float = -10.0
    normaliser: str = "softmax"
    causal: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The attention map, and what there is to say of it."""

    map: FloatArray  # (rows, columns)
    figures: tuple[tuple[str, float], ...]


def answer(query: FloatArray, key: FloatArray, question: Question) -> Answer:
    """Compute the map of one head, ``query`` (L, D) and ``key`` (L, D), with the library's own kernels.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.normal(size=(2, 6, 4)).astype(np.float32)
    >>> plain, cold = (answer(q, k, Question(temperature=t)) for t in (1.0, 0.05))
    >>> dict(cold.figures)["entropy"] < dict(plain.figures)["entropy"]
    True
    """
    if question.normaliser in ("softmax", "sigmoid"):
        weights = _fused(query, key, question)
    else:
        weights = _sparse(query, key, question)
    visible = _visible(len(query), len(key), question)
    return Answer(weights, _figures(weights, visible))


def _fused(query: FloatArray, key: FloatArray, question: Question) -> FloatArray:
    rows, columns = len(query), len(key)
    q, k = (np.ascontiguousarray(part[None, None], np.float32) for part in (query, key))
    options: dict[str, Any] = {"kind": question.normaliser, "is_causal": question.causal}
    if question.softcap > 0:
        options["softcap"] = question.softcap
    if question.window > 0:
        options["window"] = (_width(columns, question), 0 if question.causal else _width(columns, question))
    if question.sink > -10 and question.normaliser == "softmax":
        options["sinks"] = np.array([question.sink], np.float32)
    if question.normaliser == "sigmoid":
        options["sigmoid_bias"] = -float(np.log(columns))
    inverse = np.full((1, 1, rows), 1.0 / question.temperature, np.float32)
    found = attention(q, k, k, inv_temperature=inverse, map_bins=(rows, columns), **options)
    weights: FloatArray = found.map[0, 0]
    return weights


def _sparse(query: FloatArray, key: FloatArray, question: Question) -> FloatArray:
    scores = (query @ key.T / np.sqrt(query.shape[1]) / question.temperature).astype(np.float32)
    if question.softcap > 0:
        scores = question.softcap * np.tanh(scores / question.softcap)
    scores[~_visible(len(query), len(key), question)] = -np.inf
    normalise = sparsemax if question.normaliser == "sparsemax" else entmax15
    weights: FloatArray = np.asarray(normalise(scores))
    return weights


def _visible(rows: int, columns: int, question: Question) -> Any:
    """Which keys each row sees."""
    distance = np.arange(rows)[:, None] + columns - rows - np.arange(columns)[None, :]
    seen = distance >= 0 if question.causal else np.full((rows, columns), True)
    return seen & (np.abs(distance) <= _width(columns, question)) if question.window > 0 else seen


def _width(columns: int, question: Question) -> int:
    return max(1, round(question.window * columns))


def _figures(weights: FloatArray, visible: Any) -> tuple[tuple[str, float], ...]:
    """Means over the rows that see two keys or more."""
    keys = visible.sum(axis=1)
    several = keys > 1
    if not several.any():
        return ()
    rows = weights[several].astype(np.float64)
    total = rows.sum(axis=1)
    share = rows / np.where(total > 0, total, 1.0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(share > 0, -share * np.log(share), 0.0)
    entropy = terms.sum(axis=1) / np.log(keys[several])
    return (
        ("entropy", float(entropy.mean())),
        ("largest weight", float(share.max(axis=1).mean())),
        ("on the first token", float(rows[len(rows) // 4 :, 0].mean())),
        ("weight in all", float(total.mean())),
        ("keys that get none", float((rows[visible[several]] == 0).mean())),
    )
