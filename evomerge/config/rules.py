"""The rules that keys of a configuration must keep together, besides the declaration of each key alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.config.schema import (
    ENCODINGS,
    OF_RAY,
    ExecutionConfig,
    FitnessConfig,
    SearchKeys,
    StageConfig,
    as_template,
)
from evomerge.errors import unknown_name
from evomerge.evaluation.chat import chat_problems
from evomerge.evaluation.task import combination_problems, spec_problems
from evomerge.loggers.registry import logger_problems

_PLAIN_MEANS = ("mean", "stratified", "weighted")
"""Estimators that need items which were chosen without regard to the candidate."""

_OF_A_RUN = re.compile(r"consensus|candidate \d+|best merge")
"""The names that runs and sweeps give to their own models, beside which a parent's would be taken for one of them."""


def rule_problems(keys: SearchKeys, given: Mapping[str, Any]) -> list[str]:
    """Return every broken rule, one sentence each.

    Args:
        keys: the keys, with defaults for wrong values.
        given: the mapping from which they were read. A rule about a value that is wrong itself is not broken.
    """
    stages = keys.stage_configs()
    problems = [
        *_name(keys),
        *_missing(given, stages),
        *_stages(stages),
        *_method_gene(keys, stages),
        *_options(given),
        *_models(keys),
        *_budget(given),
    ]
    problems += _chat(given)
    if keys.evaluation is not None:
        problems += spec_problems(keys.evaluation.tasks)
        problems += chat_problems(
            keys.evaluation.chat,
            asks="evaluation.chat.template",
            arguments="evaluation.chat.arguments",
            marker="evaluation.chat.think_end_token",
        )
        problems += combination_problems(keys.evaluation.tasks, keys.evaluation.objective)
    problems += [*_engine(keys, stages), *_fitness(keys.fitness), *_execution(keys.execution)]
    problems += logger_problems(keys.loggers)
    return problems


def _name(keys: SearchKeys) -> Iterator[str]:
    parts = re.split(r"[/\\]", keys.name)
    if not parts[0].strip(". ") or ".." in parts or "\0" in keys.name:
        yield (
            f"`name` is {keys.name!r}, but its runs are kept in the folder outputs/<name>: expected the name of a "
            "folder below outputs, with no `..`, no slash in front and no null character, and not of dots alone"
        )


def _missing(given: Mapping[str, Any], stages: tuple[StageConfig, ...]) -> Iterator[str]:
    merges = any(stage.space.merges for stage in stages)
    for name in ("models", "method", "evaluation"):
        if not given.get(name) and (name != "method" or merges):
            yield f"`{name}` is missing; see configs/experiment/ for whole examples"


def _stages(stages: tuple[StageConfig, ...]) -> Iterator[str]:
    total = math.fsum(stage.share for stage in stages)
    if abs(total - 1.0) > 1e-6:
        yield f"the shares of the stages must sum to 1, but sum to {total:g}"
    for stage in stages[1:]:
        if stage.space.name != "dataflow":
            yield (
                f"`stages.{stage.name}.space.name` must be dataflow: a stage after the first stacks layers of the best "
                f"merge so far and of its parents, but it is {stage.space.name}"
            )


def _method_gene(keys: SearchKeys, stages: tuple[StageConfig, ...]) -> Iterator[str]:
    gene = stages[0].space.method
    if gene.choices is None:
        if gene.start is not None:
            yield "`space.method.start` has no meaning without `space.method.choices`; name one method by `method.name`"
        return
    if not stages[0].space.merges:
        yield "`space.method` is not used where only layer paths are evolved"
        return
    for name in dict.fromkeys(one for one in gene.choices if gene.choices.count(one) > 1):
        yield f"`space.method.choices` names {name} twice"
    if len(set(gene.choices)) < 2:
        yield "`space.method.choices` must list two methods at least; name a single one by `method.name`"
    if gene.start is not None and gene.start not in gene.choices:
        yield unknown_name("`space.method.start`", gene.start, dict.fromkeys(gene.choices))
    given = None if keys.method is None else keys.method.name
    if given is not None and given not in gene.choices and gene.start is None:
        yield (
            f"`method.name` is {given}, which is none of `space.method.choices` ({', '.join(gene.choices)}): leave it "
            "out, or name the one with which the search begins"
        )
    elif given is not None and gene.start in gene.choices and given != gene.start:
        yield f"`method.name` is {given}, but `space.method.start` is {gene.start}; leave one of the two out"


