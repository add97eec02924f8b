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
    """

    theirs: str
    ours: str
    words: tuple[Word, ...]
    base: BaseUse = BaseUse.ORIGIN
    n_inputs: tuple[int, int | None] = (1, None)
    fixed: Mapping[str, Value] = field(default_factory=dict)

    def ours_of(self, values: Mapping[str, Value], *, has_base: bool) -> dict[str, Value]:
        """Return a recipe's parameters, of values under our names: where mergekit has two words for one of ours."""
        found = {**self.fixed, **values}
        if "flatten" in found:
            flatten, row_wise = found.pop("flatten"), found.pop("row_wise")
            found["scope"] = "tensor" if flatten else "column" if row_wise else "row"
        if self.base is BaseUse.OPTIONAL:
            found["of"] = "task_vectors" if has_base else "weights"
        if "gamma" in found:
            found["gamma"] = _no_outliers_of_all(found["gamma"], found["density"])
        return found

    def divided(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return a recipe's parameters with one entry for each of mergekit's words: the inverse of `ours_of`."""
        found = dict(values)
        if any(word.ours == "flatten" for word in self.words):
            scope = found.pop("scope")
            found |= {"flatten": scope == "tensor", "row_wise": scope == "column"}
        if self.base is BaseUse.OPTIONAL:
            found.pop("of")
        return found

    def word(self, theirs: str) -> Word | None:
        """Return a parameter by mergekit's name for it."""
        return next((word for word in self.words if word.theirs == theirs), None)


def _no_outliers_of_all(gamma: Value, density: Value) -> Value:
    """Return gamma with 0 for each model of which all is kept, since mergekit leaves such a task vector as it is."""
    if isinstance(density, Mapping):
        each = gamma if isinstance(gamma, Mapping) else dict.fromkeys(density, float(gamma))
        return {name: 0.0 if density[name] >= 1.0 else each[name] for name in density}
    return gamma if float(density) < 1.0 else 0.0


_WEIGHT = Word("weight", "weight", None, per_model=True)
_DENSITY = Word("density", "density", 1.0, per_model=True)
_LAMBDA = Word("lambda", "lambda", 1.0)
_MEAN = Word("normalize", "normalize", 1.0, flag=True)
_SUM = Word("normalize", "normalize", 0.0, flag=True)
_RESCALE = Word("rescale", "rescale", 1.0, words=("none", "l1"))
_NO_RESCALE = Word("rescale", "rescale", 0.0, words=("none", "l1"))
_EPSILON = Word("epsilon", "epsilon", 0.15, per_model=True)
_GAMMA = Word("gamma", "gamma", 0.01, per_model=True)
_CHANGED = Word("epsilon", "epsilon", 1e-5)
_T = Word("t", "t", None)
_SCALE = Word("scale", "scale", 1.0, per_model=True)
_FLATTEN = Word("nuslerp_flatten", "flatten", 1.0, flag=True)
_ROW_WISE = Word("nuslerp_row_wise", "row_wise", 0.0, flag=True)
_FILTER_WISE = Word("filter_wise", "scope", 0.0, words=("tensor", "row"))
_SUM_OF_SIGNS: Mapping[str, Value] = {"election": "sum"}
_OF_TENSORS: Mapping[str, Value] = {"scope": "tensor"}
_SIGNS_OF_TENSORS: Mapping[str, Value] = {"election": "sum", "scope": "tensor"}
_UNWEIGHTED: Mapping[str, Value] = {"weight": 1.0, "lambda": 1.0}


def _method(
    name: str,
    *words: Word,
    base: BaseUse = BaseUse.ORIGIN,
    n: tuple[int, int | None] = (1, None),
    fixed: Mapping[str, Value] | None = None,
) -> MethodWords:
    return MethodWords(name, name, words, base, n, fixed or {})


METHODS: Mapping[str, MethodWords] = {
    words.theirs: words
    for words in (
        _method("linear", _WEIGHT, _MEAN, base=BaseUse.LENDER),
        _method("slerp", _T, base=BaseUse.FIRST, n=(2, 2)),
        _method("nuslerp", _WEIGHT, _FLATTEN, _ROW_WISE, base=BaseUse.OPTIONAL, n=(2, 2)),
        _method("multislerp", _WEIGHT, Word("normalize_weights", "normalize", 1.0, flag=True), Word("eps", "eps", 1e-8),
                base=BaseUse.OPTIONAL),
        _method("karcher", Word("max_iter", "max_iter", 10.0, integer=True), Word("tol", "tol", 1e-5),
                base=BaseUse.LENDER, fixed={"weight": 1.0, "of": "weights"}),
        _method("passthrough", _SCALE, base=BaseUse.LENDER, n=(1, 1)),
        _method("model_stock", _FILTER_WISE, n=(2, None), fixed={"exponent": 1.0}),
        _method("nearswap", _T, n=(1, 1)),
        _method("arcee_fusion", n=(1, 1), fixed={"iqr_factor": 1.5}),
        _method("task_arithmetic", _WEIGHT, _LAMBDA, _SUM),
        _method("ties", _WEIGHT, _DENSITY, _LAMBDA, _MEAN, _NO_RESCALE, fixed=_SIGNS_OF_TENSORS),
        _method("dare_linear", _WEIGHT, _DENSITY, _LAMBDA, _SUM, _RESCALE),
        _method("dare_ties", _WEIGHT, _DENSITY, _LAMBDA, _SUM, _RESCALE, fixed=_SUM_OF_SIGNS),
        _method("breadcrumbs", _WEIGHT, _DENSITY, _GAMMA, _LAMBDA, _SUM, _NO_RESCALE, fixed=_OF_TENSORS),
        _method("breadcrumbs_ties", _WEIGHT, _DENSITY, _GAMMA, _LAMBDA, _SUM, _NO_RESCALE, fixed=_SIGNS_OF_TENSORS),
        _method("della", _WEIGHT, _DENSITY, _EPSILON, _LAMBDA, _MEAN, _RESCALE, fixed=_SUM_OF_SIGNS),
        _method("della_linear", _WEIGHT, _DENSITY, _EPSILON, _LAMBDA, _SUM, _RESCALE),
        _method("sce", Word("select_topk", "select_topk", 1.0), fixed=_UNWEIGHTED),
        _method("ram", _CHANGED, fixed=_UNWEIGHTED),
        _method("ramplus_tl", Word("r", "r", 0.1), Word("alpha", "alpha", 0.2), _CHANGED, fixed=_UNWEIGHTED),
    )
}  # fmt: skip
"""By mergekit's names; those that are missing here are named in errors."""

IDLE = frozenset(("int8_mask", *(word.theirs for words in METHODS.values() for word in words.words)))
"""Names of parameters that people leave in a file although its method ignores them, as mergekit does. They are left
out. Every other name that a method does not know is a mistake."""


RANDOM = frozenset(("dare_linear", "dare_ties", "della", "della_linear"))
"""Methods that draw masks."""
