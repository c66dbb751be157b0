"""Start the server of the annotation page, and end it."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from ..errors import ConfigError, WorkDirError
from ..store.ledger import COMMAND, STOPPED, Ledger
from .app import make_app
from .leases import Leases
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
    try:
        listening = listen(host, port)
    except ConfigError:
        session.close()
        raise
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(24)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={token}"
    app = make_app(session, token, host, port)
    print(f"annotate {work_dir}: {url}", flush=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"listening on {host}: whoever can reach this machine and has the address above can "
            "read the images and answer; nothing is encrypted",
            flush=True,
        )
    print("stop with Ctrl-C; every answer is kept as soon as it is given", flush=True)
    if browser:  # in a thread: a browser in the terminal would keep the server from starting
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, lifespan="on")
    server = _Server(config, app)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
        session.close()
    return 0


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
