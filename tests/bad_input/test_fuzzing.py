"""Everything that reads files, given damaged ones: it reads on, or refuses in one line."""

from __future__ import annotations

import ast
import json
import pickle
import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistakes import READERS, fuzz
from mistakes.fuzzing import KINDS, prepared
from mistakes.readers import Reader
from paths import ROOT

SLOW = pytest.mark.slow
FEW = 60


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    counts = fuzz(name, FEW, seed=0)
    assert sum(counts.values()) == FEW
    assert bool(counts["refused"]) >= READERS[name].refuses


@SLOW
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(name: str) -> None:
    for seed in range(1, 4):
        fuzz(name, 150, seed)


@pytest.mark.parametrize("name", READERS)
def test_what_hypothesis_makes_of_a_file(name: str) -> None:
    """The same, but with damage that hypothesis chooses and makes smaller when it finds a fault."""
    with prepared(name) as attempt:

        @settings(max_examples=10, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(KINDS), st.randoms(use_true_random=False))
        def damage(kind: str, rng: random.Random) -> None:
            _, fault = attempt(kind, rng)
            assert fault is None

        damage()


def _number(folder: Path) -> Path:
    (folder / "n.json").write_text('{"rounds": 12, "title": "a"}')
    return folder / "n.json"


def _crashes(folder: Path) -> None:
    assert json.loads((folder / "n.json").read_text())["rounds"] > 1


def _executes(folder: Path) -> None:
    try:
        pickle.loads((folder / "n.json").read_bytes())
    except Exception:
        return


def _talks(folder: Path) -> None:
    from regional_al.errors import DataError

    if (folder / "n.json").read_bytes() != b'{"rounds": 12, "title": "a"}':
        raise DataError("n.json\nis damaged")


def _names_nothing(folder: Path) -> None:
    from regional_al.errors import DataError

    if (folder / "n.json").read_bytes() != b'{"rounds": 12, "title": "a"}':
        raise DataError("damaged")


def _writes(folder: Path) -> None:
    (folder / "n.json").write_text("{}")


@pytest.mark.parametrize(
    ("read", "match"),
    [
        (_crashes, r"example \d+: (JSONDecodeError|UnicodeDecodeError|KeyError|AssertionError)"),
        (_executes, "a pickle was executed"),
        (_talks, "not one short line"),
        (_names_nothing, r"does not name n\.json"),
        (_writes, r"changed n\.json"),
    ],
)
def test_fuzz_notices(read: object, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "planted", Reader("x.y", _number, read))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=match):
        fuzz("planted", 40, seed=0)


def test_the_same_seed_damages_in_the_same_way() -> None:
    assert fuzz("query.json", 30, seed=3) == fuzz("query.json", 30, seed=3)


READING = re.compile(
    r"\bjson\.load\(|json\.loads\(.*read_|np\.(load|fromfile|memmap)\(|Image\.open\(|[^`]torch\.load\("
)


def test_every_reader_that_is_registered_exists() -> None:
    for reader in READERS.values():
        module, _, name = reader.where.rpartition(".")
        path = ROOT / "src/regional_al" / Path(*module.split("."))
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else None
        texts = [source] if source else sorted(path.glob("*.py"))
        assert texts, reader.where
        names = {
            node.name
            for text in texts
            for node in ast.walk(ast.parse(text.read_text()))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        assert name in names or reader.where == "partitions.precomputed", reader.where


READ_BY: dict[str, str | None] = {
    "compat/baal/heuristics.py": None,  # a new file, to be written
    "engines/mmseg/checkpoints.py": "checkpoint",
    "engines/mmseg/engine.py": "results.json",  # read again, with its errors told, where needed
    "engines/mmseg/resumable.py": "training state",  # bytes of one that has been read
    "engines/mmseg1/backbones.py": None,  # weights inside an installed package
    "selection/pool_table.py": "pool table layout",
    "store/fit_state.py": "training state",
    "store/images.py": "image png",
    "store/reading.py": "query.json",
}
"""Modules that open JSON, NPY, image and checkpoint files themselves -> what fuzzes them."""


def test_no_other_module_reads_files_by_itself() -> None:
    """`np.load` believes a header and `json.loads` may raise RecursionError: read by
    `store.reading`, or add a reader to the registry and name it in READ_BY."""
    source = ROOT / "src/regional_al"
    found = set()
    for path in source.rglob("*.py"):
        lines = [line for line in path.read_text().splitlines() if ">>>" not in line]
        if any(READING.search(line) for line in lines):
            found.add(str(path.relative_to(source)))
    assert found == set(READ_BY)
    assert {name for name in READ_BY.values() if name} <= set(READERS)
