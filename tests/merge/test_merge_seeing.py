"""Merges of vision-language models: the language part is merged, everything beside it is kept from one model."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from seeing_models import (
    FAMILIES,
    answer,
    config_of,
    files_of,
    generate,
    picture,
    reading,
    rename_files,
    seeing,
)
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe, TokenizerBuild


def source(folder: Path) -> ModelSource:
    return ModelSource(str(folder))


def recipe(method: str, parents: dict[str, Path], base: Path | None = None, **options: object) -> Recipe:
    members = tuple(Parent(name, source(folder)) for name, folder in parents.items())
    return Recipe(method, members, None if base is None else Parent("base", source(base)), **options)  # type: ignore[arg-type]


def language_part(folder: Path, target: Path) -> Path:
    """The language part of a saved vision-language model as a text model of its own, by transformers alone."""
    model = AutoModelForImageTextToText.from_pretrained(folder)
    text = model.config.get_text_config()
    kind = {"mistral": "mistral", "llama": "llama", "qwen2_vl_text": "qwen2", "gemma3_text": "gemma3_text"}
    settings = {k: v for k, v in text.to_dict().items() if k not in ("model_type", "rope_parameters", "rope_scaling")}
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind[text.model_type], **settings))
    decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model.text_model
    made.model.load_state_dict(decoder.state_dict())
    if made.lm_head.weight is not made.model.embed_tokens.weight:
        made.lm_head.load_state_dict(model.lm_head.state_dict())
    made.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def kept_names(folder: Path) -> set[str]:
    """The tensors in a folder's files that have no counterpart in a text model, by their names alone."""
    inside = ("language_model.", "model.language_model.", "model.text_model.", "lm_head.", "model.embed_tokens.")
    return {
        name for name in files_of(folder) if not name.startswith((*inside, "model.layers.", "model.norm."))
    }  # fmt: skip


SLOW = [pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES if one not in ("llava_next", "gemma3")]


@pytest.fixture(scope="module", params=["llava_next", "gemma3", *SLOW])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    family, folder = request.param, tmp_path_factory.mktemp(request.param)
    return SimpleNamespace(
        family=family,
        folder=folder,
        one=seeing(folder / "one", family, 0),
        two=seeing(folder / "two", family, 1),
        text=reading(folder / "text", family, 2),
        base=reading(folder / "base", family, 3),
    )


def test_the_language_part_is_found_and_has_the_layers(models: SimpleNamespace) -> None:
    made = Architecture(AutoConfig.from_pretrained(models.one))
    assert not made.language.whole and made.n_layers == 2
    alone = Architecture(AutoConfig.from_pretrained(models.text))
    assert alone.language.whole and not any(place.kept for place in alone.places.values())
    assert set(made.language.names.values()) == set(alone.language.names.values())
    assert made.summary == alone.summary  # so that a search has the same genes


def test_two_vision_language_models_give_the_sum_of_language_parts_and_the_first_ones_vision_part(
    models: SimpleNamespace, tmp_path: Path
) -> None:
    weight = {"one": 0.3, "two": 0.45}
    both = recipe("linear", {"one": models.one, "two": models.two}, parameters={"weight": weight, "normalize": False})
    out = files_of(merge_to_disk(both, tmp_path / "out"))
    one, two, kept = files_of(models.one), files_of(models.two), kept_names(models.one)
    assert kept and out.keys() == one.keys()
    for name, values in out.items():
        if name in kept:
            assert torch.equal(values, one[name])
        else:
            exact = 0.3 * one[name].double() + 0.45 * two[name].double()
            torch.testing.assert_close(values.double(), exact, rtol=1e-6, atol=1e-7)
    other = files_of(merge_to_disk(Recipe(**{**vars_of(both), "vision": "two"}), tmp_path / "other"))
    assert all(torch.equal(other[name], two[name]) for name in kept)
    assert all(torch.equal(other[name], out[name]) for name in out.keys() - kept)


def vars_of(made: Recipe) -> dict[str, object]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


