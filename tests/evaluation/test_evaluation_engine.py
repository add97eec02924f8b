"""The engine against lm-eval's own wrapper, answer by answer: odd prompts, stops, batch sizes, families of models."""

from __future__ import annotations

import copy
import logging
import random
from typing import Any

import pytest
import torch
from evaluation_helpers import WORDS, Tiny, make_model

from evomerge.errors import ConfigError, EvaluationError, Interrupted
from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.engines.batching import by_prefix, partition
from evomerge.evaluation.engines.encoding import Encoder
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.hf import HfEngine
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.evaluation.engines.registry import make_engine
from evomerge.evaluation.engines.stopping import Stops
from evomerge.evaluation.engines.support import Support, examine
from evomerge.evaluation.quiet import quiet


class Asked:
    """Stands for an lm-eval instance: its arguments are all that engines read."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.task_name = "t"


def call_of(
    engine: Any, tiny: Tiny, kind: str, requests: list[tuple[Any, ...]], tasks: list[str] | None = None
) -> Call:
    with quiet():
        encoder = Encoder(tiny.tokenizer, engine.context_length(tiny.model, tiny.tokenizer))
        encoded = tuple(encoder.encode(kind, args) for args in requests)
    return Call(kind, tuple(Asked(*args) for args in requests), tuple(tasks or ["t"] * len(requests)), encoded)


def answers(engine: Any, tiny: Tiny, call: Call) -> list[Any]:
    with quiet():
        return list(engine.answer(tiny.model, tiny.tokenizer, engine.prepare(call), None))


def both(
    tiny: Tiny, kind: str, requests: list[tuple[Any, ...]], *, batch_size: int = 4, tasks: list[str] | None = None,
    max_length: int | None = None, one_by_one: bool = False,
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """Ours and lm-eval's responses to the same requests."""
    ours = HfEngine(batch_size=batch_size, max_length=max_length)
    theirs = LmEvalEngine(batch_size=1 if one_by_one else batch_size, max_length=max_length)
    call = call_of(ours, tiny, kind, requests, tasks)
    return answers(ours, tiny, call), answers(theirs, tiny, call)


def assert_alike(mine: list[Any], theirs: list[Any]) -> None:
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        if isinstance(other, tuple):
            assert one[1] is other[1]
            assert one[0] == pytest.approx(other[0], rel=2e-5, abs=2e-5)
        elif isinstance(other, str):
            assert one == other
        else:
            assert one == pytest.approx(other, rel=2e-5, abs=2e-5)


def texts(n: int, seed: int, low: int = 1, high: int = 30) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(low, high))) for _ in range(n)]


ODD = [
    "red",
    "  two leading and trailing spaces  ",
    "日本語のプロンプト 🙂 ünïcode",
    "a\n\nb stop inside\n\n",
    "<eos>red blue",
    "red " * 80,
]
LONG = "red blue green " * 300


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("until", [["\n\n"], ["e", "o w"], ["zzz"], [" "], "an", []])
def test_generated_text_equals_lm_evals(tiny: Tiny, batch_size: int, until: Any) -> None:
    requests = [(text, {"until": until, "max_gen_toks": 12, "do_sample": False}) for text in [*ODD, *texts(12, 1)]]
    mine, theirs = both(tiny, "generate_until", requests, batch_size=batch_size)
    assert_alike(mine, theirs)
    assert any(mine)


def test_prompts_that_are_too_long_are_cut_alike(tiny: Tiny) -> None:
    requests = [(text, {"until": ["\n"], "max_gen_toks": n}) for text in (LONG, "red", LONG + "cat") for n in (5, 20)]
    assert_alike(*both(tiny, "generate_until", requests))
    assert_alike(*both(tiny, "generate_until", requests, max_length=40))
    pairs = [(LONG, " cat"), (LONG, " cat dog bird"), ("red", " cat"), (LONG + "sun", " moon star")]
    assert_alike(*both(tiny, "loglikelihood", pairs))
    assert_alike(*both(tiny, "loglikelihood", pairs, max_length=7))


