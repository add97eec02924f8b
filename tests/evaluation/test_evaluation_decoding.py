"""A model's generation config is followed as plain transformers follows it, whatever rows stand beside a prompt."""

from __future__ import annotations

import copy
import logging
import random
from typing import Any

import pytest
import torch
from evaluation_helpers import WORDS, Tiny

from evomerge.evaluation.engines import generation
from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.engines.decoding import decoding
from evomerge.evaluation.engines.encoding import Encoder
from evomerge.evaluation.engines.hf import HfEngine
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.evaluation.quiet import quiet

MOST = 10


class Asked:
    def __init__(self, *args: Any) -> None:
        self.args = args
        self.task_name = "t"


def prompts(n: int = 7) -> list[str]:
    rng = random.Random(7)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 14))) for _ in range(n)]


def said(engine: Any, tiny: Tiny, texts: list[str]) -> list[str]:
    """An engine's answers."""
    settings = {"until": ["\n"], "max_gen_toks": MOST, "do_sample": False}
    with quiet():
        encoder = Encoder(tiny.tokenizer, engine.context_length(tiny.model, tiny.tokenizer))
        asked = tuple(Asked(text, settings) for text in texts)
        encoded = tuple(encoder.encode("generate_until", one.args) for one in asked)
        call = Call("generate_until", asked, ("t",) * len(texts), encoded)
        return list(engine.answer(tiny.model, tiny.tokenizer, engine.prepare(call), None))


def by_transformers(tiny: Tiny, texts: list[str]) -> list[str]:
    """Plain `generate`, one prompt at a time, cut where the task says."""
    found = []
    for text in texts:
        ids = tiny.tokenizer(text, return_tensors="pt")["input_ids"]
        with quiet(), torch.no_grad():
            out = tiny.model.generate(ids, max_new_tokens=MOST, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        found.append(tiny.tokenizer.decode(out, skip_special_tokens=True).split("\n")[0].split("<eos>")[0])
    return found


SETTINGS: list[dict[str, Any]] = [
    {"eos_token_id": [0, 66, 70, 263]},
    {"repetition_penalty": 1.6},
    {"no_repeat_ngram_size": 1},
    {"encoder_repetition_penalty": 1.5},
    {"suppress_tokens": list(range(60, 120))},
    {"begin_suppress_tokens": list(range(120, 330))},
    {"bad_words_ids": [[token] for token in range(40, 90)]},
    {"forced_eos_token_id": 66},
    {"min_length": 12, "eos_token_id": [0, 66, 70, 263]},
    {"min_new_tokens": 5, "eos_token_id": list(range(0, 200))},
    {"sequence_bias": [[[token], -30.0] for token in range(80, 200)]},
    {"exponential_decay_length_penalty": [2, 3.0]},
    {"renormalize_logits": True, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
]


def with_settings(tiny: Tiny, settings: dict[str, Any]) -> Tiny:
    model = copy.deepcopy(tiny.model)
    for key, value in settings.items():
        setattr(model.generation_config, key, value)
    return Tiny(model, tiny.tokenizer)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: " ".join(one))
def test_greedy_answers_are_those_of_plain_transformers(
    tiny: Tiny, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, own = prompts(), with_settings(tiny, settings)
    expected = by_transformers(own, texts)
    assert expected != by_transformers(tiny, texts), "the setting changes nothing here, so nothing is tested"
    for batch_size in (2, 64):
        assert said(HfEngine(batch_size=batch_size, max_length=None), own, texts) == expected
    order = sorted(range(len(texts)), key=lambda i: -i)
    assert said(HfEngine(batch_size=5, max_length=None), own, [texts[i] for i in order]) == [expected[i] for i in order]
    assert said(LmEvalEngine(batch_size=4, max_length=None), own, texts) == expected
    monkeypatch.setitem(generation.LOOK_EVERY, "cpu", 8)  # as on an accelerator
    assert said(HfEngine(batch_size=64, max_length=None), own, texts) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 2},
        {"max_length": 3},
        {"do_sample": True, "temperature": 3.0, "top_k": 50, "top_p": 0.9},
        {"pad_token_id": 70, "cache_implementation": "static", "transformers_version": "9"},
    ],
    ids=lambda one: " ".join(one),
)
@pytest.mark.parametrize("make", [HfEngine, LmEvalEngine])
def test_the_task_decides_about_length_and_sampling(tiny: Tiny, settings: dict[str, Any], make: Any) -> None:
    texts = prompts(5)
    engine = make(batch_size=4, max_length=None)
    own = with_settings(tiny, settings)
    assert said(engine, own, texts) == by_transformers(tiny, texts)
    assert own.model.generation_config.max_new_tokens == settings.get("max_new_tokens"), "it is as it was"


def test_what_only_the_loop_of_transformers_does_is_left_to_it(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    own, texts = with_settings(tiny, {"num_beams": 3}), prompts(5)
    assert said(HfEngine(batch_size=2, max_length=None), own, texts) == by_transformers(own, texts)
    assert "generation config asks for beam_search: lm-eval generates" in caplog.text


def test_a_setting_that_transformers_refuses_is_an_obstacle(tiny: Tiny) -> None:
    assert "strictly positive" in str(decoding(with_settings(tiny, {"repetition_penalty": -1.0}).model).obstacle)
    assert decoding(tiny.model).eos == {0} and not decoding(tiny.model).shapes


@pytest.mark.parametrize("length", [{"max_length": 30}, {"max_new_tokens": 30}])
def test_a_model_s_own_length_is_neither_followed_nor_warned_of(tiny: Tiny, length: dict[str, int]) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    try:
        how = decoding(with_settings(tiny, length).model)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert how.eos and not how.refused and how.obstacle is None
    assert lines == []