def test_a_text_model_joins_with_a_text_base_as_it_would_join_the_language_part_alone(
    models: SimpleNamespace, tmp_path: Path
) -> None:
    options = {"parameters": {"density": 0.6, "weight": {"text": 0.7, "one": 0.9}}, "seed": 3}
    with_vision = recipe("dare_ties", {"text": models.text, "one": models.one}, models.base, **options)
    out = merge_to_disk(with_vision, tmp_path / "out")
    alone = language_part(models.one, tmp_path / "alone")
    pure = merge_to_disk(
        recipe("ties", {"text": models.text, "one": alone}, models.base, parameters=options["parameters"]),
        tmp_path / "pure",
    )
    ties = recipe("ties", {"text": models.text, "one": models.one}, models.base, parameters=options["parameters"])
    merged = merge_to_disk(ties, tmp_path / "ties")
    got = files_of(language_part(merged, tmp_path / "part"))
    wanted = files_of(pure)
    assert got.keys() == wanted.keys() and all(torch.equal(got[name], wanted[name]) for name in wanted)
    files, one = files_of(out), files_of(models.one)
    assert all(torch.equal(files[name], one[name]) for name in kept_names(models.one))
    assert config_of(out) == config_of(models.one)


def test_a_merge_sees_as_transformers_loads_it_and_in_memory_as_on_disk(
    models: SimpleNamespace, tmp_path: Path
) -> None:
    made = recipe("task_arithmetic", {"text": models.text, "one": models.one}, models.base, parameters={"weight": 0.6})
    out = merge_to_disk(made, tmp_path / "out")
    live = LiveModels(sources=Sources(tell=False))
    live.write(recipe("linear", {"one": models.one, "two": models.two}))
    first = live.model
    live.write(made)
    assert live.model is first  # the same object takes one merge after another
    saved = AutoModelForImageTextToText.from_pretrained(out).state_dict()
    held = live.model.state_dict()
    assert saved.keys() == held.keys() and all(torch.equal(saved[name], held[name]) for name in saved)
    if models.family == "qwen2_vl":
        return  # its processor reads videos, too, which takes torchvision
    processor = AutoProcessor.from_pretrained(models.one)
    assert answer(out, picture(1)) == generate(live.model, processor, picture(1))
    assert generate(live.model, live.processor, picture(1)) == answer(out, picture(1))
    names = {"processor_config.json", "chat_template.jinja", "tokenizer.json"}
    assert all((out / name).read_bytes() == (models.one / name).read_bytes() for name in names)


def test_older_names_in_the_files_are_those_of_the_donor(tmp_path: Path) -> None:
    one, two = seeing(tmp_path / "one", "llava", 0), seeing(tmp_path / "two", "llava", 1)
    rename_files(two, "language_model.model.", "model.language_model.")
    rename_files(two, "vision_tower.", "model.vision_tower.")
    both = recipe("linear", {"one": one, "two": two})
    out = files_of(merge_to_disk(both, tmp_path / "out"))
    assert out.keys() == files_of(one).keys()
    again = files_of(merge_to_disk(Recipe(**{**vars_of(both), "vision": "two"}), tmp_path / "again"))
    assert again.keys() == files_of(two).keys()


def test_tokens_that_text_models_lack_come_from_the_vision_language_model(tmp_path: Path) -> None:
    one = seeing(tmp_path / "one", "llava_next", 0, rows=5)
    text, base = (reading(tmp_path / name, "llava_next", i, same_tokens=False) for i, name in enumerate(("t", "b"), 1))
    members = {"text": text, "one": one}
    with pytest.raises(CheckpointError, match=r"only their vocabularies differ: `tokenizer: \{source: union\}`"):
        merge_to_disk(recipe("task_arithmetic", members, base), tmp_path / "refused")
    with pytest.raises(CheckpointError, match=r"marks the places of images with tokens .*image_token"):
        merge_to_disk(recipe("task_arithmetic", members, base, tokenizer=TokenizerBuild("base")), tmp_path / "refused")
    made = recipe("task_arithmetic", members, base, tokenizer=TokenizerBuild(), parameters={"weight": 0.5})
    out = merge_to_disk(made, tmp_path / "out")
    words = AutoTokenizer.from_pretrained(out)
    image = words.get_vocab()["<image>"]
    config = AutoConfig.from_pretrained(out)
    assert config.image_token_id == image and config.text_config.vocab_size == len(words)
    rows, own = files_of(out), files_of(one)
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        before = own[name][AutoTokenizer.from_pretrained(one).get_vocab()["<image>"]]
        assert torch.equal(rows[name][image], before)
        letter = words.get_vocab()["k"]
        inner = name.removeprefix("language_model.")
        parts = [files_of(folder)[inner][AutoTokenizer.from_pretrained(folder).get_vocab()["k"]].double()
                 for folder in (text, base)]  # fmt: skip
        here = own[name][AutoTokenizer.from_pretrained(one).get_vocab()["k"]].double()
        exact = parts[1] + 0.5 * (parts[0] - parts[1]) + 0.5 * (here - parts[1])
        torch.testing.assert_close(rows[name][letter].double(), exact, rtol=1e-5, atol=1e-6)
    live = LiveModels(sources=Sources(tell=False))
    live.write(made)
    assert generate(live.model, live.processor, picture(2)) == answer(out, picture(2))