def test_a_stop_text_that_no_single_token_holds_ends_the_answer(tiny: Tiny) -> None:
    prompts = texts(20, 3)
    free, _ = both(tiny, "generate_until", [(prompt, {"until": [], "max_gen_toks": 16}) for prompt in prompts])
    # Stops that occur in the answers, across tokens: three characters from their middle.
    requests = [
        (prompt, {"until": [text[4:7]], "max_gen_toks": 16})
        for prompt, text in zip(prompts, free, strict=True)
        if len(text) > 8
    ]
    assert len(requests) > 10
    mine, theirs = both(tiny, "generate_until", requests, one_by_one=True)
    assert_alike(mine, theirs)
    assert all(request[1]["until"][0] not in text for request, text in zip(requests, mine, strict=True))


def test_an_end_of_text_token_ends_the_answer(tiny: Tiny) -> None:
    model = copy.deepcopy(tiny.model)
    prompts = texts(24, 5)
    said, _ = both(tiny, "generate_until", [(prompt, {"until": [], "max_gen_toks": 10}) for prompt in prompts])
    third = tiny.tokenizer.encode(next(text for text in said if len(text) > 5))[2]
    model.generation_config.eos_token_id = [0, third]
    requests = [(prompt, {"until": ["zz"], "max_gen_toks": 10}) for prompt in prompts]
    mine, theirs = both(Tiny(model, tiny.tokenizer), "generate_until", requests)
    assert_alike(mine, theirs)
    assert mine != said


SHOTS = "Q: one two three : red\n\nQ: four five six : blue\n\nQ: cat dog bird : green\n\n"


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_shared_beginning_changes_nothing(tiny: Tiny, batch_size: int) -> None:
    prompts = [SHOTS + "Q: " + text for text in texts(9, 7)]
    generations = [(prompt, {"until": ["\n\n"], "max_gen_toks": 9}) for prompt in [*prompts, *texts(4, 8)]]
    tasks = ["shots"] * 9 + ["plain"] * 4
    engine = HfEngine(batch_size=batch_size, max_length=None)
    prepared = engine.prepare(call_of(engine, tiny, "generate_until", generations, tasks))
    assert [len(one.prefix) > 20 for one in prepared.shared] == [True, False]
    assert_alike(*both(tiny, "generate_until", generations, batch_size=batch_size, tasks=tasks))
    pairs = [(prompt, f" {word}") for prompt in prompts for word in ("red", "cat dog", "moon star sun")]
    assert_alike(*both(tiny, "loglikelihood", pairs, batch_size=batch_size))


def test_a_shared_beginning_is_read_once(tiny: Tiny) -> None:
    prompts = [SHOTS + "Q: " + text for text in texts(9, 7, high=4)]
    engine = HfEngine(batch_size=64, max_length=None)
    call = call_of(engine, tiny, "generate_until", [(p, {"until": ["\n"], "max_gen_toks": 1}) for p in prompts])
    answers(engine, tiny, call)  # tries the model, measures its memory
    n_tokens: list[int] = []
    hook = tiny.model.get_input_embeddings().register_forward_hook(
        lambda _m, args, _o: n_tokens.append(args[0].numel())
    )
    try:
        answers(engine, tiny, call)
    finally:
        hook.remove()
    lengths = [len(one.prompt) for one in call.encoded]  # type: ignore[union-attr]
    assert sum(n_tokens) < 0.4 * sum(lengths)


