"""What looks like a secret: tokens of known services, private keys, passwords in addresses, values of keys so named.

A configuration whose secrets are references to the environment holds none (`references`). This module finds those that
were written out, before something is published, and keeps the values of references out of messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SHORTEST = 6
"""Values of fewer characters are no secret of anybody's, and would be found in any text."""

# The name of each kind and its form. Forms ask for what names of models, hashes and words of prose do not have.
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(form))
    for kind, form in {
        "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
        "a Hugging Face token": r"\b(?:hf|api_org)_"
        r"(?:[A-Za-z0-9]{30,}|[A-Z0-9]{10,}|(?=(?:[a-zA-Z]*\d){4})[A-Za-z0-9]{16,})\b",
        "an API key": r"\bsk-(?:[a-z]+[0-9]*-)*(?=[A-Za-z_-]*[A-Z0-9])[A-Za-z0-9_]{16,}",
        "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,})",
        "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{16,}",
        "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[0-9]-[A-Za-z0-9-]{10,}",
        "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        "an access token": r"\b(?:gsk|r8|dckr_pat|tvly|nvapi)[_-](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",
        "a SendGrid key": r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
        "an Azure key": r"\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{20,}={0,2}",
        "a Google API key": r"\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{20,}",
        "a token of a package index": r"\bpypi-AgE[A-Za-z0-9_-]{20,}|\bnpm_[A-Za-z0-9]{30,}",
        "a JSON web token": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        "a password in an address": r"\b(?!docker|oci)[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@'\"<>{}$]*:(?!\$\{)[^\s/@'\"<>]+@",
        "a bearer token": r"(?i:\bbearer\s+)(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{20,}",
        "a signature in an address": r"[?&](?:X-Amz-Signature|X-Goog-Signature|sig)=[A-Za-z0-9%/+=-]{20,}",
    }.items()
)

# Names of environment variables and of keys. `eos_token`, `answer_key` and the like are no secrets.
_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY(?:_ID)?|SECRET_KEY|PRIVATE_KEY|KEY)"
    r"|(?i:(?:.*[_-])?(?:password|passwd|passphrase|client[_-]?secret|secret|secret[_-]?key|api[_-]?key|apikey"
    r"|private[_-]?key|access[_-]?key|access[_-]?token|auth[_-]?token|bearer[_-]?token|hf[_-]?token|api[_-]?token"
    r"|credentials?|authorization))"
)
_ASSIGNED = re.compile(
    r"""(?:^|[\s{,;&?"'])(?P<name>[A-Za-z_][\w-]*)["']?\s*[:=]\s*(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,;}\]"'#]+)"""
)
_PLACEHOLDER = re.compile(
    r"\$\{[^}]*\}|\$[A-Za-z_]\w*|<[^>]*>|\*+|x+|\.+|null|none|true|false|~|your[_-].*|change[_-]?me|example|redacted",
    re.IGNORECASE,
)
_VARIABLES = re.compile(r"(?:^|\.)env_vars\.[^.]+$")

_values: dict[str, str] = {}  # what this process has resolved, by value


@dataclass(frozen=True)
class Found:
    """A secret that was found.

    Attributes:
        line: the number of its line in the text, from 1; 0 in data.
        place: the key of its value; "" if none was seen.
        what: what it is, in words.
    """

    line: int
    place: str
    what: str


def looks_secret(text: str) -> bool:
    """Return whether a text holds what looks like a secret, whatever its name."""
    return _kind(text) is not None


def is_secret_place(place: str) -> bool:
    """Return whether the value of a key, or of an environment variable, is a secret by its name."""
    last = re.split(r"[.\[\]]", place.rstrip("]"))[-1]
    return _SECRET_NAME.fullmatch(last) is not None or _VARIABLES.search(place) is not None


def secrets_in_data(data: Any, place: str = "") -> Iterator[Found]:
    """Yield the secrets that stand in plain data, without their values."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from secrets_in_data(value, f"{place}.{key}".lstrip("."))
    elif isinstance(data, (list, tuple)):
        for i, value in enumerate(data):
            yield from secrets_in_data(value, f"{place}[{i}]")
    elif isinstance(data, str):
        kind = _kind(data)
        last = place.rpartition(".")[2]
        if kind is None and _SECRET_NAME.fullmatch(last) and _is_value(data):
            kind = f"the value of {last}"
        if kind is not None:
            yield Found(0, place, kind)


def secrets_in_text(text: str, *, by_name: bool = True) -> Iterator[Found]:
    """Yield the secrets that stand in the text of a file, one a line at most, without their values.

    Args:
        text: the text.
        by_name: whether values count whose names are those of secrets, too; not so in code, which hands them on.
    """
    for number, line in enumerate(text.splitlines(), 1):
        kind = _kind(line)
        if kind is not None:
            yield Found(number, "", kind)
            continue
        for found in _ASSIGNED.finditer(line) if by_name else ():
            if _SECRET_NAME.fullmatch(found["name"]) and _is_value(found["value"].strip("\"'")):
                yield Found(number, found["name"], f"the value of {found['name']}")
                break


def remember(value: str, reference: str) -> None:
    """Note the value of a reference, so that `hide` knows it."""
    if len(value) >= _SHORTEST:
        _values[value] = reference


def hide(text: str) -> str:
    """Return text in which the values that were remembered are their references again."""
    for value in sorted(_values, key=len, reverse=True):
        text = text.replace(value, _values[value])
    return text


def _kind(text: str) -> str | None:
    return next((kind for kind, form in _FORMS if form.search(text)), None)


def _is_value(text: str) -> bool:
    """Return whether a text may be a secret, rather than a reference to one, a placeholder, a word or a number."""
    return (
        len(text) >= _SHORTEST
        and _PLACEHOLDER.fullmatch(text) is None
        and "${" not in text
        and not any(character.isspace() for character in text)
        and not re.fullmatch(r"[-+]?[\d.]+(?:e[-+]?\d+)?", text)
    )
