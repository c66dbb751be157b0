"""What a round builds is built once, before anybody is asked: a mistake is one line that names the
config key, and the rehearsal that finds it leaves nothing behind."""

from __future__ import annotations

import importlib
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import fit_once, label_some, make_data, make_engine, weights_hash

from regional_al.errors import ConfigError, EnvironmentProblem, RegionalALError
from regional_al.store.images import write_png
from regional_al.store.labels import LabelStore

GENERATIONS = {"mmseg1": pytest.mark.mmseg1, "mmseg0": pytest.mark.mmseg0}
Tiny = tuple[Any, Path]


@pytest.fixture(scope="module", params=[pytest.param(n, marks=m) for n, m in GENERATIONS.items()])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """(Tiny, folder with data and config) of a generation."""
    return prepared(request.param, tmp_path_factory.mktemp(request.param))


def prepared(generation: str, root: Path) -> Tiny:
    helper = importlib.import_module(f"{generation}_tiny").TINY
    make_data(root)
    helper.write_config(root)
    return helper, root


@pytest.fixture(scope="module")
def tinies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    """As `tiny`, by generation, made when first asked for."""

    class Made(dict[str, Tiny]):
        def __missing__(self, generation: str) -> Tiny:
            self[generation] = prepared(generation, tmp_path_factory.mktemp(generation))
            return self[generation]

    return Made()


def engine_of(tiny: Tiny, folder: Path, more: str) -> Any:
    """The engine of the tiny config with lines added at its end."""
    _, root = tiny
    (folder / "tiny.py").write_text((root / "tiny.py").read_text() + f"\n{more}\n")
    return make_engine(folder)