PAIRS = [
    ("", "cat blue"), ("", "<eos>"), ("", "<eos>red"), ("red blue ", "cat"), ("red", " cat"), ("red", "cat dog"),
    ("red  ", " cat"),
    ("日本", "語 🙂"), ("a b", " "), ("<eos>red", " blue"), *[("one two :", f" {word}") for word in WORDS],
    *[("one two three four :", f" {a} {b} five") for a in WORDS[:3] for b in WORDS[4:7]],
]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_log_probabilities_equal_lm_evals(tiny: Tiny, batch_size: int) -> None:
    pairs = [pair for pair in PAIRS if pair != ("", "<eos>")]
    mine, theirs = both(tiny, "loglikelihood", pairs, batch_size=batch_size)
    assert_alike(mine, theirs)
    greedy = [(text, tiny.tokenizer.decode(_next(tiny, text))) for text in texts(6, 11)]
    mine, theirs = both(tiny, "loglikelihood", [*greedy, *pairs], batch_size=batch_size)
    assert_alike(mine, theirs)
    assert any(one[1] for one in mine)


def test_requests_that_lm_eval_takes_for_each_other_are_scored_as_if_each_were_alone(tiny: Tiny) -> None:
    """The same tokens, cut in two ways: lm-eval 0.4.13 reads the one's answer at the other's places."""
    pairs = [("", "red cat"), ("<eos>red", " cat"), ("<eos>red", " blue")]
    theirs = [both(tiny, "loglikelihood", [pair], one_by_one=True)[1][0] for pair in pairs]
    assert_alike(both(tiny, "loglikelihood", pairs)[0], theirs)
    assert_alike(both(tiny, "loglikelihood", pairs, max_length=500)[0], theirs)


def _next(tiny: Tiny, text: str) -> list[int]:
    ids = tiny.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return [int(tiny.model(ids).logits[0, -1].argmax())]


