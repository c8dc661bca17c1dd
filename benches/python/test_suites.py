"""Every case of every suite runs, its contenders agree, and all ratios are numbers. No time is asserted.

pytest benches            # small sizes
pytest benches --table    # and the table of them
"""

from __future__ import annotations

import dataclasses
import math

import pytest

from logitscope.bench import machine, report, suites
from logitscope.bench.cases import Settings
from logitscope.bench.command import measure_case
from logitscope.bench.peers import Peers

SMOKE = Settings(seconds=0.0, least_rounds=2, most_rounds=2, smoke=True)


@pytest.fixture(scope="module")
def peers():
    with machine.one_thread():
        yield Peers.load()


@pytest.fixture(scope="module")
def table(request):
    """Collects results, and prints them at the end if that was asked for."""
    results = []
    yield results
    if request.config.getoption("--table"):
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            report.show(report.tables(results))


def titles():
    for name in suites.NAMES:
        for index, case in enumerate(suites.cases(name, SMOKE, Peers({}, {}, {}))):
            yield pytest.param(name, index, id=f"{name}: {case.group}, {case.title}")


@pytest.mark.parametrize(("suite", "index"), list(titles()))
def test_that_contenders_agree_and_ratios_are_numbers(suite, index, peers, table):
    case = list(suites.cases(suite, SMOKE, peers))[index]
    result = measure_case(case, SMOKE)
    table.append(result)
    assert any(row.ours for row in result.measured)
    for row in result.measured:
        assert all(math.isfinite(seconds) and seconds > 0 for seconds in row.seconds)
        assert math.isfinite(row.of_roofline)
        for ratio in row.ratios.values():
            assert all(math.isfinite(number) and number > 0 for number in ratio)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("suite", ["loss", "softmax"])
def test_that_other_types_of_numbers_are_measured(suite, dtype, peers):
    settings = dataclasses.replace(SMOKE, dtype=dtype, sizes=((3, 200),))
    for case in suites.cases(suite, settings, peers):
        assert measure_case(case, settings).dtype == dtype


def test_that_the_peers_that_are_installed_are_measured(peers, table):
    measured = {row.name for result in table for row in result.measured}
    assert set(peers.modules) <= measured
