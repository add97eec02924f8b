"""One lm-eval task, loaded once: its documents, and the requests of a split, which all candidates answer."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.answers import item_prompts
from evomerge.evaluation.catalog import OUTPUT_TYPES, no_generation
from evomerge.evaluation.contents import document_hashes, item_hashes, scoring_contents
from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.engines.encoding import is_cut
from evomerge.evaluation.engines.stopping import Text
from evomerge.evaluation.images import showing_problems
from evomerge.evaluation.index import load
from evomerge.evaluation.measures.base import Answered, Measure
from evomerge.evaluation.metrics import Metric, is_mean_of_items, is_open, item_metrics, loaded_metrics
from evomerge.evaluation.quiet import compiled_templates, lm_eval_randomness, quiet
from evomerge.evaluation.task import NOT_JUDGED, TaskSpec
from evomerge.evaluation.task_data import TaskData, task_data
from evomerge.evaluation.terms import resolve
from evomerge.evaluation.totals import total
from evomerge.evaluation.trial import answer_length, filter_problems, generation_problems, metric_problems
from evomerge.evaluation.unsafe_code import GUARD, code_execution, refusal, runs_code
from evomerge.record import ItemPrompt, ItemScore, Score
from evomerge.system.faults import PASSED_ON, fault_of
from evomerge.system.text import error_text

_N_TOKENS, _CUT, _PROMPT_CUT = "evomerge_n_tokens", "evomerge_cut", "evomerge_prompt_cut"
"""The attributes of an lm-eval instance that hold how many tokens were generated for its response, whether the limit
ended it, and whether its prompt was cut."""

log = logging.getLogger("evomerge.evaluation")

Results: TypeAlias = dict[tuple[str, str], list[Any]]
"""Metric and filter to what a task's `process_results` returned for each item, in order."""

_PLAIN = (str, int, float, bool, type(None))


@dataclass
class Requests:
    """The requests to the model for some items of one task.

    Attributes:
        items: indices of the task's documents, ascending.
        instances: for each item, its lm-eval instances in the order of their `idx`.
    """

    items: tuple[int, ...]
    instances: list[list[Any]]

    def only(self, items: Sequence[int]) -> Requests:
        """Return the requests of some of the items, sharing the instances, in the same order.

        Raises:
            ValueError: if an item is not among `items`.
        """
        wanted = set(items)
        unknown = wanted.difference(self.items)
        if unknown:
            raise ValueError(f"items {sorted(unknown)[:10]} are not in this split, which has {len(self.items)} items")
        kept = [(item, group) for item, group in zip(self.items, self.instances, strict=True) if item in wanted]
        return Requests(tuple(item for item, _ in kept), [group for _, group in kept])


