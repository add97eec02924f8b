"""lm-eval's own model wrapper as an engine: slower, but able to do whatever a task asks for."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from evomerge.errors import EvaluationError, Interrupted
from evomerge.evaluation.engines.base import Call, Engine, Response, StopCheck
from evomerge.evaluation.engines.decoding import decoding, task_limits
from evomerge.evaluation.engines.encoding import is_greedy
from evomerge.evaluation.engines.finite import require_finite
from evomerge.evaluation.engines.images import image_lm, processor_beside, shows_images
from evomerge.system.text import visible


class LmEvalEngine(Engine):
    """Answers through `HFLM`, which tokenises, sorts and generates again for every candidate."""

    def __init__(self, *, batch_size: int, max_length: int | None, sharers: int = 1, halvings: int = 0) -> None:
        self._batch_size = max(1, batch_size >> halvings)
        self._max_length = max_length
        # whether it sees: model, tokenizer, settings, lm-eval's wrapper
        self._last: dict[bool, tuple[Any, Any, tuple[Any, ...], Any]] = {}

    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer: the one given, or what the model's config says."""
        from lm_eval.models.utils import resolve_max_length

        return self._max_length or int(resolve_max_length(model.config, tokenizer))

    def prepare(self, call: Call) -> Call:
        """Return the call itself, since there is nothing to prepare."""
        return call

    def answer(self, model: Any, tokenizer: Any, prepared: Call, should_stop: StopCheck | None) -> Sequence[Response]:
        """Return one response per request; see `Engine`."""
        found: dict[int, Response] = {}
        alone = self._alone(model, prepared)
        together = set(range(len(prepared.instances))) - alone
        seeing = {i for i, one in enumerate(prepared.instances) if shows_images(one.args)}
        for rows, batch_size, sees in (
            (together - seeing, self._batch_size, False),
            (alone - seeing, 1, False),
            (together & seeing, self._batch_size, True),
            (alone & seeing, 1, True),
        ):
            if rows:
                lm = self._lm_for(model, tokenizer, batch_size, prepared, sees)
                asked = [prepared.instances[i] for i in sorted(rows)]
                _refuse_too_long(lm, prepared.kind, asked)
                with _watched(model, should_stop), task_limits(model):
                    found |= zip(sorted(rows), getattr(lm, prepared.kind)(asked, disable_tqdm=True), strict=True)
        return [found[i] for i in range(len(found))]

    def _alone(self, model: Any, call: Call) -> set[int]:
        """Return the places of the requests whose answers would depend on the rows beside them in a batch.

        Penalties and the like count the padding that a batch gives shorter prompts, beams are followed as long as those
        of another row, some ways of decoding know one row only, and a random draw depends on the draws before it. A row
        that is over goes on until the last one is, so that the end of its thinking might come after its answer.
        """
        if call.kind != "generate_until":
            return set()
        how = decoding(model)
        if how.shapes or how.obstacle is not None or call.think_end is not None:
            return set(range(len(call.instances)))
        return {i for i, one in enumerate(call.instances) if not is_greedy(one.args[1])}

    def release(self) -> None:
        """Let go of the last model."""
        self._last = {}

    def _lm_for(self, model: Any, tokenizer: Any, batch_size: int, call: Call, sees: bool) -> Any:
        """Return lm-eval's wrapper of the model, made once for a model that is written in place."""
        settings = (batch_size, self.context_length(model, tokenizer), call.think_end, call.chat)
        if sees in self._last:
            last_model, last_tokenizer, last_settings, lm = self._last[sees]
            known = last_model is model and last_tokenizer is tokenizer and last_settings == settings
            if known and lm.device == model.device:
                model.eval()
                return lm
        from lm_eval.models.huggingface import HFLM

        self._last.pop(sees, None)
        if sees:
            processor = processor_beside(tokenizer)
            lm = image_lm(model, processor, batch_size=batch_size, max_length=settings[1], chat=call.chat)
        else:
            lm = HFLM(
                pretrained=model,
                # A copy, since lm-eval adds a pad token and changes the padding side; the tokenizer may be exported.
                tokenizer=copy.deepcopy(tokenizer),
                backend="seq2seq" if getattr(model.config, "is_encoder_decoder", False) else "causal",
                batch_size=batch_size,
                max_length=settings[1],
                think_end_token=call.think_end,
            )
        self._last[sees] = (model, tokenizer, settings, lm)
        return lm


def _refuse_too_long(lm: Any, kind: str, asked: Sequence[Any]) -> None:
    """Refuse answers whose likelihood no pass can give; lm-eval would fail without saying why.

    Raises:
        EvaluationError: if an answer to choose from is longer than the context.
    """
    if kind != "loglikelihood":
        return
    for one in asked:
        context, answer = one.args
        if context:
            tokens = lm._encode_pair(context, answer)[1]
        else:
            tokens = lm.tok_encode(answer, add_special_tokens=False)
            tokens = tokens[tokens[:1] == [lm.prefix_token_id] :]  # it then stands for the context
        if len(tokens) > lm.max_length:
            raise EvaluationError(
                f"an answer to choose from has {len(tokens)} tokens, but the model's context has {lm.max_length}: "
                "leave its item out, shorten it, or take models with a longer context; it begins: "
                f"{visible(answer.strip(), most=60)}"
            )


@contextmanager
def _watched(model: Any, should_stop: StopCheck | None) -> Iterator[None]:
    """Ask before every forward pass whether to stop, and check after it that the logits are finite."""

    def before(*_: Any) -> None:
        if should_stop is not None and should_stop():
            raise Interrupted("stopped while a candidate was being scored; its scores are dropped")

    def after(_module: Any, _inputs: Any, output: Any) -> None:
        # A NaN or infinity at any token reaches the last position, which attends to all; `amax` passes NaN on. Some
        # models mask unused vocabulary with -inf, which is legitimate and does not reach the maximum.
        require_finite(output.logits[:, -1].amax(dim=-1))

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    try:
        before()
        yield
    finally:
        for hook in hooks:
            hook.remove()
