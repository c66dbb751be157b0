"""The code, commands, paths and names in README and docs are real: blocks run, the rest exists.

The guides `docs/add_a*.md` are followed by tests/test_guides.py.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

from regional_al import cli
from regional_al.annotators import ANNOTATORS
from regional_al.cli.launch import MAX_RESTARTS
from regional_al.config import grammar
from regional_al.heuristics import HEURISTICS

PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    ROOT / "benchmarks" / "README.md",
]
GUIDES = {path for path in PAGES if path.name.startswith("add_a")}
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FOLDERS = r"(?:\.ci|benchmarks|configs|docs|src|tests|tools)"
FOREIGN_FLAGS = {  # of other programs
    *("--no-deps", "--no-build-isolation", "--resume-from", "--load-from", "--gpus"),
    *(
        "--doctest-modules",
        "--strict",
        "--lf",
        "--time",
        "--nodes",
        "--ntasks",
        "--labels",
        "--nodata",
        "--gpus-per-task",
        "--gres",
        "--kill-on-bad-exit",
        "--signal",
        "--index-url",
        "--shm-size",
        "--find-links",
    ),
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def is_config(self) -> bool:
        """Assignments alone, as in a config file."""
        return all(isinstance(node, ast.Assign) for node in ast.parse(self.text).body)


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match[1] in languages:
                found.append(Block(page, line, match[1], match[3]))
    return found


PYTHON = [block for block in blocks("python") if block.page not in GUIDES]


def prose(text: str) -> list[str]:
    """The pieces of inline code."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


# Python


@pytest.mark.parametrize("block", [b for b in PYTHON if b.is_config], ids=str)
def test_configs_are_accepted(block: Block) -> None:
    scope: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), scope)
    keys = {key: scope[key] for key in grammar.KEYS if key in scope}
    if "acquisition" in scope:
        parsed = grammar.parse(scope["acquisition"])
        assert parsed.heuristic["type"] in HEURISTICS
        assert parsed.annotator["type"] in ANNOTATORS
    elif keys:  # part of an acquisition
        grammar.parse({"level": "region", "heuristic": "Random", **keys})
    for arm in scope.get("arms", {}).values():
        grammar.parse(arm["acquisition"])


def prepare_gtav(folder: Path) -> None:
    from regional_al.store.images import write_png

    write_png(folder / "data/gta/labels/00001.png", np.array([[7, 33, 0]], np.uint8))


def prepare_baal(folder: Path) -> None:
    """A tiny config in the place of the one that the script names."""
    pytest.importorskip("baal")
    pytest.importorskip("mmengine")
    from mmseg1_tiny import TINY
    from mmseg_tiny import make_data

    make_data(folder, train=20, val=2)
    config = TINY.write_config(folder, "train_cfg['max_iters'] = 2\n")
    (folder / "configs/streets").mkdir(parents=True)
    config.rename(folder / "configs/streets/image_entropy.py")


# What a script finds where it runs, by a line of it.
PREPARED = {"data/gta/labels": prepare_gtav, "ModelWrapper.from_config(": prepare_baal}
SCRIPTS = [b for b in PYTHON if not b.is_config]


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_scripts_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line, prepare in PREPARED.items():
        if line in block.text:
            prepare(tmp_path)
    if "import baal" in block.text or "from baal" in block.text:
        pytest.importorskip("baal")
    if "from mmseg.registry" in block.text:  # of MMSegmentation 1.x alone
        pytest.importorskip("mmengine")
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
    if "data/gta/labels" in block.text:
        from regional_al.store.images import read_ids

        new = tmp_path / "data/gta/labels/00001_labelTrainIds.png"
        assert read_ids(new).tolist() == [[0, 18, 255]]


def test_there_are_blocks_of_both_kinds() -> None:
    pages = {block.page.name for block in SCRIPTS}
    assert {"python_api.md", "domain_adaptation.md", "migrating.md"} <= pages
    assert len(PYTHON) - len(SCRIPTS) > 30


# Commands, files, names

PARSER = cli.build_parser()
(_COMMANDS,) = (a for a in PARSER._actions if isinstance(a.choices, dict))
COMMANDS: dict[str, Any] = dict(_COMMANDS.choices)  # type: ignore[arg-type]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^(\w+) *[:?]?=", MAKEFILE, re.MULTILINE))


def flags_of(command: str) -> set[str]:
    return set(COMMANDS[command]._option_string_actions)


def flags_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][\w-]*", text)


