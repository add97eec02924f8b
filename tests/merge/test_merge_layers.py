"""Which layers a model has: one list, several stacks, lists side by side, lists of lists."""

from typing import Any

import pytest
import transformers
from any_family import families, tiny_config

from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.layers import Stack


def architecture(model_type: str, mapping: str) -> Architecture:
    config = tiny_config(model_type)
    config.architectures = [families(mapping)[model_type]]
    return Architecture(config)


@pytest.mark.parametrize(
    ("model_type", "mapping", "stacks"),
    [
        ("llama", "CAUSAL_LM", [Stack("model.layers", 0, 2)]),
        ("mamba", "CAUSAL_LM", [Stack("backbone.layers", 0, 2)]),
        ("bert", "MASKED_LM", [Stack("bert.encoder.layer", 0, 2)]),
        ("albert", "MASKED_LM", [Stack("albert.encoder.albert_layer_groups", 0, 1)]),
        # The layers of the encoder come first.
        ("t5", "SEQ_TO_SEQ_CAUSAL_LM", [Stack("encoder.block", 0, 2), Stack("decoder.block", 2, 2)]),
        ("bart", "SEQ_TO_SEQ_CAUSAL_LM", [Stack("model.encoder.layers", 0, 2), Stack("model.decoder.layers", 2, 2)]),
        # A decoder alone, made of the same configuration class.
        ("bart", "CAUSAL_LM", [Stack("model.decoder.layers", 0, 2)]),
        # Attentions, norms and MLPs in lists of their own.
        (
            "xlm",
            "MASKED_LM",
            [Stack("transformer.ffns", 0, 2,
                   ("transformer.attentions", "transformer.layer_norm1", "transformer.layer_norm2"))],
        ),
    ],
)  # fmt: skip
def test_stacks_are_found_and_numbered_on(model_type: str, mapping: str, stacks: list[Stack]) -> None:
    found = architecture(model_type, mapping).stacks
    assert sorted((s.first, s.n_layers, sorted(s.lists)) for s in found) == sorted(
        (s.first, s.n_layers, sorted(s.lists)) for s in stacks
    )


def test_layers_of_two_stacks_have_numbers_of_their_own() -> None:
    places = architecture("t5", "SEQ_TO_SEQ_CAUSAL_LM").places
    assert places["encoder.block.1.layer.0.SelfAttention.q.weight"].layer == 1
    assert places["decoder.block.0.layer.1.EncDecAttention.q.weight"].layer == 2
    assert places["decoder.block.1.layer.2.DenseReluDense.wi.weight"].role == "mlp"
    assert places["shared.weight"].role == "embedding"
    assert architecture("t5", "SEQ_TO_SEQ_CAUSAL_LM").layers_name == ""  # no one sequence that a path could use


def test_lists_side_by_side_say_the_roles_of_what_they_hold() -> None:
    places = architecture("xlm", "MASKED_LM").places
    found = {(name.split(".")[1], place.role, place.layer) for name, place in places.items() if ".1." in name}
    assert found == {("attentions", "attention", 1), ("ffns", "mlp", 1), ("layer_norm1", "norm", 1),
                     ("layer_norm2", "norm", 1)}  # fmt: skip


@pytest.mark.parametrize("kind", ["Mamba", "Mamba2"])
def test_a_state_space_mixer_is_no_attention_though_it_has_heads(kind: str) -> None:
    config: Any = tiny_config(kind.lower())
    assert isinstance(config, getattr(transformers, f"{kind}Config"))
    assert Architecture(config).summary.layer_roles == ("norm", "other")


def test_heads_are_those_of_the_layer_where_layers_differ() -> None:
    types = ["sliding_attention", "full_attention"]
    config: Any = tiny_config("gemma4_text", num_attention_heads=4, head_dim=8, global_head_dim=16, layer_types=types)
    places = Architecture(config).places
    widths = {places[f"model.layers.{i}.self_attn.q_proj.weight"].heads[2] for i in (0, 1)}  # type: ignore[index]
    assert widths == {8, 16}
