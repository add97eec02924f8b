"""Merges that go on when a new model arrives: the state of an OPCM merge on disk, and what continues it.

A state is a folder of two files: state.json says what was merged (names, weights, lengths, contents of the models and
of the base, α, variant), directions.safetensors holds Z of each tensor in fp32. The models themselves are not needed
any more. A merge that is continued has the bytes of one that was made at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from evomerge.errors import CheckpointError, ExportError, RecipeError
from evomerge.merge.adapters.contents import model_fingerprint, source_fingerprint
from evomerge.merge.apply import prepared
from evomerge.merge.disk.appearing import appearing
from evomerge.merge.disk.flat import FLOATS, Flat
from evomerge.merge.disk.folder import Progress, merge_to_disk
from evomerge.merge.disk.stream import Lend, Piece, block_entries, write_files
from evomerge.merge.files.header import read_header
from evomerge.merge.methods import opcm
from evomerge.merge.plan import MergePlan, TensorTask, check_recipe, make_plan, resolve_values
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.recipe.groups import raise_problems
from evomerge.recipe.tokenizer import AUTO
from evomerge.system.files import free_folder, read_file, user_path

if TYPE_CHECKING:
    import torch

STATE, DIRECTIONS = "state.json", "directions.safetensors"

FORMAT = 1

_METHOD = opcm.METHOD.spec.name


@dataclass(frozen=True)
class MergedModel:
    """A model in a state.

    Attributes:
        name: its name in the recipe.
        weight: w.
        norm: ‖w·τ‖.
        contents: a digest of its files.
    """

    name: str
    weight: float
    norm: float
    contents: str


@dataclass(frozen=True)
class MergeState:
    """How far a merge has come.

    Attributes:
        folder: where it is.
        alpha, variant: the method's parameters.
        base: a digest of the base's files.
        merged: the models, in the order in which they were merged.
    """

    folder: Path
    alpha: float
    variant: str
    base: str
    merged: tuple[MergedModel, ...]

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the directions, by the names of the tensors.

        Raises:
            CheckpointError: if the file is damaged or holds anything but fp32.
        """
        header = read_header(self.folder / DIRECTIONS)
        others = [name for name, entry in header.items() if entry["dtype"] != "F32"]
        if others:
            raise CheckpointError(f"{self.folder / DIRECTIONS} holds {others[0]} in another type than F32")
        return {name: tuple(entry["shape"]) for name, entry in header.items()}

    @cached_property
    def _file(self) -> Any:
        from safetensors import safe_open

        return safe_open(self.folder / DIRECTIONS, framework="pt", device="cpu")

    def direction(self, name: str) -> torch.Tensor:
        """Return Z of a tensor, fp32."""
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    @property
    def start(self) -> opcm.Start:
        """The state as the method takes it."""
        return opcm.Start(tuple(model.norm for model in self.merged), self.direction)


def read_state(folder: str | Path) -> MergeState:
    """Read the state of a merge; its directions are not read yet.

    Raises:
        RecipeError: if the folder holds none, or one of another version.
    """
    folder = user_path(folder, RecipeError)
    text = read_file(folder / STATE, "the state of a merge", RecipeError)
    try:
        data = json.loads(text)
        if data["format"] != FORMAT or data["method"] != _METHOD:
            raise RecipeError(
                f"{folder} holds a state of the method {data['method']} in format {data['format']}, but this version "
                f"continues {_METHOD} in format {FORMAT}"
            )
        merged = tuple(MergedModel(**each) for each in data["merged"])
        state = MergeState(folder, float(data["alpha"]), str(data["variant"]), str(data["base"]), merged)
        sound = merged and all(math.isfinite(number) for each in merged for number in (each.weight, each.norm))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecipeError(f"{folder / STATE} is no state of a merge: {error!r}") from error
    if not sound:
        raise RecipeError(f"{folder / STATE} is no state of a merge: it names no models, or no finite numbers")
    return state