def _options(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield options of layer paths that belong to another encoding, unless the encoding itself is wrong."""
    stages = given.get("stages")
    inner = (
        {f"stages.{name}.": one for name, one in stages.items()}
        if stages and isinstance(stages, Mapping)
        else {"": given}
    )
    for where, stage in inner.items():
        space = stage.get("space") if isinstance(stage, Mapping) else None
        path = space.get("path") if isinstance(space, Mapping) else None
        if not isinstance(path, Mapping):
            continue
        encoding = path.get("encoding") or next(iter(ENCODINGS))
        known = ENCODINGS.get(encoding) if isinstance(encoding, str) else None
        options = dict.fromkeys(option for options in ENCODINGS.values() for option in options)
        for name in options:
            if known is not None and name not in known and path.get(name) is not None:
                yield (
                    f"`{where}space.path.{name}` is no option of the encoding {encoding}, which has {', '.join(known)}"
                )


def _models(keys: SearchKeys) -> Iterator[str]:
    if keys.models is not None and "base" in keys.models.parents:
        yield "no parent may be called 'base': that name is kept for `models.base`"
    for name in keys.models.parents if keys.models is not None else ():
        if _OF_A_RUN.fullmatch(name):
            yield f"no parent may be called {name!r}: a run calls its own merges so"


def _budget(given: Mapping[str, Any]) -> Iterator[str]:
    budget = given.get("budget") or {}
    if isinstance(budget, Mapping) and all(budget.get(name) is None for name in ("candidates", "items", "seconds")):
        yield "`budget` needs at least one limit: candidates, items or seconds"


def _chat(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield that a short form says something else than what it is short for."""
    evaluation = given.get("evaluation")
    if not isinstance(evaluation, Mapping):
        return
    said = evaluation.get("chat")
    try:
        short = as_template(evaluation.get("apply_chat_template"))
        template = as_template(said.get("template") if isinstance(said, Mapping) else said)
    except ValueError:
        return
    if isinstance(short, bool) and template is not None and short != bool(template):
        yield (
            f"`evaluation.apply_chat_template` is {str(short).lower()}, but `evaluation.chat.template`, for which it "
            f"is short, is {str(template).lower() if isinstance(template, bool) else repr(template)}; leave it out"
        )


def _engine(keys: SearchKeys, stages: tuple[StageConfig, ...]) -> Iterator[str]:
    """Yield what vLLM, or a model that is spread over several GPUs, cannot do."""
    is_vllm = keys.evaluation is not None and keys.evaluation.engine == "vllm"
    stacks = any(stage.space.stacks for stage in stages)
    if stacks and is_vllm:
        yield (
            "`evaluation.engine` is vllm, whose model has a fixed list of layers, but this search stacks layers "
            "(space.name dataflow or joint); set `evaluation.engine: hf`"
        )
    n_devices = keys.execution.n_devices
    where = f"a model over {n_devices} GPUs (execution.gpus_per_worker, execution.device)"
    if n_devices > 1 and stacks:
        yield (
            f"{where} cannot run layer paths (space.name dataflow or joint), whose layers come in any order: give each "
            "worker one GPU, and choose `execution.dtype: bfloat16` or smaller models where it is too small"
        )
    if n_devices > 1 and is_vllm:
        yield f"{where} is for `evaluation.engine: hf` or lm-eval, but it is vllm; give it one GPU"


def _fitness(fitness: FitnessConfig) -> Iterator[str]:
    if fitness.estimator in _PLAIN_MEANS and fitness.choose == "information":
        yield (
            "`fitness.choose: information` asks each candidate other items, the doubtful ones, whose plain mean says "
            "nothing about the rest; set `fitness.estimator: model`, or `fitness.choose: stratified`"
        )
    if fitness.race is not None and fitness.items is None:
        yield "`fitness.race` needs `fitness.items`: how many items a candidate gets on average"
    if fitness.race is not None and fitness.items is not None and (fitness.race.block or 0) > fitness.items:
        yield (
            f"`fitness.race.block` is {fitness.race.block}, but a candidate gets {fitness.items} items on average "
            "(fitness.items); make the block smaller"
        )


def _execution(execution: ExecutionConfig) -> Iterator[str]:
    given = [
        name
        for name in OF_RAY
        if name in execution.model_fields_set and getattr(execution, name) not in (execution.default(name), "auto")
    ]
    if execution.name == "local" and given:
        yield f"`execution.{given[0]}` is for Ray, but `execution.name` is local: choose `execution=ray`, or drop it"
    if execution.name == "ray" and "," in execution.device:
        yield (
            f"`execution.device` is {execution.device}, but Ray chooses the GPUs of its workers: say how many each "
            "takes with `execution.gpus_per_worker`"
        )
    gpus = execution.gpus_per_worker
    if gpus is not None and gpus > 1.0 and execution.device not in ("auto", "cuda", "cpu"):
        yield (
            f"`execution.device` is {execution.device}, but a worker with {gpus:g} GPUs uses all that Ray gives it: "
            "drop `execution.device`"
        )
