"""The script that makes the zoo, shortened to seconds: it writes what loads, always the same, and learns."""

from __future__ import annotations

import hashlib
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.zoo import MODELS
from evomerge.zoo.documents import BASE_MIX, draw
from evomerge.zoo.grammar import make_story
from evomerge.zoo.muon import Muon, orthogonalised
from evomerge.zoo.train import BASE_SCHEDULE, main, train_zoo, zoo_tokenizer
from evomerge.zoo.training import Schedule, fine_tuned, new_model, weighted_loss

SCALE = 0.002


def fingerprint(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def tokenizer():
    return zoo_tokenizer(0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("zoo")
    reports = []
    train_zoo(out, seed=5, scale=SCALE, progress=lambda *report: reports.append(report), figures=False)
    return out, reports


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_folder_loads_with_plain_transformers_and_answers(trained, name):
    folder = trained[0] / name
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.num_parameters() < 1_100_000
    prompt = tokenizer("8+13\n", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=3).shape[0] == 1
    assert {"README.md", "config.json", "generation_config.json"} <= {p.name for p in folder.iterdir()}


def test_each_stage_reports_its_progress_to_the_end(trained):
    last = {name: (done, steps) for name, done, steps, _ in trained[1]}
    assert list(last) == list(MODELS)
    assert all(done == steps for done, steps in last.values())
    assert last["base"][1] == round(BASE_SCHEDULE.steps * SCALE)


def test_the_experts_differ_from_the_base_and_from_each_other(trained):
    prints = {name: fingerprint(trained[0] / name)["model.safetensors"] for name in MODELS}
    assert len(set(prints.values())) == len(MODELS)


def test_one_seed_gives_the_same_bytes_and_leaves_the_global_generators_alone(trained, tmp_path, capsys):
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    assert main(["--out", str(tmp_path), "--seed", "5", "--scale", str(SCALE), "--no-figures"]) == 0
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    for name in MODELS:
        assert fingerprint(tmp_path / name) == fingerprint(trained[0] / name)
    assert "base" in capsys.readouterr().out


def test_another_seed_gives_another_model(tokenizer):
    first, second = (new_model(tokenizer, seed).state_dict() for seed in (0, 1))
    assert not torch.equal(first["lm_head.weight"], second["lm_head.weight"])


def test_training_lowers_the_loss_and_leaves_the_start_as_it_was(tokenizer):
    start = new_model(tokenizer, 0)
    before = {n: p.clone() for n, p in start.state_dict().items()}
    losses = []
    fine_tuned(
        start,
        tokenizer,
        BASE_MIX,
        Schedule(30, 3e-3, 0.02, warmup=10, batch_tokens=300),
        seed=0,
        progress=lambda *report: losses.append(report[-1]),
        every=10,
    )
    assert losses[-1] < 0.85 * losses[0]
    assert all(torch.equal(before[n], p) for n, p in start.state_dict().items())


def test_the_loss_is_the_cross_entropy_of_the_tokens_that_count(tokenizer):
    model = new_model(tokenizer, 0).eval()
    tokens = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 0, 0]])
    weights = torch.tensor([[0.5, 0.5, 1, 1, 1], [0.5, 1, 1, 0, 0]])
    logs = model(tokens).logits.detach().log_softmax(-1)
    total = count = 0.0
    for row in range(2):
        for t in range(1, 5):
            total -= float(weights[row, t] * logs[row, t - 1, tokens[row, t]])
            count += float(weights[row, t])
    assert float(weighted_loss(model, tokens, weights)) == pytest.approx(total / count, rel=1e-5)


def test_the_rates_rise_then_stay_then_fall_to_a_twentieth():
    schedule = Schedule(100, 1.0, 1.0, warmup=10)
    assert [schedule.factor(0), schedule.factor(9), schedule.factor(40)] == pytest.approx([0.1, 1, 1])
    assert schedule.factor(70) == pytest.approx(0.05 + 0.95 / 2)
    assert schedule.factor(100) == pytest.approx(0.05)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 9), (1, 9, 4), (1, 1, 1)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    batch = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(batch, steps=8))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_steps_against_the_gradient_and_drops_it():
    matrix = torch.zeros(4, 6, requires_grad=True)
    matrix.grad = torch.eye(4, 6)
    Muon([matrix]).step(0.1)
    assert matrix.grad is None
    assert (matrix.diagonal() < -0.05).all()


def test_every_number_below_a_hundred_is_one_token(tokenizer):
    assert all(len(tokenizer(str(n))["input_ids"]) == 1 for n in range(100))


def test_the_tokenizer_gives_back_what_it_was_given(tokenizer):
    rng = random.Random(0)
    texts = ["".join(draw(BASE_MIX, rng)) for _ in range(200)]
    texts += [make_story(rng, "test").problem(language) for language in ("en", "ja") for _ in range(200)]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids
        assert len(ids) < tokenizer.model_max_length


def test_held_out_sentences_are_made_of_trained_tokens(tokenizer):
    rng = random.Random(0)
    trained = {i for _ in range(8000) for i in tokenizer("".join(draw(BASE_MIX, rng)))["input_ids"]}
    for split in ("valid", "test"):
        for _ in range(300):
            story = make_story(rng, split)
            for language in ("en", "ja"):
                assert set(tokenizer(story.problem(language))["input_ids"]) <= trained
