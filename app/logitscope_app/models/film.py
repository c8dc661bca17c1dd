"""An animated PNG of pictures of equal size; after the first, only what has changed of each is kept."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MILLISECONDS = 1000


class Film:
    """Takes pictures (rows, columns, 3) of bytes; `data` is the file, which any PNG viewer shows.

    Examples
    --------
    >>> film = Film()
    >>> for level in (0, 255):
    ...     film.add(np.full((2, 3, 3), level, np.uint8), 40)
    >>> film.data().count(b"fcTL"), len(film)
    (2, 2)
    """

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._chunks: list[bytes] = []
        self._number = 0
        self._count = 0
        self._size = (0, 0)

    def __len__(self) -> int:
        return self._count

    def add(self, picture: NDArray[np.uint8], milliseconds: int) -> None:
        """Show a picture for some time."""
        rows, columns = picture.shape[:2]
        top, left, part = 0, 0, picture
        if self._last is None:
            self._size = rows, columns
        else:
            changed = (picture != self._last).any(axis=2)
            lines, places = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            bottom = right = 1
            if len(lines):
                top, bottom = int(lines[0]), int(lines[-1]) + 1
                left, right = int(places[0]), int(places[-1]) + 1
            part = picture[top:bottom, left:right]
        height, width = part.shape[:2]
        control = struct.pack(
            ">IIIIIHHBB", self._take(), width, height, left, top, milliseconds, _MILLISECONDS, 0, 0
        )
        self._chunks.append(_chunk(b"fcTL", control))
        data = _compressed(part)
        if self._last is None:
            self._chunks.append(_chunk(b"IDAT", data))
        else:
            self._chunks.append(_chunk(b"fdAT", struct.pack(">I", self._take()) + data))
        self._last = picture.copy()
        self._count += 1

    def data(self) -> bytes:
        """The file."""
        rows, columns = self._size
        head = _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0))
        control = _chunk(b"acTL", struct.pack(">II", self._count, 0))
        return _SIGNATURE + head + control + b"".join(self._chunks) + _chunk(b"IEND", b"")

    def _take(self) -> int:
        number, self._number = self._number, self._number + 1
        return number


def _compressed(part: NDArray[np.uint8]) -> bytes:
    """Rows as differences to the row above, which suits windows full of plain areas."""
    rows = part.reshape(len(part), -1)
    lines = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    lines[:, 0] = 2  # PNG's filter "up"
    lines[0, 1:] = rows[0]
    lines[1:, 1:] = rows[1:] - rows[:-1]
    return zlib.compress(lines.tobytes(), 6)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