MISTAKES: dict[str, list[tuple[str, str]]] = {
    "mmseg1": [
        (
            "optim_wrapper['optimizer'] = dict(type='NoOptimizer', lr=1)",
            "^optim_wrapper.optimizer: ",
        ),
        ("optim_wrapper['optimizer']['lr'] = 'fast'", r"^optim_wrapper\.optimizer\.lr='fast'"),
        ("optim_wrapper['type'] = 'NoWrapper'", "^optim_wrapper: .*NoWrapper"),
        ("optim_wrapper['clip_grad'] = dict(max_nrom=1)", "^optim_wrapper: .*max_nrom"),
        ("param_scheduler = [dict(type='NoLR')]", "^param_scheduler: .*NoLR"),
        ("param_scheduler = [dict(type='PolyLR', power='x', by_epoch=False)]", "^param_scheduler"),
        ("param_scheduler = 'poly'", "^param_scheduler: "),
        ("default_hooks['logger'] = dict(type='NoHook')", "^default_hooks: .*NoHook"),
        ("default_hooks['logger']['interval'] = 'often'", "^default_hooks: .*interval"),
        ("custom_hooks = [dict(type='NoHook')]", "^custom_hooks: .*NoHook"),
        ("custom_hooks = [dict(type='EMAHook', ema_type='NoEMA')]", "EMAHook.*NoEMA"),
        ("train_dataloader['sampler'] = dict(type='NoSampler')", "^train_dataloader: .*NoSampler"),
        ("train_dataloader['batch_size'] = 0", "^train_dataloader.batch_size=0 must"),
        ("train_dataloader['num_workers'] = 'all'", "^train_dataloader.num_workers='all' must"),
        (
            "train_dataloader['collate_fn'] = dict(type='no_collate')",
            "^train_dataloader.collate_fn: 'no_c",
        ),
        ("train_cfg['type'] = 'NoLoop'", "^train_cfg: .*NoLoop"),
        ("train_cfg['max_iters'] = 0", "^train_cfg.max_iters=0 must"),
        ("train_cfg['max_iters'] = 'many'", "^train_cfg.max_iters='many' must"),
        ("train_cfg = dict(by_epoch=True, max_epochs=0)", "^train_cfg.max_epochs=0 must"),
        ("visualizer['type'] = 'NoVisualizer'", "^visualizer: .*NoVisualizer"),
        ("visualizer['vis_backends'] = [dict(type='NoBackend')]", "^visualizer.*NoBackend"),
        ("log_processor = dict(window_sise=3)", "^log_processor: .*window_sise"),
        ("randomness = dict(seed=0, deterministc=True)", "deterministc"),
        ("auto_scale_lr = dict(enable=True)", "^auto_scale_lr: "),
        ("load_from = 5", "^load_from=5 must be the name of a file"),
        ("val_cfg = dict(type='NoLoop')", "^val_cfg: .*NoLoop"),
        ("val_evaluator['type'] = 'NoMetric'", "^val_evaluator: .*NoMetric"),
        ("val_evaluator['iou_metrics'] = ['mAP']", "^val_evaluator: .*mAP"),
        ("val_dataloader['sampler'] = dict(type='NoSampler')", "^val_dataloader: .*NoSampler"),
        ("default_hooks['checkpoint']['save_best'] = 'mIuO'", "^default_hooks: .*mIuO"),
        (
            "default_hooks['checkpoint'].update(save_best='mIuO', rule='greater')",
            "^default_hooks.checkpoint: .*mIuO",
        ),
        (
            "default_hooks['checkpoint'].update(save_best='mIoU', out_dir='x')",
            "^default_hooks.checkpoint.out_dir: each round",
        ),
        (
            "default_hooks['checkpoint']['save_best'] = 'mIoU'; val_evaluator = None",
            "^default_hooks.checkpoint.save_best needs val_evaluator",
        ),
    ],
    "mmseg0": [
        ("optimizer = dict(type='NoOptimizer', lr=1)", "^optimizer: .*NoOptimizer"),
        ("optimizer['lr'] = 'fast'", "^optimizer: "),
        ("lr_config = dict(policy='nothing')", "^lr_config: .*Nothing"),
        ("lr_config['power'] = 'x'", "^lr_config: "),
        ("momentum_config = dict(policy='nothing')", "^momentum_config: .*Nothing"),
        ("optimizer_config = dict(type='NoHook')", "^optimizer_config: .*NoHook"),
        ("optimizer_config = dict(grad_clip=dict(max_nrom=1))", "^optimizer_config: .*max_nrom"),
        ("checkpoint_config = dict(type='NoHook')", "^checkpoint_config: .*NoHook"),
        ("evaluation['metrik'] = 'x'; evaluation['interval'] = -1", "^evaluation: "),
        ("evaluation = dict(interval=1, metric='mAP')", "^evaluation: .*mAP"),
        ("runner['type'] = 'NoRunner'", "^runner: .*NoRunner"),
        ("runner['max_iters'] = 0", "^runner.max_iters=0 must"),
        ("runner['max_iters'] = 'many'", "^runner.max_iters='many' must"),
        ("data['samples_per_gpu'] = 0", "^data.samples_per_gpu=0 must"),
        ("data['workers_per_gpu'] = -1", "^data.workers_per_gpu=-1 must"),
        ("data['prefetch'] = 1", "prefetch"),
        ("custom_hooks = [dict(type='NoHook')]", "^custom_hooks: .*NoHook"),
        ("custom_hooks = [dict(type='EMAHook', momentum=7)]", "^custom_hooks"),
        ("log_config['hooks'] = [dict(type='NoLogger')]", "^log_config.hooks: 'NoLogger'"),
        ("log_config['hooks'][0]['every'] = 1", "^log_config: .*every"),
        ("load_from = 5", "^load_from=5 must be the name of a file"),
    ],
}


