"""Where commands print tables and lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from evomerge.system.text import visible

WIDEST = 100_000
"""The width of an output that is no terminal, in columns: nothing is cut or broken there."""


class _PlainConsole(Console):
    """A console that shows every text as it is.

    Names, errors and warnings are anybody's words. A parent called "[/x]" is no markup, ":x:" is no picture, and escape
    sequences do not reach the terminal.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as what is printed for it."""
        return super().render_str(visible(text, lines=True), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the caller what to do without a reader; rich would end the process."""
        raise


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes every text as it is, and cuts nothing where the output is no terminal."""
    console = _PlainConsole(markup=False, emoji=False, highlight=False, stderr=stderr)
    if not console.is_terminal:
        console.width = WIDEST
    return console


def named(text: object, style: str = "") -> Text:
    """Return words without lines of their own, every character visible, in a style."""
    return Text(visible(text), style)


def print_table(console: Console, table: Table) -> None:
    """Print a table whole: where the terminal is too narrow for its columns, as a list."""
    for column in table.columns:
        column.overflow = "fold"
    options = console.options
    if Measurement.get(console, options.update(max_width=WIDEST), table).minimum <= options.max_width:
        console.print(table)
        return
    for line in _as_list(table):
        console.print(line, soft_wrap=True)


def print_hanging(console: Console, label: Text, text: Text) -> None:
    """Print a label and a text; on a terminal its further lines begin below its first one."""
    text = named(text.plain, str(text.style))
    if not console.is_terminal:
        console.print(Text.assemble(label, text))
        return
    width = max(console.width - label.cell_len, 20)
    for number, line in enumerate(text.wrap(console, width)):
        line.rstrip()
        console.print(Text.assemble(label if number == 0 else " " * label.cell_len, line), soft_wrap=True)


def fits(table: Table, width: int) -> bool:
    """Return whether a table can be printed without breaking a line of its cells."""
    console = make_console()
    return Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum <= width


def _as_list(table: Table) -> Iterator[RenderableType]:
    """Yield the rows of a table, one cell a line."""
    if table.title:
        yield table.title
    heads = [column.header for column in table.columns]
    for row in zip(*(list(column.cells) for column in table.columns), strict=True):
        first, *rest = row
        yield first
        for head, cell in zip(heads[1:], rest, strict=True):
            if str(cell):
                yield f"  {head}: {cell}"
