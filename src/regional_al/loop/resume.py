"""Whether a run can be resumed: config, pool and data compared with what it was started with.

`config.changes` decides key by key what may differ; this module applies it to a ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config.changes import Change, Rule, changes
from ..errors import WorkDirError
from ..store.files import FileStamp, same, stamp, stamps
from ..store.ledger import Ledger, pool_fingerprint
from ..types import JSON, PoolItem

_SHOWN = 3
Stamps = Mapping[tuple[str, str], FileStamp]


@dataclass(frozen=True)
class Origin:
    """What determines the results of a run.

    Args:
        acquisition: The resolved `acquisition`.
        text: The config of the engine: JSON, as `engines.load` gives it, or any other text.
        pool: The images.
        sources: Key of an image -> the file that its answers come from, if they come from one.
    """

    acquisition: JSON
    text: str
    pool: Sequence[PoolItem]
    sources: Mapping[str, Path] = field(default_factory=dict)
    _seen: dict[str, Stamps] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tree(self) -> JSON:
        """`acquisition` and the engine's config as one nested dict."""
        return config_tree(self.text, self.acquisition)

    @cached_property
    def paths(self) -> dict[tuple[str, str], Path]:
        """(key, 'image' or 'annotation') -> file."""
        images = {(item.key, "image"): item.image for item in self.pool}
        return {**images, **{(key, "annotation"): path for key, path in self.sources.items()}}

    def stamps(self, known: Stamps) -> Stamps:
        """Stamps of `paths`, looked up once until `record_files`. known: earlier ones."""
        if "now" not in self._seen:
            self._seen["then"], self._seen["now"] = known, stamps(self.paths, known)
        return self._seen["now"]

    def forget(self) -> None:
        """Look the files up again at the next `stamps`."""
        self._seen.clear()

    def record_files(self, ledger: Ledger) -> None:
        """Record the files that the run depends on, as they were when it looked."""
        known = self._seen.get("then")
        known = ledger.files() if known is None else known
        now = {**self.stamps(known), **config_stamps(self.tree)}
        self.forget()
        ledger.record_files({name: one for name, one in now.items() if known.get(name) != one})


def config_tree(text: str, acquisition: JSON) -> JSON:
    """The config of a run as one nested dict; a text that is not JSON stands under 'text'."""
    try:
        engine = json.loads(text)
    except (ValueError, RecursionError):
        engine = None
    if not isinstance(engine, dict):
        engine = {"text": text} if text else {}
    tree: JSON = {**engine, "acquisition": json.loads(json.dumps(acquisition))}
    return tree


def config_stamps(tree: Any) -> dict[tuple[str, str], FileStamp]:
    """(text, 'config') -> stamp of each text in a config that names a file."""
    found: dict[tuple[str, str], FileStamp] = {}
    for text in _texts(tree):
        if 0 < len(text) < 1000 and (text, "config") not in found:
            one = stamp(text)
            if one is not None:
                found[text, "config"] = one
    return found


def check_resume(ledger: Ledger, origin: Origin) -> list[Change]:
    """Compare the run in a ledger with what it is to be resumed with.

    Args:
        ledger: Of the run.
        origin: What the run is resumed with.

    Returns:
        Changes that are to be recorded.

    Raises:
        WorkDirError: The run must not be resumed; the message names what has changed.
    """
    ledger.check_resumable()
    meta, files = ledger.meta(), ledger.files()
    work_dir = ledger.path.parent
    position = ledger.position()
    trained = position[0] > 0 or position[1] == "evaluate"

    def same_file(old: str, new: str) -> bool:
        return same(files.get((old, "config")), stamp(new))

    found = changes(
        config_tree(meta["config"], ledger.acquisition()),
        origin.tree,
        trained,
        bool(origin.acquisition.get("queries")),
        same_file,
    )
    refused = [change for change in found if change.rule is Rule.REFUSED]
    if refused:
        raise WorkDirError(f"{work_dir}: {refusal(refused)}")
    check_pool(work_dir, meta["pool"], origin.pool, files)
    return [*found, *check_files(ledger, origin, files)]


def refusal(refused: Sequence[Change]) -> str:
    """One line for changes that are refused."""
    if [change.name for change in refused] == ["text"]:
        what = "it was started with another config"
    else:
        what = ", ".join(str(change) for change in refused[:_SHOWN])
    if len(refused) > _SHOWN:
        what += f", and {len(refused) - _SHOWN} more"
    return f"{what}; choose another work_dir, or restore the config that the run was started with"


def check_pool(
    work_dir: Path,
    fingerprint: str,
    pool: Sequence[PoolItem],
    files: Mapping[tuple[str, str], FileStamp],
) -> None:
    """Raise WorkDirError, naming an image, unless the pool has the same images in the same order
    and sizes."""
    if pool_fingerprint(pool) == fingerprint:
        return
    then = {key for key, kind in files if kind == "image"}
    now = {item.key for item in pool}
    hint = "choose another work_dir, or restore the training images"
    if then - now:
        what = f"{len(then - now)} images are missing, such as {min(then - now)!r}"
    elif now - then and then:
        what = f"{len(now - then)} images are new, such as {min(now - then)!r}"
    else:
        what = "their order or sizes differ"
    raise WorkDirError(f"{work_dir} was started with other pool images ({what}); {hint}")


def check_files(
    ledger: Ledger, origin: Origin, files: Mapping[tuple[str, str], FileStamp]
) -> list[Change]:
    """Notice files that have been replaced since the run began.

    Args:
        ledger: Of the run.
        origin: What the run is resumed with.
        files: Their recorded stamps.

    Returns:
        Annotations with other content, as changes to be recorded.

    Raises:
        WorkDirError: An image has other content.
    """
    now, paths = origin.stamps(files), origin.paths
    replaced = [
        name
        for name, one in now.items()
        if name in files and one is not files[name] and not same(files[name], one)
    ]
    images = [name for name in replaced if name[1] == "image"]
    if images:
        more = f" and {len(images) - 1} more" if len(images) > 1 else ""
        raise WorkDirError(
            f"{paths[images[0]]}{more} changed after {ledger.path.parent} was started: restore "
            "the images, or choose another work_dir"
        )
    return [
        Change(f"annotation of {name[0]}", files[name].digest, now[name].digest, Rule.RECORDED)
        for name in replaced
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
