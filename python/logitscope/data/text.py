"""A text as numbers: its characters, and what is trained on and what is kept for validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

MINIMUM_CHARACTERS = 2000
_BLOCK = 2048
_VALIDATION_EVERY = 10


@dataclass(frozen=True, eq=False)
class TextData:
    r"""A text in two parts, as indices into the characters that occur in it.

    Examples
    --------
    >>> from logitscope.data import TextData
    >>> text = TextData.from_text("to be or not to be\n" * 200, name="Hamlet")
    >>> text.decode(text.encode("not to be"))
    'not to be'
    >>> len(text.train) > 8 * len(text.validation)
    True
    """

    name: str
    vocabulary: tuple[str, ...]
    """The characters, in the order of their code points."""
    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    @classmethod
    def from_text(cls, text: str, *, name: str) -> TextData:
        """Split a text: every tenth block of it is for validation, so both parts are of the same kind."""
        if len(text) < MINIMUM_CHARACTERS:
            message = (
                f"text: {name} has {len(text)} characters; "
                f"give a text of {MINIMUM_CHARACTERS} characters or more"
            )
            raise ArgumentError(message)
        vocabulary = tuple(sorted(set(text)))
        tokens = _encode(text, vocabulary)
        block = min(_BLOCK, len(text) // _VALIDATION_EVERY)
        held_out = np.arange(len(tokens)) // block % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
        return cls(name, vocabulary, tokens[~held_out], tokens[held_out])

    def encode(self, text: str) -> NDArray[np.int64]:
        """Turn characters into their indices."""
        unknown = sorted(set(text).difference(self.vocabulary))
        if unknown:
            message = f"encode: {self.name} has no {unknown[0]!r}; use characters of its vocabulary"
            raise ArgumentError(message)
        return _encode(text, self.vocabulary)

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn indices back into characters."""
        return "".join(self.vocabulary[token] for token in tokens)

    def batches(
        self, batch: int, context: int, rng: np.random.Generator
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Endless random windows of the training part.

        Yields
        ------
        inputs, targets
            (batch, context) each; a target is the character after its input.
        """
        self.require(context)
        offsets = np.arange(context + 1)
        while True:
            starts = rng.integers(0, len(self.train) - context, size=batch)
            windows = self.train[starts[:, None] + offsets]
            yield windows[:, :-1], windows[:, 1:]

    def validation_windows(self, count: int, context: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Evenly spread windows of the validation part, the same ones each time: inputs and targets."""
        self.require(context)
        starts = np.unique(np.linspace(0, len(self.validation) - context - 1, count).astype(np.int64))
        windows = self.validation[starts[:, None] + np.arange(context + 1)]
        return windows[:, :-1], windows[:, 1:]

    def require(self, context: int) -> None:
        """Raise an error if a window of ``context`` characters and its target do not fit into both parts."""
        shortest = min(len(self.train), len(self.validation))
        if shortest <= context:
            message = (
                f"text: {self.name} leaves {shortest} characters for validation, "
                f"a window needs {context + 1}; "
                f"give a text of {(context + 2) * _VALIDATION_EVERY} characters or more"
            )
            raise ArgumentError(message)


def text_file(path: str | os.PathLike[str]) -> TextData:
    """Your own text, a UTF-8 file.

    Parameters
    ----------
    path
        The file; 2000 characters or more.

    Examples
    --------
    >>> import argparse
    >>> from logitscope.data import text_file
    >>> text_file(argparse.__file__).name
    'argparse.py'
    """
    path = Path(path)
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = f"there is no file {path}"
    except IsADirectoryError:
        problem = f"{path} is a directory"
    except PermissionError as error:
        # Windows says so of a directory, too.
        problem = f"{path} is a directory" if path.is_dir() else f"{path} cannot be read: {error.strerror}"
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"{path} is not UTF-8 text (byte {error.start})"
    else:
        if "\0" not in content:
            return TextData.from_text(content.replace("\r\n", "\n"), name=path.name)
        problem = f"{path} is binary (it has zero bytes)"
    message = f"text: {problem}; give a UTF-8 text file"
    raise ArgumentError(message)


def _encode(text: str, vocabulary: tuple[str, ...]) -> NDArray[np.int64]:
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    known = np.frombuffer("".join(vocabulary).encode("utf-32-le"), dtype="<u4")
    return np.searchsorted(known, points).astype(np.int64)
