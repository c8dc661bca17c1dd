"""Fifty rounds of ``kill -9`` at random moments, with one to four writers each; kill_harness.py does a thousand."""

import os

import pytest

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)
kill_harness = pytest.importorskip("kill_harness")


def test_that_no_acknowledged_row_is_lost_and_every_run_can_be_read():
    outcome = kill_harness.kill_many(50)
    assert outcome.kills > 100
    assert outcome.acknowledged > 1000
    assert (outcome.lost, outcome.unreadable, outcome.wrong) == (0, 0, 0)
