"""Runs on the toy engine that wait for people, and a client of the page's server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regional_al.config import grammar
from regional_al.loop import ActiveLearningLoop, runner
from regional_al.store.images import read_ids
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import UNLABELED, LabelSpace

TOKEN = "secret"
ORIGIN = {"Origin": "http://127.0.0.1:8765"}

GRID = {
    "level": "region",
    "region": {"type": "grid", "cell": 8},
    "heuristic": "Entropy",
    "budget": {"amount": 6, "unit": "region"},
    "warm_start": {"amount": 6, "unit": "region"},
    "rounds": 2,
}
PIXELS = {
    "level": "pixel",
    "heuristic": "Entropy",
    "budget": {"amount": 12, "unit": "pixel"},
    "warm_start": {"amount": 12, "unit": "pixel"},
    "rounds": 2,
}


def make_data(root: Path, train: int = 4) -> Path:
    """The embedded data set, small."""
    return streets.generate(root, train=train, val=1, size=(32, 48))


PAINTED = {
    "level": "image",
    "heuristic": "Entropy",
    "budget": {"amount": 1, "unit": "image"},
    "warm_start": {"amount": 1, "unit": "image"},
    "rounds": 2,
}
MANY = LabelSpace.plain(
    tuple(f"kind {i:03d}" for i in range(150)), tuple((i, 255 - i, 90) for i in range(150))
)
"""More classes than there are keys; for data of `spread`."""


def spread(root: Path) -> Path:
    """Give the classes of a data set ids all over those of `MANY`, in place."""
    for path in (root / "annotations").rglob("*.png"):
        ids = read_ids(path).astype(np.int64)
        many = np.where(ids == UNLABELED, UNLABELED, ids * 13 + 7)
        Image.fromarray(many.astype(np.uint8)).save(path)
    return root


def start(
    data: Path,
    work_dir: Path,
    keys: Mapping[str, Any] = GRID,
    answer: str = "full",
    space: LabelSpace | None = None,
    **more: Any,
) -> ActiveLearningLoop:
    """Start or resume a run that asks people."""
    annotator = {"type": "web", "answer": answer, **more}
    engine = toy_engine(data, space, iterations=2)
    return runner.run(
        engine, grammar.parse({**keys, "annotator": annotator}), work_dir, report=False
    )


def oracle(
    data: Path,
    work_dir: Path,
    keys: Mapping[str, Any] = GRID,
    answer: str = "full",
    space: LabelSpace | None = None,
) -> Any:
    """The same run with the oracle."""
    return start(data, work_dir, keys, answer, space, type="oracle")


def truth(data: Path, key: str) -> np.ndarray:
    """Raw ids of an image's annotation."""
    (path,) = (data / "annotations/train").glob(f"{key}.png")
    return read_ids(path)


def labels_of(work_dir: Path) -> dict[str, bytes]:
    """Label files and sidecars, byte for byte; not who has answered."""
    root = work_dir / "labels"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*.png"))
        if path.relative_to(root).parts[0] not in ("_source", "_classes")
    }


@contextmanager
def served(work_dir: Path, **more: Any) -> Iterator[Any]:
    """A client with access to a server of the run; `client.session` is its session."""
    from starlette.testclient import TestClient

    from regional_al.web.app import make_app
    from regional_al.web.session import Session

    session = Session(work_dir, **more)
    app = make_app(session, TOKEN, "127.0.0.1", 8765)
    with TestClient(app, base_url="http://127.0.0.1:8765", headers=ORIGIN) as client:
        reply = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert reply.status_code == 303, reply.text
        client.session = session  # type: ignore[attr-defined]
        yield client


def answer(client: Any, place: Mapping[str, Any], items: list[int], **more: Any) -> Any:
    """Send an answer about items of an image; `place`: key, round and query."""
    data = {
        "key": place["key"],
        "round": place["round"],
        "query": place["query"],
        "person": "ada",
        "token": uuid.uuid4().hex,
        "kind": "class",
        "items": items,
        "classes": [],
        "ms": 1000,
        "keys": 1,
        "clicks": 1,
        **more,
    }
    return client.put("/api/answer", json=data)
