"""A verdict follows from its checks, and a check from its figure."""

import json
import math

import pytest

from logitscope.errors import ArgumentError
from logitscope.experiments import Check, Verdict


def verdict(*checks: Check, **changes) -> Verdict:
    facts = {"claim": "It is so.", "measured": {"a": 1.0}, "baseline": {"b": 2.0}, "caveats": ("small",)}
    return Verdict(**(facts | {"checks": checks} | changes))


@pytest.mark.parametrize(
    ("sense", "value", "margin"),
    [
        ("at most", 0.5, 0.5),
        ("at most", 1.0, 0.0),
        ("at most", 1.5, -0.5),
        ("at least", 1.5, 0.5),
        ("at least", 0.5, -0.5),
    ],
)
def test_that_a_margin_is_a_share_of_the_limit(sense, value, margin) -> None:
    check = Check("x", value, sense, 1.0)
    assert check.margin == pytest.approx(margin)
    assert check.holds == (margin >= 0)


def test_that_a_margin_over_a_limit_of_nothing_is_absolute() -> None:
    assert Check("x", 0.25, "at least", 0.0).margin == 0.25


def test_that_no_number_meets_no_limit() -> None:
    assert not Check("x", math.nan, "at most", 1.0).holds
    assert not Check("x", -math.inf, "at most", 1.0).holds


def test_that_the_check_that_is_met_least_decides() -> None:
    good, bad = Check("x", 0.5, "at most", 1.0), Check("y", 1.1, "at most", 1.0)
    assert verdict(good).reproduced
    assert not verdict(good, bad).reproduced
    assert verdict(good, bad).margin == pytest.approx(-0.1)


def test_that_a_verdict_without_checks_is_refused() -> None:
    with pytest.raises(ArgumentError, match="checks is empty"):
        verdict()


def test_that_a_verdict_is_plain_json() -> None:
    text = json.dumps(verdict(Check("x", math.nan, "at most", 1.0)).as_dict(), allow_nan=False)
    assert json.loads(text)["checks"] == [
        {"name": "x", "value": None, "sense": "at most", "limit": 1.0, "holds": False}
    ]
    assert json.loads(text)["margin"] is None
