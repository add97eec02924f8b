"""Which kinds of models an engine can score: told before weights are read, and true."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny_search import composed, write_tiny
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from evomerge import api
from evomerge.errors import ConfigError
from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource
from evomerge.zoo import zoo_path


def t5(seed: int, tokens: int) -> Any:
    config = T5Config(vocab_size=tokens, d_model=16, d_kv=8, d_ff=20, num_layers=2, num_heads=2,
                      decoder_start_token_id=0)  # fmt: skip
    return T5ForConditionalGeneration(config)


def bert(seed: int, tokens: int) -> Any:
    return BertForMaskedLM(BertConfig(vocab_size=tokens, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                      intermediate_size=20))  # fmt: skip


def search_over(folder: Path, make: Callable[[int, int], Any], *words: str) -> dict[str, Any]:
    """The tiny search, with other models in its folders."""
    file = write_tiny(folder)
    tokenizer = AutoTokenizer.from_pretrained(zoo_path("base"))
    for seed, name in enumerate(("base", "a", "b")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            make(seed, len(tokenizer)).save_pretrained(folder / "models" / name)
    return composed(file, *words)


@pytest.mark.slow
def test_encoder_decoders_are_searched_by_lm_evals_own_wrapper(tmp_path: Path) -> None:
    data = search_over(tmp_path, t5, "evaluation.engine=lm-eval", "budget.candidates=2", "evaluation.finalists=1")
    run = api.search(data, run_dir=tmp_path / "run")
    records = api.records(run.path, baselines=True)
    assert all(record.error is None for record in records)
    out = api.export(run.path, tmp_path / "out")
    assert type(T5ForConditionalGeneration.from_pretrained(out)).__name__ == "T5ForConditionalGeneration"
    assert "AutoModelForSeq2SeqLM.from_pretrained" in (out / "README.md").read_text()


def test_the_scores_are_those_of_lm_eval(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(zoo_path("base"))
    model = t5(0, len(tokenizer)).eval()
    model.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate((("1 + 2 =", " 3"), ("4 + 5 =", " 7")))]
    engine = LmEvalEngine(batch_size=2, max_length=None)
    mine = engine.answer(
        model, tokenizer, engine.prepare(Call("loglikelihood", tuple(asked), ("t", "t"), (None, None))), None
    )
    theirs = HFLM(pretrained=str(tmp_path / "t5"), device="cpu", batch_size=2, dtype="float32")
    assert theirs.backend == "seq2seq"
    assert [one[0] for one in mine] == pytest.approx([one[0] for one in theirs.loglikelihood(asked)], rel=1e-5)


def unread(*args: Any, **options: Any) -> Any:
    raise AssertionError("weights were read")


@pytest.mark.parametrize(
    ("make", "engine", "reason"),
    [
        (
            t5,
            "hf",
            "a, b, average, the merge: T5ForConditionalGeneration reads its prompt with an encoder.*engine=lm-eval",
        ),
        (bert, "lm-eval", "a, b, average, the merge: BertForMaskedLM writes no text.*evomerge merge"),
    ],
)
def test_what_an_engine_cannot_score_is_refused_before_weights_are_read(
    make: Callable[[int, int], Any], engine: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = search_over(tmp_path, make, f"evaluation.engine={engine}")
    monkeypatch.setattr(SafetensorsCheckpoint, "load", unread)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", unread)
    with pytest.raises(ConfigError, match=reason):
        api.search(data, run_dir=tmp_path / "run")
    with pytest.raises(AssertionError, match="weights were read"):  # so that it is what reads them
        Sources().open(ModelSource(str(tmp_path / "models" / "a"))).tensors.load("shared.weight")
    assert not (tmp_path / "run").exists()
