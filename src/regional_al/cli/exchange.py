"""`regional-al export WORK_DIR --to TOOL` and `regional-al import WORK_DIR FILES...`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError, UnsupportedError
from ..exchange import EXCHANGE_FORMATS, Imported
from ..exchange import export as write
from ..exchange import import_answers as take
from ..exchange.run import waiting_run
from ..store.ledger import Ledger
from ..types import U8


def export(
    work_dir: Path,
    to: str,
    out: Path | None = None,
    images: Path | None = None,
    prelabels: Path | None = None,
    config: Path | None = None,
    cfg_options: Sequence[str] = (),
) -> int:
    """Write what a waiting run asks as a zip for a labelling tool, and return 0.

    The arguments are those of `regional_al.exchange.export`, and so are the errors; with the config
    of the run, the pre-labels are predictions of its model.
    """
    EXCHANGE_FORMATS.get(to)
    start = prelabels if config is None else predictions(work_dir, config, cfg_options)
    path = write(work_dir, to, out, images, start)
    print(f"exported: {path}")
    print(f"then: regional-al import {work_dir} FILES   (see docs/exchange.md)")
    return 0


def predictions(
    work_dir: Path, config: Path, cfg_options: Sequence[str] = ()
) -> Callable[[str], U8 | None]:
    """Raw ids uint8 [H, W] that the model of a waiting run predicts for an image of its query.

    Args:
        work_dir: Of the run.
        config: Of its training.
        cfg_options: KEY=VALUE, as for the training.

    Returns:
        Key of an image -> ids; fastest in the order of the query.

    Raises:
        RegionalALError: The run has no model yet, or the config is not that of the run.
    """
    from .. import engines
    from ..types import PredictRequest
    from .options import parse_options
    from .train import check_config

    check_config(config)
    run = waiting_run(work_dir)
    with Ledger.open(work_dir, readonly=True) as ledger:
        name = (ledger.done(run.round - 1, "fit") or {}).get("checkpoint")
    if name is None:
        raise UnsupportedError(
            f"{work_dir}: round {run.round} asks before any training, so there is no model that "
            "could predict: export without --config"
        )
    if not (work_dir / name).is_file():
        raise ConfigError(f"{work_dir / name} is gone: export without --config")
    engine = engines.load(config, parse_options(list(cfg_options)), work_dir).build()
    index = {item.key: i for i, item in enumerate(engine.pool)}
    missing = [key for key in run.outstanding if key not in index]
    if missing or engine.label_space.class_names != run.space.class_names:
        what = f"does not have the image {missing[0]!r}" if missing else "has other classes"
        raise ConfigError(f"{config} {what}: give the config of {work_dir}")
    ids = run.space.lowest_raw

    request = PredictRequest()
    stream = engine.predict(work_dir / name, [index[key] for key in run.outstanding], request)

    def labels(key: str) -> U8 | None:
        for prediction in stream:
            if prediction.index == index[key]:
                classes = prediction.logits.argmax(0).cpu().numpy()
                return np.asarray(ids[classes], np.uint8)
        return None

    return labels


def import_answers(work_dir: Path, files: Sequence[Path], form: str | None = None) -> int:
    """Take over answers from the files of a labelling tool, and return 0.

    The arguments are those of `regional_al.exchange.import_answers`, and so are the errors.
    """
    print(_summary(take(work_dir, files, form)))
    return 0


def _summary(done: Imported) -> str:
    """What has been imported, and what is missing."""
    if done.images:
        text = f"imported: {done.pixels:,} pixels of {_images(done.images)} into {done.answers}"
    else:
        text = (
            "imported: nothing, since no class lies above __ask__, or in its place, where something"
            " is asked"
        )
    if done.ignored:
        text += f"; {_images(done.ignored)} had a complete answer before, which stays"
    if done.incomplete:
        text += f"\nmissing: {done.incomplete} of {done.asked} images are not completely answered"
    else:
        text += "\ncomplete: run the same training command with --resume"
    return text


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