def test_layers_that_look_at_images_stay_those_of_the_vision_language_model(tmp_path: Path) -> None:
    from seeing_models import TEXT, random_values, tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, MllamaConfig, MllamaForConditionalGeneration

    words = tokenizer()
    text = {**TEXT, "vocab_size": len(words), "bos_token_id": 2}
    config = MllamaConfig(
        text_config={**text, "num_hidden_layers": 4, "cross_attention_layers": [1], "rope_parameters":
                     {"rope_type": "default", "rope_theta": 10000.0}},
        vision_config={
            "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_global_layers": 1,
            "attention_heads": 2, "vision_output_dim": 24, "image_size": 8, "patch_size": 4, "max_num_tiles": 1,
            "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]],
        },
        image_token_index=len(words),
    )  # fmt: skip
    model = MllamaForConditionalGeneration(config)
    random_values(model, 0)
    model.save_pretrained(tmp_path / "one")
    words.save_pretrained(tmp_path / "one")
    for seed, name in enumerate(("text", "base"), 1):
        plain = LlamaForCausalLM(LlamaConfig(**{**text, "num_hidden_layers": 3}))
        random_values(plain, seed)
        plain.save_pretrained(tmp_path / name)
        words.save_pretrained(tmp_path / name)
    made = recipe(
        "task_arithmetic", {"text": tmp_path / "text", "one": tmp_path / "one"}, tmp_path / "base",
        parameters={"weight": {"text": 0.5, "one": 0.25}},
    )  # fmt: skip
    out = merge_to_disk(made, tmp_path / "out")
    got, one = files_of(out), files_of(tmp_path / "one")
    text_files, base_files = files_of(tmp_path / "text"), files_of(tmp_path / "base")
    part = "language_model.model."
    assert all(torch.equal(got[n], one[n]) for n in got if ".layers.1." in n and n.startswith(part))
    for theirs, mine in ((0, 0), (1, 2), (2, 3)):
        name = f"layers.{mine}.mlp.up_proj.weight"
        text_value, base_value = (f[f"model.layers.{theirs}.mlp.up_proj.weight"] for f in (text_files, base_files))
        exact = (
            base_value.double()
            + 0.5 * (text_value - base_value).double()
            + 0.25 * (one[part + name].double() - base_value.double())
        )
        torch.testing.assert_close(got[part + name].double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(got[f"{part}embed_tokens.weight"], one[f"{part}embed_tokens.weight"])


def test_what_cannot_be_is_refused_with_a_reason(tmp_path: Path) -> None:
    one, text = seeing(tmp_path / "one", "llava", 0), reading(tmp_path / "text", "llava", 1)
    wide = reading(tmp_path / "wide", "llava", 2, hidden_size=24)
    with pytest.raises(RecipeError, match="vision must name one of the models"):
        recipe("linear", {"one": one}, vision="nobody")
    with pytest.raises(CheckpointError, match=r"vision is 'text', but .* has no vision part"):
        merge_to_disk(recipe("linear", {"one": one, "text": text}, vision="text"), tmp_path / "out")
    with pytest.raises(CheckpointError, match="hidden_size is 24 instead of 16"):
        merge_to_disk(recipe("linear", {"one": one, "wide": wide}), tmp_path / "out")
    from evomerge.recipe import Step

    path = Recipe("passthrough", (Parent("one", source(one)),), path=(Step("one", 0), Step("one", 1), Step("one", 1)))
    with pytest.raises(CheckpointError, match="has a vision part in front of its layers"):
        merge_to_disk(path, tmp_path / "out")


def test_a_recipe_without_the_key_has_the_hash_that_it_always_had() -> None:
    made = Recipe("linear", (Parent("a", ModelSource("a")), Parent("b", ModelSource("b"))))
    named = Recipe("linear", (Parent("a", ModelSource("a")), Parent("b", ModelSource("b"))), vision="b")
    assert "vision" not in made.to_data() and made.content_hash != named.content_hash
    assert Recipe.from_yaml(named.to_yaml()) == named and named.vision == "b"
