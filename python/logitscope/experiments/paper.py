"""What the catalogue says of a paper, and whether it is built."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from logitscope.errors import ArgumentError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

Area = Literal[
    "softmax",
    "losses",
    "attention",
    "layers",
    "experts",
    "optimization",
    "dynamics",
    "width",
    "robustness",
    "certification",
    "compression",
    "representation",
    "learning",
    "equations",
    "applications",
]
AREAS: tuple[str, ...] = get_args(Area)


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper of the catalogue.

    Examples
    --------
    >>> from logitscope.experiments import find_paper
    >>> paper = find_paper("two-pass-softmax")
    >>> paper.year, paper.url, paper.built
    (2020, 'https://arxiv.org/abs/2001.04438', True)
    """

    slug: str
    """Its name on the command line, in file names and in documents."""
    title: str
    authors: str
    year: int
    """Of its first version."""
    arxiv: str
    area: Area
    claim: str
    """What it says, in a sentence."""

    @property
    def url(self) -> str:
        """Where it can be read."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def module(self) -> str:
        """The name of its experiment's module in ``logitscope.experiments``."""
        return self.slug.replace("-", "_")

    @property
    def built(self) -> bool:
        """Whether its experiment is here; a paper whose experiment is not is only listed."""
        return (Path(__file__).parent / f"{self.module}.py").is_file()

    def experiment(self) -> ModuleType:
        """Import its experiment: a module with ``run`` and ``SMOKE``."""
        if not self.built:
            message = f"{self.slug} is not built yet; use one of {', '.join(built_slugs())}"
            raise ArgumentError(message)
        try:
            return import_module(f"logitscope.experiments.{self.module}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("logitscope"):
                raise
            message = f"{self.slug} needs {error.name}; use pip install logitscope[lab]"
            raise DeviceError(message) from None


def find_paper(slug: str) -> Paper:
    """Give the paper of that name.

    Raises
    ------
    ArgumentError
        Naming the nearest names.

    Examples
    --------
    >>> from logitscope.experiments import find_paper
    >>> find_paper("polycom").title
    'Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models'
    """
    from logitscope.experiments.catalog import PAPERS

    papers = {paper.slug: paper for paper in PAPERS}
    if slug not in papers:
        near = get_close_matches(slug, papers, cutoff=0.4) or built_slugs()
        message = f"there is no paper {slug!r}; use {_either(near)}, or what `logitscope list` shows"
        raise ArgumentError(message)
    return papers[slug]


def built_slugs() -> list[str]:
    """Names of the papers that are built."""
    from logitscope.experiments.catalog import PAPERS

    return [paper.slug for paper in PAPERS if paper.built]


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
