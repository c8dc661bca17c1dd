"""The file that an offline run of W&B leaves, ``run-<id>.wandb``: the frames of LevelDB's log around messages.

A header, then blocks of 32 KiB. In a block stand pieces: CRC, length, whether it is a whole message or the first,
middle or last part, data. What the messages mean, W&B's own package says (wandb_import.py).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 1 << 15
_PIECE = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
LONGEST = 1 << 28
"""Bytes of a message at most."""


def frames(data: bytes) -> Iterator[bytes]:
    """Messages in the order of writing; what breaks off at the end is left.

    Examples
    --------
    >>> data = HEADER + _PIECE.pack(_check(_WHOLE, b"hello"), 5, _WHOLE) + b"hello"
    >>> list(frames(data))
    [b'hello']
    """
    if not data.startswith(HEADER):
        message = (
            "import_wandb: the file is none of W&B's, or of a version that is not known; name a run-*.wandb"
        )
        raise RunFileError(message)
    place = len(HEADER)
    parts: list[bytes] = []
    while place + _PIECE.size <= len(data):
        rest = BLOCK - place % BLOCK
        if rest < _PIECE.size:
            place += rest
            continue
        check, length, kind = _PIECE.unpack_from(data, place)
        if kind == 0 and length == 0:  # the rest of a block that was not used
            place += rest
            continue
        start = place + _PIECE.size
        piece = data[start : start + length]
        if len(piece) < length:
            return
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or check != _check(kind, piece) or length > rest:
            message = f"import_wandb: the file is damaged at byte {place}; it can be read up to there only"
            raise RunFileError(message)
        if kind in (_WHOLE, _FIRST):
            parts = []
        parts.append(piece)
        if sum(map(len, parts)) > LONGEST:
            message = f"import_wandb: a message is longer than {LONGEST} bytes; the file is damaged"
            raise RunFileError(message)
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
            parts = []
        place = start + length


def _check(kind: int, piece: bytes) -> int:
    return zlib.crc32(piece, zlib.crc32(bytes([kind])))
