"""tools/gcc_precompiled.py: the same object files, from headers that are read once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

SCRIPT = ROOT / "tools" / "gcc_precompiled.py"
GCC = shutil.which("g++")
pytestmark = pytest.mark.skipif(GCC is None, reason="g++ is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A source as mmcv-full has them, and a header that says when it is read."""
    header = tmp_path / "include" / "torch" / "types.h"
    header.parent.mkdir(parents=True)
    header.write_text("#pragma once\n#warning read\ninline int one() { return ONE; }\n")
    (tmp_path / "include" / "pytorch_cpp_helper.hpp").write_text("#include <torch/types.h>\n")
    text = '// Copyright\n#include "pytorch_cpp_helper.hpp"\nint f() { return one(); }\n'
    for name in ("a.cpp", "b.cpp"):
        (tmp_path / name).write_text(text)
    (tmp_path / "precompiled").mkdir()
    return tmp_path


def compiled(place: Path, name: str, *flags: str, wrapped: bool = True) -> tuple[bytes, str]:
    """The object file, and what the compiler said."""
    assert GCC is not None
    tool = [sys.executable, str(SCRIPT), str(place / "precompiled"), "torch/types.h"]
    tool = tool if wrapped else []
    out = place / "out.o"
    command = [*tool, GCC, "-MMD", "-MF", "out.d", f"-I{place / 'include'}", "-DONE=1", "-O2"]
    command += [*flags, "-c", name, "-o", str(out)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out.read_bytes(), done.stderr


def test_the_header_is_read_once_and_the_object_is_the_same(place: Path) -> None:
    expected, said = compiled(place, "a.cpp", wrapped=False)
    assert "#warning read" in said
    first, said = compiled(place, "a.cpp")
    again, said_again = compiled(place, "a.cpp")
    assert first == again == expected
    assert "#warning" not in said + said_again
    assert "#warning" not in compiled(place, "b.cpp", "-DTORCH_EXTENSION_NAME=b")[1]
    assert len(list((place / "precompiled").glob("*.gch"))) == 1


def test_other_flags_have_a_header_of_their_own(place: Path) -> None:
    compiled(place, "a.cpp")
    one = compiled(place, "a.cpp", "-UONE", "-DONE=2")[0]
    assert one == compiled(place, "a.cpp", "-UONE", "-DONE=2", wrapped=False)[0]
    assert len(list((place / "precompiled").glob("*.gch"))) == 2


def test_a_header_that_cannot_be_precompiled_is_read_as_ever(place: Path) -> None:
    (place / "include" / "torch" / "types.h").write_text(
        "#pragma once\n#ifndef HERE\n#error alone\n#endif\ninline int one() { return 1; }\n"
    )
    (place / "a.cpp").write_text('#include "pytorch_cpp_helper.hpp"\nint f() { return one(); }\n')
    (place / "include" / "pytorch_cpp_helper.hpp").write_text(
        "#define HERE\n#include <torch/types.h>\n"
    )
    assert compiled(place, "a.cpp")[0] == compiled(place, "a.cpp", wrapped=False)[0]


def test_what_is_no_compile_goes_to_the_compiler(place: Path) -> None:
    (place / "main.cpp").write_text("#include <cstdio>\nint main() { return 7; }\n")
    assert GCC is not None
    tool = [sys.executable, str(SCRIPT), str(place / "precompiled"), "x.h", GCC]
    subprocess.run([*tool, "main.cpp", "-o", "main"], cwd=place, check=True)
    assert subprocess.run([str(place / "main")]).returncode == 7
    assert list((place / "precompiled").iterdir()) == []
    assert subprocess.run([*tool, "none.cpp", "-c"], cwd=place, capture_output=True).returncode == 1
