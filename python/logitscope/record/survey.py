"""Which modules of a model call what is looked at, so that not every pass need be looked at as a whole."""

from __future__ import annotations

from typing import Any

SURVEY_EVERY = 16
"""Of so many passes that are looked at one is looked at as a whole: the model may have begun to call more."""


class Survey:
    """Remembers the callers of one whole pass, and when it is time for another.

    That is when a pass has more or fewer calls than the surveyed one, when the model itself calls, so that a look at
    parts of it would not see all, and now and then.

    Examples
    --------
    >>> survey = Survey(model := object())
    >>> for callers in (["a"], ["a"], ["a", "a"]):
    ...     is_whole = survey.is_due
    ...     survey.begin()
    ...     for caller in callers:
    ...         survey.note(caller)
    ...     survey.end()
    ...     print(is_whole, survey.is_due)
    True False
    False False
    False True
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._callers: dict[int, Any] = {}
        self._calls = self._surveyed = self._looks = 0
        self._is_due = True

    @property
    def is_due(self) -> bool:
        """Whether the next pass, or the one that has begun, is to be looked at as a whole."""
        return self._is_due

    @property
    def callers(self) -> list[Any]:
        """The modules that are known to call something."""
        return list(self._callers.values())

    def begin(self) -> None:
        """Begin a pass."""
        self._calls = 0
        if self._is_due:
            self._callers.clear()

    def note(self, module: Any) -> None:
        """Take note of a call by a module."""
        self._calls += 1
        if self._is_due:
            self._callers[id(module)] = module

    def end(self) -> None:
        """End the pass and decide about the next."""
        if self._is_due:
            self._surveyed = self._calls
        self._looks += 1
        self._is_due = (
            self._calls != self._surveyed
            or id(self._model) in self._callers
            or self._looks % SURVEY_EVERY == 0
        )
