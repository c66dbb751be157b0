"""Who may talk to the server: a token, one host, one origin.

The server listens on the loopback interface unless told otherwise. The address that it prints
contains a token, which the browser exchanges for a cookie; nothing is answered without it. Requests
that another web site makes a browser send carry another Origin, and those that reach the server
under another name (DNS rebinding) another Host: both are refused.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def allowed_host(host: str, bound: str, port: int) -> bool:
    """Whether a Host header may name this server.

    Args:
        host: The header.
        bound: Address that the server listens on.
        port: Likewise.

    Example:
        >>> allowed_host("127.0.0.1:80", "127.0.0.1", 80), allowed_host("a.org:80", "0.0.0.0", 80)
        (True, False)
    """
    parts = urlsplit(f"//{host}")
    try:
        name, there = parts.hostname or "", parts.port or 80
    except ValueError:
        return False
    if there != port or parts.username is not None or parts.path:
        return False
    if name in (bound, "localhost", socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False  # some other name, which may point here for a while only
    return address.is_loopback or bound in ("0.0.0.0", "::")


class Guard:
    """ASGI middleware that refuses what must not reach the server.

    Args:
        app: Behind it.
        token: Of the address that was printed.
        host: That the server listens on.
        port: Likewise.
        command: That has printed the address.
    """

    def __init__(
        self, app: ASGIApp, token: str, host: str, port: int, command: str = "annotate"
    ) -> None:
        self.app, self.token, self.host, self.port = app, token, host, port
        self.command = command
        self.cookie = f"regional_al_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = self.refusal(scope)
        if answer is not None:
            await self.harden(answer)(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.lower().encode() not in there
                    ),
                ]
            await send(message)

        await self.app(scope, receive, hardened)

    @staticmethod
    def harden(response: Response) -> Callable[..., Awaitable[None]]:
        response.headers.update(HEADERS)
        return response

    def refusal(self, scope: Scope) -> Response | None:
        """What to answer instead of the app; None: let it through."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not allowed_host(host, self.host, self.port):
            return error(403, f"Host {host[:100]!r} is not this server")
        origin = headers.get("origin")
        method = scope["method"]
        if origin is not None and origin.lower() != f"http://{host}":
            return error(403, "requests of other web sites are refused")
        if method not in SAFE and origin is None:
            return error(403, "a request that changes something needs an Origin header")
        if scope["path"] == "/" and method == "GET":
            given = QueryParams(scope["query_string"]).get("token")
            if given is not None:
                if not same(given, self.token):
                    return error(401, "the token is wrong: use the address that was printed")
                response = RedirectResponse("/", status_code=303)
                response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
                return response
        if not same(self._cookie(headers), self.token):
            told = f"the address that `regional-al {self.command}` has printed"
            return error(401, f"no access: open {told}")
        return None

    def _cookie(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return "" if found is None else found.value


def error(status: int, message: str) -> JSONResponse:
    """A refusal in one line."""
    return JSONResponse({"error": " ".join(message.split())}, status_code=status)
