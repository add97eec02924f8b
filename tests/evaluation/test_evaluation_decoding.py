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
from evomerge.evaluation.engines.decoding import decoding, refusal
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


def said(engine: Any, tiny: Tiny, texts: list[str], **more: Any) -> list[str]:
    """An engine's answers, with more settings of the task."""
    settings = {"until": ["\n"], "max_gen_toks": MOST, "do_sample": False, **more}
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


@pytest.fixture(scope="module")
def plain(tiny: Tiny) -> list[str]:
    """What the model answers without any setting."""
    return by_transformers(tiny, prompts())


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
    tiny: Tiny, plain: list[str], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, own = prompts(), with_settings(tiny, settings)
    expected = by_transformers(own, texts)
    assert expected != plain, "the setting changes nothing here, so nothing is tested"
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


LOOPS: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"num_beams": 2, "length_penalty": 2.0, "early_stopping": True, "repetition_penalty": 1.8},
    {"num_beams": 2, "no_repeat_ngram_size": 1, "eos_token_id": [0, 66, 70, 263]},
]


@pytest.mark.parametrize("settings", LOOPS, ids=lambda one: " ".join(one))
def test_what_only_the_loop_of_transformers_does_is_left_to_it_whatever_the_batch(
    tiny: Tiny, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    own, texts = with_settings(tiny, settings), prompts(5)
    expected = by_transformers(own, texts)
    assert expected != by_transformers(tiny, texts), "the setting changes nothing here, so nothing is tested"
    for make, batch_size in ((HfEngine, 2), (HfEngine, 64), (LmEvalEngine, 1), (LmEvalEngine, 4)):
        assert said(make(batch_size=batch_size, max_length=None), own, texts) == expected
    assert "generation config asks for beam_search: lm-eval generates" in caplog.text
    # The same, where the task asks for it.
    ends = with_settings(tiny, {"eos_token_id": settings.get("eos_token_id", 0)})
    of_task = {key: value for key, value in settings.items() if key != "eos_token_id"}
    for make in (HfEngine, LmEvalEngine):
        assert said(make(batch_size=4, max_length=None), ends, texts, **of_task) == expected


def test_a_lookup_in_the_prompt_which_knows_one_row_only_answers_row_by_row(tiny: Tiny) -> None:
    own, texts = with_settings(tiny, {"prompt_lookup_num_tokens": 3}), prompts(4)
    assert said(HfEngine(batch_size=8, max_length=None), own, texts) == by_transformers(tiny, texts)


def test_rows_that_need_not_be_alone_keep_their_batch(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    generate = type(tiny.model).generate

    def counted(model: Any, *args: Any, **more: Any) -> Any:
        if "custom_generate" not in more:
            sizes.append((len(more["input_ids"]), more.get("num_beams", 1)))
        return generate(model, *args, **more)

    monkeypatch.setattr(type(tiny.model), "generate", counted)
    engine, texts = LmEvalEngine(batch_size=4, max_length=None), prompts(4)
    plain = {"until": ["\n"], "max_gen_toks": 3, "do_sample": False, "top_k": 5}
    asked = [Asked(text, {**plain, "num_beams": 2} if i % 2 else plain) for i, text in enumerate(texts)]
    with quiet():
        found = engine.answer(tiny.model, tiny.tokenizer, Call("generate_until", tuple(asked), ("t",) * 4, ()), None)
    assert sorted(sizes) == [(1, 2), (1, 2), (2, 1)]
    assert [found[0], found[2]] == said(engine, tiny, [texts[0], texts[2]], max_gen_toks=3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive_search: "),
        ({"dola_layers": "low"}, "dola_generation: "),
        ({"force_words_ids": [[5]], "num_beams": 2}, "constrained_beam_search: "),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "group_beam_search: "),
        ({"prompt_lookup_num_tokens": 2, "cache_implementation": "static"}, "assisted_generation: "),
        ({"num_beams": 2, "num_return_sequences": 2}, "beam_search: it returns something else than one answer"),
        ({"num_beams": 2, "return_dict_in_generate": True}, "beam_search: it returns something else"),
        ({"stop_strings": ["x"]}, "stop strings"),
        ({"num_beams": 3, "early_stopping": True}, None),
        ({"prompt_lookup_num_tokens": 3}, None),
        ({"assistant_early_exit": 1}, None),
        ({"guidance_scale": 1.5}, None),
        ({"max_time": 0.0}, None),
        ({"return_dict_in_generate": True}, None),
    ],
    ids=str,
)
def test_the_start_knows_what_transformers_cannot_do_by_itself(settings: dict[str, Any], said: str | None) -> None:
    from transformers import GenerationConfig

    with quiet():
        reason = refusal(GenerationConfig(eos_token_id=1, **settings), 300)
    assert (reason is None) if said is None else (reason is not None and said in reason), reason


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
