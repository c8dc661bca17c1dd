"""Data that is there without a download, one loader each; NumPy alone is needed."""

from logitscope.data.text import TextData, text_file
from logitscope.data.topics import topics

__all__ = ["TextData", "text_file", "topics"]
