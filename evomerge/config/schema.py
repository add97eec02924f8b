"""The configuration of a search, as plain data: read, completed and checked in one place.

`SearchConfig.from_data` takes the nested mapping that Hydra composes (or a Python dict with the same keys) and reports
every mistake at once. What needs more than the mapping itself (do the parents fit each other? does the task exist?) is
checked by `evomerge.assembly.prepare`, still before a model is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from evomerge.errors import ConfigError, RecipeError, unknown_name
from evomerge.evaluation.task import Constraint, SplitSizes, TaskSpec, shared, spec_problems
from evomerge.recipe import DTYPES, Parent, Recipe
from evomerge.search.budget import Budget


@dataclass(frozen=True)
class ModelsConfig:
    """Which models are merged: `parents` in order, and the `base` that task vectors are measured from."""

    parents: tuple[Parent, ...]
    base: Parent | None = None
    dtype: str | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class MethodConfig:
    """The merge method and the parameters that are fixed rather than evolved."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


SPACES = ("parameter", "dataflow", "joint")

EVALUATION_ENGINES = ("hf", "vllm", "lm-eval")
"""What runs the forward passes; `evomerge.evaluation.engines.registry` has the same names."""

EXECUTORS = ("local", "ray")

CACHES = ("auto", "none")
"""Words for `execution.cache`, which otherwise is a size in GiB."""

PARENTS = ("auto", "device", "host")
"""Where the parents of merges are kept in a search: beside the live model, or mapped into the machine's memory."""

MOST_GPUS = 8
"""Most GPUs of one worker; a model's layers run one after another, so that more of them only wait."""

_OF_RAY = ("workers", "cpus_per_worker", "gpus_per_worker", "address", "timeout", "share", "runtime_env")

_GPU = re.compile(r"cuda:\d+")

_BOTH = ("repeats", "scales", "scale_low", "scale_high", "max_layers", "min_layers")
ENCODINGS = {"indicators": (*_BOTH, "offset", "hidden"), "segments": (*_BOTH, "segments")}
"""Encodings of layer paths, each with its options: the arguments of the space."""


