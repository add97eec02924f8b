"""Several parents by one pattern: the checkpoints of a training run, in the order of their steps.

::

    parents:
      sft: run/checkpoint-*                              # sft-500, sft-1000, sft-1500 …
      late: {pattern: run/checkpoint-*, last: 5}         # the five newest
      thin: {pattern: run/checkpoint-*, every: 3}        # every third, counted back from the newest

Each becomes a parent of its own, whose name is the pattern's name and what stood in place of the wildcards. `*`, `?`
and `[…]` stand for parts of one folder's name, as in a shell. A pattern is looked up where a recipe or configuration is
read, relative to the working directory like any other path; what is kept of them (in a run, beside an export, in a
recipe's hash) are the parents that were found.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import RecipeError
from evomerge.system.text import cut

_WILD = re.compile(r"[*?\[]")
_IN_SETS = re.compile(r"[\\\[\]^&~|]")
"""Signs that mean something inside of a regular expression's set, and nothing inside of a shell's."""
_KEYS = ("pattern", "last", "every", "trust_remote_code", "allow_pickle")
_SHOWN = 8
"""How many names a message lists."""


def is_pattern(source: Any) -> bool:
    """Return whether what stands for a parent names several: a mapping with `pattern`, or a path with wildcards.

    A folder that really has such a name is a model like any other.
    """
    if isinstance(source, Mapping):
        return "pattern" in source
    if not isinstance(source, str) or not _WILD.search(source) or source.startswith("zoo:"):
        return False
    try:
        return not Path(source).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, no home folder, a zero byte: not found either way
        return False


def expand_parents(parents: Mapping[str, Any]) -> dict[str, Any]:
    """Return parents with each pattern replaced by the models that it names, in the order of their numbers.

    Args:
        parents: name to what stands for a model; what is no pattern stays as it is.

    Raises:
        RecipeError: with every pattern that matches nothing, cannot be read, or gives a name that another parent has.
    """
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, source in parents.items():
        if not is_pattern(source):
            more: dict[str, Any] = {name: source}
        else:
            try:
                more = _expanded(str(name), source if isinstance(source, Mapping) else {"pattern": source})
            except RecipeError as error:
                problems.append(f"{name}: {error}")
                continue
        problems += [f"two parents are called {one!r}, one of a pattern" for one in more if one in found]
        found |= more
    if problems:
        raise RecipeError("; ".join(problems))
    return found


def _expanded(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(str(key) for key in said if key not in _KEYS)
    if unknown:
        raise RecipeError(f"a pattern has the keys {', '.join(_KEYS)}, but came {', '.join(unknown)}")
    text = said["pattern"]
    if not isinstance(text, str) or not _WILD.search(text):
        raise RecipeError(f"`pattern` is a path with wildcards, like run/checkpoint-*, but came {text!r}")
    last, every = (_count(key, said.get(key)) for key in ("last", "every"))
    matches = _matches(text)
    if not matches:
        hint = "; a bracket that belongs to a name is written [[]" if "[" in text else ""
        raise RecipeError(f"no model matches {text}; {_there(text)}{hint}")
    chosen = matches[:: -(every or 1)][:last][::-1]
    given = {key: said[key] for key in ("trust_remote_code", "allow_pickle") if said.get(key) is not None}
    found: dict[str, Any] = {}
    for parts, path in chosen:
        called = f"{name}-{'-'.join(parts)}"
        if called in found:
            raise RecipeError(f"{text} names two models {called!r}, one of them {path}; give each a name of its own")
        found[called] = {"path": path, **given} if given else path
    return found


def _count(key: str, said: Any) -> int | None:
    if said is not None and (type(said) is not int or said < 1):
        raise RecipeError(f"`{key}` of a pattern is a whole number from 1, but came {said!r}")
    return None if said is None else int(said)


def _matches(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Return what stands in place of the wildcards, and the path, of each model that a pattern names, in order.

    Raises:
        RecipeError: if the pattern cannot be looked up.
    """
    if "**" in text:
        raise RecipeError(f"** is no wildcard here, but came {text}; write one * for each level of folders")
    try:
        # What is written before the wildcards stays as it is, so that a recipe stays relative.
        whole = str(Path(text).expanduser()) if text.startswith("~") else text.rstrip("/")
        whole = re.sub("(?<!^)/+", "/", whole)  # as glob writes them
        paths = [path for path in glob.glob(whole) if Path(path).is_dir() or path.endswith(".gguf")]  # noqa: PTH207
        form = re.compile(_as_regex(whole))
    except (OSError, RuntimeError, ValueError, re.error) as error:
        raise RecipeError(f"cannot look for {cut(text, 200)}: {error}") from error
    found = [(match.groups(), path) for path in paths if (match := form.fullmatch(path))]
    return sorted(found, key=lambda one: ([_natural(part) for part in one[0]], one[1]))


def _as_regex(pattern: str) -> str:
    """Return a regular expression with a group for the wildcards of a pattern that stand together."""
    made, inside = "", False
    for piece in re.findall(r"\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL):
        itself = piece[1] if len(piece) == 3 and piece[1] in "*?[" else None  # how a shell writes these signs
        wild = itself is None and (piece in ("*", "?") or len(piece) > 1)
        made += "(" if wild and not inside else ")" if inside and not wild else ""
        inside = wild
        if piece in ("*", "?"):
            made += "[^/]" if piece == "?" else "[^/]*"
        elif wild:
            no, within = ("^", piece[2:-1]) if piece.startswith("[!") else ("", piece[1:-1])
            made += f"[{no}" + _IN_SETS.sub(r"\\\g<0>", within) + "]"
        else:
            made += re.escape(piece if itself is None else itself)
    return made + (")" if inside else "")


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 1000 comes after 500."""
    parts = re.split(r"(\d+)", text)
    return [(not i % 2, int(part) if i % 2 else 0, part) for i, part in enumerate(parts) if part]


def _there(text: str) -> str:
    """Return what lies where a pattern first has a wildcard."""
    steps = Path(text).expanduser().parts
    first = next(i for i, step in enumerate(steps) if _WILD.search(step))
    place = Path(*steps[:first])
    try:
        names = sorted(path.name for path in place.iterdir() if path.is_dir() or path.suffix == ".gguf")
    except OSError:
        return f"there is no folder {place}"
    if not names:
        return f"{place} has no folders"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{place} has {', '.join(cut(name, 60) for name in names[:_SHOWN])}{more}"
