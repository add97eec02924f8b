"""The HTTP servers: routes, answers, faults, and what clients must be told to find them."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from hub_server.log import Request, RequestLog
from hub_server.repositories import File, Repositories


@dataclass
class Fault:
    """What goes wrong with the next requests of some files.

    Attributes:
        part: text that the path contains.
        method: HTTP method; None: any.
        times: how many requests it meets; then it is over.
        status: this status is answered.
        cut_after: the connection is cut after this many bytes of the body.
        flip: the byte at this place of a file is sent with other bits.
        seconds_each: how long each `chunk` bytes of the body take; of an upload, how long it waits before it is read.
        chunk: bytes that are sent at a time.
        retry_after: seconds in the header `Retry-After`, with a status.
        page: a page of HTML is answered in its place, with status 200, as networks do that want a login.
    """

    part: str
    method: str | None = "GET"
    times: int = 1
    status: int | None = None
    cut_after: int | None = None
    flip: int | None = None
    seconds_each: float = 0.0
    chunk: int = 1 << 16
    retry_after: int | None = None
    page: bool = False


Route = Callable[..., None]
"""Answers a request: the exchange, then the groups of the pattern that matched its path (without query), unescaped."""

ROUTES: list[tuple[str, re.Pattern[str], Route]] = []
"""Method, pattern of the path and what answers; the first that fits does. Modules add theirs when they are imported."""


def route(method: str, pattern: str) -> Callable[[Route], Route]:
    """Register what answers a method at the paths that a pattern matches in full, as they were sent.

    The name of a branch comes escaped, so that `[^/]+` is one name.
    """

    def register(answer: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), answer))
        return answer

    return register


@dataclass(repr=False)
class HubServer:
    """The Hub at `url`, with large files at another port (so that they are another site, as a CDN is)."""

    repositories: Repositories = field(default_factory=Repositories)
    log: RequestLog = field(default_factory=RequestLog)
    faults: list[Fault] = field(default_factory=list)
    closed: bool = False
    signatures: dict[str, Any] = field(default_factory=dict)
    """Signature in the address of a large file to what it stands for; see `signed`."""

    def __post_init__(self) -> None:
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def signed(self, name: str, what: Any) -> str:
        """Return an address on the site of large files, which needs no token: `/blob/NAME?signature=…`.

        Args:
            name: the name of the file, by which logs and faults know it.
            what: what the signature stands for; see `signatures`.
        """
        signature = secrets.token_hex(8)
        self.signatures[signature] = what
        return f"{self.cdn}/blob/{quote(name)}?signature={signature}"

    def close(self) -> None:
        """Stop listening; connections that are open are cut."""
        self.closed = True
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what goes wrong with a request, and count it."""
        for fault in self.faults:
            if fault.times > 0 and fault.part in path and fault.method in (None, method):
                fault.times -= 1
                return fault
        return None

    @contextlib.contextmanager
    def running(self) -> Iterator[HubServer]:
        """Close it in the end."""
        try:
            yield self
        finally:
            self.close()


class Exchange:
    """One request and its answer."""

    def __init__(self, handler: _Handler, hub: HubServer, method: str) -> None:
        self.handler = handler
        self.hub = hub
        self.method = method
        parts = urlsplit(handler.path)
        self.path = parts.path
        self.query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        header = handler.headers.get("Authorization", "")
        self.token: str | None = header.removeprefix("Bearer ") or None
        self.request = Request(method, handler.path, range=handler.headers.get("Range"), authorized=bool(header))
        hub.log.add(self.request)
        self.fault = hub.fault(method, handler.path)

    def body(self) -> bytes:
        """Return the body of the request."""
        return self.handler.rfile.read(int(self.handler.headers.get("Content-Length") or 0))

    def send(self, status: int, body: bytes = b"", *, headers: dict[str, str] | None = None) -> None:
        """Answer with a body; with HEAD, with its headers alone."""
        self.request.status = status
        self.handler.send_response(status)
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.method != "HEAD":
            self._write(body)

    def json(self, data: Any, status: int = 200, *, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send(status, json.dumps(data).encode(), headers={"Content-Type": "application/json", **(headers or {})})

    def error(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        """Answer with an error as the Hub words it: in headers and in the body."""
        coded = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.json({"error": message}, status, headers=coded)

    def file(self, file: File, name: str, headers: dict[str, str]) -> None:
        """Answer with a file or the part of it that was asked for."""
        self.request.file = name
        content = file.content
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        fault = self.fault
        if fault is not None and fault.flip is not None:
            content = content[: fault.flip] + bytes([content[fault.flip] ^ 1]) + content[fault.flip + 1 :]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.request.range or "")
        if asked is None:
            self.send(200, content, headers=headers)
            return
        begin, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if begin >= len(content):
            self.send(416, b"", headers={"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
        self.send(206, content[begin : end + 1], headers=headers)

    def _write(self, body: bytes) -> None:
        fault = self.fault or Fault("")
        most = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        for begin in range(0, most, fault.chunk):
            part = body[begin : min(begin + fault.chunk, most)]
            if self.request.file is not None:
                self.request.served += len(part)  # before it arrives, so that a test that has it finds it counted
            try:
                self.handler.wfile.write(part)
            except OSError:  # whoever asked has gone
                self.handler.close_connection = True
                return
            if fault.seconds_each:
                time.sleep(fault.seconds_each)
        if most < len(body):
            self.handler.wfile.flush()
            self.handler.close_connection = True
            self.handler.connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def _answer(self) -> None:
        if self.server_of.closed:
            self.close_connection = True
            return
        exchange = Exchange(self, self.server_of, self.command)
        fault = exchange.fault
        if fault is not None and fault.status is not None:
            exchange.body()
            after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            exchange.error(fault.status, "the Hub is not well", headers=after)
            return
        if fault is not None and fault.page:
            exchange.body()
            exchange.send(200, b"<html>log in first</html>", headers={"Content-Type": "text/html"})
            return
        for method, pattern, answer in ROUTES:
            found = pattern.fullmatch(exchange.path)
            if found and (method == self.command or (method == "GET" and self.command == "HEAD")):
                answer(exchange, *(group and unquote(group) for group in found.groups()))
                return
        exchange.body()
        exchange.error(404, f"the double knows no {self.command} {exchange.path}")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: the log is in memory."""


def hub_variables(hub: HubServer, home: Path, token: str | None = None) -> dict[str, str]:
    """Return the environment in which another process finds the double, with a cache of its own.

    Of a token, None means that nobody is logged in.
    """
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1",
                 "HF_HUB_DISABLE_XET": "1",
                 "TRANSFORMERS_OFFLINE": "0", "HF_HUB_CACHE": str(home / "hub"),
                 "HF_TOKEN_PATH": str(home / "token"), "NO_PROXY": "127.0.0.1"}  # fmt: skip
    return variables | ({} if token is None else {"HF_TOKEN": token})


def use_hub(hub: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, token: str | None = None) -> None:
    """Let this process find the double, until the test is over.

    huggingface_hub reads its environment when it is imported; from then on it looks at its module of constants.
    """
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _http

    for name, value in hub_variables(hub, home, token).items():
        monkeypatch.setenv(name, value)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the double takes large files by LFS alone
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)  # its functions, made of one object
    origin = _http._url_origin(hub.url)
    monkeypatch.setattr(_http, "_HUB_ORIGINS", frozenset({origin}))
