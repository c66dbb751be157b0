"""The routes of the annotation page. All work is in `session` and `pictures`."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..errors import DataError, RegionalALError, WorkDirError
from ..store.answer_log import check_person
from ..types import JSON
from . import pictures
from .requests import integer, tab_of
from .security import Guard, error
from .session import ConflictError, Session

MAX_JSON = 8 << 20
"""Bytes of a JSON body: a hundred thousand items in one answer."""
PAINT_SLACK = 1 << 16
PING = 15.0
LOOK = 0.5
"""Seconds between pings of the event stream, and between looks for news."""


def make_app(session: Session, token: str, host: str, port: int) -> Starlette:
    """The application.

    Args:
        session: Of the run.
        token: That requests must have.
        host: That the server listens on.
        port: Likewise.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.ending = False
        await run_in_threadpool(session.maybe_train)  # all may be answered already
        yield
        app.state.ending = True
        await run_in_threadpool(session.close)

    app = Starlette(
        routes=_routes(session),
        lifespan=lifespan,
        exception_handlers=FAULTS,
    )
    app.state.session, app.state.ending = session, False
    app.add_middleware(Guard, token=token, host=host, port=port)
    return app


def _routes(session: Session) -> list[Route]:
    def get(path: str, work: Callable[[Mapping[str, str]], JSON | Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            return await answered(lambda: work(request.query_params))

        return Route(path, endpoint, methods=["GET"])

    def change(path: str, method: str, work: Callable[[JSON], JSON]) -> Route:
        async def endpoint(request: Request) -> Response:
            data = await body(request, MAX_JSON)
            return await answered(lambda: work(parsed(data)))

        return Route(path, endpoint, methods=[method])

    def map_of(name: str) -> Route:
        return get(
            f"/map/{name}",
            lambda q: picture(session.map(name, integer(q, "round"), q.get("key", ""))),
        )

    async def paint(request: Request) -> Response:
        query = dict(request.query_params)
        data: JSON = {**query, "review": query.get("review") in ("1", "true")}

        def limit() -> JSON:
            round_ = session.round(integer(query, "round"))
            with session.lock:
                height, width = round_.image(query.get("key", "")).asked.shape
            return {"bytes": int(height * width * 2 + PAINT_SLACK)}

        try:
            most = (await run_in_threadpool(limit))["bytes"]
        except RegionalALError as problem:
            return refused(problem)
        png = await body(request, most)
        return await answered(lambda: session.answer(data, png))

    async def events(request: Request) -> Response:
        return StreamingResponse(
            stream(request, session), media_type="text/event-stream", headers={"X-Accel": "no"}
        )

    async def index(request: Request) -> Response:
        return static("index.html")

    async def asset(request: Request) -> Response:
        return static(request.path_params["name"])

    def number(q: Mapping[str, str]) -> int:
        return integer(q, "round", session.run.round)

    return [
        Route("/", index),
        Route("/static/{name}", asset),
        get("/api/run", lambda q: session.describe()),
        get("/api/person", lambda q: {"person": check_person(q.get("person", ""))}),
        get(
            "/api/next",
            lambda q: session.next(
                q.get("person", ""), q.get("after"), tab_of(q), q.get("reserve") == "1"
            ),
        ),
        get(
            "/api/image", lambda q: session.image(number(q), q.get("key", ""), q.get("person", ""))
        ),
        get("/api/images", lambda q: session.images(number(q))),
        get(
            "/api/history",
            lambda q: session.history(number(q), q.get("person"), integer(q, "limit", 100)),
        ),
        get("/api/summary", lambda q: session.summary(number(q))),
        get("/api/examples", lambda q: pictures.examples(session, integer(q, "class"))),
        get(
            "/img",
            lambda q: picture(*pictures.picture(session.round(number(q)).path(q.get("key", "")))),
        ),
        map_of("asked"),
        map_of("answer"),
        map_of("predicted"),
        get(
            "/map/units",
            lambda q: picture(pictures.units(session, session.round(number(q)), q.get("key", ""))),
        ),
        get(
            "/example",
            lambda q: picture(
                pictures.example(
                    session,
                    number(q),
                    q.get("key", ""),
                    integer(q, "item", 0),
                    integer(q, "class") if "class" in q else None,
                )
            ),
        ),
        change("/api/answer", "PUT", session.answer),
        Route("/api/paint", paint, methods=["PUT"]),
        change("/api/undo", "POST", session.undo),
        change(
            "/api/skip",
            "POST",
            lambda d: session.answer({**d, "kind": "skip" if d.get("skip", True) else "unskip"}),
        ),
        change("/api/lease", "POST", session.lease),
        change("/api/close", "POST", lambda d: session.close_round(str(d.get("unspent", "keep")))),
        Route("/events", events),
    ]


async def answered(work: Callable[[], JSON | Response]) -> Response:
    """The result of some work in a thread; a user's mistake as one line."""
    try:
        result = await run_in_threadpool(work)
    except RegionalALError as problem:
        return refused(problem)
    return result if isinstance(result, Response) else JSONResponse(result)


def refused(problem: RegionalALError) -> JSONResponse:
    """The line about a mistake. 503: the same request works once the disk or the work dir is
    mended, so that a page keeps what it could not send."""
    status = {ConflictError: 409, WorkDirError: 503}.get(type(problem), 422)
    return error(status, str(problem))


def picture(data: bytes, media_type: str = "image/png") -> Response:
    """Bytes of a picture as a response."""
    return Response(data, media_type=media_type)


async def body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises HTTPException 413 as soon as it is longer than `limit`."""
    length = request.headers.get("content-length", "0")
    parts, size = [], 0
    if length.isascii() and length.isdigit() and int(length) > limit:
        raise HTTPException(413, f"the request is longer than {limit} bytes")
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"the request is longer than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def parsed(data: bytes) -> JSON:
    """A JSON object. Raises DataError for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError("the request is no JSON") from None
    if not isinstance(value, dict):
        raise DataError("the request is no JSON object")
    return value


def static(name: str) -> Response:
    """A file of the page; the names are those in the package, whatever is asked for."""
    folder = files(__package__) / "static"
    if name not in {item.name for item in folder.iterdir()}:
        return error(404, f"there is no {name[:100]}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response((folder / name).read_bytes(), media_type=kind)


async def stream(request: Request, session: Session) -> AsyncIterator[bytes]:
    """Server-sent events: 'state' and 'totals' whenever they have changed."""
    seen: tuple[Any, ...] | None = None
    line, waited = "", 0.0
    while not request.app.state.ending and not await request.is_disconnected():
        await run_in_threadpool(session.refresh)
        training = session.training
        now = (session.version, None if training is None else training.last_line())
        if now != seen:
            seen = now
            run = await run_in_threadpool(session.describe)
            text = json.dumps({key: run[key] for key in ("state", "message", "round", "query")})
            if text != line:
                line = text
                yield f"event: state\ndata: {text}\n\n".encode()
            more = json.dumps({"totals": run["totals"], "pace": run["pace"]})
            yield f"event: totals\ndata: {more}\n\n".encode()
            waited = 0.0
        await asyncio.sleep(LOOK)
        waited += LOOK
        if waited >= PING:
            waited = 0.0
            yield b": ping\n\n"


async def http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return error(problem.status_code, problem.detail)


async def fault(request: Request, problem: Exception) -> Response:
    return error(500, f"the server has a fault: {type(problem).__name__}; see its terminal")


FAULTS: Mapping[Any, Any] = {HTTPException: http_error, Exception: fault}
"""How a server answers what its routes raise."""
