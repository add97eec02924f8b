"""Which row of which model stands for each token of a result, and tensors whose rows are put in that order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evomerge.merge.tokens.output import Member, Output
from evomerge.recipe.tokenizer import TokenizerBuild, ZeroRow

_ZERO, _MEAN, _PADDING = -1, -2, -3
"""In place of the model from which a missing row comes: zeros, the mean of those that have it, the mean of all rows."""

_CHUNK = 1 << 20
"""How many entries are gathered at once."""


class RowOrder:
    """The rows of several models in the order of one vocabulary.

    A model that lacks a token gets the base's row; if the base lacks it, too, the row of the only model that has it, or
    the mean of those that do, in fp32 with one cast. Rows of no token get the mean of the model's other rows.

    Attributes:
        n_rows: how many rows there are.
        warnings: what users should know.
    """

    def __init__(
        self, build: TokenizerBuild, output: Output, members: Sequence[Member], same: Sequence[int], base: int | None
    ) -> None:
        """Find the row of each token.

        Args:
            build: what the recipe says about rows.
            output: the vocabulary.
            members: the models.
            same: for each of them the index of the first that is the same model.
            base: index of the base; None: there is none.
        """
        self.n_rows = output.n_rows
        self._same = same
        self._own = np.full((len(members), self.n_rows), -1, dtype=np.int64)
        for i, member in enumerate(members):
            rows = [(number, row) for token, number in output.ids.items() if (row := member.row_of(token)) is not None]
            if rows:
                numbers, own = np.array(rows, dtype=np.int64).T
                self._own[i, numbers] = own
        self._source = np.full(self.n_rows, _PADDING, dtype=np.int64)
        self._row = np.zeros(self.n_rows, dtype=np.int64)
        self._source[list(output.ids.values())] = _ZERO
        self._find_sources(base)
        self._follow(build, output, members)
        self.warnings = self._warnings(output, members)

    def _find_sources(self, base: int | None) -> None:
        first = sorted(set(self._same))
        has = self._own[first] >= 0  # (different models, rows)
        owners = has.sum(axis=0)
        self._source[owners > 1] = _MEAN
        only = owners == 1
        self._source[only] = np.array(first)[has[:, only].argmax(axis=0)]
        if base is not None:
            self._source[self._own[base] >= 0] = base
        known = self._source >= 0
        self._row[known] = self._own[self._source[known], known.nonzero()[0]]

    def _follow(self, build: TokenizerBuild, output: Output, members: Sequence[Member]) -> None:
        """Take the rows that a recipe names."""
        place = {one.name: i for i, one in enumerate(members)}
        found = {}
        for token, row in build.tokens.items():
            if isinstance(row.source, ZeroRow):
                found[token] = (_ZERO, 0)
            else:
                member = members[place[row.source.model]]
                number = row.source.token_id
                own = member.row_of(row.source.token or token) if number is None else number
                assert own is not None  # `make_output` has refused it
                found[token] = (place[row.source.model], own)
        for token, (source, own) in found.items():
            number = output.ids[token]
            self._source[number], self._row[number] = source, own
        # Only now, since a forced row may be taken from a model that is forced itself.
        for token, row in build.tokens.items():
            if row.force:
                self._own[:, output.ids[token]] = -1
        self._zeroed = {output.ids[token] for token, (source, _) in found.items() if source == _ZERO}

    def _warnings(self, output: Output, members: Sequence[Member]) -> tuple[str, ...]:
        zero = [number for number in (self._source == _ZERO).nonzero()[0].tolist() if number not in self._zeroed]
        if not zero:
            return ()
        token = next(token for token, number in output.ids.items() if number == zero[0])
        return (
            f"{len(zero)} tokens have a row in none of {', '.join(one.name for one in members)}, so their rows are "
            f"zeros (the first is {token!r})",
        )

    def unmoved(self, member: int, n_rows: int) -> bool:
        """Return whether a model's rows are in this order already, and there are as many."""
        return n_rows == self.n_rows and bool((self._own[member] == np.arange(self.n_rows)).all())

    def givers(self, member: int) -> list[int]:
        """Return the indices of the other models from which rows of a model come."""
        sources = set(self._source[self._own[member] < 0].tolist())
        found = {source for source in sources if source >= 0} | (set(self._same) if _MEAN in sources else set())
        return sorted(found - {member})

    def take(self, member: int, load: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """Return a tensor of a model with its rows in this order, in its own type.

        Args:
            member: the model's index.
            load: returns the tensor as a model has it, by index: `(rows, ...)`.
        """
        mine, own = load(member), self._own[member]
        out = mine.new_zeros((self.n_rows, *mine.shape[1:]))
        there = (own >= 0).nonzero()[0]
        _copy_rows(out, there, mine, own[there])
        missing = own < 0
        for source in np.unique(self._source[missing]).tolist()[::-1]:  # padding last: the mean of all others
            places = (missing & (self._source == source)).nonzero()[0]
            at = torch.from_numpy(places)
            if source >= 0:
                _copy_rows(out, places, load(source), self._row[places])
            elif source == _MEAN:
                out[at] = self._mean_of_owners(places, load).to(out.dtype)
            elif source == _PADDING:
                filled = torch.from_numpy((self._source != _PADDING).nonzero()[0])
                out[at] = _mean_row(out, filled).to(out.dtype)
        return out

    def _mean_of_owners(self, places: NDArray[np.int64], load: Callable[[int], torch.Tensor]) -> torch.Tensor:
        total: torch.Tensor | None = None
        counts = torch.zeros(len(places))
        for index in sorted(set(self._same)):
            own = self._own[index, places]
            has = (own >= 0).nonzero()[0]
            if not len(has):
                continue
            rows = load(index)
            if total is None:
                total = torch.zeros((len(places), *rows.shape[1:]))
            at = torch.from_numpy(has)
            total[at] += rows[torch.from_numpy(own[has])].float()
            counts[at] += 1
        assert total is not None  # a mean is of two at least
        return total / counts.view(-1, *[1] * (total.dim() - 1))


def _copy_rows(out: torch.Tensor, places: NDArray[np.int64], rows: torch.Tensor, which: NDArray[np.int64]) -> None:
    for part in _steps(len(places), rows):
        out[torch.from_numpy(places[part])] = rows[torch.from_numpy(which[part])].to(out.dtype)


def _steps(n: int, rows: torch.Tensor) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, math.prod(rows.shape[1:])))
    return (slice(start, start + step) for start in range(0, n, step))


def _mean_row(rows: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Return the mean of some rows in fp32, whatever the number of threads: numpy adds row by row."""
    total: NDArray[np.float64] = np.zeros(tuple(rows.shape[1:]), dtype=np.float64)
    for part in _steps(len(which), rows):
        # Adding to the sum so far keeps the order of one sum over all rows.
        total = np.concatenate([total[None], rows[which[part]].double().numpy()]).sum(axis=0)
    return torch.from_numpy(np.asarray(total / max(1, len(which)), dtype=np.float32))
