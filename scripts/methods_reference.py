"""Write docs/methods_reference.md from the declarations of the merge methods.

python scripts/methods_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from evomerge.merge.methods.registry import METHODS
from evomerge.system.text import value_word
from evomerge.workflows.methods import methods

PAGE = Path(__file__).parents[1] / "docs" / "methods_reference.md"


def page() -> str:
    """Return the text of the page; methods of other installed packages are not in it."""
    known = [one for one in methods() if one["name"] in METHODS.built_in]
    lines = [
        "# All merge methods",
        "",
        "Made by `python scripts/methods_reference.py` from the methods' declarations; `evomerge methods NAME` prints",
        "the same. θ0 is the base, θ_i a parent, τ_i = θ_i − θ0 its task vector, w_i its weight, λ a global scale.",
        "More about methods, and how to write one, is in [methods.md](methods.md).",
    ]
    for topic, group in groupby(known, key=lambda one: one["topic"]):
        lines += ["", f"## {topic[0].upper()}{topic[1:]}"]
        for method in group:
            lines += _method(method)
    return "\n".join(lines) + "\n"


def _method(method: Mapping[str, Any]) -> Iterator[str]:
    low, high = method["n_parents"]
    parents = f"{low}" if low == high else f"{low} to {high}" if high is not None else f"{low} or more"
    parents += " parent" if parents == "1" else " parents"
    yield from ("", f"### `{method['name']}`", "")
    yield f"{method['summary'][0].upper()}{method['summary'][1:]}. Takes {parents} and {_base(method)}."
    yield f"[Paper]({method['paper']})"
    if method["formula"]:
        yield from ("", f"    {method['formula']}")
    if method["parameters"]:
        yield from ("", "| parameter | default | range | one for | searched | |", "|---|---|---|---|---|---|")
        yield from map(_row, method["parameters"])
    if method["notes"]:
        yield from ("", method["notes"])


def _base(method: Mapping[str, Any]) -> str:
    if method["base"] == "sometimes":
        asked = [f"`{name}: {word}`" for name, words in method["base_with"].items() for word in words]
        return f"a base with {' or '.join(asked)}"
    return "a base" if method["base"] == "always" else "no base"


def _row(one: Mapping[str, Any]) -> str:
    kind = one["kind"]
    if kind in ("choice", "flag"):
        span = ", ".join(one["choices"] or ("true", "false"))
    else:
        span = f"{one['low']:g} … {one['high']:g}" + (", whole" if kind == "integer" else ", log" if one["log"] else "")
    where = "group" if one["scope"] == "group" and one["in_groups"] else "model"
    each = f"parent and {where}" if one["per_parent"] else where
    when = [f"{other} is {' or '.join(map(value_word, values))}" for other, values in one["when"].items()]
    doc = one["doc"] + (f"; counts where {' and '.join(when)}" if when else "")
    cells = (f"`{one['name']}`", value_word(one["default"]), span, each, "yes" if one["gene"] else "if named", doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
