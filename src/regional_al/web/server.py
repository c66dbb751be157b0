"""Start the servers of the annotation page and of the live report, and end them."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from ..errors import ConfigError, WorkDirError
from ..store.images import replacing
from ..store.ledger import COMMAND, STOPPED, Ledger
from ..store.work_dir import WorkDir
from .app import make_app
from .leases import Leases
from .live import Live
from .live_app import make_live_app
from .session import Session
from .training import Training


class _Server(uvicorn.Server):
    """Ends the event streams of open pages before it waits for them."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self.app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.app.state.ending = True
        super().handle_exit(sig, frame)


def serve(
    work_dir: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    overlap: float = 0.0,
    lease: float = 300.0,
    train: bool = False,
    browser: bool = True,
) -> int:
    """Serve the page until the process is interrupted.

    Args:
        work_dir: Of a run that waits for people's answers.
        host: Address to listen on.
        port: 0: any that is free.
        overlap: Share of the images that a second person answers too, 0..1.
        lease: Seconds that an image is kept for a person after the last sign of life.
        train: Start the next round when a round is complete.
        browser: Open the page in a browser.

    Returns:
        The exit code.

    Raises:
        RegionalALError: The run does not wait, or the address cannot be used.
    """
    if train:
        catch_up(work_dir)
    session = Session(work_dir, overlap, Leases(lease), train)

    def make(token: str, port: int) -> Starlette:
        note_address(session.files, host, port)
        return make_app(session, token, host, port)

    more = ("read the images and answer", "every answer is kept as soon as it is given")
    try:
        return serve_app(f"annotate {work_dir}", make, host, port, browser, *more)
    finally:
        session.files.annotate_address.unlink(missing_ok=True)
        session.close()


def note_address(files: WorkDir, host: str, port: int) -> None:
    """Write down where the page is served, without its token, for `regional-al watch`."""
    told = {"url": address(host, port), "machine": socket.gethostname()}
    with suppress(WorkDirError), replacing(files.annotate_address) as temporary:
        temporary.write_text(json.dumps(told) + "\n", encoding="utf-8")


def watch(work_dir: Path, host: str = "127.0.0.1", port: int = 0, browser: bool = True) -> int:
    """Serve the live report until the process is interrupted. Nothing is written to the work dir.

    Args:
        work_dir: Of a run, which may begin later.
        host: Address to listen on.
        port: 0: any that is free.
        browser: Open the page in a browser.

    Returns:
        The exit code.

    Raises:
        RegionalALError: There cannot be a run in the folder, or the address cannot be used.
    """
    live = Live(work_dir)
    if live.now()["state"] == "none":
        print(f"there is no run in {work_dir} yet: the page follows it when it begins", flush=True)
    try:
        return serve_app(
            f"watch {work_dir}",
            lambda token, port: make_live_app(live, token, host, port),
            host,
            port,
            browser,
            "see the images and results",
            "the run does not notice",
        )
    finally:
        live.close()


def serve_app(
    what: str,
    make: Callable[[str, int], Starlette],
    host: str,
    port: int,
    browser: bool,
    access: str,
    stopping: str,
) -> int:
    """Serve an application until the process is interrupted.

    Args:
        what: That is served.
        make: Makes the application from the token that requests must have, and the port.
        host: Address to listen on.
        port: 0: any that is free.
        browser: Open the page in a browser.
        access: What everybody can do who reaches it.
        stopping: What happens when it is stopped.

    Returns:
        The exit code.
    """
    listening = listen(host, port)
    try:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        app = make(token, port)
        url = f"{address(host, port)}?token={token}"
        print(f"{what}: {url}", flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"listening on {host}: whoever can reach this machine and has the address above "
                f"can {access}; nothing is encrypted",
                flush=True,
            )
        print(f"stop with Ctrl-C; {stopping}", flush=True)
        if browser:  # in a thread: a browser in the terminal would keep the server from starting
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=2, lifespan="on"
        )
        _Server(config, app).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    return 0


def address(host: str, port: int) -> str:
    """The address of the page of a server.

    Example:
        >>> address("0.0.0.0", 80), address("::1", 80)
        ('http://127.0.0.1:80/', 'http://[::1]:80/')
    """
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def catch_up(work_dir: Path) -> None:
    """Resume a run that was stopped while it trained, until it asks again.

    Args:
        work_dir: Of the run; nothing happens when it waits, has ended or there is none.

    Raises:
        WorkDirError: It was not started by a command, or fails.
    """
    if not Ledger.exists(work_dir):
        return
    with Ledger.open(work_dir, readonly=True) as ledger:
        number, stage = ledger.position()
        command, ended = ledger.noted(COMMAND), ledger.noted(STOPPED)
    if stage == "answers" or ended is not None or command is None:
        return
    print(f"round {number} has reached {stage}: resuming the run until it asks", flush=True)
    training = Training(command, work_dir)
    try:
        training.process.wait()
    finally:
        training.stop()
    if training.failed:
        raise WorkDirError(f"the run has failed: {training.last_line()} (see {training.log})")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError when the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"--host {host} --port {port} cannot be used: {error}; leave --port out to take a free"
            " one"
        ) from None
    return listening
