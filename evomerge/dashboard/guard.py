"""Who is answered: requests that only read, under an address of this machine, with the token where there is one.

A page of anybody's that is open in the same browser must get nothing from here. It cannot read answers without our
leave, but a name of its own may lead to this machine's address ("DNS rebinding"), so the name that was asked for is
checked, on loopback, too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from starlette.responses import HTMLResponse, PlainTextResponse, Response

from evomerge.report.page import render

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = "token"
"""The name in an address under which the token comes, once."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Charts are drawn without `eval` (Vega's interpreter), but set the style of what they draw."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """The outermost part of the server: passes on what may be answered, and adds the headers.

    Args:
        app: what answers.
        names: the names under which this machine may be asked, beside its addresses.
        token: what a reader must know; None: nothing.
        cookie: the name of the cookie that says that a reader knows it.
    """

    def __init__(self, app: App, *, names: frozenset[str], token: str | None, cookie: str) -> None:
        self._app = app
        self._names = names
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                has = {name.lower() for name, _ in message["headers"]}
                added = {"Cache-Control": "no-store", **HEADERS}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in added.items() if k.lower().encode() not in has),
                ]
            await send(message)

        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("this page is for reading: only GET and HEAD\n", 405, {"Allow": "GET, HEAD"})
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not is_own(hosts[0].decode("latin-1"), self._names):
            return PlainTextResponse(
                "this name is not one of this machine's: use the address that `evomerge dashboard` printed\n", 421
            )
        return None if self._token is None else self._unknown(scope, self._token)

    def _unknown(self, scope: Scope, token: str) -> Response | None:
        """Return what a reader gets who has not shown the token yet, or does so now; None: it was shown before."""
        query = scope["query_string"].decode("latin-1")
        shown = parse_qs(query).get(TOKEN)
        if shown:
            if not _equal(shown[-1], token):
                return _sorry()
            rest = urlencode([(key, value) for key, value in parse_qsl(query) if key != TOKEN])
            # A page that goes on by itself, for browsers send a strict cookie only with what began at its own site.
            answer = HTMLResponse(render("enter.html", path="?" + rest))
            answer.set_cookie(self._cookie, _mark(token), httponly=True, samesite="strict", path="/")
            return answer
        return None if any(_equal(one, _mark(token)) for one in self._cookies(scope)) else _sorry()

    def _cookies(self, scope: Scope) -> list[str]:
        found = []
        for name, value in scope["headers"]:
            if name == b"cookie":
                try:
                    jar = SimpleCookie(value.decode("latin-1"))
                except CookieError:
                    continue
                found += [jar[self._cookie].value] if self._cookie in jar else []
        return found


def is_own(host: str, names: frozenset[str]) -> bool:
    """Return whether a Host header names this machine: by an address, or by one of its names; any port will do.

    An address cannot be made to lead elsewhere, and a forwarded port has another number.
    """
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, ""
    if port and not port.isdigit():
        return False
    if name.casefold().rstrip(".") in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _mark(token: str) -> str:
    return hashlib.sha256(f"evomerge dashboard {token}".encode()).hexdigest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _sorry() -> Response:
    return PlainTextResponse(
        "open the address that `evomerge dashboard` printed, with its token; the browser keeps it from then on\n", 401
    )