def merge_with_state(
    recipe: Recipe,
    out: str | Path,
    *,
    save_state: str | Path | None = None,
    continue_from: str | Path | None = None,
    shard_size: int,
    progress: Progress | None = None,
) -> Path:
    """Build the model of a recipe as `merge_to_disk` does, continuing an earlier merge, or so that it can be continued.

    Args:
        recipe: a recipe of the method `opcm`, without groups. To continue, it names the models of the state first (in
            the order in which they are merged), with the same base, weights, α and variant; of these models only the
            names count, and they need not exist any more.
        out: the folder to make.
        save_state: the folder to make for the state of this merge; None: none. It appears after `out`, as a whole.
        continue_from: the folder of the state of an earlier merge; None: the recipe is merged from its first model.
        shard_size: largest weight file, in bytes.
        progress: called after each tensor of the model.

    Returns:
        The folder of the model.

    Raises:
        RecipeError: with everything in which recipe and state do not agree.
        CheckpointError: if models cannot be read or do not fit together, or the state is damaged.
        ExportError: if a folder cannot be written, or already holds something.
    """
    check_recipe(recipe)
    _check_kind(recipe)
    folders = [free_folder(each, ExportError) for each in (out, save_state) if each is not None]
    if len(folders) == 2 and folders[0].resolve() == folders[1].resolve():
        raise ExportError(f"model and state need folders of their own, but both are to be {folders[0]}")
    sources = Sources(one_merge=True)
    sequence = _sequence(recipe)
    state = None if continue_from is None else read_state(continue_from)
    if state is not None:
        _check_state(state, recipe, sequence, sources)
        recipe_of_rest = _rest(recipe, sequence[len(state.merged) :])
    else:
        recipe_of_rest = recipe
    plan = sources.plan(recipe_of_rest)
    method = opcm.METHOD if state is None else opcm.continued(state.start)
    if state is not None:
        _check_shapes(state, plan)
        plan = make_plan(recipe_of_rest, {_METHOD: method}, plan.family)
    made = merge_to_disk(recipe, out, shard_size=shard_size, progress=progress, sources=sources, plan=plan)
    if save_state is not None:
        whole = make_plan(recipe_of_rest, {_METHOD: opcm.directions_of(method)}, plan.family)
        _write_state(folders[-1], whole, state, recipe, sequence, sources)
    return made


def _check_kind(recipe: Recipe) -> None:
    if recipe.method != _METHOD or recipe.groups:
        what = f"groups of an {_METHOD} recipe have" if recipe.method == _METHOD else f"the method {recipe.method} has"
        raise RecipeError(f"a state is kept of merges by {_METHOD} of the whole model, and {what} none")
    if not _sequence(recipe):
        raise RecipeError("every weight is 0, so that nothing is merged and there is no state")


def _sequence(recipe: Recipe) -> list[Parent]:
    """Return the parents that take part, in the order in which they are merged."""
    values = resolve_values(opcm.METHOD.spec, recipe.parameters, recipe)
    weight, order = values["weight"], values["order"]
    return [recipe.parents[i] for i in sorted(range(len(weight)), key=lambda i: order[i]) if weight[i] != 0.0]


def _weights(recipe: Recipe) -> dict[str, float]:
    values = resolve_values(opcm.METHOD.spec, recipe.parameters, recipe)
    return {parent.name: weight for parent, weight in zip(recipe.parents, values["weight"], strict=True)}


def _check_state(state: MergeState, recipe: Recipe, sequence: Sequence[Parent], sources: Sources) -> None:
    values = resolve_values(opcm.METHOD.spec, recipe.parameters, recipe)
    problems = [
        f"{name} is {values[name]} in the recipe, but {ours} in the state"
        for name, ours in (("alpha", state.alpha), ("variant", state.variant))
        if values[name] != ours
    ]
    if _contents(cast(Parent, recipe.base), sources) != state.base:
        problems.append("the base is another model than that of the state")
    weights, there = _weights(recipe), {parent.name: parent for parent in recipe.parents}
    names, merged = [parent.name for parent in sequence], [model.name for model in state.merged]
    lost = [name for name in merged if name not in names]
    for name in lost:
        why = "with weight 0" if name in there else "not at all"
        problems.append(f"the state has merged {name}, which the recipe names {why}; it cannot be taken out again")
    if not lost and names[: len(merged)] != merged:
        problems.append(
            f"the state has merged {', '.join(merged)} in this order, but the recipe begins with "
            f"{', '.join(names[: len(merged)])}; give later models larger `order` keys"
        )
    for model in state.merged:
        if model.name in names and weights[model.name] != model.weight:
            problems.append(
                f"the weight of {model.name} is {weights[model.name]} in the recipe, but {model.weight} in the state"
            )
        if model.name in there and _changed(model, there[model.name]):
            problems.append(f"{model.name} is another model than the one of this name in the state")
    if recipe.builds_vocabulary or recipe.chat_template == AUTO:
        key = "tokenizer" if recipe.builds_vocabulary else f"chat_template: {AUTO}"
        problems.append(f"`{key}` needs all models, but those of the state are not read; name one model's")
    if not lost and len(names) == len(merged):
        problems.append("the state has merged all models of the recipe already; name a further one")
    if problems:
        problems = [f"{one} ({state.folder})" if len(problems) == 1 else one for one in problems]
    raise_problems(problems)