def command_faults(line: str) -> Iterator[str]:
    """What does not exist of what a shell command or inline code names."""
    match = re.search(r"(?:^|[ /])regional-al +([a-z][a-z-]*(?: *\| *[a-z][a-z-]*)*)(.*)", line)
    if match:
        names = re.split(r" *\| *", match[1])
        yield from (f"no command {name!r}" for name in names if name not in COMMANDS)
        if len(names) == 1 and names[0] in COMMANDS:
            unknown = [flag for flag in flags_in(match[2]) if flag not in flags_of(names[0])]
            yield from (f"{names[0]} has no {flag}" for flag in unknown)
    match = re.search(r"tools/dist_train\.sh(.*)", line)
    if match:
        known = {*flags_of("train"), MAX_RESTARTS}
        unknown = [flag for flag in flags_in(match[1]) if flag not in known]
        yield from (f"train has no {flag}" for flag in unknown)
    match = re.match(r"make((?: +[\w-]+(?:=\S*)?)+)$", line.strip())
    if match:
        for word in match[1].split():
            name, equals, _ = word.partition("=")
            if name not in (VARIABLES if equals else TARGETS):
                yield f"the Makefile has no {name}"
    match = re.search(r"python\S* +(?:-m +(regional_al[\w.]*)|(\S+\.py))(.*)", line)
    if match:
        yield from script_faults(match[1], match[2], match[3])


def script_faults(module: str | None, script: str | None, rest: str) -> Iterator[str]:
    if module:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            yield f"no module {module}"
            return
        file = Path(spec.origin)
    else:
        file = ROOT / str(script)
        if not file.is_file():
            yield f"no script {script}"
            return
    if file.parent.name != "cli" and file.name != "__main__.py":
        text = file.read_text()
        yield from (f"{file.name} has no {f}" for f in flags_in(rest) if f'"{f}"' not in text)


def path_faults(text: str) -> Iterator[str]:
    for path in re.findall(rf"(?<![\w./-]){FOLDERS}/[\w./*-]*[\w/*]", text):
        if not any(ROOT.glob(path.rstrip("/"))):
            yield f"no file {path}"


def name_faults(text: str) -> Iterator[str]:
    """Dotted names in the package that do not exist."""
    short = r"(?<![\w./])(?:functional|kernels|metrics|partitions|selection)\.[a-zA-Z]\w*"
    for name in re.findall(rf"(?<![\w./])regional_al(?:\.\w+)+|{short}", text):
        if not name.endswith((".py", ".json")) and not exists(name):
            yield f"no name {name}"


def exists(name: str) -> bool:
    found: Any = importlib.import_module("regional_al")
    dotted = "regional_al"
    for part in name.removeprefix("regional_al.").split("."):
        dotted += f".{part}"
        try:
            found = (
                getattr(found, part) if hasattr(found, part) else importlib.import_module(dotted)
            )
        except ModuleNotFoundError:
            return False
    return True


KNOWN_FLAGS = FOREIGN_FLAGS.union(*(flags_of(name) for name in COMMANDS))
for _script in [
    *ROOT.glob("tools/*.py"),
    *ROOT.glob("benchmarks/**/*.py"),
    *ROOT.glob("src/**/*.py"),
]:
    KNOWN_FLAGS |= set(re.findall(r'"(--[a-z][\w-]*)"', _script.read_text()))


@pytest.mark.parametrize("block", blocks("bash", "shell", "console"), ids=str)
def test_commands_exist(block: Block) -> None:
    faults = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        faults += [*command_faults(shlex.join(words)), *path_faults(line)]
    assert faults == []


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda p: p.name)
def test_benchmarks_find_what_they_import(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\nfrom mmengine" in script.read_text():  # of MMSegmentation 1.x alone
        pytest.importorskip("mmengine")
    monkeypatch.syspath_prepend(script.parent)
    runpy.run_path(str(script), run_name="imported")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_prose_names_exists(page: Path) -> None:
    faults = []
    for code in prose(page.read_text()):
        faults += [*command_faults(code), *path_faults(code), *name_faults(code)]
        faults += [f"no flag {flag}" for flag in flags_in(code) if flag not in KNOWN_FLAGS]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("regional-al trian CONFIG", "no command 'trian'"),
        ("regional-al train | stats", "no command 'stats'"),
        (".venv/bin/regional-al compare C --out D --sedes 0", "compare has no --sedes"),
        ("bash tools/dist_train.sh CONFIG 2 --smoek", "train has no --smoek"),
        ("make tset", "the Makefile has no tset"),
        ("make test SLOWLY=1", "the Makefile has no SLOWLY"),
        ("python -m regional_al.testing.towns X", "no module regional_al.testing.towns"),
        ("python -m regional_al.testing.streets X --city", "streets.py has no --city"),
        (".venv/bin/python benchmarks/bench_nothing.py", "no script benchmarks/bench_nothing.py"),
        ("see configs/streets/nothing.py", "no file configs/streets/nothing.py"),
        ("regional_al.kernels.region_maximum", "no name regional_al.kernels.region_maximum"),
        ("functional.ripu_map", "no name functional.ripu_map"),
    ],
)
def test_each_check_finds_a_planted_fault(text: str, fault: str) -> None:
    assert fault in [*command_faults(text), *path_faults(text), *name_faults(text)]


def test_a_config_that_is_not_accepted_is_found() -> None:
    block = Block(Path("x.md"), 1, "python", "acquisition = dict(level='regio')")
    assert block.is_config
    with pytest.raises(Exception, match="regio"):
        test_configs_are_accepted(block)
