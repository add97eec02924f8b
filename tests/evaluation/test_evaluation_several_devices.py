"""Answers of a model whose layers lie on several devices are those of the same model on one.

The devices are pretended (see `pretended_devices`): a tensor on the wrong one is an error, as it is with CUDA.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from evaluation_helpers import WORDS, Tiny
from pretended_devices import pretended_devices
from test_evaluation_engine import answers, assert_alike, call_of, texts
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig, MixtralConfig

from evomerge.evaluation.engines import batching
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.generation import LOOK_EVERY
from evomerge.evaluation.engines.hf import HfEngine
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.evaluation.engines.memory import peaks
from evomerge.evaluation.engines.rows import Rows
from evomerge.evaluation.engines.support import Support, examine
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.live.placement import plan_devices, spread

DEVICES = [torch.device("cuda:0"), torch.device("cuda:1")]
REQUESTS: dict[str, list[tuple[Any, ...]]] = {
    "generate_until": [(t, {"until": ["e"], "max_gen_toks": 5 + i % 9}) for i, t in enumerate(texts(14, 3))]
    + [("red blue green " * 7 + t, {"until": ["\n"], "max_gen_toks": 6}) for t in WORDS[:6]],
    "loglikelihood": [(t, f" {word}") for t in texts(5, 4) for word in (*WORDS[:3], "cat dog bird")],
    "loglikelihood_rolling": [(t,) for t in texts(4, 5)],
}


def small(config: Any, seed: int = 0) -> Any:
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.requires_grad_(False)


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 4,
         "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}  # fmt: skip
FAMILIES: dict[str, tuple[Any, Support]] = {
    "gemma2": (lambda n: Gemma2Config(vocab_size=n, head_dim=8, num_key_value_heads=2, sliding_window=8, **SIZES),
               Support.MASKED),
    "gpt2": (lambda n: GPT2Config(vocab_size=n, n_embd=32, n_head=4, n_layer=4, bos_token_id=None, eos_token_id=0),
             Support.RESERVED),
    "gpt_neox": (lambda n: GPTNeoXConfig(vocab_size=n, **SIZES), Support.RESERVED),
    "mixtral": (lambda n: MixtralConfig(vocab_size=n, num_key_value_heads=2, num_local_experts=2, **SIZES),
                Support.RESERVED),
}  # fmt: skip


def on_two(model: Any) -> Any:
    """A copy of a model, one half of it on each pretended device."""
    model = copy.deepcopy(model).requires_grad_(False)
    places, taken = plan_devices(Architecture(model.config), model.dtype, dict.fromkeys(DEVICES, 1 << 30))
    assert all(taken.values())
    spread(model, places)
    return model


def compare(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, make: Any = HfEngine) -> None:
    monkeypatch.setattr(batching, "free_bytes", lambda _device: 1 << 30)
    for kind, requests in REQUESTS.items():
        # On a CPU rows are looked at after every token, and shorter passes pay: make both the same.
        monkeypatch.setitem(LOOK_EVERY, "other", LOOK_EVERY["cpu"])
        monkeypatch.setitem(batching.PASS_TOKENS, "other", batching.PASS_TOKENS["cpu"])
        one = make(batch_size=8, max_length=None)
        expected = answers(one, tiny, call_of(one, tiny, kind, requests))
        with pretended_devices(), torch.no_grad():
            spread_out = Tiny(on_two(tiny.model), tiny.tokenizer)
            engine = make(batch_size=8, max_length=None)
            found = answers(engine, spread_out, call_of(engine, spread_out, kind, requests))
        assert_alike(found, expected)


def test_a_llama_answers_alike(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(tiny, monkeypatch)
    with pretended_devices(), torch.no_grad():
        assert examine(Forward(on_two(tiny.model))) is Support.RESERVED  # no error has hidden behind a fallback


def test_rows_that_are_looked_at_seldom_answer_alike(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOOK_EVERY, "cpu", 5)
    compare(tiny, monkeypatch)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_answer_alike(tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, support = FAMILIES[family]
    other = Tiny(small(config(len(tiny.tokenizer))), tiny.tokenizer)
    compare(other, monkeypatch)
    assert examine(Forward(other.model)) is support
    with pretended_devices(), torch.no_grad():
        assert examine(Forward(on_two(other.model))) is support


def test_lm_evals_wrapper_answers_alike(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(tiny, monkeypatch, LmEvalEngine)


@pytest.mark.parametrize("reserved", [True, False])
def test_each_layers_keys_lie_with_the_layer(tiny: Tiny, reserved: bool) -> None:
    with pretended_devices(), torch.no_grad():
        model = on_two(tiny.model)
        homes = [layer.mlp.up_proj.weight.device for layer in model.model.layers]
        forward = Forward(model)
        rows = Rows(forward, [(5, 6, 7, 8), (9, 10, 11), (12, 13)], [4, 4, 4], reserved=reserved)
        tokens = rows.read().argmax(dim=-1)
        assert tokens.device == forward.device == DEVICES[0]
        rows.step(tokens)
        order = rows.drop([0])
        rows.step(tokens[order])
        assert [layer.keys.device for layer in rows._cache.layers] == homes
        assert set(homes) == set(DEVICES)


def test_a_tensor_on_the_wrong_device_is_an_error_here(tiny: Tiny) -> None:
    """What these tests rely on."""
    with pretended_devices(), torch.no_grad():
        model = on_two(tiny.model)
        late = model.model.layers[-1]
        with pytest.raises(RuntimeError, match="same device"):
            late._old_forward.__self__.mlp.down_proj.weight @ model.model.embed_tokens.weight.T[:64]
        with pytest.raises(RuntimeError, match="got one of the CPU"):
            model.model.embed_tokens.weight + torch.zeros(1, 32)
        with pytest.raises(RuntimeError, match="same device"):
            late._old_forward(torch.zeros(1, 3, 32, device=DEVICES[0]), position_embeddings=None)


def test_the_fullest_device_decides_how_many_rows_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {DEVICES[0]: 1000, DEVICES[1]: 300}
    monkeypatch.setattr(batching, "peaks", lambda _run, _device: {DEVICES[0]: 50, DEVICES[1]: 30})
    monkeypatch.setattr(batching, "free_bytes", lambda device: free[device])
    budget = batching.TokenBudget(batch_size=100)
    # Half of 300 is 5 rows of 30 bytes; of the first device it were 10.
    assert list(budget.batches("k", [8] * 12, DEVICES[0], lambda: None)) == [(0, 5), (5, 10), (10, 12)]


def test_a_peak_counts_what_lives_at_one_time() -> None:
    def run() -> None:
        for _ in range(3):
            torch.zeros(1000, dtype=torch.float32)

    cpu = torch.device("cpu")
    assert peaks(run, cpu) == {cpu: 4000}
    assert peaks(lambda: None, cpu) == {cpu: 0}
    assert peaks(run, DEVICES[0]) == {DEVICES[0]: 0}


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_answer_as_one(tiny: Tiny) -> None:
    expected, found = [], []
    for model, into in ((copy.deepcopy(tiny.model).to(DEVICES[0]), expected), (on_two(tiny.model), found)):
        there = Tiny(model, tiny.tokenizer)
        for kind, requests in REQUESTS.items():
            engine = HfEngine(batch_size=8, max_length=None)
            into += answers(engine, there, call_of(engine, there, kind, requests))
    assert_alike(found, expected)