@dataclass(frozen=True)
class PathConfig:
    """The layer paths of a data-flow space; see `evomerge.genome.dataflow` and `evomerge.genome.segments`.

    Attributes:
        encoding: "indicators" or "segments".
        parents: names of the models whose layers may be taken; None: all.
        options: the encoding's own, by name; what is left out has the encoding's default.
    """

    encoding: str = "indicators"
    parents: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SpaceConfig:
    """What is evolved.

    Attributes:
        name: "parameter" (weights and densities per group of tensors), "dataflow" (layer paths) or "joint" (both).
        blocks, roles, embeddings, genes: how tensors are grouped and which genes each group has; see
            `evomerge.genome.parameter`.
        path: of the data-flow space.
        layer_cost: fitness that one layer more costs, in units of the score; layers fewer than the first parent's earn
            as much.
    """

    name: str = "parameter"
    blocks: int | str | tuple[tuple[int, int], ...] = 4
    roles: Mapping[str, tuple[str, ...]] | None = None
    embeddings: str = "own"
    genes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: PathConfig = field(default_factory=PathConfig)
    layer_cost: float = 0.0

    @property
    def merges(self) -> bool:
        """Whether a merge method takes part."""
        return self.name != "dataflow"

    @property
    def stacks(self) -> bool:
        """Whether layer paths take part."""
        return self.name != "parameter"


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer by name, and its own options."""

    name: str = "cma"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageConfig:
    """A part of a search: the best merge of the stages before it joins the models whose layers it stacks.

    Attributes:
        share: of the whole budget.
    """

    name: str
    share: float
    space: SpaceConfig
    optimizer: OptimizerConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """What candidates are scored on.

    Attributes:
        tasks: what is measured; entries may share a task.
        include_path: folders with own task YAML files; `zoo:tasks` is the built-in zoo's.
        split: how many items each of search, validation and test takes.
        finalists: how many of the best candidates are scored again on the validation items.
        engine: what runs the forward passes: "hf" (our own decoding through the live model), "vllm" (an extra; needs
            layers that stay in place), or "lm-eval" (lm-eval's own slower wrapper, to compare with).
    """

    tasks: tuple[TaskSpec, ...]
    include_path: tuple[str, ...] = ()
    split: SplitSizes = field(default_factory=SplitSizes)
    batch_size: int = 64
    finalists: int = 8
    apply_chat_template: bool = False
    engine: str = "hf"


ITEM_POLICIES = ("uniform", "stratified", "information")
ESTIMATORS = (
    *("model", "mean", "mixture", "p-irt", "gp-irt", "mp-irt", "mp-irt-convex", "gmp-irt"),
    *("ridge", "calibrated-mean", "stratified", "weighted"),
)
RACES = ("posterior", "halving")
"""Of `fitness`; `evomerge.fitness` has the same names."""


@dataclass(frozen=True)
class RaceConfig:
    """How candidates of a generation compete for items; see `evomerge.fitness.race.Race`."""

    rule: str = "posterior"
    block: int | None = None
    level: float = 0.1
    most: int | None = None


@dataclass(frozen=True)
class FitnessConfig:
    """How much of the search items a candidate answers, and what its answers are worth.

    Attributes:
        items: how many search items a candidate gets (in a race: on average, at most), over all tasks; None: all.
        choose: which: "stratified" (spread over tasks and difficulty), "uniform" or "information" (those whose answer
            is least certain for this candidate).
        fresh: whether each generation gets other items.
        estimator: what turns some answers into an estimate of all: "model" (made for searches), "mean", one of
            `evomerge.estimation`, or your own as "module:Class".
        race: None: every candidate gets the same number of items.
        responses: file with what other models answered to these items, for example of earlier runs.
        consensus: whether the mean of the best genomes is one of the finalists.
    """

    items: int | None = None
    choose: str = "stratified"
    fresh: bool = True
    estimator: str = "model"
    race: RaceConfig | None = None
    responses: str | None = None
    consensus: bool = True


@dataclass(frozen=True)
class ExecutionConfig:
    """Where candidates run.

    Attributes:
        device: "auto", "cpu", "cuda"…; several GPUs, over which the model is spread, as "cuda:0,cuda:1".
        dtype: in which they run.
        threads: of torch.
        parents: where the parents of merges are kept: "device" (beside the live model), "host" (their memory-mapped
            files), or "auto" (on the device where they fit).
        cache: memory for what is found out about the parents once and used by every candidate: "auto" (a quarter of
            what is free when the search begins), "none", or GiB.
        deterministic: whether several workers give the records of one.
        workers: of Ray: how many; None: as many as fit.
        cpus_per_worker: of Ray.
        gpus_per_worker: of Ray: a part of one, or up to `MOST_GPUS`; None: one where there are any.
        address: of the Ray cluster; None: one is started on this machine.
        timeout: seconds that a candidate may take, in Ray; "auto": far more than any took so far; None: any time.
        share: of Ray: whether idle workers take a part of what others are at.
        runtime_env: of Ray.
    """

    name: str = "local"
    device: str = "auto"
    dtype: str | None = None
    threads: int | None = None
    cache: str | float = "auto"
    parents: str = "auto"
    deterministic: bool = True
    workers: int | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float | None = None
    address: str | None = None
    timeout: float | str | None = "auto"
    share: bool = True
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_devices(self) -> int:
        """Over how many devices the live model of a worker is spread."""
        return max(int(self.gpus_per_worker or 0), 1 + self.device.count(","))


@dataclass(frozen=True)
class SearchConfig:
    """A whole search; the YAML under `configs/` has the same keys.

    Attributes:
        method: None where no stage merges weights.
        stages: what is searched, one after the other; at least one.
    """

    models: ModelsConfig
    method: MethodConfig | None
    evaluation: EvaluationConfig
    name: str = "search"
    seed: int = 0
    stages: tuple[StageConfig, ...] = (StageConfig("search", 1.0, SpaceConfig(), OptimizerConfig()),)
    budget: Budget = field(default_factory=Budget)
    fitness: FitnessConfig = field(default_factory=FitnessConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> SearchConfig:
        """Read a composed configuration.

        Raises:
            ConfigError: with every mistake that the mapping alone shows.
        """
        config, problems = cls.read(data)
        if problems or config is None:
            raise ConfigError(problems)
        return config

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> tuple[SearchConfig | None, list[str]]:
        """Read a composed configuration as far as it can be read.

        Returns:
            The configuration (with defaults where a value is wrong; None where a whole section cannot be read), and
            every mistake that the mapping alone shows. So that mistakes of all kinds can be reported together.
        """
        reader = _Reader()
        return reader.search(data), reader.problems


class _Reader:
    """Reads the mapping and notes down what is wrong instead of stopping at the first mistake."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def search(self, data: Mapping[str, Any]) -> SearchConfig | None:
        known = ("name", "seed", "run", "models", "method", "space", "optimizer", "stages")
        top = self.section(data, "the configuration", (*known, "budget", "evaluation", "fitness", "execution"))
        stages = self.stages(top)
        merges = any(stage.space.merges for stage in stages)
        for key in ("models", "method", "evaluation"):
            if not top.get(key) and (key != "method" or merges):
                self.problems.append(f"`{key}` is missing; see configs/experiment/ for whole examples")
        seed = self.integer(top, "seed", "seed", default=0, low=0)
        config = {
            "models": self.models(top.get("models") or {}),
            "budget": self.budget(top.get("budget") or {}),
            "evaluation": self.evaluation(top.get("evaluation") or {}),
            "fitness": self.fitness(top.get("fitness") or {}),
            "execution": self.execution(top.get("execution") or {}),
        }
        if any(stage.space.stacks for stage in stages) and getattr(config["evaluation"], "engine", None) == "vllm":
            self.problems.append(
                "`evaluation.engine` is vllm, whose model has a fixed list of layers, but this search stacks layers "
                "(space.name dataflow or joint); set `evaluation.engine: hf`"
            )
        self.check_several_devices(config["execution"], config["evaluation"], stages)
        method = self.method(top.get("method") or {}) if merges else None
        if any(value is None for value in config.values()) or (merges and method is None) or not stages:
            return None
        return SearchConfig(
            name=str(top.get("name") or "search"),
            seed=seed or 0,
            method=method,
            stages=stages,
            **config,  # type: ignore[arg-type]
        )

    def check_several_devices(self, execution: Any, evaluation: Any, stages: Sequence[StageConfig]) -> None:
        """Note what cannot be done with a model that is spread over several GPUs."""
        if execution is None or execution.n_devices == 1:
            return
        where = f"a model over {execution.n_devices} GPUs (execution.gpus_per_worker, execution.device)"
        if any(stage.space.stacks for stage in stages):
            self.problems.append(
                f"{where} cannot run layer paths (space.name dataflow or joint), whose layers come in any order: give "
                "each worker one GPU, and choose `execution.dtype: bfloat16` or smaller models where it is too small"
            )
        if getattr(evaluation, "engine", None) == "vllm":
            self.problems.append(f"{where} is for `evaluation.engine: hf` or lm-eval, but it is vllm; give it one GPU")

    def stages(self, top: Mapping[str, Any]) -> tuple[StageConfig, ...]:
        space, optimizer = top.get("space") or {}, top.get("optimizer") or {}
        given = self.mapping(top, "stages", "stages")
        if not given:
            return (StageConfig("search", 1.0, self.space(space, "space"), self.optimizer(optimizer, "optimizer")),)
        stages = []
        for name, data in given.items():
            where = f"stages.{name}"
            section = self.section(data or {}, where, ("share", "space", "optimizer"))
            own_space = section.get("space") or {}
            if isinstance(own_space, Mapping) and isinstance(space, Mapping):
                # What a stage does not say is as it is for the whole search.
                own_path = own_space.get("path") or {}
                paths = {**(space.get("path") or {}), **own_path} if isinstance(own_path, Mapping) else own_path
                own_space = {**space, **own_space, "path": paths}
            share = self.number(section, "share", f"{where}.share", default=1.0 / len(given), low=0.0, strict=True)
            own_optimizer = section.get("optimizer") or optimizer
            stages.append(
                StageConfig(
                    str(name),
                    share or 0.0,
                    self.space(own_space, f"{where}.space"),
                    self.optimizer(own_optimizer, f"{where}.optimizer"),
                )
            )
        total = math.fsum(stage.share for stage in stages)
        if abs(total - 1.0) > 1e-6:
            self.problems.append(f"the shares of the stages must sum to 1, but sum to {total:g}")
        for stage in stages[1:]:
            if stage.space.name != "dataflow":
                self.problems.append(
                    f"`stages.{stage.name}.space.name` must be dataflow: a stage after the first stacks layers of the "
                    f"best merge so far and of its parents, but it is {stage.space.name}"
                )
        return tuple(stages)

    def models(self, data: Any) -> ModelsConfig | None:
        section = self.section(data, "models", ("base", "parents", "dtype", "tokenizer"))
        parents = section.get("parents")
        if not section:
            return None
        if not isinstance(parents, Mapping) or not parents:
            self.problems.append("`models.parents` must map at least one name to a model, like {math: org/math-model}")
            return None
        self.choice(section, "dtype", "models.dtype", (*DTYPES, None))
        try:
            # A recipe reads its models in the same form, and checks names and dtype on the way.
            draft = {key: section[key] for key in ("base", "parents", "dtype", "tokenizer") if section.get(key)}
            recipe = Recipe.from_data({"method": "linear", **draft})
        except RecipeError as error:
            self.problems.append(f"models: {error}")
            return None
        if "base" in parents:
            self.problems.append("no parent may be called 'base': that name is kept for `models.base`")
        return ModelsConfig(recipe.parents, recipe.base, recipe.dtype, recipe.tokenizer)

    def method(self, data: Any) -> MethodConfig | None:
        if isinstance(data, str):
            data = {"name": data}
        section = self.section(data, "method", ("name", "parameters"))
        if not section:
            return None
        if not section.get("name"):
            self.problems.append("`method.name` is missing; `evomerge methods` lists the merge methods")
            return None
        return MethodConfig(str(section["name"]), dict(self.mapping(section, "parameters", "method.parameters")))

    def space(self, data: Any, where: str) -> SpaceConfig:
        known = ("name", "blocks", "roles", "embeddings", "genes", "path", "layer_cost")
        section = self.section(data, where, known)
        self.choice(section, "name", f"{where}.name", (*SPACES, None))
        blocks = section.get("blocks", SpaceConfig.blocks)
        if isinstance(blocks, Sequence) and not isinstance(blocks, str):
            blocks = tuple(tuple(pair) if isinstance(pair, Sequence) else pair for pair in blocks)
        roles = section.get("roles")
        if roles is not None:
            roles = {
                str(name): tuple(group) for name, group in self.mapping(section, "roles", f"{where}.roles").items()
            }
        genes = self.mapping(section, "genes", f"{where}.genes")
        for gene_name, gene in genes.items():
            if gene is not None and not isinstance(gene, Mapping):
                self.problems.append(
                    f"`{where}.genes.{gene_name}` must be a mapping like {{low:, high:, start:}}, not {gene!r}"
                )
        chosen = str(section.get("name"))
        return SpaceConfig(
            name=chosen if chosen in SPACES else "parameter",
            blocks=blocks,
            roles=roles,
            embeddings=str(section.get("embeddings") or "own"),
            genes={str(key): dict(gene or {}) for key, gene in genes.items() if isinstance(gene or {}, Mapping)},
            path=self.path(section.get("path") or {}, f"{where}.path"),
            layer_cost=self.number(section, "layer_cost", f"{where}.layer_cost", default=0.0) or 0.0,
        )

    def path(self, data: Any, where: str) -> PathConfig:
        known = dict.fromkeys(option for options in ENCODINGS.values() for option in options)
        section = self.section(data, where, ("encoding", "parents", *known))
        self.choice(section, "encoding", f"{where}.encoding", (*ENCODINGS, None))
        encoding = str(section.get("encoding"))
        encoding = encoding if encoding in ENCODINGS else "indicators"
        parents = section.get("parents")
        if parents is not None and (not isinstance(parents, Sequence) or isinstance(parents, str) or not parents):
            self.problems.append(f"`{where}.parents` must list names of parents, but came {parents!r}")
            parents = None
        given = {key: value for key, value in section.items() if key in known and value is not None}
        options = {key: value for key, value in given.items() if key in ENCODINGS[encoding]}
        self.problems += [
            f"`{where}.{key}` is no option of the encoding {encoding}, which has {', '.join(ENCODINGS[encoding])}"
            for key in given
            if key not in options and section.get("encoding") in (encoding, None)  # else it is not known whose they are
        ]
        names = None if parents is None else tuple(str(name) for name in parents)
        return PathConfig(encoding, names, options)

    def optimizer(self, data: Any, where: str) -> OptimizerConfig:
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, Mapping):
            self.problems.append(f"`{where}` must be a name or a mapping with `name`, but came {data!r}")
            return OptimizerConfig()
        options = {str(key): value for key, value in data.items() if key != "name"}
        return OptimizerConfig(str(data.get("name") or "cma"), options)

    def budget(self, data: Any) -> Budget | None:
        section = self.section(data, "budget", ("candidates", "items", "seconds"))
        if all(section.get(key) is None for key in ("candidates", "items", "seconds")):
            self.problems.append("`budget` needs at least one limit: candidates, items or seconds")
        return Budget(
            candidates=self.integer(section, "candidates", "budget.candidates", low=1),
            items=self.integer(section, "items", "budget.items", low=1),
            seconds=self.number(section, "seconds", "budget.seconds", low=0.0, strict=True),
        )

    def evaluation(self, data: Any) -> EvaluationConfig | None:
        known = ("tasks", "include_path", "split", "batch_size", "finalists", "apply_chat_template", "engine")
        section = self.section(data, "evaluation", known)
        if not section:
            return None
        self.choice(section, "engine", "evaluation.engine", (*EVALUATION_ENGINES, None))
        tasks = section.get("tasks") or ()
        if not isinstance(tasks, Sequence) or isinstance(tasks, str) or not tasks:
            self.problems.append(
                "`evaluation.tasks` must list at least one task, like [{name: gsm8k, metric: exact_match}]"
            )
            tasks = ()
        specs = [self.task(task, f"evaluation.tasks[{i}]") for i, task in enumerate(tasks)]
        self.problems += spec_problems([spec for spec in specs if spec is not None]) if tasks else []
        if not specs or None in specs:
            return None
        include = section.get("include_path") or ()
        split = self.section(section.get("split") or {}, "evaluation.split", ("search", "validation", "test"))
        sizes = SplitSizes()
        try:
            sizes = SplitSizes(**split)
        except ConfigError as error:
            self.problems += error.problems
        return EvaluationConfig(
            tasks=shared([task for task in specs if task is not None]),
            include_path=(include,) if isinstance(include, str) else tuple(str(path) for path in include),
            split=sizes,
            batch_size=self.integer(section, "batch_size", "evaluation.batch_size", default=64, low=1) or 64,
            finalists=self.integer(section, "finalists", "evaluation.finalists", default=8, low=1) or 8,
            apply_chat_template=bool(section.get("apply_chat_template", False)),
            engine=str(section.get("engine") or EvaluationConfig.engine),
        )

    def task(self, data: Any, where: str) -> TaskSpec | None:
        # The values themselves are checked by `spec_problems`.
        section = self.section(data, where, [one.name for one in fields(TaskSpec)])
        missing = [key for key in ("name", "metric") if not section.get(key)]
        if missing:
            self.problems.append(f"`{where}` needs {' and '.join(missing)}; came {dict(section)}")
            return None
        constraint = self.constraint(section.get("constraint"), f"{where}.constraint")
        weight = section.get("weight")
        if weight is None:
            weight = 1.0 if constraint is None else 0.0
        return TaskSpec(
            name=str(section["name"]),
            metric=str(section["metric"]),
            filter=section.get("filter"),
            weight=weight,
            direction=section.get("direction"),
            validation=section.get("validation"),
            test=section.get("test"),
            num_fewshot=section.get("num_fewshot"),
            constraint=constraint,
            reference=section.get("reference"),
            of=section.get("of"),
            collapse_margin=section.get("collapse_margin"),
        )

    def constraint(self, data: Any, where: str) -> Constraint | None:
        if data is None:
            return None
        if not isinstance(data, Mapping):
            self.problems.append(f"`{where}` must be like {{max: 0.05}} or {{min: 0.9}}, but came {data!r}")
            return None
        return Constraint(**self.section(data, where, [one.name for one in fields(Constraint)]))

    def fitness(self, data: Any) -> FitnessConfig:
        known = ("items", "choose", "fresh", "estimator", "race", "responses", "consensus")
        section = self.section(data, "fitness", known)
        self.choice(section, "choose", "fitness.choose", (*ITEM_POLICIES, None))
        if ":" not in str(section.get("estimator")):
            self.choice(section, "estimator", "fitness.estimator", (*ESTIMATORS, None))
        fitness = FitnessConfig(
            items=self.integer(section, "items", "fitness.items", low=1),
            choose=str(section.get("choose") or FitnessConfig.choose),
            fresh=bool(section.get("fresh") if section.get("fresh") is not None else FitnessConfig.fresh),
            estimator=str(section.get("estimator") or FitnessConfig.estimator),
            race=self.race(section.get("race")),
            responses=None if section.get("responses") is None else str(section["responses"]),
            consensus=bool(section.get("consensus") if section.get("consensus") is not None else True),
        )
        if fitness.estimator in ("mean", "stratified", "weighted") and fitness.choose == "information":
            self.problems.append(
                "`fitness.choose: information` asks each candidate other items, the doubtful ones, whose plain mean "
                "says nothing about the rest; set `fitness.estimator: model`, or `fitness.choose: stratified`"
            )
        if fitness.race is not None and fitness.items is None:
            self.problems.append("`fitness.race` needs `fitness.items`: how many items a candidate gets on average")
        if fitness.race is not None and fitness.items is not None and (fitness.race.block or 0) > fitness.items:
            self.problems.append(
                f"`fitness.race.block` is {fitness.race.block}, but a candidate gets {fitness.items} items on average "
                "(fitness.items); make the block smaller"
            )
        return fitness

    def race(self, data: Any) -> RaceConfig | None:
        if data is None or data == "none":
            return None
        if isinstance(data, str):
            data = {"rule": data}
        section = self.section(data, "fitness.race", ("rule", "block", "level", "most"))
        self.choice(section, "rule", "fitness.race.rule", (*RACES, None))
        level = self.number(section, "level", "fitness.race.level", default=RaceConfig.level, low=0.0, strict=True)
        if level is not None and level >= 0.5:
            self.problems.append(f"`fitness.race.level` must lie between 0 and 0.5, but came {level:g}")
        return RaceConfig(
            rule=str(section.get("rule") or RaceConfig.rule),
            block=self.integer(section, "block", "fitness.race.block", low=1),
            level=level or RaceConfig.level,
            most=self.integer(section, "most", "fitness.race.most", low=1),
        )

    def execution(self, data: Any) -> ExecutionConfig | None:
        if isinstance(data, str):
            data = {"name": data}
        known = ("name", "device", "dtype", "threads", "cache", "parents", "deterministic", *_OF_RAY)
        section = self.section(data, "execution", known)
        self.choice(section, "name", "execution.name", (*EXECUTORS, None))
        self.choice(section, "dtype", "execution.dtype", (*DTYPES, None))
        self.choice(section, "parents", "execution.parents", (*PARENTS, None))
        device = self.device(section.get("device"))
        name = str(section.get("name") or "local")
        given = [key for key in _OF_RAY if section.get(key) not in (None, {}, "auto")]
        if name == "local" and given:
            self.problems.append(
                f"`execution.{given[0]}` is for Ray, but `execution.name` is local: choose `execution=ray`, or drop it"
            )
        if name == "ray" and "," in device:
            self.problems.append(
                f"`execution.device` is {device}, but Ray chooses the GPUs of its workers: say how many each takes "
                "with `execution.gpus_per_worker`"
            )
        return ExecutionConfig(
            name=name,
            device=device,
            dtype=section.get("dtype"),
            threads=self.integer(section, "threads", "execution.threads", low=1),
            cache=self.cache(section.get("cache")),
            parents=str(section.get("parents") or ExecutionConfig.parents),
            deterministic=self.switch(section, "deterministic", "execution.deterministic"),
            **self.ray(section, device),
        )

    def switch(self, section: Mapping[str, Any], key: str, where: str) -> bool:
        value = section.get(key)
        if value not in (None, True, False):
            self.problems.append(f"`{where}` must be true or false, but came {value!r}")
        return value is not False

    def device(self, value: Any) -> str:
        given = value if isinstance(value, (list, tuple)) else str(value or "auto").split(",")
        names = [str(one).strip() for one in given] or ["auto"]
        if len(names) > 1 and not (all(_GPU.fullmatch(one) for one in names) and len(set(names)) == len(names)):
            self.problems.append(
                "several devices in `execution.device` must be different GPUs with their numbers, as in "
                f"[cuda:0, cuda:1], but came {value!r}"
            )
            names = ["auto"]
        return ",".join(names)

    def ray(self, section: Mapping[str, Any], device: str) -> dict[str, Any]:
        workers = section.get("workers")
        address = section.get("address")
        if address is not None and (not isinstance(address, str) or not address or address.startswith("ray://")):
            self.problems.append(
                f"`execution.address` must be host:port of the head node, or auto for the cluster on this machine (not "
                f"Ray's client, ray://…), but came {address!r}"
            )
            address = None
        gpus = self.number(section, "gpus_per_worker", "execution.gpus_per_worker", low=0.0)
        if gpus is not None and gpus > 1.0 and (gpus != int(gpus) or gpus > MOST_GPUS):
            self.problems.append(
                f"`execution.gpus_per_worker` must be a part of one GPU, or a whole number up to {MOST_GPUS}, but came "
                f"{gpus:g}"
            )
            gpus = None
        if gpus is not None and gpus > 1.0 and device not in ("auto", "cuda", "cpu"):
            self.problems.append(
                f"`execution.device` is {device}, but a worker with {gpus:g} GPUs uses all that Ray gives it: drop "
                "`execution.device`"
            )
        if gpus and device == "cpu":
            self.problems.append(
                "`execution.device` is cpu, but `execution.gpus_per_worker` asks for GPUs; leave one of them out"
            )
        cpus = self.number(section, "cpus_per_worker", "execution.cpus_per_worker", default=1.0, low=0.0, strict=True)
        if cpus is not None and cpus > 1.0 and cpus != int(cpus):
            self.problems.append(
                f"`execution.cpus_per_worker` must be a whole number above 1 (Ray's rule), but came {cpus:g}"
            )
        return {
            "workers": None
            if workers in (None, "auto")
            else self.integer(section, "workers", "execution.workers (a number, or auto)", low=1),
            "cpus_per_worker": cpus or 1.0,
            "gpus_per_worker": 0.0 if device == "cpu" else gpus,
            "address": address,
            "timeout": self.timeout(section),
            "share": self.switch(section, "share", "execution.share"),
            "runtime_env": dict(self.mapping(section, "runtime_env", "execution.runtime_env")),
        }

    def timeout(self, section: Mapping[str, Any]) -> float | str | None:
        value = section.get("timeout")
        if value in (None, "auto"):
            return ExecutionConfig.timeout
        if value == "none":
            return None
        return self.number(section, "timeout", "execution.timeout (seconds, auto or none)", low=0.0, strict=True)

    def cache(self, value: Any) -> str | float:
        if value is None:
            return ExecutionConfig.cache
        if isinstance(value, str) and value in CACHES:
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value < math.inf:
            return float(value)
        self.problems.append(f"`execution.cache` must be auto, none or a size in GiB, but came {value!r}")
        return ExecutionConfig.cache

    # --- the kinds of values -------------------------------------------------------------------------------------

    def section(self, data: Any, where: str, known: Sequence[str]) -> Mapping[str, Any]:
        """Return the known keys of a mapping, noting the others."""
        if not isinstance(data, Mapping):
            self.problems.append(f"`{where}` must be a mapping with {', '.join(known)}, but came {data!r}")
            return {}
        for key in data:
            if key not in known:
                self.problems.append(unknown_name(f"key in {where}", str(key), known))
        return {key: value for key, value in data.items() if key in known}

    def mapping(self, data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        value = data.get(key) or {}
        if isinstance(value, Mapping):
            return value
        self.problems.append(f"`{where}` must be a mapping, but came {value!r}")
        return {}

    def choice(self, data: Mapping[str, Any], key: str, where: str, known: Sequence[str | None]) -> None:
        value = data.get(key)
        if value not in known:
            self.problems.append(unknown_name(where, str(value), [name for name in known if name is not None]))

    def integer(
        self, data: Mapping[str, Any], key: str, where: str, *, default: int | None = None, low: int
    ) -> int | None:
        value = data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            self.problems.append(f"`{where}` must be a whole number from {low}, but came {value!r}")
            return default
        return value

    def number(
        self,
        data: Mapping[str, Any],
        key: str,
        where: str,
        *,
        default: float | None = None,
        low: float = -math.inf,
        strict: bool = False,
    ) -> float | None:
        value = data.get(key)
        if value is None:
            return default
        fits: Callable[[float], bool] = (lambda v: v > low) if strict else (lambda v: v >= low)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
            or not fits(value)
        ):
            self.problems.append(
                f"`{where}` must be a number {'above' if strict else 'from'} {low:g}, but came {value!r}"
            )
            return default
        return float(value)
