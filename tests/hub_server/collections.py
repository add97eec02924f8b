"""Collections of repositories."""

from __future__ import annotations

import json
from typing import Any

from hub_server.server import Exchange, route
from hub_server.writing import may_write


@route("POST", r"/api/collections")
def create(exchange: Exchange) -> None:
    """A collection; one of the same title is there already."""
    asked = json.loads(exchange.body())
    if not may_write(exchange, f"{asked['namespace']}/"):
        return
    title = asked["title"]
    slug = f"{asked['namespace']}/{'-'.join(title.lower().split())}-{'0' * 24}"
    found = exchange.hub.repositories.collections
    if slug in found:
        exchange.json({"error": "This collection already exists", "slug": slug}, 409)
        return
    found[slug] = {"slug": slug, "title": title, "owner": {"name": asked["namespace"]}, "items": [],
                   "description": asked.get("description"), "private": asked.get("private", False),
                   "lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0, "theme": "blue", "upvotes": 0}  # fmt: skip
    exchange.json(found[slug])


@route("GET", r"/api/collections/([\w.-]+/[\w.-]+)")
def read(exchange: Exchange, slug: str) -> None:
    """A collection."""
    found = exchange.hub.repositories.collections.get(slug)
    if found is None:
        exchange.error(404, "Collection not found")
    else:
        exchange.json(found)


@route("POST", r"/api/collections/([\w.-]+/[\w.-]+)/items")
def add(exchange: Exchange, slug: str) -> None:
    """A repository in a collection."""
    asked = json.loads(exchange.body())
    found: dict[str, Any] | None = exchange.hub.repositories.collections.get(slug)
    if found is None or not may_write(exchange, slug):
        return
    name = asked["item"]["id"]
    if any(one["id"] == name for one in found["items"]):
        exchange.error(409, "This item is in the collection already")
        return
    note = {"text": asked.get("note") or "", "html": ""}
    place = len(found["items"])
    found["items"].append(
        {"_id": f"{place:024x}", "id": name, "type": asked["item"]["type"], "position": place, "note": note}
    )
    exchange.json(found)
