"""A registry alone decides what exists: a class registered here is accepted by the grammar, built,
and used by a run; nothing else lists names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regional_al
from regional_al import engines
from regional_al.annotators import ANNOTATORS, OracleAnnotator, build_annotator
from regional_al.engines import ENGINES, EngineLoader
from regional_al.errors import ConfigError, EnvironmentProblem, UnsupportedError
from regional_al.heuristics import HEURISTICS, PixelHeuristic
from regional_al.partitions import PARTITIONS
from regional_al.registry import Registry
from regional_al.store import WorkDir, read_query
from regional_al.store import results as records
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import I32, LabelSpace, PoolItem

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    return streets.generate(root, train=3, val=1, size=(32, 40), seed=1)


class Columns:
    def __init__(self, width: int = 4, cache_dir: Any = None) -> None:
        self.width = width

    def ids(self, item: PoolItem) -> I32:
        columns = np.arange(item.shape[1], dtype=np.int32) // self.width
        return np.repeat(columns[None], item.shape[0], axis=0)

    def count(self, item: PoolItem) -> int:
        return -(-item.shape[1] // self.width)

    def prepare(self, items: Sequence[PoolItem]) -> None: ...


def run(data: Path, work_dir: Path, **acquisition: Any) -> WorkDir:
    raw = {"heuristic": "Random", "rounds": 1, "budget": "20%", "previews": 0, **acquisition}
    loop = regional_al.run(toy_engine(data, iterations=1), raw, work_dir, report=False)
    assert loop.status == "finished"
    return WorkDir(work_dir)


def test_a_partition(data: Path, tmp_path: Path) -> None:
    region = {"type": "columns", "width": 8}
    with pytest.raises(ConfigError, match=r"unknown region type 'columns'"):
        regional_al.Acquisition.parse({"region": region})
    PARTITIONS.register("columns")(Columns)
    work_dir = run(data, tmp_path, region=region)
    query = read_query(work_dir.query(1))
    assert query.info.partition == "columns"
    for key in query.image_keys():
        asked = query.asked(key)
        assert (asked == asked[:1]).all()


@pytest.mark.parametrize("wants", [False, True])
def test_an_annotator(wants: bool, data: Path, tmp_path: Path) -> None:
    """Its constructor gets the kind of answer only if it names it; queries always say it."""
    got: list[Any] = []

    class Other(OracleAnnotator):
        def __init__(self, pool: Any, label_space: Any, more: int = 0) -> None:
            super().__init__(pool, label_space)
            got.append(more)

        def collect(self, query: Any, keys: Any) -> Iterator[Any]:
            got.append(query.info.answer)
            return super().collect(query, keys)

    class Wants(Other):
        def __init__(self, pool: Any, label_space: Any, answer: str, more: int = 0) -> None:
            super().__init__(pool, label_space, more)
            got.append(answer)

    spec = {"type": "other", "more": 3, "answer": "dominant"}
    with pytest.raises(ConfigError, match="unknown annotator 'other'"):
        regional_al.Acquisition.parse({"annotator": spec})
    ANNOTATORS.register("other")(Wants if wants else Other)
    work_dir = run(data, tmp_path, region={"type": "grid", "cell": 8}, annotator=spec)
    assert got == [3, *(["dominant"] * wants), "dominant", "dominant"]
    resolved = records.load(work_dir.root).acquisition["annotator"]
    assert resolved == spec
    with pytest.raises(ConfigError, match=r"'other'.*'les'"):
        build_annotator({"type": "other", "les": 3}, [], SPACE)


def test_a_heuristic(data: Path, tmp_path: Path) -> None:
    class Late(PixelHeuristic):
        def pixel_scores(self, seen: Any) -> Any:
            return seen.logits.argmax(0).float()

    with pytest.raises(ConfigError, match="unknown heuristic 'Late'"):
        regional_al.Acquisition.parse({"heuristic": "Late"})
    HEURISTICS.register("Late")(Late)
    run(data, tmp_path, level="pixel", heuristic="Late", budget=5)


class ToyLoader(EngineLoader):
    def build(self, cfg: Any) -> Any:
        assert type(cfg) is dict
        return toy_engine(Path(cfg["data_root"]), iterations=cfg["steps"])


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.py"
    path.write_text("acquisition = dict(level='pixel', heuristic='Margin')\n" + text)
    return path


def test_an_engine(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmcv")
    text = f"engine = 'toy'\ndata_root = {str(data)!r}\nsteps = 2\nwork_dir = 'there'\n"
    config = write_config(tmp_path, text)
    with pytest.raises(ConfigError, match=r"unknown engine='toy'.*torch"):
        engines.load(config)
    ENGINES.register("toy")(ToyLoader)
    loaded = engines.load(config, {"steps": 3})
    assert (loaded.name, loaded.work_dir) == ("toy", Path("there"))
    assert loaded.acquisition == {"level": "pixel", "heuristic": "Margin"}
    assert engines.load(config, {"steps": 3}, tmp_path).text == loaded.text
    assert engines.load(config).text != loaded.text
    assert loaded.build().iterations == 3  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedError, match="--amp is not supported"):
        engines.load(config, amp=True)
    ToyLoader.packages, ToyLoader.install = ("toy_torch",), "pip install toy-torch"
    with pytest.raises(EnvironmentProblem, match=r"package toy_torch: pip install toy-torch"):
        engines.load(config)
    ToyLoader.packages = ()


def test_an_engine_that_recognises_its_configs(data: Path, tmp_path: Path) -> None:
    class Recognising(ToyLoader):
        def recognises(self, cfg: Mapping[str, Any]) -> bool:
            return "steps" in cfg

    assert [n for n in ENGINES if ENGINES.build(n).recognises({"steps": 1})] == []
    ENGINES.register("mine")(Recognising)
    assert engines.dialect({"steps": 1}, tmp_path) == "mine"
    assert engines.dialect({"train_dataloader": {}, "train_cfg": {}}, tmp_path) == "mmseg1"


def test_the_console_script_finds_modules_of_the_working_folder(tmp_path: Path) -> None:
    """As `python -m regional_al` does. The module ends the program: it was found."""
    pytest.importorskip("mmcv")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/regional-al"
    script.write_text("from regional_al.cli import entry\nentry()\n")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/mine.py").write_text("raise RuntimeError('it was found')\n")
    write_config(tmp_path / "work", "engine = 'x'\ncustom_imports = dict(imports=['mine'])\n")
    for command in ([str(script)], ["-m", "regional_al"]):
        done = subprocess.run(
            [sys.executable, *command, "train", "config.py"],
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert "custom_imports: mine cannot be imported: RuntimeError: it was found" in done.stderr


@pytest.mark.parametrize(
    ("registry", "spec", "words"),
    [
        (
            HEURISTICS,
            {"type": "BALD", "pases": 3},
            "'BALD' has no argument 'pases': it takes passes",
        ),
        (HEURISTICS, {"type": "Entropy", "x": 1}, "'Entropy' has no argument 'x': it takes none"),
        (PARTITIONS, {"type": "slic", "n": 3}, r"'slic' has no argument 'n': it takes \w+"),
        (ANNOTATORS, {"type": "oracle", "x": 1}, "'oracle' has no argument 'x': it takes"),
    ],
)
def test_an_unknown_argument_lists_the_valid_ones(
    registry: Registry[Any], spec: dict[str, Any], words: str
) -> None:
    more = {"pool": [], "label_space": SPACE} if registry is ANNOTATORS else {}
    with pytest.raises(ConfigError, match=words) as caught:
        registry.build(spec, **more)
    assert "label_space" not in str(caught.value)
