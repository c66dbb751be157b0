"""Damage of every kind to what a reader reads: it reads on, or refuses in one line.

`fuzz(name, examples, seed)` does it `examples` times and counts the outcomes; the first input that
ends otherwise raises AssertionError.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import random
import struct
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mistakes.readers import READERS, Reader
from regional_al.cli.outcome import LONGEST, one_line
from regional_al.errors import RegionalALError

PATIENCE = 5.0
"""Seconds that no reader may take."""


def fuzz(name: str, examples: int, seed: int) -> dict[str, int]:
    """Damage the input of one reader many times.

    Args:
        name: In `READERS`.
        examples: How often.
        seed: Of the damage.

    Returns:
        How many inputs were 'read' and how many 'refused'.

    Raises:
        AssertionError: An input ended in another way; the message says how to make it again.
    """
    counts: Counter[str] = Counter(read=0, refused=0)
    with prepared(name) as attempt:
        for i in range(examples):
            rng = random.Random(f"{name} {seed} {i}")
            kind = KINDS[i % len(KINDS)]
            outcome, fault = attempt(kind, rng)
            assert fault is None, f"{name}, {kind}, seed {seed}, example {i}: {fault}"
            counts[outcome] += 1
    return dict(counts)


@contextlib.contextmanager
def prepared(name: str) -> Iterator[Callable[[str, random.Random], tuple[str, str | None]]]:
    """A function that damages the input of a reader in one way and has it read."""
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        victim = reader.make(root)
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        mark = root / "executed"

        def attempt(kind: str, rng: random.Random) -> tuple[str, str | None]:
            for path in [path for path in root.rglob("*") if path.is_file()]:
                if path not in before:
                    path.unlink()
            for path, data in before.items():
                if not path.is_file() or path.read_bytes() != data:
                    path.write_bytes(data)
            spoilt = {**before, victim: damaged(before[victim], kind, rng, mark)}
            victim.write_bytes(spoilt[victim])
            outcome, fault = outcome_of(reader, root, victim, mark)
            if fault is None and not reader.writes:
                changed = [path.name for path, data in spoilt.items() if _read(path) != data]
                fault = f"changed {', '.join(changed)}" if changed else None
            return outcome, fault

        outcome = attempt("none", random.Random(0))
        assert outcome == ("read", None), f"{name}: a sound file is {outcome}"
        yield attempt


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def outcome_of(reader: Reader, root: Path, victim: Path, mark: Path) -> tuple[str, str | None]:
    """('read' or 'refused', what is wrong with how it ended or None)."""
    begin, said = time.monotonic(), ""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(root)
        except (RegionalALError, *reader.allowed) as error:
            said = str(error) or "(nothing)"
        except Exception as error:
            return "crashed", f"{type(error).__name__}: {error}"
    if time.monotonic() - begin > PATIENCE:
        return "hung", f"it took {time.monotonic() - begin:.1f} s"
    if mark.exists():
        return "executed", "a pickle was executed"
    outcome = "refused" if said else "read"
    shown = one_line(said.replace(str(root), ""))
    if "\n" in said or len(shown) > LONGEST:
        return outcome, f"not one short line: {shown!r}"
    if said and reader.named and victim.name not in said and victim.parent.name not in said:
        return outcome, f"does not name {victim.name}: {shown!r}"
    return outcome, None


class _Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def damaged(data: bytes, kind: str, rng: random.Random, mark: Path) -> bytes:
    """`data` with one kind of damage (of `KINDS`; 'none': as it is)."""
    if kind == "none":
        return data
    if kind == "pickle":
        return pickled(mark)
    return _DAMAGE[kind](data, rng)


def pickled(mark: Path) -> bytes:
    """A pickle that creates a file when it is executed."""
    return pickle.dumps(_Payload(mark))


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 200, 5000)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        # Headers are short: half of the flips hit the first bytes.
        at = rng.randrange(min(len(out), rng.choice((64, 512, len(out))))) if out else 0
        if out:
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, 1, 8, rng.randrange(len(data) + 1), max(0, len(data) - 1)))]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 7, 100))) + data[at:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 2, 20)) + data[stop:]


def _zero(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + bytes(stop - start) + data[stop:]


def _drop(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 3, 50, 2000)))


def _another_token(data: bytes, rng: random.Random) -> bytes:
    """A number, word or bracket of a text as another one; of other files, noise at one place."""
    import re

    found = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"\n]*"|true|false|null|[\[\]{},:=%]', data))
    if not found:
        return _insert(data, rng)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(_TOKENS) + data[one.end() :]


_TOKENS = (
    *(b"0", b"-1", b"1.5", b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"true", b'""'),
    *(b'"x"', b"[]", b"{}", b"[[]]", b'{"type": 3}', b"9" * 30, b"9" * 400, b"9" * 5000),
    *(b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b'"\\u0000"', b"%", b"1/0", b"1_0", b"\xff"),
    *(b"1e4000000%", b"-9223372036854775809", b'"../../x"', b'"/dev/zero"', b"[1,2,3]", b"1e30"),
    *(b'"' + b"a" * 4000 + b'"', "²".encode(), b'"50%"', b'"1e9%"'),
)


def _foreign(data: bytes, rng: random.Random) -> bytes:
    """A sound file of another kind, or one whose header claims far more than there is."""
    return rng.choice(_FOREIGN)


def png(width: int, height: int, depth: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    """A PNG whose header says so and whose content may be anything."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    content = zlib.compress(body)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", content)
        + chunk(b"IEND", b"")
    )


def npy(header: str) -> bytes:
    """An NPY file with any header and 16 bytes of data."""
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)


_FOREIGN = (
    png(60_000, 60_000),
    png(2**31 - 1, 2**31 - 1),
    png(0, 0),
    png(6, 8, depth=16),
    png(8, 6, colour=6),
    npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"),
    npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"),
    npy("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }"),
    npy("{'descr': '<i8', 'fortran_order': False, 'shape': (), }"),
    npy("(" * 500),
    npy("{'descr': ["),
    b"PK\x05\x06" + bytes(18),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n",
    b"SQLite format 3\x00" + bytes(84),
    b"P6\n60000 60000\n255\n",
    b"GIF89a\x08\x00\x06\x00\x00\x00\x00;",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"format": 1}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
)

_DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": _flip,
    "cut": _cut,
    "token": _another_token,
    "insert": _insert,
    "repeat": _repeat,
    "zero": _zero,
    "drop": _drop,
    "noise": _noise,
    "foreign": _foreign,
}
KINDS = (*_DAMAGE, "pickle")
