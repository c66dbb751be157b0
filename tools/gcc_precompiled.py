"""GCC that reads the headers of torch once: a stand-in for CC and CXX while wheels are compiled.

    gcc_precompiled.py FOLDER HEADER g++ ARGUMENTS...

Nearly all of a compile is spent on torch's headers, which are the same for every file. HEADER, such
as torch/types.h, is precompiled into FOLDER, once for each set of flags, and included first by
every compile of a C++ file; whatever else goes to g++ as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_WITH_VALUE = ("-o", "-MF", "-MT", "-MQ")
_DEPENDENCIES = ("-MMD", "-MD", "-MP", "-c")
_NAME = "-DTORCH_EXTENSION_NAME="
"""Of a module; a wheel may have several, and torch's headers do not use it."""


def is_compile(arguments: Sequence[str]) -> bool:
    """Whether the arguments compile one C++ file."""
    return "-c" in arguments and sum(map(_is_source, arguments)) == 1


def flags_of(arguments: Sequence[str]) -> list[str]:
    """The flags of a compile that a precompiled header must share."""
    kept, rest = [], iter(arguments)
    for one in rest:
        if one in _WITH_VALUE:
            next(rest, None)
        elif one not in _DEPENDENCIES and not one.startswith(_NAME) and not _is_source(one):
            kept.append(one)
    return kept


def precompiled(folder: Path, compiler: str, flags: Sequence[str], header: str) -> Path | None:
    """The header, precompiled beside its name; None where that fails. Others wait meanwhile."""
    name = hashlib.sha256("\0".join([compiler, header, *flags]).encode()).hexdigest()[:16]
    path = folder / f"{name}.hpp"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            made = folder / f"{name}.tmp"
            source = folder / f"{name}.source.hpp"
            source.write_text(f"#include <{header}>\n")
            command = [compiler, *flags, "-x", "c++-header", str(source), "-o", str(made)]
            if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
                os.replace(made, f"{path}.gch")
            path.write_text(f"#include <{header}>\n")
    return path if Path(f"{path}.gch").exists() else None


def main(folder: str, header: str, compiler: str, *arguments: str) -> int:
    """Run the compiler; returns its exit code."""
    more: list[str] = []
    if is_compile(arguments):
        path = precompiled(Path(folder), compiler, flags_of(arguments), header)
        more = [] if path is None else ["-include", str(path)]
    return subprocess.run([compiler, *more, *arguments]).returncode


def _is_source(argument: str) -> bool:
    return argument.endswith((".cpp", ".cc")) and not argument.startswith("-")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
