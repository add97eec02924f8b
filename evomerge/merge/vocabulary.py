"""Whether a recipe's models agree in what the rows of their embeddings stand for, and its tokenizer with these rows.

Only models that give rows of embedding or head to the result, and the one that lends the tokenizer, have to agree.
Tokenizers are read before any weights, each once; models without one are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Protocol

from evomerge.errors import CheckpointError
from evomerge.merge.files.tokens import Tokens, differences, files_digest, read_tokens, row_problem
from evomerge.merge.methods.base import BASE
from evomerge.merge.plan import MergePlan


def row_givers(plan: MergePlan) -> list[int]:
    """Return the indices of the members whose rows of embedding or head are in the result, without repeats."""
    family, found = plan.family, dict[int, None]()
    for task in plan.tasks:
        place = task.tensor.place
        if place.role not in ("embedding", "head") or place.layer is not None:
            continue
        if task.copy_of is not None:
            found[task.copy_of % len(family.members)] = None
            continue
        members = (*task.inputs, BASE) if task.reads_base else task.inputs
        found.update(dict.fromkeys(index % len(family.members) for index in members))
    return list(found)


class Tokenized(Protocol):
    """An opened model with a tokenizer."""

    @property
    def label(self) -> str:
        """Its name in messages."""
        ...

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of its tokenizer."""
        ...

    @property
    def trust_remote_code(self) -> bool:
        """Whether code in this folder may run."""
        ...


def read_with_transformers(model: Tokenized) -> Tokens | None:
    """Return the tokens of a model's tokenizer, as transformers reads it; None if it has none.

    Raises:
        CheckpointError: if transformers cannot load it.
    """
    return read_tokens(model.tokenizer_folder, trust_remote_code=model.trust_remote_code)


class Vocabularies:
    """The tokenizers of opened models, each read once, and what was found about them.

    Attributes:
        warnings: what users should know about them, in order and without repeats.
    """

    def __init__(
        self,
        read: Callable[[Tokenized], Tokens | None] = read_with_transformers,
        *,
        warnings: dict[str, None] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            read: returns the tokens of a model's tokenizer, None if it has none; raises CheckpointError.
            warnings: where warnings are noted, besides those of others.
        """
        self.warnings: dict[str, None] = {} if warnings is None else warnings
        self._find = read
        self._read: dict[Path, Tokens | None] = {}
        self._sound: set[tuple[tuple[tuple[str, Path], ...], int]] = set()

    def check(self, givers: Sequence[tuple[str, Tokenized]], lender: tuple[str, Tokenized], n_rows: int | None) -> None:
        """Check that models which share rows have the same tokens, and that each token of a tokenizer has a row.

        Args:
            givers: name and model of each that gives rows to the result.
            lender: name and model whose tokenizer the result carries.
            n_rows: how many rows the embedding of the result has; None: it is not known.

        Raises:
            CheckpointError: with every reason why they do not.
        """
        members = [lender, *(giver for giver in givers if giver[1] is not lender[1])]
        key = (tuple((name, model.tokenizer_folder) for name, model in members), n_rows or 0)
        if key in self._sound:
            return
        problems = []
        read = [(name, tokens) for name, model in members if (tokens := self.of(model)) is not None]
        mine = self.of(lender[1])
        if mine is not None and n_rows is not None:
            name, model = next(iter(givers), lender)
            beyond = row_problem(mine, f"{lender[0]} ({lender[1].label})", n_rows, f"{name} ({model.label})")
            problems += [beyond] if beyond else []
        for (a, one), (b, other) in combinations(read, 2):
            if one is not other:
                wrong, warnings = differences(one, other, (a, b))
                problems += wrong
                self.warnings.update(dict.fromkeys(warnings))
        if problems:
            raise CheckpointError("\n".join(problems))
        self._sound.add(key)

    def of(self, model: Tokenized) -> Tokens | None:
        """Return the tokens of a model's tokenizer; None if it has none that can be read, which is then a warning."""
        folder = model.tokenizer_folder
        if folder not in self._read:
            try:
                files = files_digest(folder)  # most models of a family have the same tokenizer
                same = next((one for one in self._read.values() if one is not None and one.files == files), None)
                self._read[folder] = same or self._find(model)
            except CheckpointError as error:  # weights can be merged without it
                self._read[folder] = None
                self.warnings[f"{error}; its tokens are not compared with those of other models"] = None
        return self._read[folder]
