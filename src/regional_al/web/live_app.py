"""The routes of the live report: all of them only read. All work is in `live`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from .. import report
from .app import FAULTS, PING, answered, static
from .live import Live
from .security import Guard

LOOK = 1.0
"""Seconds between looks for news."""


def make_live_app(live: Live, token: str, host: str, port: int) -> Starlette:
    """The application.

    Args:
        live: Of the run.
        token: That requests must have.
        host: That the server listens on.
        port: Likewise.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.ending = False
        yield
        app.state.ending = True

    async def index(request: Request) -> Response:
        return static("watch.html")

    async def asset(request: Request) -> Response:
        return static(request.path_params["name"])

    async def style(request: Request) -> Response:
        text = (files(report) / "templates" / "style.css").read_bytes()
        return Response(text, media_type="text/css")

    async def now(request: Request) -> Response:
        return await answered(live.now)

    async def page(request: Request) -> Response:
        return await answered(lambda: HTMLResponse(live.report()))

    async def events(request: Request) -> Response:
        return StreamingResponse(stream(request, live), media_type="text/event-stream")

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/static/{name}", asset),
            Route("/report.css", style),
            Route("/api/now", now),
            Route("/report", page),
            Route("/events", events),
        ],
        lifespan=lifespan,
        exception_handlers=FAULTS,
    )
    app.state.ending = False
    app.add_middleware(Guard, token=token, host=host, port=port, command="watch")
    return app


async def stream(request: Request, live: Live) -> AsyncIterator[bytes]:
    """Server-sent events: 'now' whenever it has changed."""
    sent, waited = "", 0.0
    while not request.app.state.ending and not await request.is_disconnected():
        text = json.dumps(await run_in_threadpool(live.now))
        if text != sent:
            sent, waited = text, 0.0
            yield f"event: now\ndata: {text}\n\n".encode()
        await asyncio.sleep(LOOK)
        waited += LOOK
        if waited >= PING:
            waited = 0.0
            yield b": ping\n\n"
