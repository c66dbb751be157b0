"""A machine-learning backend of Label Studio: pre-labels of what a run asks, from its model.

The four routes of the protocol: `POST /predict`, `POST /setup`, `POST /webhook` and `GET /health`.
Tasks are those that `regional-al export --to label-studio` has written: an image is recognised by
the tag in its file name, whatever Label Studio puts around it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..annotators.asked import read_prediction
from ..annotators.logged import raw_ids
from ..errors import RegionalALError, WorkDirError
from ..exchange.base import Picture, tags_in
from ..exchange.formats.label_studio import MODEL_VERSION, predictions
from ..exchange.package import build_package
from ..exchange.run import WaitingRun, waiting_run
from ..types import JSON, U8
from .security import allowed_host, error

MAX_BODY = 64 << 20


class Backend:
    """What the routes answer.

    Args:
        work_dir: Of a run that waits for answers.

    Raises:
        RegionalALError: The folder contains no such run.
    """

    def __init__(self, work_dir: Path) -> None:
        self.work_dir, self.lock = Path(work_dir), threading.Lock()
        self.run = waiting_run(self.work_dir)
        self.pictures: dict[str, Picture] = {}
        self._packed = ""

    def version(self) -> str:
        """Name of the model: it changes with every round."""
        return f"{MODEL_VERSION} round {self.run.round}"

    def refresh(self) -> None:
        """Look which query the run waits with now, and which images it is about."""
        run = waiting_run(self.work_dir)
        place = f"{run.round} {run.outstanding}"
        if place != self._packed:
            found: dict[str, Picture] = {}
            with suppress(WorkDirError):  # nothing is left to answer
                package, _ = build_package(run, prelabels=lambda key: predicted(run, key))
                found = {tag: one for one in package.pictures for tag in tags_in(one.file)}
            self.run, self.pictures, self._packed = run, found, place

    def predict(self, request: Mapping[str, Any]) -> JSON:
        """Pre-labels of tasks, in their order; of an image that is not asked about none.

        Args:
            request: `{"tasks": [{"data": {...}}, ...]}`.
        """
        tasks = request.get("tasks")
        tasks = tasks if isinstance(tasks, list) else []
        with self.lock:
            self.refresh()
            return {"results": [self._result(task) for task in tasks]}

    def _result(self, task: Any) -> JSON:
        data = task.get("data") if isinstance(task, Mapping) else None
        for value in data.values() if isinstance(data, Mapping) else ():
            for tag in tags_in(file_of(value)) if isinstance(value, str) else ():
                if tag in self.pictures:
                    return predictions(self.pictures[tag], self.version(), 0.5)
        return {"model_version": self.version(), "score": 0.0, "result": []}


def predicted(run: WaitingRun, key: str) -> U8 | None:
    """What the model of a waiting run predicts in an image, raw ids uint8 [H, W]; None: nothing."""
    asked = run.query.asked(key)
    shape = (int(asked.shape[0]), int(asked.shape[1]))
    path = run.files.predictions(run.round) / f"{key}.png"
    classes = read_prediction(path, shape, len(run.space.class_names))
    return None if classes is None else np.asarray(raw_ids(run.space)[classes])


def file_of(url: str) -> str:
    """The file name in the address of an image: its `d` for files that Label Studio serves.

    Example:
        >>> file_of("/data/local-files/?d=images/a%20b.png"), file_of("s3://bucket/x/c.png")
        ('a b.png', 'c.png')
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    path = (parse_qs(parts.query).get("d") or [unquote(parts.path)])[0]
    return path.rsplit("/", 1)[-1]


def make_backend(work_dir: Path, host: str, port: int) -> Starlette:
    """The application.

    Args:
        work_dir: Of a run that waits for answers.
        host: That the server listens on.
        port: Likewise.
    """
    backend = Backend(work_dir)

    def guarded(request: Request) -> Response | None:
        if not allowed_host(request.headers.get("host", "").lower(), host, port):
            return error(403, "the Host of the request is not this server")
        if request.headers.get("origin") is not None:
            return error(403, "requests of web pages are refused")
        return None

    async def predict(request: Request) -> Response:
        refusal = guarded(request)
        if refusal is not None:
            return refusal
        try:
            data = await limited(request)
            return JSONResponse(await run_in_threadpool(backend.predict, data))
        except RegionalALError as problem:
            return error(422, str(problem))

    async def setup(request: Request) -> Response:
        return guarded(request) or JSONResponse({"model_version": backend.version()})

    async def webhook(request: Request) -> Response:
        return guarded(request) or JSONResponse({"status": "ok"})

    async def health(request: Request) -> Response:
        return guarded(request) or JSONResponse({"status": "UP", "model_class": MODEL_VERSION})

    async def refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        return error(problem.status_code, problem.detail)

    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/setup", setup, methods=["POST"]),
            Route("/webhook", webhook, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
            Route("/", health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: refused},
    )


async def limited(request: Request) -> JSON:
    """The JSON object of a request. Raises HTTPException for anything else, or if it is long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise HTTPException(413, f"the request is longer than {MAX_BODY} bytes")
        parts.append(part)
    try:
        data = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        raise HTTPException(422, "the request is no JSON") from None
    if not isinstance(data, dict):
        raise HTTPException(422, "the request is no JSON object")
    return data


def serve_backend(work_dir: Path, host: str = "127.0.0.1", port: int = 9090) -> int:
    """Serve pre-labels to Label Studio until the process is interrupted.

    Args:
        work_dir: Of a run that waits for answers.
        host: Address to listen on.
        port: 0: any that is free.

    Returns:
        The exit code.

    Raises:
        RegionalALError: The run does not wait, or the address cannot be used.
    """
    import uvicorn

    from .server import listen

    waiting_run(Path(work_dir))
    listening = listen(host, port)
    port = int(listening.getsockname()[1])
    app = make_backend(Path(work_dir), host, port)
    print(f"machine-learning backend for Label Studio: http://{host}:{port}", flush=True)
    print("in Label Studio: Settings, Model, Connect Model; stop with Ctrl-C", flush=True)
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    return 0