@pytest.mark.parametrize(
    ("generation", "edit", "words"),
    [
        pytest.param(generation, *case, marks=GENERATIONS[generation])
        for generation, cases in MISTAKES.items()
        for case in cases
    ],
)
def test_a_mistake_is_named(
    tinies: dict[str, Tiny], tmp_path: Path, generation: str, edit: str, words: str
) -> None:
    with pytest.raises(RegionalALError, match=words) as caught:
        engine_of(tinies[generation], tmp_path, edit).preflight()
    assert isinstance(caught.value, ConfigError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_load_from_must_be_a_checkpoint_of_this_model(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"garbage")
    engine = engine_of(tiny, tmp_path, f"load_from = {str(path)!r}")
    with pytest.raises(ConfigError, match=r"weights\.pth cannot be read"):
        engine.preflight()
    torch.save({"state_dict": {"layer1.weight": torch.zeros(3)}}, path)
    with pytest.raises(ConfigError, match=r"^load_from=.* has no weight of this model.*init_cfg"):
        engine.preflight()
    name, value = next(iter(engine.predictor.build().state_dict().items()))
    torch.save({"state_dict": {name: value}}, path)
    engine.preflight()


def test_one_validation_image_is_evaluated(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, not all; and whatever is wrong with it is told."""
    engine = engine_of(tiny, tmp_path, "")
    seen: list[int] = []
    predict = importlib.import_module(type(engine.predictor).__module__)
    plain = predict.ValidationImages.__getitem__

    def watched(self: Any, place: int) -> Any:
        seen.append(place)
        return plain(self, place)

    monkeypatch.setattr(predict.ValidationImages, "__getitem__", watched)
    engine.preflight()
    assert seen == [0]

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(predict.ValidationImages, "__getitem__", broken)
    with pytest.raises(ConfigError, match=r"validation image cannot be evaluated: .*no such thing"):
        engine.preflight()


CUSTOM = {
    "mmseg1": "default_hooks['mine'] = dict(type='{}')",
    "mmseg0": "custom_hooks = [dict(type='{}')]",
}


def registry(tiny: Tiny, name: str) -> Any:
    """mm*'s registry of hooks, or that of logging backends."""
    if tiny[0].name == "mmseg1":
        registries = importlib.import_module("mmengine.registry")
        return registries.HOOKS if name == "hook" else registries.VISBACKENDS
    return importlib.import_module("mmcv.runner").HOOKS


def hook_class(tiny: Tiny) -> Any:
    module = "mmengine.hooks" if tiny[0].name == "mmseg1" else "mmcv.runner"
    return importlib.import_module(module).Hook


def test_one_iteration_is_trained_with_the_hooks_of_the_config(tiny: Tiny, tmp_path: Path) -> None:
    calls: list[str] = []
    stages = ("before_run", "before_train_iter", "after_train_iter", "after_run")

    def noting(stage: str) -> Any:
        return lambda *_, **__: calls.append(stage)

    hook = type("Noting", (hook_class(tiny),), {stage: noting(stage) for stage in stages})
    registry(tiny, "hook").register_module(module=hook, force=True)
    text = CUSTOM[tiny[0].name].format("Noting")
    engine_of(tiny, tmp_path, text).preflight()
    assert calls == list(stages)


@pytest.mark.parametrize(
    ("iterations", "length"),
    [
        ("None", 8),
        ("3", 3),
        ("1", 1),
        ("dict(amount=2, per='image', least=5)", 5),
        ("dict(amount=2, per='image', most=40)", 40),
        ("dict(amount=2, per='image')", 8),
    ],
)
def test_the_schedule_is_rehearsed_at_the_length_that_acquisition_gives(
    tiny: Tiny, tmp_path: Path, iterations: str, length: int
) -> None:
    """What ends with the training, the learning rate, ends there in the rehearsal as well."""
    one, seen = tiny[0].name == "mmseg1", []

    def look(self: Any, runner: Any) -> None:
        end = runner.param_schedulers[0].end if one else runner.max_iters
        seen.append((runner.max_iters, end))

    stage = "before_train" if one else "before_run"
    hook = type("Looking", (hook_class(tiny),), {stage: look})
    registry(tiny, "hook").register_module(module=hook, force=True)
    text = CUSTOM[tiny[0].name].format("Looking")
    engine_of(tiny, tmp_path, f"{text}\nacquisition['iterations'] = {iterations}").preflight()
    assert seen == [(length, length)]


def test_iterations_without_a_schedule_in_iterations_are_refused(
    tiny: Tiny, tmp_path: Path
) -> None:
    text = (
        "train_cfg = dict(by_epoch=True, max_epochs=2)\nparam_scheduler = None\n"
        if tiny[0].name == "mmseg1"
        else "runner = dict(type='EpochBasedRunner', max_epochs=2)\n"
        "lr_config = dict(policy='step', step=[2])\n"
    )
    with pytest.raises(ConfigError, match=r"acquisition\.iterations needs a schedule in iter"):
        engine_of(tiny, tmp_path, f"{text}acquisition['iterations'] = 3").preflight()


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_end_after_an_iteration_too(tiny: Tiny, tmp_path: Path, epochs: int) -> None:
    one = tiny[0].name == "mmseg1"
    text = (
        f"train_cfg = dict(by_epoch=True, max_epochs={epochs})\nparam_scheduler = None\n"
        if one
        else f"runner = dict(type='EpochBasedRunner', max_epochs={epochs})\n"
        "lr_config = dict(policy='step', step=[2])\n"
    )
    engine_of(tiny, tmp_path, text).preflight()


def test_servers_are_not_contacted(tiny: Tiny, tmp_path: Path) -> None:
    """A logging backend other than files only has to exist."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("constructed")

    one = tiny[0].name == "mmseg1"
    backend = type("FarBackend", (), {"__init__": refuse})
    registry(tiny, "backend").register_module(module=backend, force=True)
    text = (
        "visualizer['vis_backends'] = [dict(type='FarBackend')]"
        if one
        else "log_config['hooks'].append(dict(type='FarBackend'))"
    )
    engine_of(tiny, tmp_path, text).preflight()


def state() -> tuple[Any, ...]:
    """What a training changes in its process."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state().tolist(),
        numpy[1].tolist(),
        random.getstate(),
        dict(os.environ),
        torch.backends.cudnn.benchmark,
        sorted(p.name for p in Path.cwd().iterdir()),
    )


def test_nothing_is_left_behind(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file, no random state, no line; and the first training is the same bytes."""
    _, root = tiny
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    engine, store = make_engine(root), LabelStore(tmp_path / "labels")
    label_some(store, engine, 2)
    before = state()
    files = set(root.rglob("*"))
    capsys.readouterr()
    engine.preflight()
    assert capsys.readouterr().out == ""
    assert state() == before
    assert set(root.rglob("*")) == files
    assert list((tmp_path / "tmp").iterdir()) == []
    after = weights_hash(fit_once(engine, store, tmp_path / "a").checkpoint)
    fresh = make_engine(root)
    plain = weights_hash(fit_once(fresh, store, tmp_path / "b").checkpoint)
    assert after == plain


@pytest.mark.mmseg1
def test_mmengines_current_logger_is_not_the_rehearsals(
    tinies: dict[str, Tiny], tmp_path: Path
) -> None:
    from mmengine.logging import MessageHub, MMLogger

    engine = engine_of(tinies["mmseg1"], tmp_path, "")
    before = MMLogger.get_current_instance()
    engine.preflight()
    with pytest.raises(ConfigError, match="NoLoop"):
        engine_of(tinies["mmseg1"], tmp_path, "train_cfg['type'] = 'NoLoop'").preflight()
    assert MMLogger.get_current_instance() is before
    names = [*MMLogger._instance_dict, *MessageHub._instance_dict]
    assert not [name for name in names if name.startswith("rehearsal")]


def test_the_pools_annotations_stay_shut(tiny: Tiny, tmp_path: Path) -> None:
    helper, _ = tiny
    make_data(tmp_path)
    for path in (tmp_path / "gt" / "train").rglob("*.png"):
        path.write_bytes(b"secret")
    helper.write_config(tmp_path)
    make_engine(tmp_path).preflight()
    write_png(tmp_path / "gt" / "val" / "town" / "00_gt.png", np.full((90, 122), 7, np.uint8))
    with pytest.raises(RegionalALError, match="holds id 7"):
        make_engine(tmp_path).preflight()
    assert "mlflow" not in sys.modules


def remade(tiny: Tiny, folder: Path, val: np.ndarray, more: str = "") -> Any:
    """The tiny data set with one validation mask, `val`, for all images."""
    helper, _ = tiny
    make_data(folder, val=2)
    for path in (folder / "gt" / "val").rglob("*.png"):
        height, width = (96, 128) if "01" in path.name else (90, 122)
        write_png(path, np.resize(val, (height, width)).astype(np.uint8))
    helper.write_config(folder, more)
    return make_engine(folder)


TWO = """
for one in ({0}):
    {1}
for head in (model['decode_head'], model['auxiliary_head']):
    head['num_classes'] = 2
"""
TWO_CLASSES = {
    "mmseg1": TWO.format(
        "train_dataloader, val_dataloader",
        "one['dataset']['metainfo'] = dict(classes=('off', 'on'), palette=[[0] * 3, [9] * 3])",
    ),
    "mmseg0": TWO.format(
        "data['train'], data['val']",
        "one.update(classes=('off', 'on'), palette=[[0] * 3, [9] * 3])",
    ),
}


def test_binary_masks_of_0_and_255(tiny: Tiny, tmp_path: Path) -> None:
    more = TWO_CLASSES[tiny[0].name]
    with pytest.raises(RegionalALError, match=r"0 and 255 alone.*'on'.*write 1 in place") as caught:
        remade(tiny, tmp_path / "a", np.array([0, 255]), more).preflight()
    assert "\n" not in str(caught.value)
    remade(tiny, tmp_path / "b", np.array([0, 255, 1]), more).preflight()
    remade(tiny, tmp_path / "c", np.array([0]), more).preflight()


def test_what_validation_masks_lack_is_told(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remade(tiny, tmp_path / "a", np.array([0, 1, 2])).preflight()
    assert "masks are void" not in caplog.text
    assert "in no mask" not in caplog.text
    remade(tiny, tmp_path / "b", np.array([0, 1])).preflight()
    assert "class 'low' occurs in no mask" in caplog.text
    caplog.clear()
    remade(tiny, tmp_path / "c", np.array([1] + [255] * 24)).preflight()
    assert "96.0% of the pixels of the masks are void" in caplog.text
    assert "classes 'left', 'low' occur in no mask" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import not_installed_here", "No module named 'not_installed_here' .*line 1"),
        ("x = 1\nfrom os import nothing", "cannot import name 'nothing'.* line 2"),
        ("x = 1\n\ny = 1 / 0", "ZeroDivisionError: division by zero .*line 3"),
    ],
)
def test_a_custom_import_shows_its_cause(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"mine_{abs(hash((text, tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(text + "\n")
    match = rf"custom_imports: {name} cannot be imported: .*{words}"
    with pytest.raises(EnvironmentProblem, match=match) as caught:
        engine_of(tiny, tmp_path, f"custom_imports = dict(imports=['os', {name!r}])")
    assert "\n" not in str(caught.value)
    with pytest.raises(EnvironmentProblem, match="No module named 'not_installed_here'"):
        engine_of(tiny, tmp_path, "custom_imports = dict(imports='not_installed_here')")
    with pytest.raises(ConfigError, match=r"custom_imports='os' must be dict\(imports="):
        engine_of(tiny, tmp_path, "custom_imports = 'os'")


def test_a_missing_package_comes_with_its_command(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As configs of mmseg import others of its family; also where that one lacks another."""
    monkeypatch.setitem(sys.modules, "mmdet", None)
    match = (
        r"custom_imports: mmdet.models needs mmdet.*, which is not installed: pip install \S*mmdet"
    )
    with pytest.raises(EnvironmentProblem, match=match) as caught:
        engine_of(tiny, tmp_path, "custom_imports = dict(imports='mmdet.models')")
    assert "\n" not in str(caught.value)
    monkeypatch.delitem(sys.modules, "mmdet")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet" / "__init__.py").write_text("import not_installed_here\n")
    with pytest.raises(EnvironmentProblem, match=r"needs not_installed_here, .*pip install"):
        engine_of(tiny, tmp_path, "custom_imports = dict(imports='mmdet')")
