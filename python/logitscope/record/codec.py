"""Arrays as bytes in a run file: bytes of equal weight together, then run lengths and Huffman codes of zlib.

Of a causal attention map (4, 4, 128, 128) in float32 this leaves 45 % in 5 ms, where plain zlib leaves 48 %
in 11 ms. Nothing is rounded, and decoding trusts nothing: it allocates what the shape promises, within
`MAX_ARRAY_BYTES`, and no more, whatever the data expand to.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import RunFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ARRAY_BYTES = 1 << 28
MAX_DIMENSIONS = 32
DTYPES = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"],
)
_SMALL = 64
"""Below this many bytes compression gains nothing."""


def encode(array: NDArray[Any]) -> tuple[str, str, str, bytes]:
    """Dtype, shape, codec and data of an array whose little-endian dtype is one of `DTYPES`."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    dtype, shape = little.dtype.str, json.dumps(array.shape)
    if little.nbytes < _SMALL:
        return dtype, shape, "raw", little.tobytes()
    planes = little.reshape(-1).view(np.uint8).reshape(-1, little.itemsize).T
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    data = compressor.compress(np.ascontiguousarray(planes).data) + compressor.flush()
    return (
        (dtype, shape, "planes-zlib", data)
        if len(data) < little.nbytes
        else (dtype, shape, "raw", little.tobytes())
    )


def decode(dtype: str, shape: str, codec: str, data: bytes) -> NDArray[Any]:
    """The array; RunFileError when the parts do not fit each other."""
    kind, dimensions = _dtype(dtype), _shape(shape)
    if math.prod(max(n, 1) for n in dimensions) * kind.itemsize > MAX_ARRAY_BYTES:
        raise RunFileError(
            _damaged(f"an array of shape {dimensions}, over the {MAX_ARRAY_BYTES} bytes allowed")
        )
    size = math.prod(dimensions) * kind.itemsize
    if codec == "raw":
        plain = data
    elif codec == "planes-zlib":
        plain = _inflate(data, size)
    else:
        raise RunFileError(_damaged(f"an array in the unknown codec {codec[:40]!r}"))
    if len(plain) != size:
        raise RunFileError(_damaged(f"{len(plain)} bytes for an array of {size}"))
    flat = np.frombuffer(plain, np.uint8)
    if codec == "planes-zlib":
        flat = np.ascontiguousarray(flat.reshape(kind.itemsize, -1).T)
    return flat.reshape(-1).view(kind).reshape(dimensions)


def _inflate(data: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(data, size + 1)
    except zlib.error as error:
        raise RunFileError(_damaged(f"compressed data ({error})")) from error
    if not decompressor.eof and len(plain) <= size:
        raise RunFileError(_damaged("compressed data that break off"))
    return plain


def _dtype(text: str) -> np.dtype[Any]:
    if text not in DTYPES:
        raise RunFileError(_damaged(f"an array of the unknown dtype {text[:40]!r}"))
    return np.dtype(text)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = json.loads(text) if len(text) < 1000 else None
    except ValueError:
        shape = None
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise RunFileError(_damaged(f"an array of shape {text[:40]!r}"))
    if not all(type(n) is int and 0 <= n <= MAX_ARRAY_BYTES for n in shape):
        raise RunFileError(_damaged(f"an array of shape {text[:40]!r}"))
    return tuple(shape)


def _damaged(what: str) -> str:
    return f"run file: it holds {what}; it is damaged or was not written by logitscope"
