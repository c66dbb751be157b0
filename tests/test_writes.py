"""Every file is written under a temporary name and then renamed, read from the source: a run that
is killed while it writes leaves no half file under a name that somebody reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from regional_al.errors import WorkDirError
from regional_al.store.images import write_array

PACKAGE = ROOT / "src" / "regional_al"
ATOMIC = {"replacing", "creating"}
PASSING = {"TemporaryDirectory", "TemporaryFile", "NamedTemporaryFile", "BytesIO", "StringIO"}
"""What is written into these is nobody's file."""
METHODS = {"write_text", "write_bytes", "savefig", "tofile", "touch", "savetxt", "savez"}
METHODS |= {"savez_compressed", "imwrite", "copyfile", "copy2", "copytree", "save_checkpoint"}
METHODS |= {"FileHandler", "open_memmap"}

# module:function -> why its plain write is safe.
ALLOWED = {
    "cli.outcome:_leave": "a temporary name of its own, renamed",
    "cli.train:run": "the process id for the launcher, in the launcher's own temporary folder",
    "compare.runner:_start": "a log, which is appended to",
    "engines.mmseg0.hooks:stretch_logger": "a log, which is appended to",
    "engines.mmseg0.fit:save": "a temporary name of its own, renamed",
    "engines.mmseg0.fit:write_state": "to the temporary name that store.fit_state gives",
    "engines.mmseg0.tracking:write": "a log, which is appended to",
    "engines.mmseg1.fit:write": "to the temporary names that save and store.fit_state give",
    "engines.torch:_save_state": "to the temporary name that store.fit_state gives",
    "selection.pool_table:close": "scratch of one query: deleted before it is written anew",
    "selection.pool_table:_append": "scratch of one query: deleted before it is written anew",
    "store.images:replace_all": "to temporary names, renamed together",
    "store.query:write_query": "into a temporary folder, which is renamed",
    "store.query:copy_query": "into a temporary folder, which is renamed",
    "web.training:work": "a log, of the training that is going on",
    "store.query:write_id_png": "into the temporary folder of write_query",
}


def plain_writes(package: Path = PACKAGE) -> dict[str, list[int]]:
    """module:function -> lines that write to a file which is not renamed afterwards."""
    found: dict[str, list[int]] = {}
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        ours = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level
            for alias in node.names
        }
        for function, line in _visit(tree, "<module>", set(), ours):
            found.setdefault(f"{module}:{function}", []).append(line)
    return found


def _visit(
    node: ast.AST, function: str, safe: set[str], ours: set[str]
) -> Iterator[tuple[str, int]]:
    """safe: names of temporary files; grows with assignments. ours: names imported from the package
    itself, whose functions are looked at where they are defined."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        function, safe = node.name, set(safe)
    if isinstance(node, ast.Call) and _writes(node, ours) and not _names(node) & safe:
        yield function, node.lineno
    if isinstance(node, ast.With):
        for item in node.items:
            yield from _visit(item.context_expr, function, safe, ours)
            fine = _called(item.context_expr) & (ATOMIC | PASSING)
            if item.optional_vars is not None and (fine or _names(item.context_expr) & safe):
                safe |= _names(item.optional_vars)
        for child in node.body:
            yield from _visit(child, function, safe, ours)
        return
    if isinstance(node, ast.Assign) and (
        _called(node.value) & PASSING or _names(node.value) & safe
    ):
        for target in node.targets:
            if isinstance(target, ast.Name):
                safe.add(target.id)
    for child in ast.iter_child_nodes(node):
        yield from _visit(child, function, safe, ours)


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _called(node: ast.AST) -> set[str]:
    """Names of the functions called in an expression, without their modules."""
    return {
        ast.unparse(inner.func).rpartition(".")[2]
        for inner in ast.walk(node)
        if isinstance(inner, ast.Call)
    }


def _writes(node: ast.Call, ours: set[str]) -> bool:
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name in METHODS:
        return True
    if name in {"open", "fdopen"}:
        first = 0 if isinstance(node.func, ast.Attribute) and owner not in {"os", "io"} else 1
        given = [*node.args[first : first + 1], *(k.value for k in node.keywords if k.arg)]
        modes = [m.value for m in given if isinstance(m, ast.Constant)]
        return any(
            isinstance(mode, str) and len(mode) <= 3 and set(mode) & set("wax+") for mode in modes
        )
    return name == "save" and owner.split(".")[0] not in ours | {"", "self", "stretch"}


def test_every_write_goes_through_a_temporary_name_or_says_why_not() -> None:
    found = plain_writes()
    assert {place: lines for place, lines in found.items() if place not in ALLOWED} == {}


def test_no_exception_outlives_its_write() -> None:
    assert set(ALLOWED) - set(plain_writes()) == set()


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('x')",
        "path.write_bytes(b'x')",
        "np.save(path, x, allow_pickle=False)",
        "torch.save(x, path)",
        "Image.fromarray(x).save(path)",
        "picture.save(path, format='PNG')",
        "figure.savefig(path)",
        "open(path, 'w').write('x')",
        "open(path, mode='ab')",
        "path.open('wb').write(x)",
        "with path.open('r+') as file: file.write(x)",
        "shutil.copyfile(path, x)",
        "x.tofile(path)",
        "with open(path) as other: path.write_text('x')",
        "with replacing(path) as temporary: path.write_text('x')",
    ],
)
def test_a_plain_write_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.py").write_text(f"def f(path, x):\n    {line}\n")
    assert plain_writes(tmp_path) == {"a:f": [2]}


@pytest.mark.parametrize(
    "lines",
    [
        "with replacing(path) as temporary:\n        temporary.write_text('x')",
        "with replacing(path) as temporary, temporary.open('wb') as f:\n        np.save(f, x)",
        "with replacing(path) as temporary:\n        torch.save(x, temporary)",
        "with TemporaryDirectory() as folder:\n        a = Path(folder) / 'a'\n        a.touch()",
        "buffer = io.BytesIO()\n    torch.save(x, buffer)",
        "open(path)",
        "open(path, 'rb')",
        "path.open(encoding='utf-8').read()",
        "figures.save(x, path)",
        "Ledger.open(path, readonly=True)",
    ],
)
def test_what_is_renamed_or_only_read_is_not_found(tmp_path: Path, lines: str) -> None:
    (tmp_path / "a.py").write_text(f"from . import figures\ndef f(path, x):\n    {lines}\n")
    assert plain_writes(tmp_path) == {}


def test_an_array_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "town" / "a.npy"
    write_array(path, np.arange(5))
    assert np.load(path, allow_pickle=False).tolist() == [0, 1, 2, 3, 4]

    def half(file: object, *_: object, **__: object) -> None:
        file.write(b"\x93NUMPY")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(WorkDirError, match=r"a\.npy cannot be written: No space left.*free some"):
        write_array(path, np.arange(9))
    monkeypatch.undo()
    assert np.load(path, allow_pickle=False).tolist() == [0, 1, 2, 3, 4]
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]
