"""The shape of the package, read from its source: who may import whom, and what nobody may do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "src" / "regional_al"
NAME = "regional_al"
MAX_LINES = 500  # past that, ask whether a file is two

GROUND = {"errors", "registry", "types", "checks"}
# What each package may import of the others, at the top or inside a function, from the ground up;
# `x.base` is the protocol of x, which others may name without the classes behind it.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "registry": {"errors"},
    "checks": {"errors", "registry", "types"},
    "runtime": GROUND,
    "kernels": GROUND,
    "functional": GROUND | {"kernels"},
    "metrics": GROUND,
    "store": GROUND | {"runtime"},
    "data": GROUND | {"store"},
    "partitions": GROUND | {"runtime", "store"},
    "selection": GROUND,
    "heuristics": GROUND | {"functional", "kernels", "selection", "store"},
    "annotators.base": GROUND | {"store"},
    "annotators": GROUND | {"runtime", "store"},
    # Files of other labelling tools; answers reach the run by way of the folder annotator's.
    "exchange": GROUND | {"annotators.base", "store"},
    # The grammar accepts the names that the registries hold.
    "config": GROUND | {"annotators", "heuristics", "partitions"},
    "engines.base": GROUND | {"store"},
    "engines": GROUND | {"config", "data", "metrics", "runtime", "store"},
    "acquisition": GROUND
    | {"config", "engines.base", "heuristics", "partitions", "runtime", "selection", "store"},
    # What people have spent stands in the log of answers, which `annotators` replays.
    "report": GROUND | {"annotators", "metrics", "store", "version"},
    # Models judge labels; the page is one like the report.
    "review": GROUND | {"engines.base", "report", "store", "version"},
    # The loop sees engines and annotators by their protocols; only `run` builds them.
    "loop": GROUND
    | {
        "acquisition",
        "annotators",
        "annotators.base",
        "config",
        "engines.base",
        "metrics",
        "report",
    }
    | {"runtime", "store"},
    "loop.runner": GROUND | {"engines", "partitions"},
    # The page sees a waiting run as the exchange does; it starts trainings as `compare` does.
    "web": GROUND
    | {"annotators", "annotators.base", "compare", "exchange", "loop", "partitions"}
    | {"report", "store"},
    "compat": GROUND
    | {"annotators", "data", "engines", "engines.base", "heuristics", "kernels", "metrics"}
    | {"runtime", "store"},
    # Runs are processes of their own; a comparison reads configs, to refuse mistakes, and files.
    "compare": GROUND
    | {"config", "engines", "heuristics", "report", "runtime", "store", "version"},
    "shipped": {"errors"},
    "scaffold": GROUND | {"config", "runtime", "shipped", "store", "version"},
    "testing": GROUND | {"engines", "runtime", "store"},
}
# What saves and restores the global generators, which mm* uses.
RANDOM_STATES = {f"{NAME}.engines.mmseg.rehearsal", f"{NAME}.runtime.randomness"}
ANYTHING = {"cli", "__main__", "version"}  # version: the package's own __init__


@dataclass(frozen=True)
class Import:
    """`target`: full dotted name; `top`: executed when the importing module is."""

    target: str
    top: bool
    line: int


def module_name(path: Path, package: Path = PACKAGE) -> str:
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(package: Path = PACKAGE) -> dict[str, Path]:
    return {module_name(path, package): path for path in sorted(package.rglob("*.py"))}


def imports(module: str, path: Path, known: set[str]) -> Iterator[Import]:
    """All imports but those under `if TYPE_CHECKING`; a name that is a module counts as one."""
    tree = ast.parse(path.read_text())
    holder = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST, top: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, top, node.lineno)
        if isinstance(node, ast.ImportFrom):
            above = holder.rsplit(".", node.level - 1)[0] if node.level > 1 else holder
            base = (above if node.level else "") + (f".{node.module}" if node.module else "")
            for alias in node.names:
                full = f"{base.lstrip('.')}.{alias.name}"
                yield Import(full if full in known else base.lstrip("."), top, node.lineno)
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, top and not inner)

    yield from visit(tree, True)


def part(module: str) -> str:
    """The part of the package that a module belongs to: a key of MAY_IMPORT."""
    below = module.split(".")[1:]
    if not below:
        return "version"
    dotted = ".".join(below[:2])
    return dotted if dotted in MAY_IMPORT else below[0]


def allowed(me: str) -> set[str]:
    """What a part may import; a module with an entry of its own, what its package may besides."""
    package = me.split(".")[0]
    return MAY_IMPORT[me] | (set() if me.endswith(".base") else MAY_IMPORT[package])


def layer_faults(package: Path = PACKAGE) -> list[str]:
    modules, faults = sources(package), []
    for module, path in modules.items():
        me = part(module)
        if me in ANYTHING:
            continue
        if me not in MAY_IMPORT:
            faults.append(f"{module} is in no layer: add it to MAY_IMPORT")
            continue
        for found in imports(module, path, set(modules)):
            other = part(found.target)
            own = other.split(".")[0] == me.split(".")[0] and not me.endswith(".base")
            if found.target.split(".")[0] == NAME and not own and other not in allowed(me):
                faults.append(f"{module}:{found.line} imports {found.target}")
    return faults


def cycles(package: Path = PACKAGE) -> list[str]:
    """Modules that reach themselves through imports executed on import."""
    modules = sources(package)
    graph = {
        name: {i.target for i in imports(name, path, set(modules)) if i.top} & set(modules) - {name}
        for name, path in modules.items()
    }
    found = []
    for start in graph:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            here = ahead.pop()
            if here not in seen:
                seen.add(here)
                ahead += graph[here]
        # A package's __init__ that imports its own files is not a cycle, unless one imports it.
        if start in seen:
            found.append(start)
    return found


def package_cycles(package: Path = PACKAGE) -> list[str]:
    """Packages (first-level names) that reach themselves through any import, lazy ones included."""
    modules = sources(package)
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        if name.count("."):
            me = name.split(".")[1]
            targets = {i.target for i in imports(name, path, set(modules))} & set(modules)
            graph.setdefault(me, set()).update(t.split(".")[1] for t in targets if t.count("."))
    found = []
    for start, ahead in graph.items():
        seen: set[str] = set()
        stack = list(ahead - {start})
        while stack:
            here = stack.pop()
            if here not in seen:
                seen.add(here)
                stack += graph.get(here, ())
        if start in seen:
            found.append(start)
    return found


def foreign_faults(package: Path = PACKAGE) -> list[str]:
    """mm* outside engines/, pickle anywhere, stdlib random where it is not put back."""
    modules, faults = sources(package), []
    for module, path in modules.items():
        for found in imports(module, path, set(modules)):
            first = found.target.split(".")[0]
            outside = not module.startswith(f"{NAME}.engines.")
            if first in {"mmcv", "mmengine", "mmseg", "mim"} and outside:
                faults.append(f"{module}:{found.line} imports {first} outside engines/")
            if first == "random" and module in RANDOM_STATES:
                continue
            if first in {"pickle", "cPickle", "dill", "joblib", "shelve", "random"}:
                faults.append(f"{module}:{found.line} imports {first}")
    return faults


def call_faults(package: Path = PACKAGE) -> list[str]:
    """Calls that read pickles or use numpy's global generator."""
    faults = []
    fine = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox"}
    seeded_by_mm = {f"{NAME}.engines.mmseg.transforms"} | RANDOM_STATES  # in each data worker
    for module, path in sources(package).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if module in seeded_by_mm or node.attr in fine:
                    continue
                if owner in {"np.random", "numpy.random"}:
                    faults.append(f"{module}:{node.lineno} uses np.random.{node.attr}")
            if isinstance(node, ast.Call):
                name, given = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
                if name in {"np.load", "numpy.load", "np.save", "numpy.save"}:
                    want, key = "False", "allow_pickle"
                elif name == "torch.load":
                    want, key = "True", "weights_only"
                else:
                    continue
                if key not in given or ast.unparse(given[key]) != want:
                    faults.append(f"{module}:{node.lineno} calls {name} without {key}={want}")
    return faults


