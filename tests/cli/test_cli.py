"""The command line on one process: parsing, endings, and what is imported when."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from regional_al import cli
from regional_al.cli import outcome
from regional_al.cli.options import parse_options
from regional_al.errors import ConfigError, DataError, TrainingStopped

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", outcome.ERROR_FILE, outcome.LAUNCHED)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANKS:
        monkeypatch.setenv(name, "")  # so that what a test leaves there is undone
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.py"
    path.write_text("")
    return str(path)


class Training:
    """Stands for regional_al.run: keeps the arguments, ends as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.named: list[dict[str, Any]] = []
        self.ranks: dict[str, str] = {}
        self.error: BaseException | None = None

    def __call__(self, *arguments: Any, **named: Any) -> int:
        self.calls.append(arguments)
        self.named.append(named)
        self.ranks = {name: os.environ[name] for name in RANKS if name in os.environ}
        if self.error:
            raise self.error
        return 0


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    fake = Training()
    module = types.ModuleType("regional_al.loop.runner")
    module.run_training = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "regional_al.loop.runner", module)
    return fake


def test_train_passes_on_what_was_given(training: Training, config: str, tmp_path: Path) -> None:
    options = ["acquisition.rounds=3", "a.b=x,y"]
    more = ["--work-dir", str(tmp_path), "--resume", "--amp", "--cfg-options", *options]
    assert cli.main(["train", config, *more, "--cfg-options", "c=1"]) == 0
    expected = {"acquisition.rounds": 3, "a.b": ["x", "y"], "c": 1}
    assert training.calls == [(Path(config), tmp_path, True, expected, True)]
    assert cli.main(["train", config]) == 0
    assert training.calls[1] == (Path(config), None, False, {}, False)
    commands = [named.pop("command") for named in training.named]
    assert training.named == [{"report": True, "smoke": False}] * 2
    assert commands[0] == {  # what `annotate --train` resumes the run with
        "config": str(Path(config).absolute()),
        "cwd": str(Path.cwd()),
        "cfg_options": [*options, "c=1"],
        "amp": True,
        "smoke": False,
        "processes": 1,
        "no_report": False,
    }
    assert cli.main(["train", config, "--no-report", "--smoke"]) == 0
    command = training.named[2].pop("command")
    assert (command["smoke"], command["no_report"]) == (True, True)
    assert training.named[2] == {"report": False, "smoke": True}


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a.png is\n  3x3"), 2, "error: a.png is 3x3\n"),
        (KeyboardInterrupt(), 130, f"error: {cli.RESUME_HINT}\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.png"),
            2,
            "error: [Errno 28] No space left on device: 'x.png'\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    training: Training,
    config: str,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    training.error = error
    assert cli.main(["train", config]) == code
    captured = capsys.readouterr()
    assert captured.err == line
    assert captured.out == ""


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EBADF, "bad")])
def test_a_bug_keeps_its_traceback(training: Training, config: str, error: Exception) -> None:
    training.error = error
    with pytest.raises(type(error)):
        cli.main(["train", config])


def test_bad_arguments_of_train(
    training: Training, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*arguments: str) -> str:
        assert cli.main(["train", *arguments]) == 2
        return capsys.readouterr().err

    assert line("none.py") == "error: none.py does not exist: give a config file\n"
    assert line(str(tmp_path)) == f"error: {tmp_path} is a folder, not a config file\n"
    assert "'rounds' is not KEY=VALUE" in line(config, "--cfg-options", "rounds")
    assert "--launcher pytorch needs torchrun's RANK" in line(config, "--launcher", "pytorch")
    assert training.calls == []