class PreparedTask:
    """A loaded lm-eval task.

    Attributes:
        name: its lm-eval name.
        n_docs: number of documents on which it is evaluated.
        filters: names of its filters.
        metrics: the metrics that it reports, by the names used here.
        runs_code: whether it says that it runs code that the model writes.
        shows_images: whether it shows images to the model.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        num_fewshot: int | None,
        generation: Mapping[str, Any] | None = None,
        where_they_fit: bool = False,
        allow_unsafe_code: bool,
    ) -> None:
        """Load the task and its dataset.

        Args:
            name: its lm-eval name.
            path: its file.
            num_fewshot: number of solved examples in front of each question; None: as the task says.
            generation: settings that take the place of those in the task's generation_kwargs.
            where_they_fit: whether the two are left out, rather than refused, where the task cannot follow them, as
                lm-eval does: it fixes the examples at 0, or asks for no texts.
            allow_unsafe_code: whether the task may run code that the model writes.

        Raises:
            ConfigError: if either cannot be loaded, or the task is of a kind that cannot be run; the message says
                what to do.
        """
        self.name = name
        self.runs_code = runs_code(load(path))
        self._allow_unsafe_code = allow_unsafe_code
        with code_execution(allow_unsafe_code):
            self._task = _load(name, path)
        if self.output_type not in OUTPUT_TYPES:
            raise ConfigError(f"task {name!r} has output_type {self.output_type!r}; known are {OUTPUT_TYPES}")
        shown = [getattr(self._task.config, f"doc_to_{kind}", None) for kind in ("image", "audio")]
        self.shows_images = shown[0] is not None
        problems = showing_problems(name, shown[0], shown[1], self.output_type)
        if problems:
            raise ConfigError(problems)
        self.runs_code |= bool(getattr(self._task, "UNSAFE_CODE", False))
        if self.runs_code and not allow_unsafe_code:
            raise ConfigError(refusal(name))
        self._set_shots(num_fewshot, where_they_fit)
        self._set_generation(generation or {}, where_they_fit)
        self._freeze_documents()
        self._shares_shots = self._draws_shots_from_evaluated()
        try:
            self.n_docs = len(self._task.eval_docs)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"task {name!r} has no documents to evaluate on: {error}") from error
        self._try_answer()
        self.filters: tuple[str, ...] = tuple(ensemble.name for ensemble in self._task._filters)
        unreported = self._unreported()
        self.metrics: dict[str, Metric] = {
            name: one for name, one in loaded_metrics(self._task).items() if name not in unreported
        }

    @property
    def output_type(self) -> str:
        """What the model is asked for: "generate_until", "multiple_choice", …."""
        return str(self._task.OUTPUT_TYPE)

    @property
    def data(self) -> TaskData:
        """The data set that its documents are from."""
        return task_data(self._task)

    @property
    def generation_settings(self) -> Mapping[str, Any] | None:
        """The task's generation_kwargs; None where it asks for no texts, or a class of its own says how."""
        from lm_eval.api.task import ConfigurableTask

        if getattr(type(self._task), "construct_requests", None) is not ConfigurableTask.construct_requests:
            return None
        return (self._task.config.generation_kwargs or {}) if self.output_type == "generate_until" else None

    @property
    def num_fewshot(self) -> int:
        """Number of solved examples in front of each question."""
        return int(self._task.config.num_fewshot or 0)

    def resolve(self, spec: TaskSpec) -> TaskSpec:
        """Return the spec with its filter and direction filled in from the task.

        Raises:
            ConfigError: if there is no such metric or filter, or nothing gives a direction.
        """
        resolved, problems = resolve(spec, self.name, self.output_type, self.metrics, self.filters)
        if problems:
            raise ConfigError(problems)
        return resolved

    def build(
        self,
        items: Sequence[int],
        *,
        shots_from: Sequence[int],
        chat_template: Callable[..., str] | None,
        system: str | None = None,
        shots_as_turns: bool = True,
    ) -> Requests:
        """Build the requests of some items: prompts with few-shot examples, and what is asked about them.

        The prompts equal those of `lm_eval.simple_evaluate(samples=…)` for the same items, unless the task takes its
        few-shot examples from the documents on which it is evaluated: see `_pool`.

        Args:
            items: indices of documents, ascending.
            shots_from: indices of documents that may serve as examples where the task has no separate ones.
            chat_template: lm-eval's function from a chat to text; None: plain text.
            system: what stands before the task's description, in the system message or at the beginning of the text.
            shots_as_turns: whether the examples are turns of a chat, or stand in the user's one turn.

        Raises:
            ConfigError: if the task cannot build its prompts, for example for want of examples.
        """
        from lm_eval.defaults import DEFAULT_OTHER_SEED

        if not items:  # lm-eval takes an empty selection for "all"
            return Requests((), [])
        try:
            with quiet(), lm_eval_randomness(), compiled_templates():
                self._pool(shots_from)
                self._task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
                self._task.build_all_requests(
                    # A set, although lm-eval's annotation says a list: it is searched once for each document.
                    samples=set(items),
                    system_instruction=system,
                    apply_chat_template=chat_template is not None,
                    fewshot_as_multiturn=chat_template is not None and shots_as_turns,
                    chat_template=chat_template,
                )
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"task {self.name!r}: its prompts could not be built: {_said(error)}; check doc_to_text, "
                "doc_to_target and the few-shot settings in its YAML"
            ) from error
        # lm-eval numbers the selected documents 0, 1, … in ascending order.
        instances: list[list[Any]] = [[] for _ in items]
        for instance in self._task.instances:
            instances[instance.doc_id].append(instance)
        for group in instances:
            group.sort(key=lambda instance: instance.idx)
        self._task._instances = None
        return Requests(tuple(items), instances)

    def item_prompts(self, task: str, requests: Requests) -> list[ItemPrompt]:
        """Return what the items ask, and their right answers.

        Args:
            task: the name under which the items are recorded.
            requests: the requests of the items.
        """
        evaluated = self._task.eval_docs
        documents = [_copied(evaluated[item]) for item in requests.items]
        with quiet(), lm_eval_randomness(), compiled_templates():
            return item_prompts(task, requests.items, requests.instances, documents, self._task.doc_to_target)

    def item_hashes(self, requests: Requests) -> dict[str, str]:
        """Return what the items ask and what their answers are worth, as `evaluation.contents.item_hashes` has it."""
        evaluated = self._task.eval_docs
        documents = [_copied(evaluated[item]) for item in requests.items]
        with quiet(), lm_eval_randomness(), compiled_templates():
            return item_hashes(documents, requests.instances, self._task.doc_to_target)

    def document_hashes(self, items: Sequence[int] | None = None) -> list[str]:
        """Return the hash of each of these documents; None: of all."""
        documents = self._task.eval_docs
        return document_hashes(documents[item] for item in (range(self.n_docs) if items is None else items))

    def scoring_contents(self) -> dict[str, str]:
        """Return the hash of each setting and file that says what an answer is worth, by its name."""
        return scoring_contents(self._task)

    def item_scores(
        self,
        task: str,
        requests: Requests,
        measures: Sequence[Measure] = (),
        count_tokens: Callable[[str], int] = len,
        results: Results | None = None,
    ) -> list[ItemScore]:
        """Filter the responses that the instances hold, and score them.

        Args:
            task: the name under which the scores are recorded.
            requests: the requests of the items.
            measures: what is measured besides the task's own metrics, on the raw responses before any filter.
            count_tokens: returns the number of tokens of a text, for the measures.
            results: gets what the task itself says of the items, for `totals`; None: it is not kept.

        Raises:
            EvaluationError: if a filter, the task's own scoring or a measure fails.
            ConfigError: if the task runs code without saying so, and that is not allowed.
        """
        if not requests.items:  # lm-eval's filters fail on an empty list
            return []
        with code_execution(self._allow_unsafe_code):
            return self._item_scores(task, requests, measures, count_tokens, {} if results is None else results)

    def totals(self, task: str, results: Results) -> dict[str, Score]:
        """Return what lm-eval's aggregations make of all items, for the metrics that are no mean of item scores.

        Args:
            task: the name under which the scores are recorded.
            results: what `item_scores` kept.

        Returns:
            Scores by the keys of `ItemScore.metrics`; an aggregation that fails is left out, and the log says why.
        """
        aggregation = self._task.aggregation()
        found = {}
        for (name, ensemble), values in results.items():
            function = aggregation.get(name)
            if function is None or is_mean_of_items(function, values):
                continue
            try:
                with quiet(), lm_eval_randomness(), code_execution(self._allow_unsafe_code):
                    found[self._key(name, ensemble)] = total(function, values)
            except PASSED_ON:
                raise
            except BaseException as error:  # a task's own code may raise anything
                log.warning("task %r: %r has no score, since its aggregation failed: %s", task, name, _said(error))
        return found

    def _key(self, name: str, ensemble: str) -> str:
        return name if len(self.filters) == 1 else f"{name},{ensemble}"

    def _item_scores(
        self,
        task: str,
        requests: Requests,
        measures: Sequence[Measure],
        count_tokens: Callable[[str], int],
        results: Results,
    ) -> list[ItemScore]:
        metrics = [
            self._measured(task, item, group, measures, count_tokens)
            for item, group in zip(requests.items, requests.instances, strict=True)
        ]
        instances = [instance for group in requests.instances for instance in group]
        aggregation = self._task.aggregation()
        for ensemble in self._task._filters:
            try:
                ensemble.apply(instances)
            except PASSED_ON:
                raise
            except BaseException as error:  # a task's own code may raise anything, or call sys.exit
                if GUARD in error_text(error):
                    raise ConfigError(refusal(self.name)) from error
                text = f"task {task!r}: filter {ensemble.name!r} failed: {_said(error)}"
                raise EvaluationError(text, fault=fault_of(error)) from error
            for item, group, kept in zip(requests.items, requests.instances, metrics, strict=True):
                responses = [instance.filtered_resps[ensemble.name] for instance in group]
                try:
                    result = self._task.process_results(_copied(group[0].doc), responses)
                    values = item_metrics(result, aggregation)
                    for name, own in result.items():
                        results.setdefault((name, ensemble.name), []).append(own)
                except PASSED_ON:
                    raise
                except EvaluationError as error:
                    raise EvaluationError(f"task {task!r}, item {item}: {error}") from error
                except BaseException as error:
                    if GUARD in error_text(error):  # a task that does not say what it does
                        raise ConfigError(refusal(self.name)) from error
                    text = f"task {task!r}, item {item}: scoring failed: {_said(error)}"
                    raise EvaluationError(text, fault=fault_of(error)) from error
                for name, value in values.items():
                    kept[self._key(name, ensemble.name)] = value
        return [
            ItemScore(task, item, kept or {NOT_JUDGED: 1.0}) for item, kept in zip(requests.items, metrics, strict=True)
        ]

    def _measured(
        self,
        task: str,
        item: int,
        group: Sequence[Any],
        measures: Sequence[Measure],
        count_tokens: Callable[[str], int],
    ) -> dict[str, float]:
        """Return the numbers of the measures for one item's responses."""
        found: dict[str, float] = {}
        # With `acc_mutual_info` lm-eval asks for each option a second time, without its context.
        asked = group[: len(group) // 2] if self._asks_twice else group
        known = [cut for instance in asked if (cut := instance.__dict__.get(_PROMPT_CUT)) is not None]
        answered = Answered(
            lambda: _copied(group[0].doc),
            [instance.resps[0] for instance in asked],
            [_continuation(instance) for instance in asked],
            group[0].__dict__.get(_N_TOKENS),
            count_tokens,
            group[0].__dict__.get(_CUT),
            _limit(group[0]),
            any(known) if known else None,
        )
        for measure in measures:
            try:
                found |= measure.function(answered)
            except PASSED_ON:
                raise
            except BaseException as error:  # a user's function may raise anything, or call sys.exit
                if GUARD in error_text(error):
                    raise ConfigError(refusal(self.name)) from error
                text = f"task {task!r}, item {item}: {measure.name!r} failed: {_said(error)}"
                raise EvaluationError(text, fault=fault_of(error)) from error
        return found

    @property
    def _asks_twice(self) -> bool:
        return self.output_type == "multiple_choice" and "acc_mutual_info" in getattr(self._task, "_metric_fn_list", ())

    def _try_answer(self) -> None:
        """Raise a `ConfigError` for what fails in the task's settings whatever the answer."""
        if self.output_type != "generate_until" or not self.n_docs:
            return
        found = [f"generation_kwargs: {one}" for one in generation_problems(self.generation_settings)]
        with quiet(), lm_eval_randomness(), code_execution(self._allow_unsafe_code):
            found += filter_problems(self._task)
            if not self._scores_itself:
                found += metric_problems(self._task)
        if found:
            raise ConfigError([f"task {self.name!r}: {one}; mend its YAML" for one in found])

    @property
    def _scores_itself(self) -> bool:
        """Whether the task has its own `process_results`, so that the functions of its metrics are not called."""
        from lm_eval.api.task import ConfigurableTask

        own = getattr(type(self._task), "process_results", None) is not ConfigurableTask.process_results
        return own or self._task.config.process_results is not None

    def _unreported(self) -> set[str]:
        """Return the metrics in whose place a task's functions report others, by an empty answer to the first document.

        A metric that is a function, or comes from the library evaluate, may return several numbers by name (HumanEval's
        `pass_at_k` returns `pass@1`). lm-eval then reports those, and notes their aggregation as it first sees them.
        """
        functions = getattr(self._task, "_metric_fn_list", {})
        own = {name for name, function in functions.items() if is_open(name, function)}
        if self.output_type != "generate_until" or self._scores_itself:
            return set()
        missing = [name for name, function in functions.items() if function is None]
        if missing:
            raise ConfigError(
                f"task {self.name!r}: its metrics {', '.join(missing)} are none of lm-eval's, and the library evaluate "
                "could not load them; load them once while online (HF_HUB_OFFLINE unset), or use other metrics"
            )
        if not own:
            return set()
        from lm_eval.api.instance import Instance

        document = self._task.eval_docs[0]
        reported: set[str] = set()
        try:
            with quiet(), lm_eval_randomness(), code_execution(self._allow_unsafe_code):
                for ensemble in self._task._filters:
                    instance = Instance("generate_until", document, ("", {}), 0, metadata=(self.name, 0, 1))
                    instance.resps = [""]
                    ensemble.apply([instance])
                    reported |= set(
                        self._task.process_results(_copied(document), [instance.filtered_resps[ensemble.name]])
                    )
        except PASSED_ON:
            raise
        except BaseException as error:  # a task's own code may raise anything, or call sys.exit
            if GUARD in error_text(error):
                raise ConfigError(refusal(self.name)) from error
            return set()  # an empty answer may be too little for a function; the names stay those of the YAML
        return own - reported

    def _set_shots(self, num_fewshot: int | None, where_it_fits: bool) -> None:
        own = self._task.get_config("num_fewshot")
        if num_fewshot is None:
            num_fewshot = own or 0
        elif own == 0 and num_fewshot:
            if not where_it_fits:
                raise ConfigError(f"task {self.name!r} fixes num_fewshot to 0, but num_fewshot={num_fewshot} came")
            log.warning("task %r fixes num_fewshot to 0, so it gets no examples (lm-eval's rule)", self.name)
            num_fewshot = 0
        self._task.set_config(key="num_fewshot", value=num_fewshot)

    def _set_generation(self, settings: Mapping[str, Any], where_they_fit: bool) -> None:
        """Put settings in the place of the task's own, as lm-eval does with its `gen_kwargs`."""
        if not settings:
            return
        if self.output_type != "generate_until":
            if not where_they_fit:
                raise ConfigError(no_generation(self.name, self.output_type))
            return
        if self.generation_settings is None and not where_they_fit:
            raise ConfigError(
                f"task {self.name!r} is written in Python and makes its requests itself, so its generation settings "
                f"cannot be replaced, but {', '.join(settings)} came; leave that out, or change its code"
            )
        new = {name: list(one) if isinstance(one, tuple) else one for name, one in settings.items()}
        own = self._task.config.generation_kwargs or {}
        self._task.set_config(key="generation_kwargs", value={**own, **copy.deepcopy(new)})

    def _freeze_documents(self) -> None:
        """Keep the documents as they were processed at loading.

        lm-eval runs `process_docs` again at every access; one that shuffles (GPQA) would then give each split other
        documents under the same indices.
        """
        config = self._task.config
        if not callable(config.process_docs) or not hasattr(self._task, "task_docs"):
            return
        split = config.test_split if config.test_split is not None else config.validation_split
        self._task.dataset = {**self._task.dataset, split: self._task.task_docs}
        config.process_docs = None

    def _draws_shots_from_evaluated(self) -> bool:
        """Return whether lm-eval would draw few-shot examples from the documents on which the task is evaluated."""
        shots = getattr(self._task, "fewshot_cfg", None)
        if self.num_fewshot == 0 or shots is None:
            return False
        config = self._task.config
        splits = (config.training_split, config.validation_split, config.test_split)
        source = shots.split
        if source is None:
            if shots.samples is not None:
                return False
            source = next((split for split in splits if split is not None), None)
        return source == next((split for split in (config.test_split, config.validation_split) if split), None)

    def _pool(self, shots_from: Sequence[int]) -> None:
        """Keep items that are held out from becoming few-shot examples.

        Where a task has no separate documents for examples, lm-eval draws them from all documents on which the task is
        evaluated. Test items with their answers would then stand in the prompts of the search, and in some settings an
        item in its own prompt. Such a task gets its examples from `shots_from`, and never the item itself.
        """
        if not self._shares_shots:
            return
        if len(shots_from) <= self.num_fewshot:
            raise ConfigError(
                f"task {self.name!r} has no separate documents for its {self.num_fewshot} few-shot examples, and the "
                f"{len(shots_from)} items that they may come from are too few; enlarge the search split, lower "
                "num_fewshot, or give the task a fewshot_split"
            )
        documents = self._task.eval_docs
        self._task.sampler.replace_df([documents[index] for index in shots_from])
        # lm-eval leaves out the item itself where these two are equal.
        self._task.fewshot_cfg.split = self._task.config.test_split


def _continuation(instance: Any) -> str:
    """Return the text whose probability is asked for; "" for a request for an answer or for a whole text."""
    return str(instance.args[1]) if instance.request_type == "loglikelihood" else ""


def _limit(instance: Any) -> int | None:
    """Return how many tokens an answer may have; None for a request of another kind, or settings of another form."""
    settings = instance.args[1] if instance.request_type == "generate_until" else None
    return answer_length(settings) if isinstance(settings, Mapping) else None


def _copied(document: Any) -> Any:
    """Return a copy of a document, since some tasks change it while scoring; fast for one without containers."""
    if type(document) is dict and all(type(value) in _PLAIN for value in document.values()):
        return dict(document)
    return copy.deepcopy(document)


def _load(name: str, path: Path) -> Any:
    from lm_eval.tasks import TaskManager

    try:
        with quiet(), lm_eval_randomness():
            # lm-eval takes a path as a task's name, so it need not build its index.
            tasks = TaskManager(include_defaults=False).load([str(path)])["tasks"]
    except (Exception, SystemExit) as error:  # a task may bring code of its own
        if GUARD in error_text(error):
            raise ConfigError(refusal(name)) from error
        raise ConfigError(_loading_failed(name, path, error)) from error
    return tasks[name] if name in tasks else next(iter(tasks.values()))  # a class may keep no name


def _loading_failed(name: str, path: Path, error: BaseException) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {
        "OfflineModeIsEnabled",
        "ConnectionError",
        "DatasetNotFoundError",
        "HfHubHTTPError",
        "LocalEntryNotFoundError",
    }:
        return (
            f"task {name!r}: its dataset could not be loaded: {_said(error)}; load it once while online "
            "(HF_HUB_OFFLINE unset), or use a local copy of the task's YAML whose dataset_path and data_files are on "
            "this machine"
        )
    if "module script" in error_text(error):  # as the library evaluate calls the code of a metric
        return (
            f"task {name!r}: a metric of the library evaluate could not be loaded: {_said(error)}; load it once while "
            "online (HF_HUB_OFFLINE unset)"
        )
    if "FileNotFoundError" in kinds:
        return (
            f"task {name!r}: a file of its dataset is missing: {_said(error)}; data_files in {path} are taken from the "
            "current folder unless they are absolute"
        )
    if isinstance(error, ImportError):
        return f"task {name!r} needs a module that is missing: {_said(error)}; install it (pip install 'lm-eval[…]')"
    return f"task {name!r} ({path}) could not be loaded: {_said(error)}"


def _said(error: BaseException) -> str:
    """Return an exception's class and its text on one line."""
    return " ".join(error_text(error, name=True).split())


def reset(requests: Sequence[Requests]) -> None:
    """Forget the last candidate's responses, which lm-eval keeps in the instances."""
    for one in requests:
        for group in one.instances:
            for instance in group:
                instance.resps = []
                instance.filtered_resps = {}
                for name in (_N_TOKENS, _CUT, _PROMPT_CUT):
                    instance.__dict__.pop(name, None)


def put_responses(call: Call, responses: Sequence[Any]) -> None:
    """Give each instance of a call its response, with what is known of it besides its text.

    A task may repeat a request; greedy answers are all the same.
    """
    for instance, encoded, response in zip(call.instances, call.encoded, responses, strict=True):
        instance.__dict__[_PROMPT_CUT] = is_cut(encoded)
        if isinstance(response, Text):  # lm-eval and the tasks' own code get a plain text
            instance.__dict__[_N_TOKENS], instance.__dict__[_CUT] = response.n_tokens, response.cut
            response = str(response)
        instance.resps = [response] * (instance.repeats or 1)


def by_request_type(requests: Mapping[str, Requests]) -> dict[str, list[tuple[str, Any]]]:
    """Return the (task name, instance) pairs of all tasks by request type, in lm-eval's own order.

    As in lm-eval, all tasks share a call, so that a suite of many small tasks is not run in many small batches.
    """
    calls: dict[str, list[tuple[str, Any]]] = {}
    for name, one in requests.items():
        for group in one.instances:
            for instance in group:
                calls.setdefault(instance.request_type, []).append((name, instance))
    return calls
