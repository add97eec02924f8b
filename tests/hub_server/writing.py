"""The writing half: repositories, commits, branches and pull requests, and who may make them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import yaml

from hub_server.reading import _API as API
from hub_server.reading import KINDS, at, find, has_wrong_token, user_of
from hub_server.repositories import File, Repository, is_large
from hub_server.server import Exchange, route


def may_write(exchange: Exchange, name: str) -> bool:
    """Return whether the token may write in the namespace of a repository; else answer as the Hub does."""
    if has_wrong_token(exchange):
        return False
    repositories, user = exchange.hub.repositories, user_of(exchange)
    if user is None:
        exchange.error(401, "Invalid username or password.")
        return False
    role = repositories.roles.get(exchange.token or "", "write")
    space = name.partition("/")[0]
    if role == "read" or space not in {user, *repositories.orgs.get(exchange.token or "", set())}:
        exchange.error(403, f"You don't have the rights to create or change a model under the namespace {space!r}")
        return False
    return True


def writable(exchange: Exchange, name: str, kinds: str) -> Repository | None:
    """Return a repository that may be changed; else answer as the Hub does."""
    repository = find(exchange, name, KINDS[kinds])
    return repository if repository is not None and may_write(exchange, name) else None


@route("POST", r"/api/repos/create")
def create(exchange: Exchange) -> None:
    """A new repository with its first commit, which holds `.gitattributes`."""
    asked = json.loads(exchange.body())
    if has_wrong_token(exchange):
        return
    name = f"{asked.get('organization') or user_of(exchange)}/{asked['name']}"
    if not may_write(exchange, name):
        return
    url = f"{exchange.hub.url}/{name}"
    repositories, kind = exchange.hub.repositories, asked.get("type") or "model"
    if repositories.get(name, kind) is not None:
        exchange.json({"error": "You already created this model repo", "url": url}, 409)
        return
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    made = repositories.create(name, kind=kind, private=private, readers={exchange.token or ""})
    made.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, message="initial commit")
    exchange.json({"url": url, "name": name, "id": name})


@route("GET", API + r"/auth-check(/write)?")
def auth_check(exchange: Exchange, kinds: str, name: str, write: str | None) -> None:
    """Whether the token may read, or write, a repository."""
    repository = writable(exchange, name, kinds) if write else find(exchange, name, KINDS[kinds])
    if repository is not None:
        exchange.json({})


@route("POST", r"/api/validate-yaml")
def validate_yaml(exchange: Exchange) -> None:
    """What is wrong with the metadata of a card; a part of the Hub's own rules."""
    errors = metadata_errors(json.loads(exchange.body())["content"])
    exchange.json({"errors": [{"message": one} for one in errors], "warnings": []}, 400 if errors else 200)


def metadata_errors(card: str) -> list[str]:
    """Return what the Hub would not take of the metadata of a card."""
    found = re.match(r"---\n(.*?)\n---(\n|$)", card, re.DOTALL)
    if found is None:
        return ["there is no metadata"]
    data = yaml.safe_load(found[1])
    if not isinstance(data, dict):
        return ["the metadata is no mapping"]
    errors = []
    for key, pattern in {"base_model": r"[\w.-]+/[\w.-]+|[\w.-]+", "datasets": r"[\w.-]+(/[\w.-]+)?",
                         "language": r"[a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code", "tags": r"(?s).+",
                         "license": r"[a-z0-9.+-]+", "license_name": r"[a-z0-9.-]+",
                         "license_link": r"LICENSE(\.md)?|https?://\S+", "pipeline_tag": r"[a-z0-9-]+",
                         "library_name": r"[a-z0-9_-]+", "base_model_relation": r"merge|finetune|adapter|quantized",
                         }.items():  # fmt: skip
        values = data.get(key, [])
        for one in values if isinstance(values, list) else [values]:
            if not isinstance(one, str) or not re.fullmatch(pattern, one):
                errors.append(f'"{key}" with value "{one}" is not valid')
    for index in data.get("model-index", []):
        for one in index["results"]:
            if not {"type"} <= one["task"].keys() or not {"type", "name"} <= one["dataset"].keys():
                errors.append('"model-index" lacks a task or data set')
            if not all({"type", "value"} <= metric.keys() for metric in one["metrics"]):
                errors.append('"model-index" lacks a metric')
    return errors


