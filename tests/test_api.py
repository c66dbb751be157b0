"""The public API: `__all__` is true and sorted, and what it names is documented in Google style."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Packages and modules whose public objects are checked; "" is `regional_al` itself.
COVERED = [
    "",
    "acquisition",
    "annotators",
    "config",
    "data",
    "engines",
    "exchange",
    "functional",
    "heuristics",
    "kernels",
    "loop",
    "metrics",
    "partitions",
    "review",
    "scaffold",
    "selection",
    "store",
    "testing.streets",
    "testing.toy",
]

# Packages whose registry's own classes are all public.
REGISTRIES = {
    "annotators": "ANNOTATORS",
    "heuristics": "HEURISTICS",
    "partitions": "PARTITIONS",
}


def package(name: str) -> ModuleType:
    return importlib.import_module(f"regional_al.{name}" if name else "regional_al")


def public_objects(module: ModuleType) -> dict[str, Any]:
    """The functions and classes that `__all__` names; constants, registries and aliases are not."""
    objects = {name: getattr(module, name) for name in module.__all__}
    return {name: o for name, o in objects.items() if inspect.isclass(o) or inspect.isfunction(o)}


def order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions and modules; alphabetically in each group."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def all_faults(module: ModuleType) -> Iterator[str]:
    """What is wrong with the `__all__` of a module."""
    names = list(module.__all__)
    if names != sorted(names, key=order):
        yield f"__all__ is not sorted: {sorted(names, key=order)}"
    for name in {n for n in names if names.count(n) > 1}:
        yield f"{name} is named twice"
    for name in names:
        if not hasattr(module, name):
            yield f"{name} is in __all__ but does not exist"
    for name, value in vars(module).items():
        own = str(getattr(value, "__module__", "")).startswith(module.__name__)
        is_object = inspect.isclass(value) or inspect.isfunction(value)
        if own and is_object and not name.startswith("_") and name not in names:
            yield f"{name} is public but not in __all__"


def sections(doc: str) -> dict[str, str]:
    """The text of each section ('Args', 'Returns', ...) of a docstring."""
    parts = re.split(r"^([A-Z]\w+):\n(?=    |\Z)", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(target: Any) -> list[str]:
    """Names of the parameters that a caller may give."""
    if inspect.isclass(target) and getattr(target, "_is_protocol", False):
        return []
    try:
        signature = inspect.signature(target)
    except ValueError:  # built in, such as an exception without an __init__ of its own
        return []
    skip = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, p in signature.parameters.items()
        if p.kind not in skip and not name.startswith("_")
    ]


def raises(target: Any) -> bool:
    """Whether a function (for a class, its construction) has a `raise` statement of its own."""
    bodies = [target]
    if getattr(target, "_is_protocol", False):  # typing gives it an __init__ that raises
        return False
    if inspect.isclass(target):
        bodies = [vars(target).get(name) for name in ("__init__", "__post_init__", "__new__")]
    for body in bodies:
        if not inspect.isfunction(body) or body.__qualname__.startswith("__create_fn__"):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(body)))
        except OSError:  # generated, as by dataclass
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:  # not a bare re-raise
                return True
    return False


def docstring_faults(name: str, target: Any) -> Iterator[str]:
    """What the docstring of a public function or class lacks."""
    doc = inspect.cleandoc(target.__doc__ or "")
    if not doc or (dataclasses.is_dataclass(target) and doc.startswith(f"{name}(")):
        yield f"{name} has no docstring"
        return
    summary, _, rest = doc.partition("\n")
    if not summary.endswith(".") or (rest and not rest.startswith("\n")):
        yield f"{name}: the docstring starts with a summary that is not one line with a full stop"
    found = sections(doc)
    for parameter in parameters(target):
        if not re.search(rf"^ +\**{parameter}(?: \(.*\))?:", found.get("Args", ""), re.MULTILINE):
            yield f"{name}: Args does not describe {parameter!r}"
    if inspect.isfunction(target):
        returned = str(inspect.signature(target).return_annotation)
        wanted = "Yields" if re.match(r"(Iterator|Generator)\[", returned) else "Returns"
        if returned not in ("None", "NoReturn") and wanted not in found:
            yield f"{name}: no {wanted}"
    if raises(target) and "Raises" not in found:
        yield f"{name}: no Raises"
    if ">>> " not in found.get("Example", ""):
        yield f"{name}: no Example that runs"
    if inspect.isclass(target):
        for member, value in vars(target).items():
            function = value.fget if isinstance(value, property) else value
            function = getattr(function, "__func__", function)
            inherited = inspect.getdoc(getattr(target, member))  # of the class that it overrides
            if inspect.isfunction(function) and not member.startswith("_") and not inherited:
                yield f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", COVERED)
def test_all_is_true_sorted_and_complete(name: str) -> None:
    assert list(all_faults(package(name))) == []


@pytest.mark.parametrize("name", COVERED)
def test_public_objects_are_documented(name: str) -> None:
    objects = public_objects(package(name))
    assert objects
    assert [f for key, o in objects.items() for f in docstring_faults(key, o)] == []


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_registered_class_is_public(name: str) -> None:
    module = package(name)
    registry = getattr(module, REGISTRIES[name])
    own = [c for c in map(registry.get, registry) if c.__module__.startswith("regional_al.")]
    assert len(own) > 1
    assert {c.__name__ for c in own} <= set(module.__all__)


GOOD = '''
def double(x: int) -> int:
    """Double a number.

    Args:
        x: a number, positive.

    Returns:
        Twice the number.

    Raises:
        ValueError: if it is negative.

    Example:
        >>> double(1)
        2
    """
    if x < 0:
        raise ValueError(x)
    return 2 * x
'''
FAULTS = [
    ("", "", None),
    ("        x: a number, positive.", "        y: a number.", "Args does not describe 'x'"),
    ("    Args:\n", "    Parameters:\n", "Args does not describe 'x'"),
    ("    Returns:\n        Twice the number.\n\n", "", "no Returns"),
    ("    Raises:\n        ValueError: if it is negative.\n\n", "", "no Raises"),
    (">>> double(1)", "double(1)", "no Example that runs"),
    ("Double a number.\n", "Double a number\n", "summary"),
    ("Double a number.\n", "Double a\n    number.\n", "summary"),
]


@pytest.mark.parametrize(("old", "new", "fault"), FAULTS)
def test_a_gap_in_a_docstring_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, fault: str | None
) -> None:
    (tmp_path / "planted.py").write_text(GOOD.replace(old, new))
    spec = importlib.util.spec_from_file_location("planted", tmp_path / "planted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "planted", module)
    spec.loader.exec_module(module)
    found = list(docstring_faults("double", module.double))
    assert found == [] if fault is None else any(fault in f for f in found), found


def test_a_false_all_is_found() -> None:
    module = ModuleType("planted")
    exec("class A: pass\ndef f(): pass\ndef g(): pass", vars(module))
    module.__all__ = ["f", "A", "missing", "f"]
    found = list(all_faults(module))
    assert any("not sorted" in fault for fault in found)
    assert "f is named twice" in found
    assert "missing is in __all__ but does not exist" in found
    assert "g is public but not in __all__" in found
