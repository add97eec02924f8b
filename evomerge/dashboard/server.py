"""Serving the pages: where it listens, who may read, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import socket
import string
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import uvicorn

from evomerge.dashboard.app import Dashboard
from evomerge.dashboard.guard import TOKEN, Guard
from evomerge.errors import ConfigError, RunError
from evomerge.system.files import explain_os_errors, user_path

LOOPBACK = "127.0.0.1"

PORT, TRIES = 8420, 20
"""The port, and so many after it that are tried where nobody asked for one."""

AUTO = "auto"
"""In place of a token: one is made."""

_LEAST_LETTERS = 16
_LETTERS = frozenset(string.ascii_letters + string.digits + "-_.~")


@dataclass(frozen=True)
class Listening:
    """A server that has its port, before it answers.

    Attributes:
        url: under which it is opened, with the token where there is one.
        server: what answers, by `server.run(sockets=[socket])`.
    """

    url: str
    server: uvicorn.Server
    socket: socket.socket

    def serve(self) -> None:
        """Answer until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt), self.socket:
            self.server.run(sockets=[self.socket])


def listen(folder: str | Path, *, host: str = LOOPBACK, port: int | None = None, token: str | None = None) -> Listening:
    """Prepare the server over the runs of a folder.

    Args:
        folder: where the runs are.
        host: the address that it listens at; another one than loopback needs a token.
        port: None: 8420, or the next one that is free.
        token: what a reader must know; "auto": one is made; None: nothing.

    Raises:
        RunError: if there is no such folder, or the port is in use.
        ConfigError: if the address is not loopback and there is no token, or it is not one that can be kept.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise RunError(
            f"there is no folder {root}: name the one in which your runs are; `evomerge search` makes outputs/<name>/"
            "<time> where it is started"
        )
    with explain_os_errors(root):
        root = root.resolve()
    family, address = _address(host)
    if token is None and not ipaddress.ip_address(address).is_loopback:
        raise ConfigError(
            f"--host {host} lets others on the network read all runs in {root}, so it needs a token: add --token auto, "
            "which makes one and prints the address with it. Without --host, only this machine is answered"
        )
    token = secrets.token_urlsafe(32) if token == AUTO else _checked(token)
    listening = _bound(family, address, port)
    number = listening.getsockname()[1]
    names = frozenset({"localhost", host.casefold(), socket.gethostname().casefold(), socket.getfqdn().casefold()})
    app = Guard(Dashboard(root).app(), names=names, token=token, cookie=f"evomerge_{number}")
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,  # addresses may hold the token
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=256,
    )
    return Listening(_url(host, address, number, token), uvicorn.Server(config), listening)


def open_when_ready(listening: Listening, say: Callable[[str], None]) -> None:
    """Show the page in the browser once the server answers."""

    def wait() -> None:
        while not listening.server.started and not listening.server.should_exit:
            time.sleep(0.05)
        if not webbrowser.open(listening.url):
            say("no browser could be started; open the address yourself")

    threading.Thread(target=wait, name="opening the browser", daemon=True).start()


def _checked(token: str | None) -> str | None:
    if token is not None and (len(token) < _LEAST_LETTERS or not _LETTERS.issuperset(token)):
        raise ConfigError(
            f"a token has at least {_LEAST_LETTERS} letters, digits or -_.~, so that nobody guesses it; "
            "--token auto makes one"
        )
    return token


def _address(host: str) -> tuple[socket.AddressFamily, str]:
    """Return the address of a name; of several, one that is not loopback, since it counts then as what it is."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host} is no address of this machine: {error}") from error
    addresses = [
        (socket.AddressFamily(family), str(address[0]).partition("%")[0]) for family, _, _, _, address in found
    ]
    # 127.0.0.1 before ::1, which a machine without IPv6 has not.
    return min(addresses, key=lambda one: (ipaddress.ip_address(one[1]).is_loopback, one[0] != socket.AF_INET))


def _bound(family: socket.AddressFamily, address: str, port: int | None) -> socket.socket:
    tried = range(PORT, PORT + TRIES) if port is None else [port]
    for number in tried:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, number))
            made.listen(128)
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRINUSE and number != tried[-1]:
                continue
            raise _unusable(error, address, port) from error
        return made
    raise AssertionError("at least one port is tried")


def _unusable(error: OSError, address: str, port: int | None) -> RunError:
    which = f"port {port}" if port is not None else f"each of the ports {PORT} to {PORT + TRIES - 1}"
    if error.errno == errno.EADDRINUSE:
        return RunError(f"{which} is in use, perhaps by another dashboard: choose another one with --port, or stop it")
    if error.errno == errno.EACCES:
        return RunError(f"{which} may not be used by this user ({error.strerror}): choose one above 1023 with --port")
    return RunError(f"cannot listen at {address}, {which}: {error.strerror}")


def _url(host: str, address: str, port: int, token: str | None) -> str:
    own = ipaddress.ip_address(address)
    name = socket.gethostname() if own.is_unspecified else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + ("" if token is None else f"?{TOKEN}={quote(token, safe='')}")