def test_options_share_one_pass_over_their_context(tiny: Tiny) -> None:
    pairs = [(f"{text} :", f" {a} {b}") for text in texts(6, 13, low=20) for a in WORDS[:2] for b in WORDS[3:5]]
    engine = HfEngine(batch_size=64, max_length=None)
    call = call_of(engine, tiny, "loglikelihood", pairs)
    answers(engine, tiny, call)
    rows: list[int] = []
    hook = tiny.model.register_forward_hook(
        lambda _m, _a, kwargs, _o: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        answers(engine, tiny, call)
    finally:
        hook.remove()
    assert rows == [6]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_rolling_log_probabilities_equal_lm_evals(tiny: Tiny, batch_size: int) -> None:
    # A text that repeats itself has windows that lm-eval takes for each other: see the test below.
    requests = [(text,) for text in [*texts(5, 17), "日本語 🙂", "", *texts(1, 18, low=700, high=900)]]
    assert_alike(*both(tiny, "loglikelihood_rolling", requests, batch_size=batch_size))
    assert_alike(*both(tiny, "loglikelihood_rolling", requests, batch_size=batch_size, max_length=16))


def family(name: str, vocabulary: int) -> Any:
    """A random tiny model of another family."""
    import transformers

    tokens: dict[str, Any] = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256}
    sizes: dict[str, int] = {
        "GPT2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
        "Bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
        "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    }.get(name, {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, **heads})
    small = {**tokens, **sizes}
    if name in ("Gemma2", "Gemma3Text", "Mistral"):
        small["sliding_window"] = 12
    config = getattr(transformers, f"{name}Config")(**small)
    kind = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(name, f"{name}ForCausalLM")
    model = getattr(transformers, kind)(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
    return model


FAMILIES = {
    "Qwen2": Support.RESERVED,
    "Qwen3": Support.RESERVED,
    "GPT2": Support.RESERVED,
    "Bloom": Support.MASKED,
    "Mistral": Support.MASKED,
    "Gemma2": Support.MASKED,
    "Gemma3Text": Support.MASKED,
    "Mamba": Support.LM_EVAL,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families_answer_alike_with_what_they_support(tiny: Tiny, name: str) -> None:
    with quiet():
        other = Tiny(family(name, len(tiny.tokenizer)), tiny.tokenizer)
        with torch.no_grad():
            assert examine(Forward(other.model)) is FAMILIES[name]
    prompts = [SHOTS + "Q: " + text for text in texts(5, 19)] + texts(5, 20)
    generations = [(prompt, {"until": ["\n\n", "x"], "max_gen_toks": 8}) for prompt in prompts]
    tasks = ["shots"] * 5 + ["plain"] * 5
    assert_alike(*both(other, "generate_until", generations, tasks=tasks))
    pairs = [(prompt, f" {word}") for prompt in prompts for word in ("red", "cat dog")]
    assert_alike(*both(other, "loglikelihood", pairs, tasks=[task for task in tasks for _ in "ab"]))


def test_an_eager_model_answers_alike(tiny: Tiny) -> None:
    model = copy.deepcopy(tiny.model)
    model.set_attn_implementation("eager")
    eager = Tiny(model, tiny.tokenizer)
    with torch.no_grad():
        assert examine(Forward(model)) is Support.RESERVED
    assert_alike(*both(eager, "generate_until", [(t, {"until": ["\n"], "max_gen_toks": 6}) for t in texts(7, 21)]))
    assert_alike(*both(eager, "loglikelihood", PAIRS[3:]))


def test_a_model_whose_depth_changes_keeps_being_scored_right(tiny: Tiny) -> None:
    model = make_model(len(tiny.tokenizer), seed=4)
    engine = HfEngine(batch_size=8, max_length=None)
    requests = [(text, {"until": ["\n"], "max_gen_toks": 8}) for text in texts(8, 23)]
    call = call_of(engine, tiny, "generate_until", requests)
    prepared = engine.prepare(call)
    layers = list(model.model.layers)
    for path in ([0, 1], [0, 1, 0, 1, 1], [1], [0, 1]):
        chosen = [copy.deepcopy(layers[i]) for i in path]
        for place, layer in enumerate(chosen):
            layer.self_attn.layer_idx = place
        model.model.layers = torch.nn.ModuleList(chosen)
        model.config.num_hidden_layers = len(path)
        mine = list(engine.answer(model, tiny.tokenizer, prepared, None))
        assert_alike(mine, answers(LmEvalEngine(batch_size=8, max_length=None), Tiny(model, tiny.tokenizer), call))


def test_what_the_engine_does_not_do_is_left_to_lm_eval_and_said_once(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = HfEngine(batch_size=4, max_length=None)
    settings: list[dict[str, Any]] = [
        {},
        {"num_beams": 2},
        {"repetition_penalty": 1.3},
        {"top_p": 0.5},
        {"num_beams": 1},
    ]
    requests = [("red blue cat", {"until": ["\n"], "max_gen_toks": 6, **one}) for one in settings]
    call = call_of(engine, tiny, "generate_until", requests)
    assert [one is None for one in call.encoded] == [False, True, True, False, False]
    theirs = answers(LmEvalEngine(batch_size=4, max_length=None), tiny, call)
    for _ in range(2):
        assert answers(engine, tiny, call) == theirs
    assert len([r for r in caplog.records if "2 of 5 generate_until requests" in r.getMessage()]) == 1


def test_a_generation_config_that_changes_greedy_decoding_is_respected(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    model = copy.deepcopy(tiny.model)
    model.generation_config.repetition_penalty = 1.5
    requests = [(text, {"until": ["\n"], "max_gen_toks": 12}) for text in texts(6, 25)]
    assert_alike(*both(Tiny(model, tiny.tokenizer), "generate_until", requests))
    assert "lm-eval generates" not in caplog.text


def test_an_empty_prompt_is_left_to_lm_eval(tiny: Tiny) -> None:
    engine = HfEngine(batch_size=4, max_length=None)
    call = call_of(engine, tiny, "generate_until", [("", {"until": ["\n"]}), ("red", {"until": ["\n"]})])
    assert call.encoded[0] is None
    assert call.encoded[1] is not None


@pytest.mark.parametrize("look_every", [3, 8])
def test_looking_at_the_answers_now_and_then_gives_the_same(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, look_every: int
) -> None:
    """As on an accelerator, where each look waits for the device."""
    from evomerge.evaluation.engines import generation

    requests = [
        (text, {"until": ["e"], "max_gen_toks": n}) for text, n in zip(texts(12, 27), (5, 9, 12) * 4, strict=True)
    ]
    mine, theirs = both(tiny, "generate_until", requests)
    monkeypatch.setitem(generation.LOOK_EVERY, "cpu", look_every)
    assert both(tiny, "generate_until", requests)[0] == mine == theirs


def test_too_little_memory_makes_smaller_batches_and_the_same_answers(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evomerge.evaluation.engines import batching

    requests = [(text, {"until": ["e"], "max_gen_toks": 6}) for text in texts(12, 29)]
    plenty = both(tiny, "generate_until", requests, batch_size=12)[0]
    sizes: list[int] = []
    run = RowsSeen(tiny, sizes)
    monkeypatch.setattr(batching, "free_bytes", lambda _device: 1_000_000)
    engine = HfEngine(batch_size=12, max_length=None)
    with run:
        assert answers(engine, tiny, call_of(engine, tiny, "generate_until", requests)) == plenty
    assert 1 < max(sizes[8:]) < 12  # after the trial of the model


def test_a_batch_that_runs_out_of_memory_is_run_again_in_halves(tiny: Tiny) -> None:
    requests = [(text, {"until": ["e"], "max_gen_toks": 6}) for text in texts(12, 29)]
    plenty = both(tiny, "generate_until", requests, batch_size=12)[0]

    def refuse(_module: Any, _args: Any, kwargs: Any) -> None:
        if len(kwargs["input_ids"]) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate")

    engine = HfEngine(batch_size=12, max_length=None)
    hook = tiny.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        assert answers(engine, tiny, call_of(engine, tiny, "generate_until", requests)) == plenty
    finally:
        hook.remove()


class RowsSeen:
    def __init__(self, tiny: Tiny, sizes: list[int]) -> None:
        self._model, self._sizes = tiny.model, sizes

    def __enter__(self) -> None:
        def note(_module: Any, _args: Any, kwargs: Any) -> None:
            self._sizes.append(len(kwargs["input_ids"]))

        self._hook = self._model.register_forward_pre_hook(note, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def test_rows_leave_the_batch_when_their_answer_ends(tiny: Tiny) -> None:
    requests = [
        (text, {"until": [], "max_gen_toks": n}) for text, n in zip(texts(6, 31), (1, 2, 2, 5, 7, 7), strict=True)
    ]
    engine = HfEngine(batch_size=8, max_length=None)
    call = call_of(engine, tiny, "generate_until", requests)
    answers(engine, tiny, call)
    sizes: list[int] = []
    with RowsSeen(tiny, sizes):
        answers(engine, tiny, call)
    assert sizes[-6:] == [5, 3, 3, 3, 2, 2]


@pytest.mark.parametrize("make", [HfEngine, LmEvalEngine])
@pytest.mark.parametrize("context", ["", "the cat"])
def test_an_answer_to_choose_from_that_is_longer_than_the_context_is_named(tiny: Tiny, make: Any, context: str) -> None:
    long = " cat" * 17
    engine = make(batch_size=4, max_length=16)
    assert len(answers(engine, tiny, call_of(engine, tiny, "loglikelihood", [(context, " cat" * 16)]))) == 1
    with pytest.raises(EvaluationError, match=r"has 17 tokens, but the model's context has 16.*begins: cat cat"):
        answers(engine, tiny, call_of(engine, tiny, "loglikelihood", [(context, " cat"), (context, long)]))


def test_not_a_number_and_the_stop_signal_reach_the_caller(tiny: Tiny) -> None:
    broken = copy.deepcopy(tiny.model)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    engine = HfEngine(batch_size=8, max_length=None)
    for kind, requests in (
        ("generate_until", [("red", {"until": ["\n"]})]), ("loglikelihood", [("red", " cat"), ("red", " dog blue")]),
    ):  # fmt: skip
        prepared = engine.prepare(call_of(engine, tiny, kind, requests))
        answers(engine, tiny, prepared.call)  # so that the model's kind is known to the engine
        with pytest.raises(EvaluationError, match="the model's logits are not finite"):
            engine.answer(broken, tiny.tokenizer, prepared, None)
        with pytest.raises(Interrupted, match="stopped while a candidate was being scored"):
            engine.answer(tiny.model, tiny.tokenizer, prepared, lambda: True)
    assert not engine._lm_eval._last


def test_the_harness_takes_an_engine_by_its_name(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="unknown evaluation engine 'hff'; did you mean 'hf'"):
        make_engine("hff", batch_size=1, max_length=None)
    assert isinstance(make_engine("lm-eval", batch_size=1, max_length=None), LmEvalEngine)


def test_stops_are_found_as_by_looking_at_the_whole_window(tiny: Tiny) -> None:
    """Against lm-eval's own criterion, on random tokens: pieces of characters, spaces, special tokens."""
    from lm_eval.models.utils_hf import MultiTokenEOSCriteria

    tokenizer = tiny.tokenizer
    rng = random.Random(0)
    for stop in ("e", " r", "\n", "dog", "語", "<eos>", "o s", "\ufffd", ""):
        stops = Stops(tokenizer, [stop])
        for _ in range(30):
            text = tokenizer.encode(" ".join(rng.choices([*WORDS, "\n", "語", "🙂"], k=8)))
            tokens = [token if rng.random() < 0.7 else rng.randrange(len(tokenizer)) for token in text]
            criterion = MultiTokenEOSCriteria(stop, tokenizer, 0, 1)
            for n in range(1, len(tokens) + 1):
                theirs = criterion(torch.tensor([tokens[:n]]), None)
                assert stops.ended(tokens[:n]) is theirs
                if theirs:
                    break


@pytest.mark.parametrize(("lengths", "pass_tokens", "expected"), [
    ((5,), 10, ((0, 1),)),
    ((9, 9, 2, 2), 1, ((0, 2), (2, 4))),
    ((9, 9, 2, 2), 100, ((0, 4),)),
    ((50, 10, 10, 10), 48, ((0, 1), (1, 4))),
    ((50, 49, 48, 10), 36, ((0, 3), (3, 4))),
])  # fmt: skip
def test_prompts_are_read_in_runs_of_similar_length(
    lengths: tuple[int, ...], pass_tokens: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert partition(lengths, pass_tokens) == expected


def test_runs_are_the_cheapest_of_all_partitions() -> None:
    rng = random.Random(1)

    def cost(cuts: tuple[tuple[int, int], ...], lengths: tuple[int, ...], pass_tokens: int) -> int:
        return sum(pass_tokens + lengths[a] * (b - a) for a, b in cuts)

    for _ in range(30):
        lengths = tuple(sorted((rng.randrange(1, 40) for _ in range(rng.randrange(1, 9))), reverse=True))
        n, pass_tokens = len(lengths), rng.randrange(40)
        every = ([i + 1 for i in range(n - 1) if bits >> i & 1] for bits in range(2 ** (n - 1)))
        best = min(cost(tuple(zip([0, *cut], [*cut, n], strict=True)), lengths, pass_tokens) for cut in every)
        assert cost(partition(lengths, pass_tokens), lengths, pass_tokens) == best


def test_prefixes_are_those_of_a_task_and_leave_each_request_a_token() -> None:
    shared = tuple(range(20))
    groups = by_prefix([(*shared, 1, 2), shared, (*shared, 3), (1, 2), (1, 2, 3)], ["a", "a", "a", "b", "b"])
    assert [(group.prefix, group.members) for group in groups] == [(shared[:-1], (0, 2, 1)), ((), (4, 3))]
    assert [group.prefix for group in by_prefix([shared, shared], ["a", "b"])] == [()]
