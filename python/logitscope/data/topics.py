"""The Python language reference, which every CPython brings along as the text behind ``help("for")``."""

from __future__ import annotations

from logitscope.data.text import TextData


def topics() -> TextData:
    """English prose and Python code, some 370,000 characters, in the same order each time.

    Many topics repeat paragraphs of others. Only the first of each is kept: otherwise the validation part
    would hold text that was trained on, and its loss would look better than it is.

    Examples
    --------
    >>> from logitscope.data import topics
    >>> text = topics()
    >>> text.name
    'pydoc_data.topics'
    """
    from pydoc_data.topics import topics as sources  # half a megabyte: not before it is asked for

    paragraphs: dict[str, str] = {}
    for topic in sorted(sources):
        for paragraph in sources[topic].split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.rstrip())
    paragraphs.pop("", None)
    return TextData.from_text("\n\n".join(paragraphs.values()), name="pydoc_data.topics")
