"""Label Studio's brush: thi.ng rle-pack over the bytes of an RGBA image, whose alpha is the mask.

A stream of bits: the number of values (32), their width - 1 (5), four sizes - 1 (4 each); then for
each piece a flag (1: a run, 0: literal values), the index of a size (2), the length - 1 in so many
bits, and the value or the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...types import U8, Bool
from . import runs

SIZES = (3, 4, 8, 16)
_LONGEST = 1 << 16
_OPAQUE = 129  # the brush is drawn with soft edges; the tool's own converter cuts here
_HEAD = 32 + 5 + 4 * 4


def encode(mask: Bool) -> list[int]:
    """bool [H, W] as the bytes under `rle`; all four channels are 255 where the mask is.

    Example:
        >>> decode(encode(np.eye(3, dtype=bool)), (3, 3)).astype(int).tolist()
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """
    flat = np.ascontiguousarray(mask).ravel()
    lengths = runs.encode(flat) * 4
    values = np.where(np.arange(lengths.size) % 2 == 1, 255, 0)
    values, lengths = values[lengths > 0], lengths[lengths > 0]
    pieces = -(-lengths // _LONGEST)  # a run that is too long is cut
    values, whole = np.repeat(values, pieces), np.repeat(lengths, pieces)
    ends = np.cumsum(pieces)
    index = np.arange(values.size) - np.repeat(ends - pieces, pieces)
    lengths = np.minimum(whole - index * _LONGEST, _LONGEST)
    size = np.searchsorted([1 << bits for bits in SIZES], lengths)
    bits = np.asarray(SIZES)[size]
    word = (((4 | size) << bits | (lengths - 1)) << 8 | values).astype(np.int32)
    count = 3 + bits + 8
    place = np.arange(27, dtype=np.int32)
    aligned = word << (27 - count).astype(np.int32)  # the first bit of each piece in one column
    table = (aligned[:, None] >> (26 - place)) & 1
    body = table[place < count[:, None]].astype(np.uint8)
    head = _bits(4 * flat.size, 32) + _bits(7, 5)
    for length in SIZES:
        head += _bits(length - 1, 4)
    stream = np.concatenate((np.array(head, np.uint8), body))
    return [int(byte) for byte in np.packbits(stream)]


def decode(rle: Sequence[int], shape: tuple[int, int]) -> Bool:
    """The bytes under `rle` as bool [H, W]. Raises ValueError when they are damaged or of an image
    of another size.

    Example:
        >>> decode(encode(np.zeros((2, 5), bool)), (2, 5)).any().item()
        False
    """
    values = unpack(rle, 4 * shape[0] * shape[1])
    return np.asarray(values.reshape(*shape, 4)[..., 3] >= _OPAQUE)


def unpack(rle: Sequence[int], size: int) -> U8:
    """All values of a stream.

    Args:
        rle: Its bytes.
        size: How many values it must hold.

    Returns:
        uint8 [size].

    Raises:
        ValueError: It holds another number of values, ends early, or has values of other widths.

    Example:
        >>> unpack(encode(np.ones((1, 1), bool)), 4).tolist()
        [255, 255, 255, 255]
    """
    data = _bytes(rle)
    stream = data + bytes(4)
    end = 8 * len(data)

    def take(at: int, count: int) -> int:
        if at + count > end:
            raise ValueError("ends early")
        start, skip = at >> 3, at & 7
        word = int.from_bytes(stream[start : start + 5], "big")
        return (word >> (40 - skip - count)) & ((1 << count) - 1)

    held = take(0, 32)
    if held != size:
        raise ValueError(f"is of an image of {held // 4} pixels, this one has {size // 4}")
    width = take(32, 5) + 1
    if width != 8:
        raise ValueError(f"has values of {width} bits, not 8")
    sizes = [take(37 + 4 * i, 4) + 1 for i in range(4)]
    out = np.zeros(size, np.uint8)
    at, done = _HEAD, 0
    while done < size:
        piece = take(at, 3)
        bits = sizes[piece & 3]
        length = take(at + 3, bits) + 1
        at += 3 + bits
        if done + length > size:
            raise ValueError("holds more values than it says")
        if piece & 4:
            out[done : done + length] = take(at, 8)
            at += 8
        else:
            if at + 8 * length > end:
                raise ValueError("ends early")
            part = np.frombuffer(stream[at >> 3 : (at >> 3) + length + 1], np.uint8)
            skip = at & 7
            wide = part.astype(np.uint16)
            out[done : done + length] = ((wide[:-1] << skip) | (wide[1:] >> (8 - skip))) & 255
            at += 8 * length
        done += length
    return out


def _bytes(rle: Any) -> bytes:
    if not isinstance(rle, (list, tuple)):
        raise ValueError("is not a list of bytes")
    try:
        return bytes(rle)
    except (TypeError, ValueError):
        raise ValueError("is not a list of bytes") from None


def _bits(value: int, count: int) -> list[int]:
    return [(value >> (count - 1 - i)) & 1 for i in range(count)]