def test_every_module_imports_only_what_its_layer_may() -> None:
    assert layer_faults() == []


def test_there_is_no_import_cycle() -> None:
    assert cycles() == []
    assert package_cycles() == []


def test_mm_packages_stay_in_engines_and_nobody_pickles() -> None:
    assert foreign_faults() == []
    assert call_faults() == []


def test_only_the_oracle_reads_the_ground_truth_of_the_pool() -> None:
    """`PoolItem.annotation` is the one way to it; the torch engine reads its validation items'.
    `store.tiling` copies it into the files of tiles, which the pools of both generations name."""
    readers = {
        module
        for module, path in sources().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "annotation"
    }
    cutting = {"store.tiling", "engines.mmseg0.pool", "engines.mmseg1.pool"}
    allowed = {"annotators.oracle", "engines.torch", *cutting}
    assert readers <= {f"{NAME}.{module}" for module in allowed}


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(PACKAGE)): count
        for path in sources().values()
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


@pytest.mark.parametrize(
    ("file", "text", "check", "fault"),
    [
        ("loop/a.py", "import mmseg", foreign_faults, "regional_al.loop.a:1 imports mmseg"),
        ("cli/a.py", "def f():\n    from mmcv import x", foreign_faults, "cli.a:2 imports mmcv"),
        (
            "store/labels.py",
            "import pickle",
            foreign_faults,
            "regional_al.store.labels:1 imports pickle",
        ),
        ("store/labels.py", "np.load(f)", call_faults, "np.load without allow_pickle=False"),
        (
            "store/labels.py",
            "np.load(f, allow_pickle=True)",
            call_faults,
            "without allow_pickle=False",
        ),
        ("loop/a.py", "torch.load(f)", call_faults, "torch.load without weights_only=True"),
        ("loop/a.py", "np.random.rand(3)", call_faults, "uses np.random.rand"),
        ("functional.py", "from .store import labels", layer_faults, "imports regional_al.store"),
        ("loop/a.py", "from ..engines.x import E", layer_faults, "imports regional_al.engines.x"),
        ("loop/a.py", "def f():\n    from ..engines import E", layer_faults, "loop.a:2 imports"),
        ("engines/base.py", "from .x import E", layer_faults, "imports regional_al.engines.x"),
        ("kernels/cpu.py", "from ..functional import f", layer_faults, "regional_al.functional"),
        ("novel.py", "", layer_faults, "regional_al.novel is in no layer"),
        ("types.py", "from .errors import x", cycles, "regional_al.types"),
        ("store/labels.py", "def f():\n    from ..loop import g", package_cycles, "store"),
    ],
)
def test_each_check_sees_a_planted_fault(
    tmp_path: Path, file: str, text: str, check: object, fault: str
) -> None:
    package = tmp_path / NAME
    planted = {
        "__init__.py": "",
        "store/__init__.py": "",
        "store/labels.py": "",
        "loop/__init__.py": "from ..store import labels",
        "functional.py": "",
        "engines/__init__.py": "",
        "engines/x.py": "",
        "engines/base.py": "",
        "types.py": "",
        "errors.py": "from .types import y" if check is cycles else "",
    }
    for name, content in {**planted, file: text}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    faults = check(package)  # type: ignore[operator]
    assert any(fault in found for found in faults), faults


def test_type_checking_imports_do_not_count(tmp_path: Path) -> None:
    package = tmp_path / NAME
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "errors.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .types import y\n"
    )
    (package / "types.py").write_text("from .errors import x\n")
    assert cycles(package) == []
