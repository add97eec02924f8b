"""What is refused before a weight is read, and with which words."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from method_case import ARITHMETIC
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, make, near, recipe

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge import plan as planning
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.live.models import LiveModels
from evomerge.merge.methods.registry import find_method
from evomerge.merge.plan import check_recipe
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, Group, ModelSource, Parent, Recipe, Step
from evomerge.recipe.method import MethodSpec, Parameter


def refused(of: Recipe) -> str:
    with pytest.raises(RecipeError) as caught:
        check_recipe(of)
    return str(caught.value)


def of(method: str = "ties", *, base: bool = True, parents: int = 2, **fields: Any) -> Recipe:
    """A recipe over models that do not exist: these mistakes must show without them."""
    return recipe(method, Path("/b") if base else None, {f"m{i}": Path(f"/{i}") for i in range(parents)}, **fields)


def test_an_unknown_method_names_the_nearest() -> None:
    assert refused(of("tie")).startswith("unknown merge method 'tie'; did you mean 'ties'")


def test_an_unknown_parameter_names_the_nearest() -> None:
    assert "unknown parameter of ties 'wieght'; did you mean 'weight'" in refused(of(parameters={"wieght": 1.0}))
    text = refused(of(groups=(Group({"t": 0.1}, roles=("mlp",), name="early"),)))
    assert text.startswith("groups[0] (early): unknown parameter of ties 't'")


@pytest.mark.parametrize("n", [1, 3])
def test_slerp_takes_two_parents(n: int) -> None:
    assert f"slerp takes exactly 2 parents, but came {n}: m0" in refused(of("slerp", parents=n))


@pytest.mark.parametrize("method", [name for name in ARITHMETIC if find_method(name).spec.needs_base])
def test_a_missing_base_is_asked_for(method: str) -> None:
    assert refused(of(method, base=False)) == f"{method} measures task vectors from a base; name one with `base:`"


def test_all_mistakes_of_a_recipe_come_at_once() -> None:
    text = refused(of("slerp", parents=3, tokenizer="base", base=False, parameters={"weight": 1.0, "t": {"m0": 1.0}}))
    assert text.startswith("4 mistakes in the recipe:")
    for part in ("exactly 2 parents", "unknown parameter of slerp 'weight'", "t is one number for all parents",
                 "tokenizer is 'base', but the recipe has no base"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("ties", {"weight": -0.5}, "weight must not be negative with this method .* but came -0.5"),
        ("dare_ties", {"weight": {"m0": 1.0, "m1": -2.0}}, "weight must not be negative .* but came -2"),
        ("ties", {"density": 1.5}, "density must be between 0 and 1, but came 1.5"),
        ("dare_linear", {"density": -0.1}, "density must be between 0 and 1, but came -0.1"),
        ("slerp", {"t": 2.0}, "t must be between 0 and 1, but came 2"),
        ("linear", {"weight": {"m0": 1.0, "m1": -1.0}}, r"the weights \(1, -1\) sum to 0 and cannot be normalised"),
        ("linear", {"weight": 0.0}, "sum to 0"),
        ("linear", {"normalize": 1.0}, "normalize must be true or false, but came 1.0"),
        ("ties", {"weight": {"m0": 1.0}}, r"weight gives no number for m1, but came \{'m0': 1.0\}"),
        ("ties", {"weight": True}, r"weight must be a number \(or one per parent\), but came True"),
        ("ties", {"lambda": "big"}, "lambda must be a number, but came 'big'"),
        ("ties", {"election": "summ"}, "unknown election 'summ'; did you mean 'sum'"),
        ("ties", {"election": 1.0}, "election must be one of sum, count, but came 1.0"),
    ],
)
def test_wrong_values_are_refused(method: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_recipe(of(method, parameters=parameters))


def test_values_are_checked_in_each_group() -> None:
    text = refused(of(groups=(Group({"weight": 1.0}), Group({"density": 7.0}, name="late"))))
    assert text == "groups[1] (late): density must be between 0 and 1, but came 7"
    everywhere = of(parameters={"density": 7.0}, groups=(Group({"weight": 1.0}),))
    assert refused(everywhere) == "density must be between 0 and 1, but came 7"


def test_layers_beyond_the_model_are_refused(family: SimpleNamespace) -> None:
    bad = recipe("ties", family.base, {"m": family.math}, groups=(Group({"weight": 0.3}, layers=(1, 3)),))
    with pytest.raises(RecipeError, match=r"groups\[0\]: layers \[1, 3\] reach beyond the 2 layers of the model"):
        Sources().plan(bad)


def test_groups_reach_the_tensors_they_name(family: SimpleNamespace) -> None:
    groups = (
        Group({"weight": 0.1}, layers=(1, 2), roles=("attention",)),
        Group({"weight": {"m": 0.2}}, roles=("head",)),
    )
    plan = Sources().plan(recipe("ties", family.base, {"m": family.math}, parameters={"weight": 0.9}, groups=groups))
    for task in plan.tasks:
        assert task.values is not None
        inside = "layers.1.self_attn" in task.name and "norm" not in task.name
        assert task.values["weight"] == ((0.1,) if inside else (0.2,) if "lm_head" in task.name else (0.9,))


def test_planning_reads_no_weights_and_skips_parents_that_do_not_count(
    family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: object, name: str) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(SafetensorsCheckpoint, "load", forbidden)
    parents = {"b": family.math, "a": family.japanese}
    plan = Sources().plan(recipe("ties", family.base, parents, parameters={"weight": {"a": 0.0, "b": 0.4}}))
    assert {task.inputs for task in plan.tasks} == {(0,)}
    assert {task.values["weight"] for task in plan.tasks if task.values} == {(0.4,)}


# ---- parents that do not fit


def mismatch(base: Path, **parents: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Sources().plan(recipe("ties", base, parents))
    return str(caught.value)


def test_all_mismatches_of_all_parents_come_at_once(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    vocabulary = make(tmp_path / "vocabulary", 1, vocab_size=30)
    settings = make(tmp_path / "settings", 2, rms_norm_eps=1e-3, hidden_act="gelu", rope_theta=500.0)
    biased = make(tmp_path / "biased", 3, attention_bias=True)
    deep = make(tmp_path / "deep", 4, num_hidden_layers=3)
    text = mismatch(base, vocabulary=vocabulary, settings=settings, biased=biased, deep=deep)
    assert text.startswith(f"the models do not fit base ({base}):")
    for line in (
        f"vocabulary ({vocabulary}): vocab_size is 30 instead of 24",
        f"vocabulary ({vocabulary}): model.embed_tokens.weight has shape 30×16 instead of 24×16",
        f"vocabulary ({vocabulary}): lm_head.weight has shape 30×16 instead of 24×16",
        f"settings ({settings}): rms_norm_eps is 0.001 instead of 1e-06",
        f"settings ({settings}): hidden_act is 'gelu' instead of 'silu'",
        f"settings ({settings}): rope_parameters.rope_theta is 500.0 instead of 10000.0",
        f"biased ({biased}): attention_bias is True instead of False",
        f"biased ({biased}): has 8 more tensors: model.layers.0.self_attn.k_proj.bias",
        f"deep ({deep}): num_hidden_layers is 3 instead of 2",
        f"deep ({deep}): has 9 more tensors: model.layers.2.input_layernorm.weight",
    ):
        assert line in text
    assert "lacks 9 tensors: model.layers.2." in mismatch(deep, shallow=base)


def test_tied_and_untied_heads_do_not_mix(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    text = mismatch(base, tied=make(tmp_path / "tied", 1, tie_word_embeddings=True))
    assert "tie_word_embeddings is True instead of False" in text
    assert "lacks 1 tensors: lm_head.weight" in text


def test_another_hidden_size_does_not_print_a_page_of_shapes(tmp_path: Path) -> None:
    text = mismatch(make(tmp_path / "base", 0), wide=make(tmp_path / "wide", 1, hidden_size=32))
    assert "hidden_size is 32 instead of 16" in text
    assert "more tensors of another shape or type" in text
    assert len(text.splitlines()) < 20


def test_settings_without_effect_may_differ(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    a = near(tmp_path / "a", base, 1)
    edit_config(a, eos_token_id=3, attention_dropout=0.1, max_position_embeddings=64, use_cache=False,
                initializer_range=0.5, transformers_version="4.0.0", max_window_layers=3)  # fmt: skip
    Sources().plan(recipe("ties", base, {"a": a}))


def test_all_models_that_cannot_be_opened_are_named(family: SimpleNamespace, tmp_path: Path) -> None:
    text = mismatch(tmp_path / "nobase", good=family.math, bad=tmp_path / "nowhere")
    assert text.startswith("2 models cannot be used:")
    assert f"parent 'bad': there is no folder {tmp_path / 'nowhere'}" in text
    assert f"base: there is no folder {tmp_path / 'nobase'}" in text


def test_a_parent_that_does_not_hold_its_own_config_is_among_the_mismatches(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    a = near(tmp_path / "a", base, 1)
    tensors = load_file(a / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, a / "model.safetensors", metadata={"format": "pt"})
    text = mismatch(base, a=a, wide=make(tmp_path / "wide", 2, intermediate_size=28))
    assert f"a ({a}): {a} does not hold what its config.json describes: model.norm.weight is missing" in text
    assert "intermediate_size is 28 instead of 20" in text


def test_sources_open_each_model_once(family: SimpleNamespace) -> None:
    sources = Sources()
    one = sources.plan(recipe("ties", family.base, {"m": family.math}, parameters={"weight": 0.1}))
    other = sources.plan(recipe("dare_ties", family.base, {"m": family.math}, parameters={"weight": 0.2}))
    assert one.family is other.family
    assert sources.open(ModelSource(str(family.math))) is one.family.model(0)
    assert one.family.summary.n_layers == 2


def test_each_recipe_of_a_candidate_is_checked_once(
    family: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr(planning, "find_method", lambda name: looked_up.append(name) or find_method(name))
    live = LiveModels()
    merge = recipe("ties", family.base, {"a": family.math, "b": family.japanese})
    live.write(merge)
    assert looked_up == ["ties"]
    live.write(recipe("linear", None, {"a": family.math, "b": family.japanese}))
    assert looked_up == ["ties", "linear"]
    merge_to_disk(merge, tmp_path / "general", sources=Sources())
    assert looked_up == ["ties", "linear", "ties"]
    merge_to_disk(merge, tmp_path / "plain")
    assert looked_up == ["ties", "linear", "ties", "ties"]
    path = Recipe(PASSTHROUGH, (Parent("a", ModelSource(str(family.math))),), path=(Step("a", 1), Step("a", 0)))
    Sources().path_plan(path)
    assert looked_up == ["ties", "linear", "ties", "ties", PASSTHROUGH]


def test_a_group_may_have_a_method_of_its_own_and_inherits_nothing_then(family: SimpleNamespace) -> None:
    parents = {"math": family.math, "japanese": family.japanese}
    plain = recipe("linear", family.base, parents, parameters={"weight": 1.0})
    groups = (Group({"t": 0.25}, layers=(0, 1), method="slerp"), Group({"weight": {"math": 0.0, "japanese": 1.0}}))
    tasks = {task.name: task for task in Sources().plan(replace(plain, groups=groups)).tasks}
    inner, outer = tasks["model.layers.0.mlp.up_proj.weight"], tasks["model.layers.1.mlp.up_proj.weight"]
    assert (inner.method.spec.name, dict(inner.values or {})) == ("slerp", {"t": 0.25})
    assert outer.copy_of == 1, "weight 0 leaves one parent"
    text = refused(replace(plain, groups=(Group({"weight": 1.0}, method="slerp"), Group({}, method="tie"))))
    assert "groups[0]: unknown parameter of slerp 'weight'" in text
    assert "unknown merge method 'tie'; did you mean 'ties'" in text


def test_a_group_matches_by_parts_of_names_and_a_part_of_none_is_refused(family: SimpleNamespace) -> None:
    parents = {"math": family.math, "japanese": family.japanese}
    first = {"weight": {"math": 1.0, "japanese": 0.0}}
    second = {"weight": {"math": 0.0, "japanese": 1.0}}
    of = recipe("linear", None, parents, groups=(Group(first, tensors=("q_proj", "lm_head")), Group(second)))
    assert Recipe.from_yaml(of.to_yaml()) == of
    for task in Sources().plan(of).tasks:
        assert task.copy_of == (0 if "q_proj" in task.name or task.name == "lm_head.weight" else 1), task.name
    with pytest.raises(RecipeError, match=r"groups\[0\]: no tensor's name holds 'qproj'; names are like model\.layers"):
        Sources().plan(replace(of, groups=(Group(first, tensors=("qproj",)),)))


def test_a_parameter_that_sleeps_or_holds_for_the_whole_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = MethodSpec(
        "trial",
        "",
        "",
        (
            Parameter("mode", "a", choices=("a", "b")),
            Parameter("depth", 1, 1, 9, integer=True, when={"mode": ("b",)}),
            Parameter("order", 0.5, per_parent=True, in_groups=False),
        ),
        needs_base=False,
    )
    method = replace(find_method("linear"), spec=spec, problems=lambda values: [])
    monkeypatch.setattr(planning, "find_method", lambda name: method)
    parents = (Parent("m", ModelSource("x")),)
    check_recipe(Recipe("trial", parents, parameters={"mode": "b", "depth": 3}))
    text = refused(Recipe("trial", parents, parameters={"depth": 3}))
    assert text == "depth has no meaning with mode: a; it counts where mode is b"
    assert "depth must be a whole number, but came 1.5" in refused(
        Recipe("trial", parents, parameters={"mode": "b", "depth": 1.5})
    )
    assert refused(Recipe("trial", parents, groups=(Group({"order": 1.0}),))) == (
        "groups[0]: order of trial holds for the whole model; set it in `parameters`, not in a group"
    )


def test_wrong_numbers_are_named_beside_wrong_names_and_kinds() -> None:
    parameters = {"density": -1.0, "weight": {"m0": -1.0, "m1": 2.0}, "foo": 3.0, "election": "x"}
    text = refused(of(parameters=parameters, groups=(Group({"density": 2.0}, roles=("mlp",)),)))
    assert text.startswith("5 mistakes in the recipe:")
    for words in ("'foo'", "'x'", "-1", "groups[0]: density must be between 0 and 1, but came 2"):
        assert words in text


def test_the_home_of_nobody_and_a_name_that_is_too_long_are_no_folders(family: SimpleNamespace) -> None:
    for path in ("~nobody-at-all/x", "/" + "x" * 300):
        with pytest.raises(CheckpointError, match="there is no folder"):
            Sources().open(ModelSource(path))


def test_a_tensor_of_another_kind_is_no_difference_of_vocabularies(family: SimpleNamespace, tmp_path: Path) -> None:
    other = near(tmp_path / "other", family.base, 7)
    tensors = load_file(other / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name] > 0}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"up_proj\.weight has type torch\.bool") as caught:
        Sources().plan(recipe("linear", None, {"a": family.math, "b": other}))
    assert "vocabularies" not in str(caught.value)
