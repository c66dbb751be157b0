"""The machine-learning backend for Label Studio: its four routes over a run that waits."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from web_run import answer, make_data, served, start

from regional_al.exchange import export
from regional_al.exchange.codecs import label_studio as codec
from regional_al.exchange.run import waiting_run
from regional_al.store.images import read_ids

pytest.importorskip("starlette")
pytest.importorskip("httpx")
testclient = pytest.importorskip("starlette.testclient")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that waits in round 1, with predictions."""
    root = tmp_path_factory.mktemp("backend")
    data = make_data(root / "data")
    start(data, root / "run")
    with served(root / "run") as client:
        while "key" in (place := client.get("/api/next?person=ada").json()):
            query = {"key": place["key"], "round": place["round"], "person": "ada"}
            items = [one["i"] for one in client.get("/api/image", params=query).json()["items"]]
            answer(client, place, items, classes=[0])
    assert start(data, root / "run").round == 1
    return root / "run"


def client_of(run: Path):
    from regional_al.web.label_studio import make_backend

    return testclient.TestClient(
        make_backend(run, "127.0.0.1", 9090), base_url="http://127.0.0.1:9090"
    )


def tasks_of(run: Path) -> list[dict]:
    with zipfile.ZipFile(export(run, "label-studio")) as archive:
        return json.loads(archive.read("tasks.json"))


def test_health_setup_and_webhook(run):
    client = client_of(run)
    assert client.get("/health").json()["status"] == "UP"
    reply = client.post("/setup", json={"project": "1", "schema": "<View/>"}).json()
    assert reply == {"model_version": "regional_al round 1"}
    assert client.post("/webhook", json={"action": "START_TRAINING"}).status_code == 200


def test_pre_labels_are_what_the_model_predicts(run):
    tasks = tasks_of(run)
    for task in tasks:  # an upload puts something before the name
        name = task["data"]["image"].rsplit("%2F", 1)[-1].rsplit("/", 1)[-1]
        task["data"]["image"] = f"/data/upload/1/8a2f-{name}"
    reply = client_of(run).post("/predict", json={"tasks": [*tasks, {"data": {"image": "x"}}]})
    *found, other = reply.json()["results"]
    assert other["result"] == []
    waiting = waiting_run(run)
    assert len(found) == len(waiting.outstanding)
    for key, one in zip(waiting.outstanding, found, strict=True):
        asked = waiting.query.asked(key) > 0
        predicted = read_ids(waiting.files.predictions(1) / f"{key}.png")
        drawn = np.full(asked.shape, -1)
        for result in one["result"]:
            (label,) = result["value"]["brushlabels"]
            mask = codec.decode(result["value"]["rle"], asked.shape) > 0
            if label == "__ask__":
                assert (mask == asked).all()
            else:
                drawn[mask] = waiting.labels.names.index(label)
        assert (drawn[asked] == predicted[asked]).all()
        assert (drawn[~asked] == -1).all()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Host": "evil.example:9090"}, b"{}", 403),
        ({"Origin": "http://evil.example"}, b"{}", 403),
        ({}, b"[]", 422),
        ({}, b"{", 422),
        ({}, b'{"tasks": 3}', 200),
        ({}, b'{"tasks": [3, {"data": 4}, {}]}', 200),
        ({}, b" " * (65 << 20), 413),
    ],
)
def test_other_requests(run, headers, body, status):
    reply = client_of(run).post("/predict", content=body, headers=headers)
    assert reply.status_code == status
