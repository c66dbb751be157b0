"""g++ that reads the headers of torch once: a stand-in for CXX while mmcv-full is compiled.

    gcc_precompiled.py FOLDER g++ ARGUMENTS...

Nearly all of a compile is spent on torch's headers, which are the same for every file. They are
precompiled into FOLDER, once for each set of flags, and given to the compiles that include them;
the object files are the same to the byte. Whatever is not such a compile goes to g++ as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HEADERS = {"pytorch_cpp_helper.hpp": "torch/types.h", "torch/script.h": "torch/script.h"}
"""What a source includes first -> what is precompiled for it."""
_WITH_VALUE = ("-o", "-MF", "-MT", "-MQ")
_DEPENDENCIES = ("-MMD", "-MD", "-MP", "-c")


def header_of(source: Path) -> str | None:
    """The header to precompile for a source; None: the source does not begin with one of them."""
    with contextlib.suppress(OSError):
        for line in source.read_text(errors="replace").splitlines():
            found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if found:
                return HEADERS.get(found[1])
            if line.strip() and not line.lstrip().startswith(("//", "/*", "*", "#pragma once")):
                return None
    return None


def source_of(arguments: Sequence[str]) -> Path | None:
    """The C++ source of a compile; None: it is something else, or of several."""
    sources = [one for one in arguments if one.endswith((".cpp", ".cc")) and one[0] != "-"]
    return Path(sources[0]) if "-c" in arguments and len(sources) == 1 else None


def flags_of(arguments: Sequence[str]) -> list[str]:
    """The flags of a compile that a precompiled header must share: all but files."""
    kept, rest = [], iter(arguments)
    for one in rest:
        if one in _WITH_VALUE:
            next(rest, None)
        elif one not in _DEPENDENCIES and not one.endswith((".cpp", ".cc")):
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


def main(folder: str, compiler: str, *arguments: str) -> int:
    """Run the compiler; returns its exit code."""
    source = source_of(arguments)
    header = None if source is None else header_of(source)
    more: list[str] = []
    if header is not None:
        path = precompiled(Path(folder), compiler, flags_of(arguments), header)
        more = [] if path is None else ["-include", str(path)]
    return subprocess.run([compiler, *more, *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
