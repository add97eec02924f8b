"""Which Auto class a configuration is for: by transformers' mappings and the class that config.json names."""

from typing import Any

import pytest
import transformers

from evomerge.merge.files.model_class import auto_class, build_on_meta, model_kind

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}


@pytest.mark.parametrize(
    ("config", "architecture", "auto", "kind"),
    [
        ("Llama", None, "CausalLM", "causal"),
        ("Mamba", "MambaForCausalLM", "CausalLM", "causal"),
        ("GPT2", "NameThatNobodyKnows", "CausalLM", "causal"),
        ("Mistral", "MistralModel", "", "other"),
        ("Bert", None, "MaskedLM", "masked"),
        ("Bert", "BertLMHeadModel", "CausalLM", "causal"),
        ("Bert", "BertForPreTraining", "PreTraining", "other"),
        ("Bert", "BertModel", "", "other"),
        ("ModernBert", "ModernBertForTokenClassification", "TokenClassification", "other"),
        ("Llama", "LlamaForSequenceClassification", "SequenceClassification", "other"),
        ("T5", None, "Seq2SeqLM", "seq2seq"),
        ("T5", "T5EncoderModel", "TextEncoding", "other"),
        ("Bart", "BartForConditionalGeneration", "Seq2SeqLM", "seq2seq"),
        ("Bart", "BartForCausalLM", "CausalLM", "causal"),
        ("Gemma3", "Gemma3ForConditionalGeneration", "ImageTextToText", "image_text"),
        ("Gemma3Text", "Gemma3ForCausalLM", "CausalLM", "causal"),
        ("Qwen2VL", None, "ImageTextToText", "image_text"),
        ("ViT", "ViTForImageClassification", "ImageClassification", "other"),
    ],
)
def test_the_class_in_config_json_decides_and_else_what_the_type_usually_is(
    config: str, architecture: str | None, auto: str, kind: str
) -> None:
    made: Any = getattr(transformers, f"{config}Config")()
    made.architectures = None if architecture is None else [architecture]
    assert auto_class(made).__name__ == (f"AutoModelFor{auto}" if auto else "AutoModel")
    assert model_kind(made) == kind


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForSequenceClassification", "BertModel"])
def test_the_model_that_is_built_is_of_the_class_that_was_named(name: str) -> None:
    config = transformers.BertConfig(**SMALL)
    config.architectures = [name]
    assert type(build_on_meta(config)).__name__ == name


def test_custom_code_names_its_own_class() -> None:
    config = transformers.PreTrainedConfig()
    config.architectures = ["MyScorer"]
    config.auto_map = {"AutoModel": "code.MyModel", "AutoModelForSequenceClassification": "code.MyScorer"}
    assert auto_class(config).__name__ == "AutoModelForSequenceClassification"
    config.architectures = None
    config.auto_map = {"AutoModel": "code.MyModel", "AutoModelForMaskedLM": "code.MyMasked"}
    assert auto_class(config).__name__ == "AutoModelForMaskedLM"
