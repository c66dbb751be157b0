"""One training iteration on invented labels, before anybody is asked for any.

What a config names (optimizer, schedule, hooks, samplers, ...) is otherwise built by the first
training, hours of annotation later. A rehearsal leaves nothing behind: neither files nor random
state. Every rank rehearses on its own, without collective operations.
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import random
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from ...config.schedule import parse_iterations
from ...errors import ConfigError, RegionalALError
from ...store.labels import LabelStore
from ...types import U8, UNLABELED, ImageAnswer, LabelSpace, PoolItem
from ..base import FitRequest
from ..quiet import quiet_warnings
from ..specs import first_line

LOCAL = ("LocalVisBackend", "TensorboardVisBackend", "TextLoggerHook", "TensorboardLoggerHook")
"""Where logs go without contacting a server; of others a rehearsal only sees that they exist."""
CELL = 16


class RehearsedError(Exception):
    """Ends a training loop that does not end by itself. Not an error of anybody."""


@contextmanager
def rehearsal(
    acquisition: Mapping[str, Any], pool: Sequence[PoolItem], space: LabelSpace
) -> Iterator[FitRequest]:
    """What the first training of a run will be asked, with invented labels, in a temporary folder.

    Inside, standard output is silent and this process is alone; afterwards random generators and
    process settings are as they were.
    """
    with ExitStack() as stack:
        stack.enter_context(unchanged())
        stack.enter_context(patch.object(torch.distributed, "is_initialized", lambda: False))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for enter in (redirect_stdout(StringIO()), redirect_stderr(StringIO()), quiet_warnings()):
            stack.enter_context(enter)
        (folder / "fit").mkdir()
        yield FitRequest(
            round=0,
            seed=0,
            store=invented_labels(folder / "labels", pool, space),
            out_dir=folder / "fit",
            init=acquisition.get("round_init", "scratch"),
            until=-1 if acquisition.get("queries") else None,
            iterations=length(acquisition),
        )


def length(acquisition: Mapping[str, Any]) -> int | None:
    """A length that `acquisition.iterations` may ask for, to which the schedule is stretched.

    With `per` it depends on what will have been spent: the least is taken where it says more than
    the default, else the most, else None: the config's own schedule.

    Example:
        >>> length({"iterations": 40})
        40
        >>> length({"iterations": {"amount": 2.5, "per": "image", "most": 90}})
        90
    """
    found = parse_iterations(acquisition.get("iterations"), acquisition.get("queries"))
    if found is None:
        return None
    if found.per is None:
        return int(found.amount)
    return found.least if found.least > 1 else found.most


def invented_labels(folder: Path, pool: Sequence[PoolItem], space: LabelSpace) -> LabelStore:
    """Labels of two images: squares of random classes. The pool's own annotations stay shut."""
    store, rng = LabelStore(folder), np.random.default_rng(0)
    for item in pool[:2]:
        mask = invented_mask(item.shape, space, rng)
        store.write(ImageAnswer(item.key, mask, np.ones(mask.shape, dtype=bool)), 0)
    return store


def invented_mask(
    shape: tuple[int, int], space: LabelSpace, rng: np.random.Generator, share: float = 1.0
) -> U8:
    """Raw ids, uint8 `shape`: squares of random classes, of which a share is labelled."""
    ids = np.flatnonzero(space.trainable).astype(np.uint8)
    cells = rng.choice(ids, tuple(-(-side // CELL) for side in shape))
    cells[rng.random(cells.shape) >= share] = UNLABELED
    mask: U8 = cells.repeat(CELL, axis=0).repeat(CELL, axis=1)[: shape[0], : shape[1]]
    return mask


@contextmanager
def unchanged() -> Iterator[None]:
    """Restore what a training sets in its process: random states, environment, threads, cuDNN."""
    import cv2  # both generations need it

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    environment, threads = dict(os.environ), cv2.getNumThreads()
    method = multiprocessing.get_start_method(allow_none=True)
    cudnn = torch.backends.cudnn
    flags = (cudnn.benchmark, cudnn.deterministic)
    algorithms = torch.are_deterministic_algorithms_enabled()
    try:
        with torch.random.fork_rng():  # of every CUDA device, too
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        cv2.setNumThreads(threads)
        multiprocessing.set_start_method(method, force=True)
        cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(algorithms)


class Blame:
    """Finds the config key behind an error, by the functions and objects that it passed through.

    Args:
        owner: The class whose methods build what the config describes.
        methods: Name of a method -> config key.
        kinds: (class, config key) of objects, first match first. '{}' in a key is the name of the
            object's class.
    """

    def __init__(
        self, owner: Any, methods: Mapping[str, str], kinds: Sequence[tuple[type, str]]
    ) -> None:
        self.kinds = kinds
        self.methods: dict[CodeType, str] = {
            inspect.unwrap(getattr(owner, name)).__code__: key
            for name, key in methods.items()
            if hasattr(owner, name)
        }

    def key(self, error: BaseException) -> str | None:
        """The config key, or None."""
        frames = self.frames(error)
        for frame in frames:
            if frame.f_code in self.methods:
                return self.methods[frame.f_code]
        for frame in frames:
            owner = frame.f_locals.get("self")
            for kind, key in self.kinds:
                if isinstance(owner, kind):
                    return key.format(type(owner).__name__)
        return None

    def frames(self, error: BaseException) -> list[Any]:
        """The frames that an error passed through, innermost first; also those of the errors that
        it was raised in place of (frameworks raise errors anew, "from None")."""
        frames: list[Any] = []
        found: BaseException | None = error
        while found is not None:
            own = [frame for frame, _ in traceback.walk_tb(found.__traceback__)]
            frames, found = own[::-1] + frames, found.__context__
            if len(frames) > 1000:
                break
        return frames

    @contextmanager
    def named(self, otherwise: str) -> Iterator[None]:
        """Turn any exception into a ConfigError of one line that names the config key."""
        try:
            yield
        except (RegionalALError, RehearsedError):
            raise
        except Exception as error:  # whatever the classes named in a config raise
            raise ConfigError(f"{self.key(error) or otherwise}: {told(error)}") from None


def told(error: BaseException) -> str:
    """The first line of an error; that a name is in no registry, without the advice after it."""
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0]).strip().splitlines()[0]
        return text.partition(" registry.")[0] + " registry" if " registry." in text else text
    return re.sub(r" in <\S+ object at 0x\w+>", "", first_line(error))


def local_only(specs: Any, key: str, known: Callable[[str], bool]) -> Any:
    """A list of configs without those that may contact a server, which must be registered."""
    if not isinstance(specs, (list, tuple)):
        return specs
    kept = []
    for spec in specs:
        name = spec.get("type") if isinstance(spec, Mapping) else None
        if not isinstance(name, str) or name.rpartition(".")[2] in LOCAL:
            kept.append(spec)
        elif not known(name):
            raise ConfigError(f"{key}: {name!r} is not registered")
    return kept
