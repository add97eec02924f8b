"""Scores live models on lm-eval tasks. Tasks, prompts and token ids are made once; a candidate costs forward passes.

Scores equal those of `lm_eval.simple_evaluate` on the same items, item by item. Decoding is greedy; nothing random is
drawn while a candidate is scored. An engine (`engines`) runs the forward passes.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.answers import item_answers
from evomerge.evaluation.catalog import TaskCatalog, check
from evomerge.evaluation.chat import Chat, TriedTemplate, chat_key, settings_tried
from evomerge.evaluation.contents import short_hash
from evomerge.evaluation.engines.base import Answers, Call, Division, Engine, Response
from evomerge.evaluation.engines.batching import by_prefix
from evomerge.evaluation.engines.encoding import Encoded, Encoder, request_size
from evomerge.evaluation.engines.images import image_chat_template, processor_beside
from evomerge.evaluation.engines.registry import ENGINES, make_engine
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.measures.base import Measure
from evomerge.evaluation.prepared_task import PreparedTask, Requests, Results, by_request_type, put_responses, reset
from evomerge.evaluation.quiet import compiled_templates, quiet
from evomerge.evaluation.subset import Drawn, draw_splits
from evomerge.evaluation.task import SplitSizes, Task, TaskSpec, shared
from evomerge.evaluation.terms import measures_on
from evomerge.evaluation.trial import answer_length, passed_on_problem
from evomerge.record import ItemAnswer, ItemPrompt, ItemScore, Score, Split
from evomerge.system.faults import PASSED_ON, fault_of, is_out_of_memory
from evomerge.system.stopwatch import UNTIMED, Timer
from evomerge.system.text import error_text, visible

_PREPARED_KEPT = 16
"""How many selections of items keep their order and batches; a race of candidates uses a few again and again."""


class LmHarness:
    """The tasks of a search, their splits, and the way to score a model on them.

    The constructor finds mistakes in names, without a dataset. `prepare`, which is called wherever it is needed, loads
    the datasets and draws the splits. The first `score` of a split builds its requests.

    Attributes:
        timer: takes the time of the sections "engine" (which contains the model's passes) and "scoring".
    """

    check = staticmethod(check)

    def __init__(
        self,
        specs: Sequence[TaskSpec],
        *,
        sizes: SplitSizes,
        seed: int = 0,
        include_path: Sequence[str | Path] = (),
        batch_size: int = 64,
        max_length: int | None = None,
        chat: Chat | None = None,
        allow_unsafe_code: bool = False,
        recorded_splits: Mapping[str, Any] | None = None,
        should_stop: Callable[[], bool] | None = None,
        engine: str = "hf",
        measures: Collection[str] = (),
        every_metric: bool = False,
        where_they_fit: bool = False,
        sharers: int = 1,
        halvings: int = 0,
    ) -> None:
        """Check the specs and keep the settings.

        Args:
            specs: the entries of the objectives.
            sizes: how many items each split takes.
            seed: the run's seed, from which the splits are drawn.
            include_path: folders (or single files) with the user's own task YAML.
            batch_size: most sequences in a forward pass; fewer where the memory does not suffice.
            max_length: longest prompt with its answer, in tokens; None: what the model's config says.
            chat: how models are asked; None: in plain text.
            allow_unsafe_code: whether tasks may run code that the model writes.
            recorded_splits: what `split_data` returned when the run began; None: draw the splits.
            should_stop: called before every forward pass; True ends a running `score` with `Interrupted`.
            engine: what runs the model (a name in `ENGINES`): "hf", or "lm-eval" for lm-eval's own slower wrapper.
            measures: built-in measures to take wherever possible, besides those that the specs name.
            every_metric: whether the specs only name tasks, so that their metrics and filters mean nothing.
            where_they_fit: whether `num_fewshot` and `generation` are left out, rather than refused, for a task that
                cannot follow them.
            sharers: how many processes, this one included, take memory for their passes from what is free.
            halvings: how often batch_size is halved, because memory ran out.

        Raises:
            ConfigError: with every mistake in names, filters, metrics and numbers.
        """
        problems = check(
            specs,
            include_path,
            allow_unsafe_code=allow_unsafe_code,
            every_metric=every_metric,
            where_they_fit=where_they_fit,
        )
        if not isinstance(batch_size, int) or batch_size < 1:
            problems.append(f"batch_size must be a whole number of at least 1, but came {batch_size!r}")
        problems += ENGINES.problems(engine)
        if problems:
            raise ConfigError(problems)
        self._given = shared(specs)
        self._runs = tuple(dict.fromkeys(spec.task for spec in self._given))
        self._extra = tuple(measures)
        self._every_metric, self._where_they_fit = every_metric, where_they_fit
        self._sizes = sizes
        self._seed = seed
        self._include_path = tuple(include_path)
        self._batch_size = batch_size
        self._sharers, self._halvings = sharers, halvings
        self._max_length = max_length
        self._chat = chat or Chat()
        self._allow_unsafe_code = allow_unsafe_code
        self._recorded = recorded_splits
        self._should_stop = should_stop
        self._specs: tuple[TaskSpec, ...] = ()
        self._tasks: dict[Task, PreparedTask] = {}  # each by its own name, without those of other splits
        self._splits: dict[str, dict[Split, Drawn]] = {}
        self._requests: dict[tuple[Split, str | None], dict[str, Requests]] = {}
        self.timer: Timer = UNTIMED
        self._engine_name = engine
        self._engine: Engine | None = None
        self._encoders: dict[tuple[int, int], tuple[Any, Encoder]] = {}
        self._encoded: dict[tuple[int, int], dict[int, Encoded | None]] = {}  # encoder: id of an instance: token ids
        self._prepared: OrderedDict[Any, list[tuple[Call, Any]]] = OrderedDict()

    @property
    def specs(self) -> tuple[TaskSpec, ...]:
        """The tasks, each with its filter and direction filled in; loads the tasks."""
        self.prepare()
        return self._specs

    def prepare(self) -> None:
        """Load the tasks and their datasets and draw the splits; a second call does nothing.

        Raises:
            ConfigError: if a task or dataset cannot be loaded, does not fit its spec, has too few items, or no longer
                is what the recorded splits were drawn from.
        """
        if self._specs:
            return
        catalog = TaskCatalog(self._include_path)
        problems: list[str] = []
        specs = []
        for task in self._runs:
            try:
                self._prepare_task(task, catalog)
            except ConfigError as error:
                problems += error.problems
        for spec in self._given:
            try:
                specs.append(self._resolve(spec))
            except ConfigError as error:
                problems += [one for one in error.problems if one not in problems]
        if problems:
            raise ConfigError(problems)
        self._specs = tuple(specs)

    def split_items(self, split: Split) -> dict[str, tuple[int, ...]]:
        """Return the items of a split: task name to indices, ascending; the order in which `score` answers."""
        self.prepare()
        return {name: drawn[split].items for name, drawn in self._splits.items()}

    def sources(self, split: Split) -> dict[str, str]:
        """Return the lm-eval task from whose documents the items of a split are: task name to its name."""
        return {task.name: task.source(split) for task in self._runs}

    def split_data(self) -> dict[str, Any]:
        """Return the splits that were drawn, as JSON data; the argument `recorded_splits` takes it."""
        self.prepare()
        tasks = {
            name: {str(split): one.to_data() for split, one in drawn.items()} for name, drawn in self._splits.items()
        }
        return {"seed": self._seed, "tasks": tasks}

    def contents(self, *, keep: Collection[Split] = ()) -> dict[str, Any]:
        """Return what the items of all splits ask and what answers to them are worth, as JSON data of hashes.

        The requests are built for it, in plain text or as the turns of a chat, since a template belongs to a tokenizer.

        Args:
            keep: the splits whose requests are kept for the first `score`; those of the others are built again then,
                so that they take no memory meanwhile.

        Returns:
            `items`: for each task and split the `source`, and the hashes of `evaluation.contents.item_hashes`;
            `scoring`: for each lm-eval task those of `evaluation.contents.scoring_contents`.

        Raises:
            ConfigError: if the prompts cannot be built.
        """
        self.prepare()
        items: dict[str, dict[str, Any]] = {task.name: {} for task in self._runs}
        scoring: dict[str, dict[str, str]] = {}
        for split in Split:
            built = self._build(split, (lambda _: self._as_turns) if self._chat.template else None)
            for task in self._runs:
                source = task.source(split)
                prepared = self._task(task, source)
                items[task.name][str(split)] = {"source": source, **prepared.item_hashes(built[task.name])}
                if source not in scoring:
                    scoring[source] = prepared.scoring_contents()
                    if self._chat.think_end is not None and prepared.output_type == "generate_until":
                        scoring[source]["think_end_token"] = short_hash(self._chat.think_end)
            if split in keep and not self._chat.template:
                self._requests[split, None] = built
        return {"items": items, "scoring": scoring}

    def pools(self) -> dict[str, list[str]]:
        """Return for each lm-eval task the hashes of all its documents, in order; see `Drawn.documents`."""
        self.prepare()
        return {one.name: task.document_hashes() for one, task in self._tasks.items()}

    def datasets(self) -> dict[str, dict[str, str]]:
        """Return for each lm-eval task the data set that its documents are from, as `TaskData.to_data` gives it."""
        self.prepare()
        return {one.name: task.data.to_data() for one, task in self._tasks.items()}

    def score(
        self,
        model: Any,
        tokenizer: Any,
        split: Split,
        items: Mapping[str, Sequence[int]] | None = None,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> tuple[ItemScore, ...]:
        """Score a live transformers model.

        Args:
            model: a causal language model on its device; only its forward passes and `generate` are used.
            tokenizer: its transformers tokenizer; it is not changed.
            split: the split to which the items belong.
            items: task name to items of the split; None: the whole split. Tasks that are left out are not run.
            should_stop: used instead of the constructor's; None: the constructor's.

        Returns:
            One score per task and item: tasks in the order of the specs, items ascending. It holds every numeric metric
            of the task (see `metrics`) under "metric", or "metric,filter" where the task has several filters, and the
            measures (see `measures`).

        Raises:
            EvaluationError: if the model cannot be scored: logits that are not finite, a failing generation, a
                failing filter or metric. The message names the task and the cause.
            Interrupted: if `should_stop` returned True.
            ConfigError: if the prompts cannot be built.
            ValueError: if `items` names a task or an item that the split does not have.
        """
        self.prepare()
        with quiet():
            answers = self._answers(model, tokenizer, split, items, should_stop or self._should_stop, UnitRange())
            return self._scores(model, tokenizer, split, items, answers)

    def answers(
        self,
        model: Any,
        tokenizer: Any,
        split: Split,
        items: Mapping[str, Sequence[int]] | None,
        units: UnitRange,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> Answers:
        """Answer a candidate's units in a range; `scores` takes the answers to all units together.

        Args:
            model: as for `score`; so are `tokenizer`, `split`, `items` and `should_stop`.
            units: the range; units that are stolen from it in the meantime are left out.

        Returns:
            Plain data: for each kind of request, the request's position to the response.

        Raises:
            EvaluationError, Interrupted, ConfigError, ValueError: as `score`.
        """
        self.prepare()
        with quiet():
            return self._answers(model, tokenizer, split, items, should_stop or self._should_stop, units)

    def scores(
        self,
        model: Any,
        tokenizer: Any,
        split: Split,
        items: Mapping[str, Sequence[int]] | None,
        answers: Sequence[Answers],
        texts: list[ItemAnswer] | None = None,
    ) -> tuple[ItemScore, ...]:
        """Return what `score` would return, from partial answers that together cover every unit; no pass is run.

        Args:
            model: the model that answered, or one of the same kind.
            tokenizer: its tokenizer.
            split: as it was given to `answers`.
            items: as they were given to `answers`.
            answers: the partial answers, in any order.
            texts: gets what was answered to each item, raw and filtered, to be read by people; None: it is not kept.

        Raises:
            EvaluationError: if a filter or a metric fails, or an answer is missing.
        """
        self.prepare()
        together = [
            {place: response for part in parts for place, response in part.items()}
            for parts in zip(*answers, strict=True)  # one from each, for each kind of request
        ]
        with quiet():
            return self._scores(model, tokenizer, split, items, together, texts=texts)

    def variant(self, tokenizer: Any = None) -> str:
        """Return a hash of what decides, besides the settings, how prompts are written: the tokenizer's chat template.

        Args:
            tokenizer: the tokenizer of the model that is asked; it only matters where templates are applied.
        """
        return short_hash(chat_key(tokenizer)) if self._chat.template else ""

    def prompts(self, split: Split, tokenizer: Any = None) -> list[ItemPrompt]:
        """Return what each item of a split asks.

        Args:
            split: the split.
            tokenizer: as for `variant`.

        Raises:
            ConfigError: if the prompts cannot be built.
        """
        self.prepare()
        template = chat_key(tokenizer) if self._chat.template else None
        with quiet():
            built = self._requests.get((split, template))
            if built is None:  # they take memory, and nobody here scores them
                write = None
                if template is not None:
                    arguments = self._chat.arguments_for(tokenizer)
                    write = self._templates(tokenizer, Encoder(tokenizer, 1, template_arguments=arguments))
                built = self._build(split, write)
            return [
                prompt
                for task in self._runs
                for prompt in self._task(task, task.source(split)).item_prompts(task.name, built[task.name])
            ]

    def evaluate(
        self, model: Any, tokenizer: Any, split: Split, texts: list[ItemAnswer] | None = None
    ) -> tuple[tuple[ItemScore, ...], dict[str, dict[str, Score]]]:
        """Score a live model on a whole split, once.

        Args:
            model: as for `score`; so are `tokenizer` and `split`.
            texts: as for `scores`.

        Returns:
            What `score` returns; and for each task the metrics that are no mean of item scores (see `totals`), by the
            keys of `ItemScore.metrics`.

        Raises:
            EvaluationError, Interrupted, ConfigError: as `score`.
        """
        self.prepare()
        kept: dict[str, Results] = {}
        with quiet():
            answers = self._answers(model, tokenizer, split, None, self._should_stop, UnitRange())
            scores = self._scores(model, tokenizer, split, None, answers, kept, texts)
        return scores, {
            task.name: self._task(task, task.source(split)).totals(task.name, kept[task.name])
            for task in self._runs
            if task.name in kept
        }

    @property
    def generates(self) -> bool:
        """Whether some task asks for texts."""
        self.prepare()
        return any(one.output_type == "generate_until" for one in self._tasks.values())

    def generation_problems(self, lengths: Sequence[tuple[str, int]]) -> list[str]:
        """Return what models cannot do of what tasks ask for in their generation_kwargs, one sentence each.

        Args:
            lengths: who is to be scored, with the longest prompt with its answer, in tokens.
        """
        self.prepare()
        problems = []
        for name, settings in self._generation_settings():
            wanted = answer_length(settings)
            rooms = [(who, self._max_length or length) for who, length in lengths]
            short = [(who, length) for who, length in rooms if length <= wanted]
            if short:
                names, least = ", ".join(who for who, _ in short), min(length for _, length in short)
                problems.append(
                    f"task {name!r} asks for answers of up to {wanted} tokens (max_gen_toks in its generation_kwargs; "
                    f"256 where it says nothing), which leaves no room for a prompt in {names} (prompt and answer "
                    f"together: {least} tokens); lower it with `generation: {{max_gen_toks: …}}` in its entry (in "
                    "`evaluate`: --gen-kwargs)"
                )
            reason = passed_on_problem(settings) if self._engine_name in ("hf", "lm-eval") else None
            if reason is not None:
                problems.append(
                    f"task {name!r}: transformers refuses its generation_kwargs: {visible(reason, most=300)}; "
                    "mend its YAML, or what replaces them"
                )
        return list(dict.fromkeys(problems))

    def tried_templates(self, tokenizers: Sequence[tuple[str, Any]]) -> tuple[list[str], list[str]]:
        """Build the first prompt of each task with each chat template, and try what ends the thinking.

        Args:
            tokenizers: who is to be scored, as a sentence calls it, with the tokenizer.

        Returns:
            What fails, and what the user should know (a template takes no system message or does not read an argument,
            thinking is cut); one sentence each.
        """
        self.prepare()
        unseeing = self._unseeing(tokenizers)
        if unseeing:
            return unseeing, []
        failed: dict[str, list[str]] = {}
        refused: dict[str, list[str]] = {}
        dated: dict[str, None] = {}
        problems, notes = settings_tried(self._chat, tokenizers)
        notes += self._of_thinking()
        with quiet():
            for who, tokenizer in tokenizers if self._chat.template else ():
                encoder = Encoder(tokenizer, 1, template_arguments=self._chat.arguments_for(tokenizer))
                for task in self._runs:
                    templates = self._templates(tokenizer, encoder)
                    tried = TriedTemplate(tokenizer, templates(self._task(task, task.name)), self._chat)
                    self._try_template(task, tried)
                    if tried.dated:
                        dated[who] = None
                    if tried.error is not None:
                        reason = visible(error_text(tried.error, name=True), most=300)
                        failed.setdefault(f"cannot write the prompts of task {task.name!r}: {reason}", []).append(who)
                    elif tried.refuses_system:
                        refused.setdefault(task.name, []).append(who)
        problems += [
            f"the chat template of {', '.join(names)} {reason}; mend it, or ask without a template"
            for reason, names in failed.items()
        ]
        if dated:
            notes.append(
                f"the chat template of {', '.join(dated)} writes today's date, so that the prompts are others on "
                "another day; give it a fixed one if it takes that (Llama 3: the argument date_string: 26 Jul 2024)"
            )
        if self._chat.system is None:
            notes += [
                f"the chat template of {', '.join(names)} takes no system message: the description of task {task!r} is "
                "left out there, as lm-eval does"
                for task, names in refused.items()
            ]
        elif refused:
            names = dict.fromkeys(who for found in refused.values() for who in found)
            problems.append(
                f"the chat template of {', '.join(names)} takes no system message, so the system text would be left "
                "out there, as lm-eval does, and other models would be asked otherwise; leave the text out, or give "
                "each a template that takes it"
            )
        return problems, notes

    def _unseeing(self, tokenizers: Sequence[tuple[str, Any]]) -> list[str]:
        """Return who cannot be asked about images, if a task shows any, one sentence each."""
        seen = [task.name for task, one in self._tasks.items() if one.shows_images]
        if not seen:
            return []
        problems = []
        if self._chat.think_end is not None:
            problems.append(
                f"task {seen[0]!r} shows images, for which lm-eval knows no think_end_token; leave one of them out"
            )
        for who, tokenizer in tokenizers:
            try:
                processor_beside(tokenizer)
            except EvaluationError as error:
                problems.append(f"{who}: {error}")
        return problems

    def _generation_settings(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the tasks that ask for texts by their generation_kwargs, with these."""
        for one, task in self._tasks.items():
            settings = task.generation_settings
            if settings is not None:
                yield one.name, settings

    def _of_thinking(self) -> Iterator[str]:
        """Yield what a user might not expect of models that think before they answer."""
        thinks = bool(self._chat.arguments.get("enable_thinking"))
        if thinks and self._chat.think_end is None and self.generates:
            yield (
                "enable_thinking is set, but no think_end_token: what a model thinks counts as its answer (often: "
                "think_end_token: </think>)"
            )
        options = [one.name for one, task in self._tasks.items() if task.output_type != "generate_until"]
        if thinks and options:
            yield (
                f"enable_thinking is set, but task {', '.join(map(repr, options))} has no answers written, so that "
                "options follow the prompt without any thinking (lm-eval refuses that)"
            )
        if self._chat.think_end is not None:
            for name, settings in self._generation_settings():
                until = settings.get("until") or []
                texts = [until] if isinstance(until, str) else list(until)
                if texts:
                    yield (
                        f"task {name!r} ends an answer at {' or '.join(map(repr, texts))}, as lm-eval does also where "
                        "the model still thinks; if it may write that there, say `generation: {until: []}` for the "
                        "task, and the end token alone ends an answer"
                    )

    def _try_template(self, task: Task, template: Callable[..., str]) -> None:
        """Build the first prompt of a task from each of its sources."""
        drawn = [one for one in self._splits[task.name].values() if one.items]
        for source in dict.fromkeys(one.source for one in drawn):
            first = next(one.items for one in drawn if one.source == source)
            with suppress(ConfigError):  # what is not the template's fault shows when all prompts are built
                self._task(task, source).build(
                    first[:1],
                    shots_from=first,
                    chat_template=template,
                    system=self._chat.system,
                    shots_as_turns=self._chat.fewshot_as_turns,
                )

    def request_sizes(self, model: Any, tokenizer: Any, items_per_task: int) -> list[tuple[int, int]]:
        """Return how much work the first search items of each task are; no pass is run.

        Args:
            model: as for `score`; so is `tokenizer`.
            items_per_task: how many items to look at.

        Returns:
            For each request the tokens to read, without the beginning that all prompts of its task share, and the most
            tokens to write. Requests that only lm-eval can answer are left out.

        Raises:
            ConfigError: if the prompts cannot be built.
        """
        self.prepare()
        items = {task: chosen[:items_per_task] for task, chosen in self.split_items(Split.SEARCH).items()}
        with quiet():
            _, calls, _ = self._asked(model, tokenizer, Split.SEARCH, items)
        sizes = []
        for call, _ in calls:
            known = [(task, request_size(one)) for task, one in zip(call.tasks, call.encoded, strict=True) if one]
            for group in by_prefix([tokens for _, (tokens, _) in known], [task for task, _ in known]) if known else ():
                sizes += [(len(known[i][1][0]) - len(group.prefix), known[i][1][1]) for i in group.members]
        return sizes

    def share_engine(self, other: LmHarness) -> None:
        """Use the engine of another harness with the same settings, since an engine may hold a copy of the weights."""
        self._engine = other._engine_made()

    def release(self) -> None:
        """Release the last model, which is otherwise kept until another one is scored."""
        if self._engine is not None:
            self._engine.release()

    def _answers(
        self,
        model: Any,
        tokenizer: Any,
        split: Split,
        items: Mapping[str, Sequence[int]] | None,
        should_stop: Callable[[], bool] | None,
        units: UnitRange,
    ) -> Answers:
        engine, calls, _ = self._asked(model, tokenizer, split, items)
        found: Answers = []
        with self.timer.section("engine"), self.timer.passes(model):
            divisions = []
            for call, prepared in calls:
                with _naming(call):
                    divisions.append(engine.divide(model, prepared, should_stop))
            units.open(sum(division.n_units for division in divisions))
            start = 0
            for (call, _), division in zip(calls, divisions, strict=True):
                found.append({})
                if units.overlaps(start, start + division.n_units):
                    found[-1] = self._run(engine, model, tokenizer, call, division, should_stop, units, start)
                start += division.n_units
        return found

    def _scores(
        self,
        model: Any,
        tokenizer: Any,
        split: Split,
        items: Mapping[str, Sequence[int]] | None,
        answers: Answers,
        kept: dict[str, Results] | None = None,
        texts: list[ItemAnswer] | None = None,
    ) -> tuple[ItemScore, ...]:
        if texts is not None and kept is None:
            kept = {}
        _, calls, requests = self._asked(model, tokenizer, split, items)
        reset(list(requests.values()))
        try:
            for (call, _), found in zip(calls, answers, strict=True):
                missing = len(call.instances) - len(found)
                if missing:
                    raise EvaluationError(f"{missing} of {len(call.instances)} {call.kind} requests were not answered")
                put_responses(call, [found[i] for i in range(len(found))])
            with self.timer.section("scoring"), compiled_templates():

                def count_tokens(text: str) -> int:
                    return len(tokenizer.encode(text, add_special_tokens=False))

                scores = tuple(
                    score
                    for task in self._runs
                    if task.name in requests
                    for source in (task.source(split),)
                    for score in self._task(task, source).item_scores(
                        task.name,
                        requests[task.name],
                        self._measures(task, source),
                        count_tokens,
                        None if kept is None else kept.setdefault(task.name, {}),
                    )
                )
                if texts is not None and kept is not None:
                    for name, one in requests.items():
                        texts.extend(item_answers(name, one.items, one.instances, kept.get(name, {})))
                return scores
        finally:
            reset(list(requests.values()))

    def _asked(
        self, model: Any, tokenizer: Any, split: Split, items: Mapping[str, Sequence[int]] | None
    ) -> tuple[Engine, list[tuple[Call, Any]], dict[str, Requests]]:
        """Return the engine, what it is asked, and the same requests by task."""
        engine = self._engine_made()
        encoder, encoder_key = self._encoder(engine, model, tokenizer)
        template, requests = self._built(split, encoder, tokenizer)
        chosen = None
        if items is not None:
            unknown = set(items) - set(requests)
            if unknown:
                raise ValueError(f"items of {sorted(unknown)} came, but the tasks are {', '.join(requests)}")
            requests = {name: one.only(items[name]) for name, one in requests.items() if name in items}
            chosen = tuple((name, one.items) for name, one in requests.items())
        key = (split, template, encoder_key, chosen)
        return engine, self._calls(engine, encoder, encoder_key, key, requests), requests

    def _prepare_task(self, task: Task, catalog: TaskCatalog) -> None:
        """Load a task, and those from which its other splits are drawn, and draw the splits."""
        for name in task.sources:
            entry = catalog.find(name)
            if entry is None or entry.path is None:
                raise ConfigError(f"task {name!r} was there when it was checked, but its file is gone")
            key = _alone(task, name)
            if key not in self._tasks:
                self._tasks[key] = PreparedTask(
                    name,
                    entry.path,
                    num_fewshot=task.num_fewshot,
                    generation=task.generation,
                    where_they_fit=self._where_they_fit,
                    allow_unsafe_code=self._allow_unsafe_code,
                )
        n_docs = {name: self._task(task, name).n_docs for name in task.sources}
        if self._recorded is None:
            drawn = draw_splits(task, n_docs, self._sizes, self._seed)
        else:
            drawn = _recorded(task, n_docs, self._recorded)
        self._splits[task.name] = {split: self._known(task, split, one) for split, one in drawn.items()}

    def _known(self, task: Task, split: Split, drawn: Drawn) -> Drawn:
        """Return a split with the hash of its documents, which is that with which it was recorded."""
        documents = short_hash(self._task(task, drawn.source).document_hashes(drawn.items))
        if drawn.documents and drawn.documents != documents:
            raise ConfigError(
                f"task {drawn.source!r}: the documents of the {split} items are not those that the splits were drawn "
                "from: the dataset, its order or what the task makes of it changed; restore it, or start a new run"
            )
        return replace(drawn, documents=documents)

    def _resolve(self, spec: TaskSpec) -> TaskSpec:
        """Check a spec against the tasks of its splits; the main task fills in its filter and direction."""
        if self._every_metric:
            return spec
        sources = [name for name in spec.sources if _alone(spec.task, name) in self._tasks]  # others failed to load
        resolved = [self._task(spec.task, name).resolve(spec) for name in sources]
        return resolved[0] if resolved else spec

    @property
    def allows_unsafe_code(self) -> bool:
        """Whether tasks may run code that the model writes."""
        return self._allow_unsafe_code

    @property
    def code_tasks(self) -> list[str]:
        """The tasks that say that they run code that the model writes; loads the tasks."""
        self.prepare()
        return list(dict.fromkeys(one.name for one, task in self._tasks.items() if task.runs_code))

    def _task(self, task: Task, source: str) -> PreparedTask:
        return self._tasks[_alone(task, source)]

    def _measures(self, task: Task, source: str) -> tuple[Measure, ...]:
        """Return what is measured on a task besides its own metrics."""
        prepared = self._task(task, source)
        mine = [spec.metric for spec in self._specs if spec.name == task.name]
        return measures_on([*mine, *self._extra], prepared.output_type, prepared.metrics)

    def _built(self, split: Split, encoder: Encoder, tokenizer: Any) -> tuple[str | None, dict[str, Requests]]:
        # With a chat template the prompts depend on the tokenizer, which a recipe may choose.
        template = None
        if self._chat.template:
            lacking = self._chat.lacking(tokenizer)
            if lacking is not None:
                raise ConfigError(
                    f"models are to be asked by their chat template, but the tokenizer has {lacking}; ask without one"
                )
            template = chat_key(tokenizer)
        key = (split, template)
        if key not in self._requests:
            write = None if template is None else self._templates(tokenizer, encoder)
            self._requests[key] = self._build(split, write)
        return template, self._requests[key]

    def _templates(self, tokenizer: Any, encoder: Encoder) -> Callable[[PreparedTask], Callable[..., str]]:
        """Return what gives each task lm-eval's function from a chat, which may have places for images, to text."""
        seeing: list[Callable[..., str]] = []

        def of(task: PreparedTask) -> Callable[..., str]:
            if not task.shows_images:
                return encoder.chat_template
            if not seeing:
                arguments = self._chat.arguments_for(tokenizer)
                seeing.append(image_chat_template(processor_beside(tokenizer), arguments))
            return seeing[0]

        return of

    def _build(
        self, split: Split, chat_template: Callable[[PreparedTask], Callable[..., str]] | None
    ) -> dict[str, Requests]:
        """Build the requests of a split, by task."""
        built = {}
        for task in self._runs:
            drawn = self._splits[task.name]
            mine = drawn[split]
            # Few-shot examples come from the earliest split of the same pool: from search items, if there are any,
            # and from test items for test items only.
            shots_from = next((d.items for d in drawn.values() if d.source == mine.source and d.items), ())
            prepared = self._task(task, mine.source)
            built[task.name] = prepared.build(
                mine.items,
                shots_from=shots_from,
                chat_template=None if chat_template is None or not mine.items else chat_template(prepared),
                system=self._chat.system,
                shots_as_turns=self._chat.fewshot_as_turns,
            )
        return built

    def _as_turns(self, chat: Sequence[Mapping[str, str]], add_generation_prompt: bool = True, **_: Any) -> str:
        """Stand in for a tokenizer's chat template: the turns as they are, and what else a template is given."""
        settings = {"template": self._chat.template, **self._chat.arguments}
        further = [settings] if settings != {"template": True} else []
        return json.dumps([list(chat), add_generation_prompt, *further], sort_keys=True)

    def _engine_made(self) -> Engine:
        if self._engine is None:
            self._engine = make_engine(
                self._engine_name,
                batch_size=self._batch_size,
                max_length=self._max_length,
                sharers=self._sharers,
                halvings=self._halvings,
            )
        return self._engine

    def _encoder(self, engine: Engine, model: Any, tokenizer: Any) -> tuple[Encoder, tuple[int, int]]:
        key = (id(tokenizer), engine.context_length(model, tokenizer))
        if key not in self._encoders:
            # The entry holds the tokenizer, so that no other object gets its id.
            arguments = self._chat.arguments_for(tokenizer)
            encoder = Encoder(tokenizer, key[1], template_arguments=arguments, think_end=self._chat.think_end)
            self._encoders[key] = (tokenizer, encoder)
            self._encoded[key] = {}
        return self._encoders[key][1], key

    def _calls(
        self, engine: Engine, encoder: Encoder, encoder_key: tuple[int, int], key: Any, requests: Mapping[str, Requests]
    ) -> list[tuple[Call, Any]]:
        """Return the requests by kind, encoded and prepared for the engine; the same requests are prepared once."""
        if key in self._prepared:
            self._prepared.move_to_end(key)
            return self._prepared[key]
        known = self._encoded[encoder_key]
        calls = []
        for kind, pairs in by_request_type(requests).items():
            for _, instance in pairs:
                if id(instance) not in known:
                    known[id(instance)] = encoder.encode(kind, instance.args)
            call = Call(
                kind,
                tuple(instance for _, instance in pairs),
                tuple(name for name, _ in pairs),
                tuple(known[id(instance)] for _, instance in pairs),
                self._chat.think_end,
                bool(self._chat.template),
            )
            calls.append((call, engine.prepare(call)))
        self._prepared[key] = calls
        if len(self._prepared) > _PREPARED_KEPT:
            self._prepared.popitem(last=False)
        return calls

    def _run(
        self,
        engine: Engine,
        model: Any,
        tokenizer: Any,
        call: Call,
        division: Division,
        should_stop: Callable[[], bool] | None,
        units: UnitRange,
        start: int,
    ) -> dict[int, Response]:
        with _naming(call):
            found = engine.answer_units(model, tokenizer, division, should_stop, units, start)
        for i, response in found.items():
            value = response[0] if isinstance(response, tuple) else response
            if isinstance(value, float) and math.isnan(value):
                raise EvaluationError(
                    f"task {call.tasks[i]!r}: the log-likelihood of document {call.instances[i].doc_id} is NaN"
                )
        return found


def _alone(task: Task, source: str) -> Task:
    """Return a task with the settings of another one, and no other task's items."""
    return replace(task, name=source, validation=None, test=None)


@contextmanager
def _naming(call: Call) -> Iterator[None]:
    """Name the tasks in any error that is raised within."""
    names = ", ".join(repr(name) for name in dict.fromkeys(call.tasks))
    try:
        yield
    except (*PASSED_ON, ConfigError):
        raise  # a `ConfigError` says that the engine cannot run such models at all, whichever the candidate
    except EvaluationError as error:
        raise EvaluationError(f"task {names}: {error}", fault=error.fault) from error
    except BaseException as error:  # the model's own code may raise anything
        text = " ".join(error_text(error, name=True).split())
        hint = "; lower batch_size" if is_out_of_memory(error) else ""
        text = f"task {names}: {call.kind} failed: {text}{hint}"
        raise EvaluationError(text, fault=fault_of(error)) from error


def _recorded(task: Task, n_docs: Mapping[str, int], recorded: Mapping[str, Any]) -> dict[Split, Drawn]:
    """Return the recorded splits of one task, checked against what was loaded."""
    tasks = recorded.get("tasks", {})
    if task.name not in tasks:
        raise ConfigError(f"task {task.name!r} is not in the recorded splits, which have {', '.join(tasks) or 'none'}")
    drawn = {split: Drawn.from_data(tasks[task.name][str(split)]) for split in Split}
    for split, one in drawn.items():
        if one.source != task.source(split):
            raise ConfigError(
                f"task {task.name!r}: its {split} items were drawn from {one.source!r}, "
                f"but now {task.source(split)!r} is named"
            )
        if max(one.items, default=-1) >= n_docs[one.source]:
            raise ConfigError(
                f"task {one.source!r} had {one.n_docs} documents when the splits were drawn and has "
                f"{n_docs[one.source]} now: the dataset changed, and recorded items are gone; restore it, or start a "
                "new run"
            )
    return drawn
