"""The reading half: what a repository is and holds, its files, and who may have them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from hub_server.repositories import File, Repository
from hub_server.server import Exchange, route

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_API = r"/api/(models|datasets|spaces)/((?:[\w.-]+/)?[\w.-]+)"
_PAGE = 50


def user_of(exchange: Exchange) -> str | None:
    """Return who asks, or None where nobody is logged in."""
    return exchange.hub.repositories.tokens.get(exchange.token or "")


def has_wrong_token(exchange: Exchange) -> bool:
    """Answer a token that nobody has; return whether it was one."""
    if exchange.token is None or user_of(exchange) is not None:
        return False
    exchange.error(401, "Invalid credentials in Authorization header")
    return True


def find(exchange: Exchange, name: str, kind: str) -> Repository | None:
    """Return the repository that is asked for, where it may be seen; else answer as the Hub does."""
    if has_wrong_token(exchange):
        return None
    repositories = exchange.hub.repositories
    if name in repositories.moved:
        place = exchange.handler.path.replace(f"/{name}", f"/{repositories.moved[name]}", 1)
        exchange.send(307, headers={"Location": place})
        return None
    found = repositories.get(name, kind)
    if found is None or not found.seen_by(exchange.token):
        if user_of(exchange) is None:  # the Hub does not say which of the two it is
            exchange.error(401, "Invalid username or password.", "RepoNotFound")
        else:
            exchange.error(404, "Repository not found", "RepoNotFound")
        return None
    return found


def at(exchange: Exchange, repository: Repository, revision: str) -> str | None:
    """Return the commit of a revision; else answer as the Hub does."""
    commit = repository.resolve(revision)
    if commit is None:
        exchange.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


@route("GET", r"/api/whoami-v2")
def whoami(exchange: Exchange) -> None:
    """Who a token stands for."""
    name = user_of(exchange)
    if name is None:
        exchange.error(401, "Invalid username or password.")
        return
    orgs = sorted(exchange.hub.repositories.orgs.get(exchange.token or "", set()))
    role = exchange.hub.repositories.roles.get(exchange.token or "", "write")
    exchange.json({"type": "user", "id": name, "name": name, "fullname": name, "isPro": False,
                   "orgs": [{"type": "org", "id": one, "name": one, "roleInOrg": "admin"} for one in orgs],
                   "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": role}}})  # fmt: skip


@route("GET", _API + r"/refs")
def refs(exchange: Exchange, kinds: str, name: str) -> None:
    """Branches and tags."""
    repository = find(exchange, name, KINDS[kinds])
    if repository is None:
        return
    exchange.json({
        "branches": [_ref(name, "heads", commit) for name, commit in sorted(repository.branches.items())],
        "tags": [_ref(name, "tags", commit) for name, commit in sorted(repository.tags.items())],
        "converts": [],
        "pullRequests": [],
    })  # fmt: skip


def _ref(name: str, kind: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


@route("GET", _API + r"/commits/([^/]+)")
def commits(exchange: Exchange, kinds: str, name: str, revision: str) -> None:
    """The commits up to one, the latest first."""
    repository = find(exchange, name, KINDS[kinds])
    commit = repository and at(exchange, repository, revision)
    if repository is None or commit is None:
        return
    listed = []
    while commit:
        listed.append({"id": commit, "title": repository.messages[commit], "message": "", "authors": [],
                       "date": "2026-01-01T00:00:00.000Z"})  # fmt: skip
        commit = repository.parents[commit]
    exchange.json(listed)


@route("GET", _API + r"/tree/([^/]+)(?:/(.*))?")
def tree(exchange: Exchange, kinds: str, name: str, revision: str, folder: str | None) -> None:
    """The files of a commit, page by page; folders alone where it is not recursive."""
    repository = find(exchange, name, KINDS[kinds])
    commit = repository and at(exchange, repository, revision)
    if repository is None or commit is None:
        return
    files = repository.commits[commit]
    inside = f"{folder}/" if folder else ""
    entries: list[dict[str, Any]] = []
    for path in sorted(path for path in files if path.startswith(inside)):
        rest = path.removeprefix(inside)
        if "/" in rest:
            below = inside + rest.partition("/")[0]
            if not any(one["path"] == below for one in entries):
                entries.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": below})
        if "/" not in rest or exchange.query.get("recursive", "").lower() in ("true", "1"):
            entries.append(tree_entry(path, files[path]))
    begin = int(exchange.query.get("cursor", 0))
    headers = {}
    if begin + _PAGE < len(entries):
        query = "&".join(f"{key}={value}" for key, value in {**exchange.query, "cursor": begin + _PAGE}.items())
        headers["Link"] = f'<{exchange.hub.url}{exchange.path}?{query}>; rel="next"'
    exchange.json(entries[begin : begin + _PAGE], headers=headers)


def tree_entry(name: str, file: File) -> dict[str, Any]:
    """Return a file as the Hub's listings describe it."""
    entry: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": name}
    if file.large:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
    return entry


