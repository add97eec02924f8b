"""mergekit's merge methods and their parameters in evomerge's words, with mergekit's defaults.

Recipes that are read from a mergekit file name every parameter, since the defaults of the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from evomerge.recipe import Value


class BaseUse(StrEnum):
    """What a method of mergekit does with `base_model`."""

    ORIGIN = "task vectors are measured from it"
    OPTIONAL = "task vectors are measured from it, if it is given"
    FIRST = "it is the first of the two models"
    LENDER = "it lends configuration and tokenizer"


@dataclass(frozen=True)
class Word:
    """A parameter: its name in mergekit and here.

    Attributes:
        default: mergekit's; None: a file must give it.
        flag: whether it is true or false.
        words: its value here for false and for true, where it is a word here; () where it is not.
    """

    theirs: str
    ours: str
    default: float | None
    per_model: bool = False
    flag: bool = False
    integer: bool = False
    words: tuple[str, ...] = ()

    def value(self, number: float) -> float | bool | str:
        """Return a number of mergekit as a value here."""
        if self.words:
            return self.words[number != 0.0]
        return number != 0.0 if self.flag else number

    def theirs_of(self, value: float | bool | str) -> float | bool | int:
        """Return a value here in mergekit's words: true or false, a whole number, or a number."""
        if self.words:
            return value in self.words and bool(self.words.index(str(value)))
        if isinstance(value, str):
            return False  # a word that mergekit lacks, which is named elsewhere
        return bool(value) if self.flag else int(value) if self.integer else float(value)


@dataclass(frozen=True)
class MethodWords:
    """A method: its name in mergekit and here, and its parameters.

    Attributes:
        fixed: parameters here that mergekit has no word for, at the values with which both do the same.
        shares: whether mergekit's `normalize` divides by the sum of all weights, so that the weights say it as well.
    """

    theirs: str
    ours: str
    words: tuple[Word, ...]
    base: BaseUse = BaseUse.ORIGIN
    n_inputs: tuple[int, int | None] = (1, None)
    fixed: Mapping[str, Value] = field(default_factory=dict)
    shares: bool = False

    def word(self, theirs: str) -> Word | None:
        """Return a parameter by mergekit's name for it."""
        return next((word for word in self.words if word.theirs == theirs), None)


_WEIGHT = Word("weight", "weight", None, per_model=True)
_DENSITY = Word("density", "density", 1.0, per_model=True)
_LAMBDA = Word("lambda", "lambda", 1.0)
_MEAN = Word("normalize", "normalize", 1.0, flag=True)
_SUM = Word("normalize", "normalize", 0.0, flag=True)
_L1 = Word("rescale", "rescale", 1.0, words=("none", "l1"))
_EPSILON = Word("epsilon", "epsilon", 0.15, per_model=True)
_GAMMA = Word("gamma", "gamma", 0.01, per_model=True)
_T = Word("t", "t", None)
_SCALE = Word("scale", "scale", 1.0, per_model=True)

METHODS: Mapping[str, MethodWords] = {
    words.theirs: words
    for words in (
        MethodWords("linear", "linear", (_WEIGHT, _MEAN), BaseUse.LENDER),
        MethodWords("slerp", "slerp", (_T,), BaseUse.FIRST, (2, 2)),
        MethodWords("passthrough", "passthrough", (_SCALE,), BaseUse.LENDER, (1, 1)),
        MethodWords("task_arithmetic", "task_arithmetic", (_WEIGHT, _LAMBDA, _SUM), shares=True),
        MethodWords(
            *("ties", "ties", (_WEIGHT, _DENSITY, _LAMBDA, _MEAN)), fixed={"election": "sum", "scope": "tensor"}
        ),
        MethodWords("dare_linear", "dare_linear", (_WEIGHT, _DENSITY, _LAMBDA, _L1, _SUM), shares=True),
        MethodWords("dare_ties", "dare_ties", (_WEIGHT, _DENSITY, _LAMBDA, _L1, _SUM), fixed={"election": "sum"}),
    )
}
"""By mergekit's names; those that are missing here are named in errors."""

IDLE = frozenset(("int8_mask", "rescale", "normalize", "density", "weight", "lambda", "epsilon", "gamma", "t"))
"""Names of parameters that people leave in a file although its method ignores them, as mergekit does. They are left
out. Every other name that a method does not know is a mistake."""


RANDOM = frozenset(("dare_linear", "dare_ties", "della", "della_linear"))
"""Methods that draw masks."""
