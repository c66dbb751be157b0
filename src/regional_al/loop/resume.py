"""Whether a run can be resumed: config, pool and data compared with what it was started with.

`config.changes` decides key by key what may differ; this module applies it to a ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..config.changes import Change, Rule, changes
from ..errors import WorkDirError
from ..store.files import FileStamp, Named, by_folder, look_up, same, stamp
from ..store.ledger import Ledger, pool_fingerprint
from ..types import JSON, PoolItem

_SHOWN = 3
Stamps = Mapping[tuple[str, str], FileStamp]


class Seen(NamedTuple):
    """The files that a run depends on.

    Args:
        known: Stamps that are recorded, of all files in folders that have been looked at.
        now: As they are.
        folders: Folder -> `listing.folder_digest`.
    """

    known: Stamps
    now: Stamps
    folders: Mapping[str, str]


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
    _seen: list[Seen] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def tree(self) -> JSON:
        """`acquisition` and the engine's config as one nested dict."""
        return config_tree(self.text, self.acquisition)

    @cached_property
    def images(self) -> dict[str, dict[int, str]]:
        """Folder -> position in the pool -> name of the image file."""
        return by_folder((i, item.image) for i, item in enumerate(self.pool))

    def look(self, ledger: Ledger | None, unchanged: Set[str] = frozenset()) -> Seen:
        """Look up the files that the run depends on, once until `forget`.

        Args:
            ledger: With what is recorded of them; None: nothing is.
            unchanged: Folders of images that are as recorded, which are not looked at again.
        """
        if not self._seen:
            paths: dict[str, dict[Named, str]] = {}
            for folder, files in self.images.items():
                if folder not in unchanged:
                    paths[folder] = {(self.pool[i].key, "image"): f for i, f in files.items()}
            named = (((key, "annotation"), path) for key, path in self.sources.items())
            for folder, annotations in by_folder(named).items():
                if folder not in unchanged:
                    paths.setdefault(folder, {}).update(annotations)
            known = ledger.files() if ledger is not None and paths else {}
            now, folders = look_up(paths, known)
            if unchanged and ledger is not None:
                folders.update((f, d) for f, d in ledger.folders().items() if f in unchanged)
            self._seen.append(Seen(known, now, folders))
        return self._seen[0]

    def forget(self) -> None:
        """Look the files up again at the next `look`."""
        self._seen.clear()

    def record_files(self, ledger: Ledger) -> None:
        """Record the files that the run depends on, as they were when it looked."""
        known, now, folders = self.look(ledger)
        known = {**known, **ledger.files("config")}
        found = {**now, **config_stamps(self.tree)}
        self.forget()
        with ledger.transaction():
            ledger.record_files(
                {name: one for name, one in found.items() if known.get(name) != one}
            )
            ledger.record_folders(folders)


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
    meta, files = ledger.meta(), ledger.files("config")
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
    check_pool(ledger, meta["pool"], origin.pool)
    return found


def refusal(refused: Sequence[Change]) -> str:
    """One line for changes that are refused."""
    if [change.name for change in refused] == ["text"]:
        what = "it was started with another config"
    else:
        what = ", ".join(str(change) for change in refused[:_SHOWN])
    if len(refused) > _SHOWN:
        what += f", and {len(refused) - _SHOWN} more"
    return f"{what}; choose another work_dir, or restore the config that the run was started with"


def check_pool(ledger: Ledger, fingerprint: str, pool: Sequence[PoolItem]) -> None:
    """Raise WorkDirError, naming an image, unless the pool has the same images in the same order
    and sizes."""
    if pool_fingerprint(pool) == fingerprint:
        return
    then = {key for key, _ in ledger.files("image")}
    now = {item.key for item in pool}
    hint = "choose another work_dir, or restore the training images"
    if then - now:
        what = f"{len(then - now)} images are missing, such as {min(then - now)!r}"
    elif now - then and then:
        what = f"{len(now - then)} images are new, such as {min(now - then)!r}"
    else:
        what = "their order or sizes differ"
    raise WorkDirError(f"{ledger.path.parent} was started with other pool images ({what}); {hint}")


def check_files(ledger: Ledger, origin: Origin, unchanged: Set[str] = frozenset()) -> list[Change]:
    """Notice files that have been replaced since the run began.

    Args:
        ledger: Of the run.
        origin: What the run is resumed with.
        unchanged: Folders that are as recorded.

    Returns:
        Annotations with other content, as changes to be recorded.

    Raises:
        WorkDirError: An image has other content.
    """
    files, now, _ = origin.look(ledger, unchanged)
    replaced = [
        name
        for name, one in now.items()
        if name in files and one is not files[name] and not same(files[name], one)
    ]
    images = [name for name in replaced if name[1] == "image"]
    if images:
        more = f" and {len(images) - 1} more" if len(images) > 1 else ""
        path = next(item.image for item in origin.pool if item.key == images[0][0])
        raise WorkDirError(
            f"{path}{more} changed after {ledger.path.parent} was started: restore "
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