@route("POST", _API + r"/paths-info/([^/]+)")
def paths_info(exchange: Exchange, kinds: str, name: str, revision: str) -> None:
    """Some files of a commit, by their names."""
    body = exchange.body()
    repository = find(exchange, name, KINDS[kinds])
    commit = repository and at(exchange, repository, revision)
    if repository is None or commit is None:
        return
    if exchange.handler.headers.get("Content-Type", "").startswith("application/json"):
        names = json.loads(body)["paths"]
    else:
        names = parse_qs(body.decode())["paths"]
    files = repository.commits[commit]
    exchange.json([tree_entry(one, files[one]) for one in names if one in files])


@route("GET", _API + r"(?:/revision/([^/]+))?")
def info(exchange: Exchange, kinds: str, name: str, revision: str | None) -> None:
    """What a repository is, at a revision."""
    repository = find(exchange, name, KINDS[kinds])
    commit = repository and at(exchange, repository, revision or "main")
    if repository is None or commit is None:
        return
    siblings = []
    for path, file in sorted(repository.commits[commit].items()):
        one: dict[str, Any] = {"rfilename": path}
        if exchange.query.get("blobs", "").lower() in ("true", "1"):
            one |= {"size": file.size, "blobId": file.blob_id}
            if file.large:
                one["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        siblings.append(one)
    exchange.json({
        "_id": repository.name, "id": repository.name, "modelId": repository.name,
        "author": repository.name.partition("/")[0], "sha": commit, "private": repository.private,
        "gated": "auto" if repository.gated else False, "disabled": False, "downloads": 0, "likes": 0,
        "tags": [f"license:{repository.card['license']}"] if "license" in repository.card else [],
        "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
        "cardData": repository.card, "siblings": siblings,
    })  # fmt: skip


@route("GET", r"/(?:(datasets|spaces)/)?((?:[\w.-]+/)?[\w.-]+)/resolve/([^/]+)/(.+)")
def resolve(exchange: Exchange, kinds: str | None, name: str, revision: str, path: str) -> None:
    """A file; a large one is a redirection to another site, where an address with a signature gives it."""
    kind = KINDS[kinds] if kinds else "model"
    repository = find(exchange, name, kind)
    commit = repository and at(exchange, repository, revision)
    if repository is None or commit is None:
        return
    if not repository.readable_by(exchange.token):
        which = f"Access to {kind} {repository.name} is restricted"
        if user_of(exchange) is None:
            exchange.error(401, f"{which}. You must be authenticated to access it. Please log in.", "GatedRepo")
        else:
            exchange.error(403, f"{which} and you are not in the authorized list.", "GatedRepo")
        return
    file = repository.commits[commit].get(path)
    if file is None:
        exchange.error(404, "Entry not found", "EntryNotFound", headers={"X-Repo-Commit": commit})
        return
    headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"',
               "Content-Disposition": f'inline; filename="{path.rpartition("/")[2]}";'}  # fmt: skip
    if not file.large:
        exchange.file(file, path, headers)
        return
    headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size), "ETag": f'"{commit[:32]}"',
                "Location": exchange.hub.signed(path, file)}  # fmt: skip
    exchange.send(302, headers=headers)


@route("GET", r"/blob/(.+)")
def blob(exchange: Exchange, name: str) -> None:
    """A large file, for whoever has its address; a token has no place here."""
    file = exchange.hub.signatures.get(exchange.query.get("signature", ""))
    if exchange.token is not None or not isinstance(file, File):
        exchange.error(400 if file else 403, "only a signed address, and no other authorization")
        return
    exchange.file(file, name, {"ETag": f'"{file.etag}"'})
