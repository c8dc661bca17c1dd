"""Every paper that is built keeps the contract of the experiments; every other says that it is not built."""

from __future__ import annotations

import inspect
import math
import re
import time
from datetime import date
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from logitscope import record
from logitscope.experiments import PAPERS, Verdict, find_paper
from logitscope.experiments.paper import AREAS
from logitscope.record.types import PanelKind

DOCS = Path(__file__).parents[2] / "docs"
BUILT = [paper.slug for paper in PAPERS if paper.built]
built = pytest.mark.parametrize("slug", BUILT)
SECONDS = 90.0
"""What all smoke runs may take together; of the processor, so that waiting for a busy machine is no failure."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke run of a paper, done once: its verdict and its run file."""
    pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("smoke")
    spent: dict[str, float] = {}

    @cache
    def once(slug: str, again: bool) -> tuple[Verdict, Path]:
        experiment = find_paper(slug).experiment()
        start = time.process_time()
        with record.start(slug, path=directory / f"{slug}{again}.scope") as scope:
            verdict = experiment.run(scope, **experiment.SMOKE)
        spent[slug] = time.process_time() - start
        return verdict, scope.path

    def run(slug: str, again: bool = False) -> tuple[Verdict, Path]:
        return once(slug, again)

    run.spent = spent
    return run


def test_that_the_catalogue_has_fifty_papers_once_each() -> None:
    assert len(PAPERS) == 50
    for name in ("slug", "title", "arxiv"):
        assert len({getattr(paper, name) for paper in PAPERS}) == 50


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.slug)
def test_that_a_record_of_the_catalogue_is_whole(paper) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", paper.slug)
    assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    assert 2010 < paper.year <= date.today().year
    assert paper.area in AREAS
    assert paper.claim.endswith(".")
    assert len(paper.claim) < 250
    assert re.search(r"\w", paper.authors)


@pytest.mark.parametrize(
    "paper", [paper for paper in PAPERS if not paper.built], ids=lambda paper: paper.slug
)
def test_that_what_is_not_built_says_so(paper) -> None:
    with pytest.raises(ValueError, match=f"{paper.slug} is not built yet; use one of "):
        paper.experiment()


@built
def test_that_an_experiment_can_be_called_as_all_are(slug: str) -> None:
    experiment = find_paper(slug).experiment()
    scope, *options = inspect.signature(experiment.run).parameters.values()
    assert scope.name == "scope"
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    assert all(option.default is not option.empty for option in options)
    names = {option.name for option in options}
    assert names >= {"seeds", "progress", *experiment.SMOKE}
    assert len(inspect.signature(experiment.run).parameters["seeds"].default) >= 3
    assert inspect.getdoc(experiment), "the docstring says what is measured"


@built
def test_that_a_smoke_run_ends_with_a_verdict(slug: str, smoke) -> None:
    verdict, _ = smoke(slug)
    assert isinstance(verdict, Verdict)
    assert verdict.claim.endswith(".")
    assert verdict.measured
    assert verdict.baseline
    assert all(math.isfinite(value) for value in [*verdict.measured.values(), *verdict.baseline.values()])
    assert verdict.reproduced == (verdict.margin >= 0)


def test_that_all_smoke_runs_together_are_short(smoke) -> None:
    """The one bound on time that is asserted here: it is what a person waits for who tries them all."""
    for slug in BUILT:
        smoke(slug)
    assert smoke.spent.keys() == set(BUILT)
    assert sum(smoke.spent.values()) < SECONDS


@built
def test_that_the_dashboard_draws_every_panel_of_a_smoke_run(slug: str, smoke) -> None:
    run_data = pytest.importorskip("logitscope_app.models.run_data")
    _, path = smoke(slug)
    with record.RunReader(path) as run:
        assert run.info.status == "finished"
        declared = {panel.title for panel in run.panels()}
        assert declared
        assert {panel.kind for panel in run.panels()} <= set(get_args(PanelKind))
        data = run_data.RunData(run)
        data.refresh()
        states = [state for state in data.frame(None).panels if state.panel.title in declared]
    assert {state.panel.title for state in states} == declared
    assert {state.panel.title: state.message for state in states if state.message} == {}


@built
def test_that_the_same_seed_gives_the_same_figures(slug: str, smoke) -> None:
    """What the clock says lies under ``time/``; all else is a matter of the seed."""
    first, second = (scalars(smoke(slug, again)[1]) for again in (False, True))
    assert first
    assert first.keys() == second.keys()
    for tag in first:
        np.testing.assert_array_equal(first[tag], second[tag], err_msg=tag)


@built
def test_that_a_paper_has_its_page_and_its_picture(slug: str) -> None:
    page = (DOCS / "papers" / f"{slug}.md").read_text(encoding="utf-8")
    paper = find_paper(slug)
    assert page.startswith(f"# {paper.title}\n")
    assert paper.url in page
    for head in ("## Use it", "## Paper and here"):
        assert f"\n{head}\n" in page
    assert f"]({slug}.png)" in page
    assert f"logitscope run {slug}" in page
    assert f"](papers/{slug}.md)" in (DOCS / "verdicts.md").read_text(encoding="utf-8")


def scalars(path: Path) -> dict[str, np.ndarray]:
    with record.RunReader(path) as run:
        names = [tag.name for tag in run.tags() if tag.kind == "scalar" and not tag.name.startswith("time/")]
        return {name: run.scalars(name).values for name in names}
