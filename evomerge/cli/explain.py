"""`evomerge explain`: the keys of a configuration, each with its type, range, default and help."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.streams import say_json
from evomerge.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from evomerge.config.keys import Key

_AT_RESUME = {
    None: "must stay as it is, since it decides the results",
    "speed": "may be changed: it concerns speed only",
    "shown": "may be changed: it names or shows something",
    "place": "may be changed where the same content stands there",
    "limit": "may be raised",
    "effect": "may be spelled otherwise, but what it comes to must stay as it is, since it decides the results",
}


def run(words: Sequence[str]) -> int:
    """Print what one key means, or all of them."""
    parser = argparse.ArgumentParser(
        prog="evomerge explain", description="The keys of a configuration: type, range, default and help."
    )
    parser.add_argument("key", nargs="?", help="for example fitness.items, or a section like fitness; none: all keys")
    parser.add_argument("--json", action="store_true", help="a JSON list of all keys, or the one key as an object")
    parser.add_argument(
        "--schema", action="store_true", help="the JSON schema with which an editor completes and checks a YAML file"
    )
    arguments = parser.parse_args(words)

    from evomerge.config.json_schema import schema_text
    from evomerge.config.keys import ROOT
    from evomerge.config.options import OptionKey

    if arguments.schema:
        print(schema_text(installed=True), end="")
        return 0
    keys = _keys()
    if arguments.key is None:
        if arguments.json:
            say_json([one.to_data() for one in keys.values()])
        else:
            print_table(make_console(), _tree(keys, ROOT))
        return 0
    found = _find(arguments.key, keys)
    if arguments.json:
        say_json(found.to_data())
        return 0
    console = make_console()
    console.print(named(found.name, "bold"))
    console.print(Text("\n".join(filter(None, (found.help, found.more)))))
    print_table(console, _facts(found))
    if isinstance(found, OptionKey):
        print_table(console, _grid([(f"    {name}", line) for name, line in found.of.items()]))
    if found.choices:
        print_table(console, _grid([(f"    {word}", line) for word, line in found.choices.items()]))
    inside = {name: one for name, one in keys.items() if name.startswith((f"{found.name}.", f"{found.name}["))}
    if inside:
        print_table(console, _tree(inside, found.name))
    return 0


def _keys() -> dict[str, Key]:
    """Return every key, each section with the options of what it may name."""
    from evomerge.config.keys import ROOT, all_keys
    from evomerge.config.options import option_keys

    keys: dict[str, Key] = {}
    for name, key in all_keys().items():
        if name != ROOT:
            keys[name] = key
        if name.endswith(".name"):
            section = name.removesuffix("name")
            keys |= {option: one for option, one in option_keys().items() if option.startswith(section)}
    return keys


def _find(name: str, keys: Mapping[str, Key]) -> Key:
    """Return a key by its name; keys of entries are also found as `evaluation.tasks.metric`, `stages.layers.share`.

    What stands below a key under names that it does not declare (`space.genes.weight.start`) is explained by that key.

    Raises:
        ConfigError: with the nearest keys, if there is no such key.
    """
    from evomerge.config.keys import declared

    if name in keys:
        return keys[name]
    steps: list[str | int] = []
    for step in name.replace("[]", "[0]").replace("[", ".").replace("]", "").split("."):
        if steps and declared(steps).type == "array" and not step.isdigit():
            steps.append(0)
        steps.append(0 if step.isdigit() else step)
    found, around = declared(steps), declared(steps[:-1])
    if found.name and found is around:  # an option, also of a stage's optimizer
        found = keys.get(f"{around.name}.{steps[-1]}", found)
    if found.name and (found is not around or (found.open and not found.keys)):
        return found
    raise ConfigError(unknown_name("key", name, keys))


def _facts(key: Key) -> Table:
    rows = [("type", key.type.replace("|", " or "))]
    if not key.choices:
        rows += [("must", key.must)] if key.must else []
    if not key.keys:
        rows.append(("default", "none: it must be given" if key.required else _value(key.default)))
        rows.append(("at resume", _AT_RESUME[key.at_resume]))
    return _grid([*((f"  {name}", text) for name, text in rows), *([("  one of", "")] if key.choices else [])])


def _tree(keys: Mapping[str, Key], root: str) -> Table:
    """Return a table with one line for each key, indented below its section."""
    rows = []
    for name, key in keys.items():
        inner = name.removeprefix(root).lstrip(".")
        depth = inner.count(".") + inner.count("[]")
        last = "[]" if name.endswith("[]") else name.rpartition(".")[2]
        rows.append((f"{'  ' * depth}{last}", "" if key.keys or key.required else _value(key.default), key.help))
    return _grid(rows)


def _grid(rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows[:1]:
        for column in range(len(row)):
            table.add_column(no_wrap=column == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    return table


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{_value(one)} ({name})" for name, one in value.items())
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
