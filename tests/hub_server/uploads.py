"""Large files on their way in: the LFS batch, uploads to the other site, whole or in parts, and their verification."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from hub_server.reading import find
from hub_server.server import Exchange, route
from hub_server.writing import may_write


class Upload:
    """A large file that is on its way."""

    def __init__(self, oid: str, size: int) -> None:
        self.oid, self.size = oid, size
        self.parts: dict[int, bytes] = {}


class Part:
    """One part of an upload; its place is the address's."""

    def __init__(self, upload: Upload, number: int) -> None:
        self.upload, self.number = upload, number


@route("POST", r"/((?:[\w.-]+/)?[\w.-]+)\.git/info/lfs/objects/batch")
def batch(exchange: Exchange, name: str) -> None:
    """Where each large file goes; nothing for one that is there."""
    asked = json.loads(exchange.body())
    repository = find(exchange, name, "model")
    if repository is None or not may_write(exchange, name):
        return
    hub = exchange.hub
    quota = hub.repositories.quota
    if quota is not None and sum(map(len, hub.repositories.stored.values())) + sum(
        one["size"] for one in asked["objects"] if one["oid"] not in hub.repositories.stored
    ) > quota:  # fmt: skip
        exchange.error(403, "Private repository storage limit reached, please upgrade your plan to increase it.")
        return
    exchange.json({"transfer": "multipart", "objects": [_object(exchange, name, one) for one in asked["objects"]]})


def _object(exchange: Exchange, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    hub = exchange.hub
    oid, size = asked["oid"], asked["size"]
    if oid in hub.repositories.stored:
        return {"oid": oid, "size": size}
    upload = Upload(oid, size)
    verify = {"href": f"{hub.url}/{name}.git/info/lfs/objects/verify"}
    most = hub.repositories.part_size
    if size <= most:
        return {"oid": oid, "size": size,
                "actions": {"upload": {"href": hub.signed(oid, Part(upload, 1))}, "verify": verify}}  # fmt: skip
    numbers = range(1, -(-size // most) + 1)
    header = {"chunk_size": str(most), **{str(n): hub.signed(oid, Part(upload, n)) for n in numbers}}
    signature = hub.signed(oid, upload).rpartition("=")[2]
    href = f"{hub.url}/api/complete_multipart?signature={signature}"
    return {"oid": oid, "size": size, "actions": {"upload": {"href": href, "header": header}, "verify": verify}}


@route("PUT", r"/blob/(.+)")
def put(exchange: Exchange, name: str) -> None:
    """A large file or a part of one, for whoever has its address; half of one is nothing."""
    part = exchange.hub.signatures.get(exchange.query.get("signature", ""))
    if exchange.fault is not None:
        time.sleep(exchange.fault.seconds_each)
    wanted = int(exchange.handler.headers.get("Content-Length") or 0)
    content = exchange.handler.rfile.read(wanted)
    if exchange.token is not None or not isinstance(part, Part) or len(content) < wanted:
        exchange.error(400, "only a signed address, no other authorization, and the whole of it")
        return
    exchange.request.received = len(content)
    part.upload.parts[part.number] = content
    if len(content) == part.upload.size:
        _store(exchange, part.upload)
    exchange.send(200, headers={"ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'})


@route("POST", r"/api/complete_multipart")
def complete(exchange: Exchange) -> None:
    """The parts of a large file are one."""
    asked = json.loads(exchange.body())
    upload = exchange.hub.signatures.get(exchange.query.get("signature", ""))
    numbers = [one["partNumber"] for one in asked["parts"]]
    if not isinstance(upload, Upload) or numbers != sorted(upload.parts):
        exchange.error(400, "parts are missing")
        return
    _store(exchange, upload)
    exchange.json({})


@route("POST", r"/((?:[\w.-]+/)?[\w.-]+)\.git/info/lfs/objects/verify")
def verify(exchange: Exchange, name: str) -> None:
    """Whether a large file arrived."""
    asked = json.loads(exchange.body())
    if find(exchange, name, "model") is None:
        return
    stored = exchange.hub.repositories.stored.get(asked["oid"])
    if stored is None or len(stored) != asked["size"]:
        exchange.error(404, "no such object")
        return
    exchange.json({})


def _store(exchange: Exchange, upload: Upload) -> None:
    content = b"".join(upload.parts[number] for number in sorted(upload.parts))
    if hashlib.sha256(content).hexdigest() == upload.oid:
        exchange.hub.repositories.stored[upload.oid] = content
