"""The JSON schema with which an editor completes and checks the YAML file of a search.

It is made from the declaration; `configs/search.schema.json` is a copy, which `python -m evomerge.config.json_schema`
writes. A YAML file needs one comment: `# yaml-language-server: $schema=search.schema.json`.

A user's file is partial and goes through Hydra: no key is required, every value may be null or an interpolation
(`${…}`), and `defaults` and `hydra` stand beside our own keys.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.config.names import REGISTRIES
from evomerge.config.schema import SearchKeys, TaskKeys

INTERPOLATION = {"type": "string", "pattern": r"\$\{.+\}"}
NULL = {"type": "null"}
OWN = {"type": "string", "pattern": ":"}
"""A pattern for names of something in a user's file ("my_file.py:name"), or of nevergrad's optimizers."""


def editor_schema(*, installed: bool = False) -> dict[str, Any]:
    """Return the schema.

    Args:
        installed: whether to accept also the names that installed packages add, which differ between machines.
    """
    schema = SearchKeys.model_json_schema()
    kinds = {name: _section(kind, installed) for name, kind in schema.pop("$defs").items()}
    kinds[TaskKeys.__name__]["anyOf"][-1]["required"] = ["name", "metric"]
    top = _section(schema, installed)
    top["properties"] |= {
        "defaults": {"type": "array", "description": "which files are composed: [search, _self_] comes first"},
        "hydra": {"type": "object", "description": "Hydra's own settings"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "evomerge search",
        **top,
        "$defs": kinds,
    }


def _section(kind: Mapping[str, Any], installed: bool) -> dict[str, Any]:
    """Return the loose schema of a section; a section that may be a word accepts what the word's key accepts."""
    inner = {name: _loose(value, installed) for name, value in kind.get("properties", {}).items()}
    made = {
        "type": "object",
        "properties": inner,
        "additionalProperties": kind.get("additionalProperties", False),
    }
    if kind.get("title") == SearchKeys.__name__:
        return made
    word = kind.get("x-word")
    return {"anyOf": [*([inner[word]] if word else [NULL, INTERPOLATION]), made]}


def _loose(value: Mapping[str, Any], installed: bool) -> dict[str, Any]:
    """Return a schema that accepts null and interpolations too, without the extensions that only we read."""
    if "allOf" in value:  # older versions of pydantic write a reference with a description like this
        value = {**value["allOf"][0], **{name: one for name, one in value.items() if name != "allOf"}}
    said = {name: one for name, one in value.items() if name in ("description", "default")}
    bare = {
        name: one for name, one in value.items() if name not in (*said, "title", "$ref") and not name.startswith("x-")
    }
    options = [{"$ref": value["$ref"]}] if "$ref" in value else list(bare.pop("anyOf", [])) or [bare]
    options = [_plain(one, installed, value) for one in options if one != NULL]
    return {**said, "anyOf": [*options, *_names(value, installed), NULL, INTERPOLATION]}


def _plain(option: Mapping[str, Any], installed: bool, value: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: one for name, one in option.items() if not name.startswith("x-") and name != "title"}
    if found.get("additionalProperties") is True:  # the default, which some versions of pydantic write out
        del found["additionalProperties"]
    registry = option.get("x-registry") or value.get("x-registry")
    if registry is not None:
        made = REGISTRIES[registry]()
        return {"type": "string", "enum": list(made.names if installed else made.built_in)}
    return found


def _names(value: Mapping[str, Any], installed: bool) -> list[dict[str, Any]]:
    also = [{"type": "string", "enum": value["x-also"]}] if "x-also" in value else []
    return [*value.get("x-short", ()), *also, *([OWN] if "x-registry" in value else [])]


def schema_text(*, installed: bool = False) -> str:
    """Return the schema as the text of its file."""
    return json.dumps(editor_schema(installed=installed), indent=1, ensure_ascii=False) + "\n"


def main(words: Sequence[str]) -> int:
    """Write the schema to a file, by default `configs/search.schema.json` of the checkout; return the exit status."""
    default = Path(__file__).resolve().parents[2] / "configs" / "search.schema.json"
    path = Path(words[0]) if words else default
    path.write_text(schema_text(), encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