def _changed(model: MergedModel, parent: Parent) -> bool:
    """Return whether a folder is there that holds another model; what is not there any more cannot be compared."""
    source = parent.source
    if isinstance(source, Recipe):
        return _of_recipe(source) != model.contents
    if not Path(source.path).expanduser().is_dir():
        return False
    return source_fingerprint(source, whole=True) != model.contents


def _contents(member: Parent, sources: Sources) -> str:
    source = member.source
    if isinstance(source, ModelSource):
        return model_fingerprint(sources.open(source), whole=True)
    return _of_recipe(source)


def _of_recipe(recipe: Recipe) -> str:
    return f"recipe {recipe.content_hash}"


def _rest(recipe: Recipe, new: Sequence[Parent]) -> Recipe:
    """Return the recipe of the models that the state has not seen; others stay if they lend tokenizer or settings."""
    lend = {recipe.tokenizer_lender, recipe.generation_config, recipe.chat_template, recipe.vision}
    parents = tuple(parent for parent in recipe.parents if parent in new or parent.name in lend)
    weights, names = _weights(recipe), [parent.name for parent in new]
    parameters = {
        **recipe.parameters,
        "weight": {parent.name: weights[parent.name] if parent.name in names else 0.0 for parent in parents},
        "order": {parent.name: float(names.index(parent.name)) if parent.name in names else -1.0 for parent in parents},
    }
    return replace(recipe, parents=parents, parameters=parameters)


def _check_shapes(state: MergeState, plan: MergePlan) -> None:
    wanted = {task.name: task.shape for task in _merged_tasks(plan)}
    if dict(state.shapes) != wanted:
        names = sorted(name for name in {*wanted, *state.shapes} if wanted.get(name) != state.shapes.get(name))
        raise CheckpointError(
            f"the state in {state.folder} does not fit the models: {len(names)} tensors are missing, more, or of "
            f"another shape, for example {names[0]}"
        )


def _merged_tasks(plan: MergePlan) -> list[Any]:
    return [task for task in plan.tasks if task.tensor.info.dtype.is_floating_point and not task.tensor.place.copied]


def _write_state(
    folder: Path,
    plan: MergePlan,
    before: MergeState | None,
    recipe: Recipe,
    sequence: Sequence[Parent],
    sources: Sources,
) -> None:
    import torch

    tasks = _merged_tasks(plan)
    norms: tuple[float, ...] = prepared(plan, tasks[0]).norms
    seen = () if before is None else before.merged
    weights = _weights(recipe)
    new = sequence[len(seen) :]
    merged = (
        *seen,
        *(
            MergedModel(parent.name, weights[parent.name], norm, _contents(parent, sources))
            for parent, norm in zip(new, norms[len(seen) :], strict=True)
        ),
    )
    values = resolve_values(opcm.METHOD.spec, recipe.parameters, recipe)
    data = {
        "format": FORMAT,
        "method": _METHOD,
        "alpha": values["alpha"],
        "variant": values["variant"],
        "base": _contents(cast(Parent, recipe.base), sources) if before is None else before.base,
        "merged": [asdict(model) for model in merged],
    }
    pieces = [
        Piece(
            task.name,
            task.shape,
            torch.float32,
            n_inputs=sum(plan.family.info(index, task.name).n_bytes for index in task.members),
            copied=False,
            load=partial(_direction, plan, task),
            blocks=partial(_blocks, plan, task),
            n_work=4 * math.prod(task.shape),
            fetch=lambda: None,
            release=partial(_release, plan, task),
        )
        for task in tasks
    ]
    with appearing(folder) as hidden:
        write_files({hidden / DIRECTIONS: pieces}, lambda: None)
        (hidden / STATE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _release(plan: MergePlan, task: TensorTask) -> None:
    for index in task.members:
        plan.family.release(index, task.name)


def _blocks(plan: MergePlan, task: TensorTask, lend: Lend) -> Iterator[Flat]:
    """Yield the direction in blocks, so that it is gone before the next one is computed."""
    z = _direction(plan, task).reshape(-1).numpy()
    for start in range(0, max(len(z), 1), block_entries()):
        part = z[start : start + block_entries()]
        out = lend(len(part), FLOATS["F32"])
        out.memory[:] = part.view(np.uint8)
        yield out


def _direction(plan: MergePlan, task: Any) -> torch.Tensor:
    z: torch.Tensor = prepared(plan, task).z
    return z
