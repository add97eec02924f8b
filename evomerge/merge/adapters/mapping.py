"""Which tensors of its base an adapter changes, and how; found from names and shapes, by the base's own naming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.changes import Change, Changes, Product, StackPlace
from evomerge.merge.adapters.config import AdapterConfig
from evomerge.merge.adapters.slices import find_slices
from evomerge.merge.adapters.weights import AdapterNames, Factors
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.naming import parameter_finder

_SHOWN = 12


def find_changes(
    config: AdapterConfig, names: AdapterNames, infos: Mapping[str, TensorInfo], base: OpenModel
) -> Changes:
    """Return what an adapter does to each tensor of its base; no weights are read.

    Raises:
        CheckpointError: with everything that does not fit.
    """
    finder = _Finder(config, infos, base)
    for one, other in names.twice:
        finder.problems.append(
            f"{one} and {other} mean the same, so which of them counts is unknown; leave one adapter"
        )
    for name, tensor in names.whole.items():
        finder.whole(name, tensor)
    finder.check_whole(names)
    for module, tensor in names.rows.items():
        finder.rows(module, tensor)
    nested: dict[str, int] = {}
    for module, depth in names.factors:
        nested[module] = max(depth + 1, nested.get(module, 0))
    for (module, depth), factors in names.factors.items():
        finder.product(module, depth, nested[module], factors)
    if not finder.problems and not finder.found.of:
        finder.problems.append("it changes nothing")
    if finder.problems:
        shown, more = finder.problems[:_SHOWN], len(finder.problems) - _SHOWN
        lines = [f"  - {one}" for one in (*shown, *([f"and {more} more"] if more > 0 else []))]
        raise CheckpointError("\n".join([f"the adapter {config.folder} does not fit {base.label}:", *lines]))
    return finder.found


class _Finder:
    """Collects what an adapter changes, and what does not fit."""

    def __init__(self, config: AdapterConfig, infos: Mapping[str, TensorInfo], base: OpenModel) -> None:
        self.found, self.problems = Changes(), list[str]()
        self._config, self._infos, self._base = config, infos, base
        self._architecture, self._naming = base.architecture, base.naming
        self._parameter = parameter_finder(base.architecture)
        self._files: dict[str, list[str]] = {}
        for name, target in base.naming.targets.items():
            self._files.setdefault(target, []).append(name)
        self._slices: dict[str, dict[str, StackPlace] | None] = {}

    def whole(self, name: str, tensor: str) -> None:
        """Note a tensor that replaces one of the base, which may have rows for more tokens then."""
        place = self._place(name)
        if place is None:
            self.problems.append(f"{tensor}: {self._class} has no {name}")
            return
        target, files = place
        shape, wanted = self._infos[tensor].shape, self._architecture.shapes[target]
        if len(files) > 1:
            self.problems.append(f"{tensor} replaces {target}, which the base's files hold in {len(files)} parts")
        elif shape != wanted and not (target in self._token_tensors() and shape[1:] == wanted[1:]):
            self.problems.append(f"{tensor} has shape {shape}, but the base's {files[0]} {wanted}")
        else:
            if shape != wanted:
                if self.found.n_rows not in (None, shape[0]):
                    self.problems.append(f"{tensor} has {shape[0]} rows, but another tensor {self.found.n_rows}")
                self.found.n_rows = shape[0]
            self._change(files[0], whole=(*self.found.of.get(files[0], Change()).whole, tensor))

    def check_whole(self, names: AdapterNames) -> None:
        """Note tied tensors of which some alone were trained, and ones without rows for tokens that others have."""
        given = [self._parameter(name) for name in names.whole]
        for name, tensor in names.whole.items():
            place, kept = self._place(name), self._config.kept
            trained = any(f".{name.rpartition('.')[0]}".endswith(f".{module}") for module in kept)
            if place is not None and trained and not self._config.tied and not set(self._tied(place[0])) <= set(given):
                self.problems.append(self._apart(tensor, place[0]))
        if self.found.n_rows is None:
            return
        for target in self._token_tensors():
            for file in self._files.get(target, ()):
                mine = self._change_at(file).whole
                if not mine or self._infos[mine[0]].shape[0] != self.found.n_rows:
                    self.problems.append(
                        f"it has {self.found.n_rows} rows for tokens, but {file}, which it does not bring along, has "
                        f"{self._architecture.shapes[target][0]}"
                    )

    def rows(self, module: str, tensor: str) -> None:
        """Note rows of an embedding that are replaced."""
        place = self._place(f"{module}.weight")
        ends = ((f".{end}" if end else "", rows) for end, rows in self._config.tokens.items())
        tokens = next((rows for end, rows in ends if f".{module}".endswith(end)), None)
        if place is None or tokens is None or len(place[1]) > 1:
            why = (
                f"{self._class} has no {module}.weight" if place is None else "the configuration names no tokens of it"
            )
            self.problems.append(f"{tensor}: {why} (trainable_token_indices)")
            return
        target, (file, *_) = place
        n_rows = self.found.n_rows or self._architecture.shapes[target][0]
        wanted = (len(tokens), *self._architecture.shapes[target][1:])
        if self._infos[tensor].shape != wanted:
            self.problems.append(
                f"{tensor} has shape {self._infos[tensor].shape}, but {len(tokens)} tokens ask for {wanted}"
            )
        elif any(not 0 <= token < n_rows for token in tokens):
            self.problems.append(f"{tensor} is of tokens up to {max(tokens)}, but {file} has {n_rows} rows")
        elif self._change_at(file).rows is None:
            self._change(file, rows=(tensor, tokens))

    def product(self, module: str, depth: int, nested: int, factors: Factors) -> None:
        """Note a low-rank change of a module's weight, or of one of its parameters."""
        problem = self._incomplete(module, factors)
        if problem is not None:
            self.problems.append(problem)
            return
        assert factors.a is not None and factors.b is not None
        name, is_parameter = self._target_of(module, depth, nested)
        place = None if name is None else self._place(name)
        if name is None or place is None:
            self.problems.append(f"{factors.a}: {self._class} has no {name or module} that could be changed")
            return
        target, files = place
        key = name if is_parameter else module
        a, b, rank = self._infos[factors.a].shape, self._infos[factors.b].shape, self._config.rank_of(key)
        shape = self._shape(target, files)
        if self.found.n_rows is not None and target in self._token_tensors():
            shape = (self.found.n_rows, *shape[1:])
        transposed, experts = self._layout(target, factors, is_parameter)
        n = max(1, experts)
        rows, columns = (shape[-2], shape[-1]) if experts else (shape[0], math.prod(shape[1:]))
        inputs, outputs = (rows, columns) if transposed else (columns, rows)
        # Of a kernel of more dimensions, A and B are kernels themselves; B's is 1 wide.
        there = (a[0], math.prod(a[1:])), (b[0], math.prod(b[1:]))
        if there[0][0] != there[1][1]:
            self.problems.append(f"{factors.a} has shape {a} and {factors.b} {b}, which cannot be multiplied")
        elif there[0][0] != n * rank:
            self.problems.append(f"{factors.a} has rank {there[0][0] / n:g}, but the configuration says {rank}")
        elif (there[0][1], there[1][0]) != (inputs, outputs):
            self.problems.append(f"{factors.a} and {factors.b} change a matrix of {there[1][0]} outputs and "
                                 f"{there[0][1]} inputs, but {target} has shape {shape}")  # fmt: skip
        elif factors.magnitude is not None and math.prod(self._infos[factors.magnitude].shape) != (
            columns if transposed else rows
        ):
            self.problems.append(
                f"{factors.magnitude} has shape {self._infos[factors.magnitude].shape}, but {target} {shape}"
            )
        else:
            made = Product(factors, self._config.scale_of(key), experts, transposed)
            self._add_product(target, name, files, made)
        if factors.bias is not None:
            self._add_bias(module, factors.bias, self._config.scale_of(key))

    def _add_product(self, target: str, name: str, files: list[str], made: Product) -> None:
        if len(self._tied(target)) > 1 and not self._config.tied:
            self.problems.append(self._apart(str(made.names.a), target))
            return
        if target in self._naming.parts and name not in files:
            slices = self._slices_of(target)
            if slices is None:
                self.problems.append(f"{made.names.a} changes {target}, whose parts in the files cannot be told apart")
                return
            for file in files:
                self._change(file, product=replace(made, part=slices[file]))
            return
        if self._change_at(files[0]).product is None or made.names.embedding:
            self._change(files[0], product=made)

    def _add_bias(self, module: str, bias: str, scale: float) -> None:
        place = self._place(f"{module}.bias")
        if place is None or self._infos[bias].shape != self._architecture.shapes[place[0]]:
            self.problems.append(f"{bias}: {self._class} has no {module}.bias of this shape to which it could be added")
        else:
            self._change(place[1][0], added=(bias, scale))

    def _incomplete(self, module: str, factors: Factors) -> str | None:
        lost = [letter for letter, name in (("A", factors.a), ("B", factors.b)) if name is None]
        if lost:
            return f"{module} has no lora_{lost[0]}, only {factors.a or factors.b or factors.magnitude}"
        if self._config.dora != (factors.magnitude is not None):
            says = "true" if self._config.dora else "false"
            has = "has" if factors.magnitude else "has no"
            return f"{module} {has} lora_magnitude_vector, but use_dora is {says}"
        return None

    def _target_of(self, module: str, depth: int, nested: int) -> tuple[str | None, bool]:
        """Return the name of the parameter that is changed, and whether it was named as a parameter."""
        inside = []
        for end in self._config.parameters:
            name = f"{module}.{end.rpartition('.')[2]}"
            if f".{name}".endswith(f".{end}") and self._place(name) is not None:
                inside.append(name)
        if not inside:
            return f"{module}.weight", False
        # Several parameters of a module are wrapped one around the other, the module's first one innermost.
        order = list(self._architecture.shapes)
        inside.sort(key=lambda name: order.index(self._parameter(name) or name))
        return (inside[nested - 1 - depth], True) if nested == len(inside) else (None, True)

    def _layout(self, target: str, factors: Factors, is_parameter: bool) -> tuple[bool, int]:
        """Return whether the base's matrices are inputs × outputs, and how many are stacked (0: it is one matrix)."""
        shape = self._architecture.shapes[target]
        if is_parameter and len(shape) == 3:
            module = self._architecture.model.get_submodule(target.rpartition(".")[0])
            return bool(getattr(module, "is_transposed", False)), shape[0]
        if is_parameter:
            return False, 0
        return factors.embedding or self._architecture.places[target].transposed, 0

    def _place(self, name: str) -> tuple[str, list[str]] | None:
        """Return the parameter that a name means, with the names of its tensors in the base's files."""
        if name in self._naming.targets:  # perhaps an expert's own tensor, which the model stacks with others
            return self._naming.targets[name], [name]
        target = self._architecture.canonical.get(self._parameter(name) or "", "")
        return (target, self._files[target]) if target in self._files else None

    def _shape(self, target: str, files: list[str]) -> tuple[int, ...]:
        """Return the shape of what is changed: a parameter, or one of the tensors that the model stacks in it."""
        parts = self._naming.parts.get(target, ())
        return (
            self._base.tensors.infos[files[0]].shape if len(parts) > len(files) else self._architecture.shapes[target]
        )

    def _tied(self, target: str) -> list[str]:
        """Return the parameters that share one's memory, itself included."""
        return [name for name, first in self._architecture.canonical.items() if first == target]

    def _apart(self, tensor: str, target: str) -> str:
        return (
            f"{tensor} was trained apart from what the base ties to it ({', '.join(self._tied(target))}), so no model "
            "with tied tensors equals it; train it with ensure_weight_tying, or untie the base (tie_word_embeddings: "
            "false)"
        )

    def _token_tensors(self) -> set[str]:
        network, rows = self._architecture.model, self._architecture.n_embeddings
        modules = (network.get_input_embeddings(), network.get_output_embeddings())
        mine = {id(one) for module in modules if module is not None for one in module.parameters(recurse=False)}
        return {
            self._architecture.canonical[name]
            for name, one in network.named_parameters(remove_duplicate=False)
            if id(one) in mine and one.shape[0] == rows
        }

    def _slices_of(self, target: str) -> dict[str, StackPlace] | None:
        """Return where the tensors of the files lie in a stack that is made of them; None: not in plain blocks."""
        if target not in self._slices:
            self._slices[target] = find_slices(self._naming, target, self._architecture.shapes[target])
        return self._slices[target]

    def _change_at(self, file: str) -> Change:
        return self.found.of.get(file, Change())

    def _change(self, file: str, **fields: object) -> None:
        self.found.of[file] = replace(self._change_at(file), **fields)  # type: ignore[arg-type]

    @property
    def _class(self) -> str:
        return str(type(self._architecture.model).__name__)
