"""Experiments: one a paper, each measures what the paper claims and says what it found; ``logitscope run`` runs them.

Nothing heavy is imported here: the catalogue is data, and an experiment is imported when it is run.
"""

from logitscope.experiments.catalog import PAPERS
from logitscope.experiments.paper import Paper, find_paper
from logitscope.experiments.verdict import Check, Verdict

__all__ = ["PAPERS", "Check", "Paper", "Verdict", "find_paper"]
