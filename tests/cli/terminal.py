"""A terminal of so many columns and lines, as far as what is drawn here goes: what a person would see at the end."""

import re

_PART = re.compile(r"\x1b\[(\?)?([0-9;]*)([A-Za-z])|\x1b[78=>]|(.)", re.S)


class Terminal:
    """Takes what a program writes, and keeps what stands on the screen.

    Attributes:
        rows: what stands there now.
        above: what was scrolled out.
        redrawn: how often the cursor went up, to draw lines again.
        alternate: whether the second screen is shown.
    """

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.width, self.height = width, height
        self.rows = [""] * height
        self.above: list[str] = []
        self.redrawn = 0
        self.alternate = False
        self._x = self._y = 0
        self._other: list[str] = []

    def write(self, text: str) -> None:
        for found in _PART.finditer(text):
            private, numbers, letter, sign = found.groups()
            if sign is not None:
                self._sign(sign)
            elif letter is not None:
                self._control(letter, numbers, bool(private))

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip()

    @property
    def everything(self) -> str:
        """The same, with what was scrolled out."""
        return "\n".join([*(row.rstrip() for row in self.above), self.text])

    def _sign(self, sign: str) -> None:
        if sign == "\r":
            self._x = 0
        elif sign == "\n":
            self._down()
        elif sign >= " ":
            if self._x >= self.width:
                self._x = 0
                self._down()
            row = self.rows[self._y].ljust(self._x)
            self.rows[self._y] = row[: self._x] + sign + row[self._x + 1 :]
            self._x += 1

    def _down(self) -> None:
        if self._y + 1 < self.height:
            self._y += 1
        else:
            self.above.append(self.rows.pop(0))
            self.rows.append("")

    def _control(self, letter: str, numbers: str, private: bool) -> None:
        n = int(numbers.split(";")[0]) if numbers.split(";")[0] else 0
        if letter == "A":
            self.redrawn += 1
            self._y = max(self._y - max(n, 1), 0)
        elif letter == "H":
            self._x = self._y = 0
        elif letter == "K" and n == 2:
            self.rows[self._y] = ""
        elif letter == "K":
            self.rows[self._y] = self.rows[self._y][: self._x]
        elif letter == "J":
            self.rows = (
                [""] * self.height if n == 2 else [*self.rows[: self._y + 1], *[""] * (self.height - self._y - 1)]
            )
        elif private and n == 1049:
            self.alternate = letter == "h"
            if self.alternate:
                self._other, self.rows = self.rows, [""] * self.height
            else:
                self.rows = self._other
            self._x = 0