@route("POST", API + r"/preupload/([^/]+)")
def preupload(exchange: Exchange, kinds: str, name: str, revision: str) -> None:
    """Which files are stored as large ones, and what the branch has under their names."""
    asked = json.loads(exchange.body())["files"]
    repository = writable(exchange, name, kinds) if "create_pr" not in exchange.query else find(exchange, name, "model")
    commit = repository and at(exchange, repository, revision)
    if repository is None or commit is None:
        return
    files = repository.commits[commit]
    modes = [
        {"path": one["path"], "uploadMode": "lfs" if _is_large(one) else "regular", "shouldIgnore": False,
         "oid": _oid(files.get(one["path"]))}
        for one in asked
    ]  # fmt: skip
    exchange.json({"files": modes, "commitOid": commit})


def _is_large(asked: dict[str, Any]) -> bool:
    return (
        is_large(asked["path"], b"") or asked["size"] > 10 * 1024 * 1024 or b"\0" in base64.b64decode(asked["sample"])
    )


def _oid(file: File | None) -> str | None:
    return None if file is None else file.etag


@route("POST", API + r"/commit/([^/]+)")
def commit(exchange: Exchange, kinds: str, name: str, revision: str) -> None:
    """A commit, or a pull request with one: a header and one operation a line."""
    lines = [json.loads(line) for line in exchange.body().splitlines() if line.strip()]
    pull = "create_pr" in exchange.query
    repository = find(exchange, name, KINDS[kinds]) if pull else writable(exchange, name, kinds)
    parent = repository and at(exchange, repository, revision)
    if repository is None or parent is None:
        return
    header = next(one["value"] for one in lines if one["key"] == "header")
    if header.get("parentCommit") not in (None, parent):
        exchange.error(412, "A commit has happened since. Please refresh and try again.")
        return
    changes: dict[str, File | None] = {}
    for one in lines:
        value = one["value"]
        if one["key"] == "file":
            changes[value["path"]] = File(base64.b64decode(value["content"]), large=False)
        elif one["key"] == "lfsFile":
            stored = exchange.hub.repositories.stored.get(value["oid"])
            if stored is None:
                exchange.error(400, f"the large file {value['oid']} was not uploaded")
                return
            changes[value["path"]] = File(stored, large=True)
        elif one["key"] == "deletedFile":
            changes[value["path"]] = None
    branch = revision
    if pull:
        number = 1 + sum(one.startswith("refs/pr/") for one in repository.branches)
        branch = f"refs/pr/{number}"
        repository.branches[branch] = parent
    made = repository.commit(changes, branch=branch, message=header["summary"])
    if "README.md" in changes and branch == "main":
        front = re.match(r"---\n(.*?)\n---\n", (changes["README.md"] or File(b"", False)).content.decode(), re.DOTALL)
        repository.card = yaml.safe_load(front[1]) if front else {}
    answer = {
        "success": True,
        "commitOid": made,
        "commitUrl": f"{exchange.hub.url}/{name}/commit/{made}",
        "hookOutput": "",
    }
    if pull:
        answer["pullRequestUrl"] = f"{exchange.hub.url}/{name}/discussions/{branch.rpartition('/')[2]}"
    exchange.json(answer)


@route("POST", API + r"/branch/([^/]+)")
def branch(exchange: Exchange, kinds: str, name: str, branch: str) -> None:
    """A branch at a commit, by default that of main."""
    asked = json.loads(exchange.body() or b"{}")
    repository = writable(exchange, name, kinds)
    commit = repository and at(exchange, repository, asked.get("startingPoint", "main"))
    if repository is None or commit is None:
        return
    if branch in repository.branches:
        exchange.error(409, "Reference already exists")
        return
    repository.branches[branch] = commit
    exchange.json({})