def test_launcher_none_forgets_the_ranks_of_the_environment(
    training: Training, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in RANKS[:3]:
        monkeypatch.setenv(name, "2" if name == "WORLD_SIZE" else "1")
    cli.main(["train", config])
    assert training.ranks == {**dict.fromkeys(RANKS[:3], "1"), "WORLD_SIZE": "2"}
    cli.main(["train", config, "--launcher", "pytorch"])
    assert training.ranks == {**dict.fromkeys(RANKS[:3], "1"), "WORLD_SIZE": "2"}
    cli.main(["train", config, "--launcher", "none"])
    assert training.ranks == {}


def test_a_rank_leaves_its_message_to_the_launcher(
    training: Training,
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training.error = DataError("a.png is 3x3")
    file = tmp_path / "logs" / "error.json"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(outcome.ERROR_FILE, str(file))
    assert cli.main(["train", config]) == 2
    assert capsys.readouterr().err == "error: [rank 1] a.png is 3x3\n"
    assert json.loads(file.read_text())["message"]["message"] == "a.png is 3x3"
    monkeypatch.setenv(outcome.LAUNCHED, str(tmp_path))
    assert cli.main(["train", config]) == 2
    assert capsys.readouterr().err == ""
    assert (tmp_path / "pid-1").read_text() == str(os.getpid())
    training.error = TrainingStopped("stopped by SIGTERM: ...")
    assert cli.main(["train", config]) == 75
    assert capsys.readouterr().err == ""
    assert (tmp_path / outcome.STOPPED_FILE).read_text() == "stopped by SIGTERM: ..."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2", -2),
        ("1e-3", 1e-3),
        ("2%", "2%"),
        ("true", True),
        ("False", False),
        ("None", None),
        ("text", "text"),
        ("'1'", "1"),
        ('"a,b"', "a,b"),
        ("a=b", "a=b"),
        ('{"a": [1, null], "b": {"c": "d,e"}}', {"a": [1, None], "b": {"c": "d,e"}}),
        ("{}", {}),
        ("", ""),
        ("1,2", [1, 2]),
        ("[1,2]", [1, 2]),
        ("[a]", ["a"]),
        ("[]", []),
        ("()", ()),
        ("(1,)", (1,)),
        ("(1, b)", (1, "b")),
        ("[(1,2),[a,b]]", [(1, 2), ["a", "b"]]),
        ("(1,2),3", [(1, 2), 3]),
        ("[1]x", "[1]x"),
    ],
)
def test_values_of_cfg_options(text: str, value: Any) -> None:
    parsed = parse_options([f"a.b={text}"])["a.b"]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("item", ["a", "=1", "a=[1,2", "a=1]", "a=(1]", "a='x", "a={b"])
def test_cfg_options_that_cannot_be_read(item: str) -> None:
    with pytest.raises(ConfigError, match="--cfg-options"):
        parse_options([item])


@pytest.mark.mmseg1
@pytest.mark.parametrize("text", ["1", "2.5", "a", "1,2", "[1,b]", "(1,2)", "[(1,2),(3,4)]", "[]"])
def test_cfg_options_mean_what_they_mean_to_mmengine(text: str) -> None:
    from argparse import ArgumentParser

    config = pytest.importorskip("mmengine.config")
    parser = ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=config.DictAction)
    theirs = parser.parse_args(["--cfg-options", f"k={text}"]).cfg_options
    assert parse_options([f"k={text}"]) == theirs


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from regional_al import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'rich', 'PIL', 'mmengine'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("train", "status", "report", "doctor", "launch"):
        assert command in done.stdout


def test_the_version_is_that_of_changelog_readme_and_citation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """pyproject.toml reads it from the package."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    version = capsys.readouterr().out.split()[1]
    for file, text in (
        ("CHANGELOG.md", f"## {version}"),
        ("README.md", f"Version {version}"),
        ("CITATION.cff", f"version: {version}\n"),
        ("pyproject.toml", 'path = "src/regional_al/__init__.py"'),
    ):
        assert text in (ROOT / file).read_text(), file


def test_tools_train_is_the_train_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "train.py"), "none.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == "error: none.py does not exist: give a config file\n"


def test_a_large_image_is_no_warning_on_the_screen(tmp_path: Path) -> None:
    code = (
        "from PIL import Image\n"
        "from regional_al import cli\n"
        "Image.new('L', (9, 9)).save('a.png')\n"
        "Image.MAX_IMAGE_PIXELS = 60\n"
        "cli.main = lambda argv: Image.open('a.png').close() or 0\n"
        "cli.entry()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
