"""The catalogue of experiments, as the command ``logitscope list --json`` tells it, and how one of them goes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from logitscope.record import RunInfo

Stage = Literal["idle", "running", "finished", "failed", "stopped"]
_PROGRESS = re.compile(r"^[\w-]+: (\d{1,3}) %, (\d+:\d\d) left\s*(.*)$")
_RUN_FILE = re.compile(r"^[\w-]+: run file (.+)$")
_WORDS = ("slug", "title", "authors", "arxiv", "area", "claim", "url")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One paper of the catalogue; ``command`` is empty while its experiment is not built."""

    slug: str
    title: str
    authors: str
    year: int
    arxiv: str
    area: str
    claim: str
    url: str
    command: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What it is found by."""
        return " ".join([self.slug, self.title, self.authors, str(self.year), self.area, self.claim]).lower()


@dataclass(frozen=True, slots=True)
class Progress:
    """How an experiment goes that was started here."""

    stage: Stage = "idle"
    share: float = 0.0
    left: str = ""
    note: str = ""
    run: Path | None = None
    """Its run file, once it is known."""
    verdict: str = ""
    """What it found, in words, or why it failed."""

    @property
    def words(self) -> str:
        """How far it is."""
        parts = (f"{round(100 * self.share)} %", f"{self.left} left" if self.left else "", self.note)
        return "  ·  ".join(part for part in parts if part)


def catalogue(text: str) -> tuple[Experiment, ...]:
    """Read the catalogue; ValueError when the text is none.

    Examples
    --------
    >>> catalogue("[]")
    ()
    """
    entries = json.loads(text)
    if not isinstance(entries, list):
        message = f"the catalogue is a {type(entries).__name__}, not a list"
        raise ValueError(message)  # noqa: TRY004 -- one kind of error for a text that is none
    return tuple(_experiment(entry) for entry in entries)


def sifted(experiments: Iterable[Experiment], text: str, *, built: bool) -> tuple[Experiment, ...]:
    """Those that have every word of ``text``; with ``built`` only those that can be run. Those come first."""
    words = text.lower().split()
    found = [one for one in experiments if all(word in one.words for word in words)]
    return tuple(sorted((one for one in found if one.command or not built), key=lambda one: not one.command))


def last_run(slug: str, runs: Sequence[RunInfo]) -> RunInfo | None:
    """The newest run of an experiment; ``runs`` are newest first."""
    return next((run for run in runs if run.meta.get("experiment") == slug), None)


def progress_of(line: str) -> tuple[float, str, str] | None:
    """Share, time left and note of a line in which an experiment tells how far it is.

    Examples
    --------
    >>> progress_of("z-loss: 40 %, 0:12 left  seed 1")
    (0.4, '0:12', 'seed 1')
    """
    found = _PROGRESS.match(line.strip())
    return (min(int(found[1]), 100) / 100, found[2], found[3]) if found else None


def run_file_of(line: str) -> str | None:
    """The run file that an experiment says it writes.

    Examples
    --------
    >>> run_file_of("z-loss: run file runs/z-loss.scope")
    'runs/z-loss.scope'
    """
    found = _RUN_FILE.match(line.strip())
    return found[1] if found else None


def _experiment(entry: Any) -> Experiment:
    try:
        words = {name: str(entry[name]) for name in _WORDS}
        command = tuple(map(str, entry["command"] or ()))
        return Experiment(year=int(entry["year"]), command=command, **words)
    except (KeyError, TypeError) as error:
        message = f"an entry of the catalogue lacks something ({error!r})"
        raise ValueError(message) from error
