"""Who is answered, and with which headers."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from evomerge.dashboard.guard import is_own
from evomerge.dashboard.server import PORT, listen
from evomerge.errors import ConfigError, RunError

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8420", True),
        ("127.0.0.1", True),
        ("localhost:9999", True),
        ("LocalHost", True),
        ("[::1]:8420", True),
        ("[::1]", True),
        ("192.168.0.7:80", True),  # an address leads nowhere else
        ("box", True),
        ("evil.example", False),
        ("evil.example:8420", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("localhost:80:80", False),
        ("localhost:x", False),
        ("", False),
    ],
)
def test_a_name_that_leads_here_but_is_not_ours_is_refused(host: str, own: bool) -> None:
    assert is_own(host, frozenset({"localhost", "box"})) is own


def test_a_page_of_another_name_gets_nothing_on_loopback_either(serve, tmp_path: Path) -> None:
    ask = serve(tmp_path)
    assert ask("/").status == 200
    refused = ask("/", host=f"evil.example:{ask.port}")
    assert refused.status == 421
    assert str(tmp_path) not in refused.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_is_answered(serve, tmp_path: Path, method: str) -> None:
    answer = serve(tmp_path)("/", method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_head_is_answered_without_a_body(serve, tmp_path: Path) -> None:
    answer = serve(tmp_path)("/", "HEAD")
    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize("path", ["/", "/run/none", "/none", "/compare", "/rows", "/static/none.js"])
def test_every_answer_has_the_headers(serve, tmp_path: Path, path: str) -> None:
    headers = serve(tmp_path)(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy and "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers and "access-control-allow-origin" not in headers


def test_scripts_may_be_kept_under_a_name_that_differs_with_their_content(serve, tmp_path: Path) -> None:
    ask = serve(tmp_path)
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', ask("/").text)
    assert len(names) == 4
    for name in names:
        answer = ask(name)
        assert answer.status == 200 and "immutable" in answer.headers["cache-control"]
        assert re.search(r"-[0-9a-f]{16}\.(js|css)$", name)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_another_address_than_loopback_needs_a_token(tmp_path: Path, host: str) -> None:
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with pytest.raises(ConfigError, match=r"needs a token: add --token auto"):
        listen(tmp_path, host=host, port=0)
    listening = listen(tmp_path, host=host, port=0, token="auto")
    listening.socket.close()
    assert re.fullmatch(r"http://\S+:\d+/\?token=[\w-]{40,}", listening.url)


@pytest.mark.parametrize("token", ["", "short", "with spaces in its words", "ümlaute-sind-schwierig"])
def test_a_token_that_is_guessed_or_cannot_be_written_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ConfigError, match="at least 16 letters, digits or"):
        listen(tmp_path, port=0, token=token)


def test_an_address_of_another_machine_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot listen at 192\.0\.2\.1"):
        listen(tmp_path, host="192.0.2.1", port=0, token=TOKEN)
    with pytest.raises(ConfigError, match="is no address of this machine"):
        listen(tmp_path, host="no such host", port=0)


def test_the_token_comes_once_in_the_address_then_in_a_cookie(serve, tmp_path: Path, caplog, capfd) -> None:
    ask = serve(tmp_path, token=TOKEN)
    assert ask.listening.url == f"http://127.0.0.1:{ask.port}/?token={TOKEN}"
    for path in ("/", "/rows", "/run/none", "/?token=wrong", "/?token=", "/static/none.js"):
        answer = ask(path)
        assert answer.status == 401 and "its token" in answer.text and "set-cookie" not in answer.headers
    entered = ask(f"/?q=a%20b&token={TOKEN}")
    assert entered.status == 200 and TOKEN not in entered.text
    assert 'url=?q=a+b"' in entered.text  # goes on without the token
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    pair = cookie.split(";")[0]
    assert pair.startswith(f"evomerge_{ask.port}=")  # cookies do not know ports
    assert ask("/", Cookie=pair).status == 200
    assert ask("/", Cookie=f"other=1; {pair}").status == 200
    assert ask("/", Cookie=pair[:-1] + ("0" if pair[-1] != "0" else "1")).status == 401
    assert ask("/", Cookie="=;;=broken").status == 401
    assert ask(f"/?token={TOKEN}", host="evil.example").status == 421
    logged = caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in logged


def test_a_port_in_use_gives_way_to_the_next_unless_it_was_asked_for(tmp_path: Path) -> None:
    first = listen(tmp_path)
    number = first.socket.getsockname()[1]
    try:
        second = listen(tmp_path)
        assert PORT <= number < second.socket.getsockname()[1]
        second.socket.close()
        with pytest.raises(RunError, match=rf"port {number} is in use, perhaps by another dashboard: choose"):
            listen(tmp_path, port=number)
    finally:
        first.socket.close()


def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="name the one in which your runs are"):
        listen(tmp_path / "none", port=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_works_on_a_machine_without_ipv6(tmp_path: Path, host: str, monkeypatch) -> None:
    real = socket.socket

    def only_four(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr("evomerge.dashboard.server.socket.socket", only_four)
    listening = listen(tmp_path, host=host, port=0)
    assert listening.socket.family == socket.AF_INET
    listening.socket.close()
