"""Models that are no causal ones are exported with their class named, and verified as what they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from evomerge.errors import ExportError
from evomerge.export.hf_folder import ExportReport, export_recipe
from evomerge.export.verify import verify
from evomerge.recipe import ModelSource, Parent, Recipe

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2}
BART = {"vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20}  # fmt: skip
KINDS = [
    ("T5", "T5ForConditionalGeneration", T5 | {"decoder_start_token_id": 0}, "AutoModelForSeq2SeqLM", "greedy tokens"),
    ("Bart", "BartForConditionalGeneration", BART, "AutoModelForSeq2SeqLM", "greedy tokens"),
    ("Bart", "BartForSequenceClassification", BART, "AutoModelForSequenceClassification", "output difference"),
    ("Roberta", "RobertaForMaskedLM", SMALL, "AutoModelForMaskedLM", "output difference"),
    ("Bert", "BertForTokenClassification", SMALL, "AutoModelForTokenClassification", "output difference"),
    ("Bert", "BertModel", SMALL, "AutoModel", "output difference"),
    ("ViT", "ViTForImageClassification", SMALL | {"image_size": 8, "patch_size": 4}, "AutoModelForImageClassification",
     "no output"),
    ("Mamba", "MambaForCausalLM", {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}, "AutoModelForCausalLM",
     "greedy tokens"),
]  # fmt: skip


def saved(folder: Path, family: str, name: str, settings: dict[str, Any], seed: int) -> Path:
    config = getattr(transformers, f"{family}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        getattr(transformers, name)(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "name", "settings", "auto", "said"),
    [
        pytest.param(*one, id=one[1], marks=() if one[0] in ("T5", "Roberta", "ViT") else pytest.mark.slow)
        for one in KINDS
    ],
)
def test_each_kind_is_exported_loaded_by_its_class_and_compared(
    family: str, name: str, settings: dict[str, Any], auto: str, said: str, tmp_path: Path
) -> None:
    parents = [saved(tmp_path / who, family, name, settings, seed) for seed, who in enumerate("ab")]
    recipe = Recipe("linear", tuple(Parent(one.name, ModelSource(str(one))) for one in parents))
    reports: list[ExportReport] = []
    out = export_recipe(recipe, tmp_path / "out", report=reports.append)
    (report,) = reports
    assert report.auto_class == auto
    assert report.verification is not None and report.verification.passed
    assert said in str(report.verification)
    loaded = getattr(transformers, auto).from_pretrained(out)
    assert type(loaded).__name__ == name
    a, b, mean = (getattr(transformers, auto).from_pretrained(one).state_dict() for one in (*parents, out))
    assert all(torch.equal((a[key] + b[key]) / 2, mean[key]) for key in a if a[key].is_floating_point())

    tensors = load_file(out / "model.safetensors")
    wrong = max((key for key in tensors if tensors[key].dim() == 2), key=lambda key: tensors[key].numel())
    tensors[wrong] = tensors[wrong] * 1.5
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    assert not verify(recipe, out).passed


def test_a_folder_whose_class_is_another_is_refused(tmp_path: Path) -> None:
    one = saved(tmp_path / "a", "Bert", "BertForMaskedLM", SMALL, 0)
    recipe = Recipe("linear", (Parent("a", ModelSource(str(one))),))
    other = saved(tmp_path / "b", "T5", "T5ForConditionalGeneration", T5, 0)
    (other / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(ExportError, match=r"AutoConfig\.from_pretrained cannot load"):
        verify(recipe, other)
