"""A checkpoint that would execute code is refused on every way into a run, and executes nothing."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmseg_tiny import fit_once, label_some, make_data, make_engine

from regional_al.engines.mmseg.checkpoints import read_checkpoint, safely
from regional_al.engines.torch import TorchEngine
from regional_al.errors import ConfigError
from regional_al.store.labels import LabelStore
from regional_al.types import LabelSpace, PredictRequest

BOTH = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmseg1", "mmseg0")]
SPACE = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))


class Opens:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.fixture(params=["alone", "beside weights"])
def bad(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkpoint that would create the file `executed` beside it."""
    opens = Opens(tmp_path / "executed")
    content = {"state_dict": {"x": torch.zeros(1)}, "meta": {"iter": 2, "epoch": 0, "hook": opens}}
    torch.save(opens if request.param == "alone" else content, tmp_path / "bad.pth")
    return tmp_path / "bad.pth"


def refused(bad: Path, way: Callable[[], Any]) -> None:
    """One line that names the file, what is in it and how to convert it; nothing is executed."""
    with pytest.raises(ConfigError, match=r"bad\.pth .*it contains .*open.*python -c") as caught:
        way()
    assert "\n" not in str(caught.value)
    assert not (bad.parent / "executed").exists()


@pytest.fixture(scope="module", params=BOTH)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(Tiny, folder with data, config and a few labels) of a generation."""
    helper = importlib.import_module(f"{request.param}_tiny").TINY
    root = tmp_path_factory.mktemp(request.param)
    make_data(root, train=2, val=1)
    helper.write_config(root)
    label_some(LabelStore(root / "labels"), make_engine(root), 2)
    return helper, root


def fit(tiny: Any, out: Path, options: dict[str, Any], **request: Any) -> Any:
    _, root = tiny
    engine = make_engine(root, **options)
    return fit_once(engine, LabelStore(root / "labels"), out, **request)


@pytest.mark.parametrize("init", ["pretrained", "continue"])
def test_load_from(tiny: Any, bad: Path, init: str) -> None:
    (_, root), options = tiny, {"load_from": str(bad)}
    refused(bad, lambda: fit(tiny, bad.parent / "out", options, init=init))
    options["acquisition__round_init"] = init
    refused(bad, make_engine(root, **options).preflight)


def test_own_start(tiny: Any, bad: Path) -> None:
    _, root = tiny
    engine = make_engine(root, load_from=str(bad))
    refused(bad, lambda: list(engine.predict(None, [0], PredictRequest())))


def test_resume(tiny: Any, bad: Path) -> None:
    refused(bad, lambda: fit(tiny, bad.parent / "out", {}, until=-1, previous=bad))
    refused(bad, lambda: fit(tiny, bad.parent / "out", {}, init="continue", previous=bad))


def test_prediction(tiny: Any, bad: Path) -> None:
    _, root = tiny
    engine = make_engine(root)
    refused(bad, lambda: list(engine.predict(bad, [0], PredictRequest())))
    refused(bad, lambda: list(engine.predict(None, [0], PredictRequest(ensemble=(bad,)))))
    refused(bad, lambda: engine.evaluate(bad))
    refused(bad, lambda: engine.network(bad))


@pytest.mark.parametrize("where", ["file", "download"])
def test_pretrained_backbone(
    tiny: Any, bad: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, root = tiny
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(bad.parent / "hub"))
    (bad.parent / "hub" / "checkpoints").mkdir(parents=True)
    shutil.copy(bad, bad.parent / "hub" / "checkpoints")  # it has been downloaded before
    name = str(bad) if where == "file" else "http://127.0.0.1:9/bad.pth"
    options = {"model__backbone__init_cfg": {"type": "Pretrained", "checkpoint": name}}
    engine = make_engine(root, **options)
    refused(bad, engine.preflight)
    refused(bad, lambda: list(engine.predict(None, [0], PredictRequest())))
    refused(bad, lambda: fit(tiny, bad.parent / "out", options))


def test_torch_engine(bad: Path, tmp_path: Path) -> None:
    engine = TorchEngine(lambda: torch.nn.Conv2d(3, 2, 1), [], [], SPACE, load_from=bad)
    refused(bad, engine.preflight)
    refused(bad, lambda: engine.evaluate(None))
    refused(bad, lambda: engine.evaluate(bad))


def test_a_missing_or_other_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pth does not exist"):
        read_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no checkpoint\n")
    with pytest.raises(ConfigError, match=r"text\.pth cannot be read"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match=r"list\.pth contains a list, not a dict"):
        read_checkpoint(tmp_path / "list.pth")


@pytest.mark.mmseg1
def test_an_ordinary_checkpoint_of_mmengine_is_read(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its own CheckpointHook leaves it: histories, numpy scalars, configs as text."""
    if tiny[0].name != "mmseg1":
        pytest.skip("of mmengine")
    from mmengine.logging import HistoryBuffer

    from regional_al.engines.mmseg1.hooks import PlainCheckpointHook

    monkeypatch.setattr(PlainCheckpointHook, "before_save_checkpoint", lambda *_, **__: None)
    path = fit(tiny, tmp_path / "first", {}, until=2).checkpoint
    with pytest.raises(Exception, match="HistoryBuffer"):
        torch.load(path, weights_only=True)
    content = read_checkpoint(path)
    histories = content["message_hub"]["log_scalars"]
    assert isinstance(histories["train/loss"], HistoryBuffer)
    assert histories["train/loss"].data[1].tolist() == [1.0, 1.0]
    assert fit(tiny, tmp_path / "rest", {}, until=-1, previous=path).iterations == 6


@pytest.mark.mmseg1
def test_getattr_reaches_nothing_but_the_statistics(tmp_path: Path) -> None:
    from mmengine.logging import HistoryBuffer

    class Gets:
        def __reduce__(self) -> Any:
            return getattr, (HistoryBuffer, "__init__")

    torch.save({"x": Gets()}, tmp_path / "gets.pth")
    with pytest.raises(ConfigError, match=r"it contains builtins\.getattr"):
        read_checkpoint(tmp_path / "gets.pth")


@pytest.mark.mmseg1
def test_mmengine_itself_is_left_as_it_was() -> None:
    from mmengine.runner import checkpoint as loaders

    before = dict(vars(loaders))
    with safely(loaders):
        assert vars(loaders) != before
    assert dict(vars(loaders)) == before
