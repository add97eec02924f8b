"""Lines that fit: texts cut to a width, pieces set one behind the other, cells in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from evomerge.cli.live.marks import Marks


def cut(text: str, width: int, marks: Marks) -> str:
    """Return a text of at most so many columns; wide characters take two."""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(marks.more)
    return set_cell_size(text, room).rstrip() + marks.more if room > 0 else set_cell_size(text, max(width, 0))


def fitted(line: Text, width: int, marks: Marks) -> Text:
    """Return a line of at most so many columns, its styles kept."""
    if line.cell_len <= width:
        return line
    short = line.copy()
    short.truncate(max(width - cell_len(marks.more), 0), overflow="crop")
    short.rstrip()
    return short.append(marks.more if cell_len(marks.more) <= width else "")


def flow(pieces: Iterable[Text], width: int, marks: Marks, lines: int) -> list[Text]:
    """Return pieces one behind the other, on at most so many lines; what does not fit any more is left out."""
    found: list[Text] = [Text()]
    for piece in pieces:
        gap = Text(f" {marks.dot} ", "dim") if found[-1] else Text()
        if found[-1] and (found[-1] + gap + piece).cell_len > width:
            if len(found) == lines:
                break
            found.append(Text())
            gap = Text()
        found[-1] = found[-1] + gap + piece
    return [fitted(line, width, marks) for line in found]


def columns(
    head: Sequence[str], rows: Sequence[Sequence[Text]], width: int, marks: Marks, *, first: int = 8
) -> list[Text]:
    """Return a table without lines: the first column to the left, the others to the right.

    Where it is too wide, the first column is cut; then the last columns go, one after the other.

    Args:
        head: what stands above each column.
        rows: the cells.
        width: the most columns of the terminal.
        marks: the signs.
        first: the least width of the first column.
    """
    n = len(head)
    widths = [max(cell_len(head[i]), *(row[i].cell_len for row in rows), 1) for i in range(n)]
    while n > 1 and min(widths[0], first) + sum(widths[1:n]) + 2 * (n - 1) > width:
        n -= 1
    widths[0] = max(min(widths[0], width - sum(widths[1:n]) - 2 * (n - 1)), 1)
    lines = []
    for cells in ([Text(one, "dim") for one in head], *rows):
        line = Text()
        for i in range(n):
            cell = fitted(cells[i], widths[i], marks)
            space = Text(" " * max(widths[i] - cell.cell_len, 0))
            line = line + (cell + space if i == 0 else Text("  ") + space + cell)
        line.rstrip()
        lines.append(line)
    return lines
