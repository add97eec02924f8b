"""What is wrong with a mergekit file: all of it at once, with places and nearest names, before a tensor is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make

from evomerge.errors import RecipeError
from evomerge.interop import load_recipe
from evomerge.interop.mergekit import read_mergekit

MODELS = "models:\n- {model: a, parameters: {weight: 0.5}}\n- {model: b, parameters: {weight: 0.5}}\n"
TIES = f"merge_method: ties\nbase_model: c\n{MODELS}"


@pytest.fixture(autouse=True, scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("abc"):
        make(folder / name, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{TIES}paramters: {{}}\n", "unknown key 'paramters'; did you mean 'parameters'"),
        (f"{TIES}parameters: {{lamda: 1}}\n", "parameters.lamda: unknown parameter of ties 'lamda'; did you mean"),
        (TIES.replace("weight: 0.5}}\n- {model: b", "wieght: 1}}\n- {model: b"), "models[0].parameters.wieght: unk"),
        (TIES.replace("model: b,", "model: b, layer_range: [0, 1],"), "models[1]: unknown key 'layer_range'"),
        (TIES.replace("ties", "tiess"), "merge_method: unknown merge method 'tiess'; did you mean 'ties'"),
        (TIES.replace("base_model: c\n", ""), "ties measures task vectors from a base; name one with base_model"),
        (TIES.replace("weight: 0.5}}\n- {model: b", "density: 1}}\n- {model: b"), "models[0]: weight of a is needed"),
        (f"{TIES}dtype: int64\n", "dtype: one of float32, bfloat16, float16 is needed, but came 'int64'"),
        (TIES.replace("weight: 0.5}}\n- {model: b", "weight: heavy}}\n- {model: b"), "models[0].parameters.weight: a"),
        (f"{TIES}parameters: {{lambda: [1, x]}}\n", "parameters.lambda: a number, true or false"),
        (f"{TIES}parameters: {{lambda: [{{filter: mlp}}]}}\n", "parameters.lambda[0]: {filter: PART OF A NAME, value"),
        (f"{TIES}parameters: {{lambda: [{{filter: mpl, value: 1}}]}}\n", "lambda[0].filter: unknown part of tensors'"),
        (TIES.replace("model: a", "model: a+"), "models[0].model: model+lora names a model and an adapter"),
        (f"{TIES}slices: []\n", "exactly one of models, slices and modules is needed, but came models, slices"),
        ("merge_method: linear\n", "exactly one of models, slices and modules is needed, but came none of them"),
        ("merge_method: linear\nmodels: 3\n", "models: a list of models"),
        ("merge_method: linear\nmodels: [a]\n", "models[0]: a mapping with `model` is needed, but came 'a'"),
        (f"merge_method: slerp\n{MODELS}parameters: {{t: 1}}\n", "base_model of slerp says which of its two models, a"),
        (f"merge_method: slerp\nbase_model: a\n{MODELS}", "t is needed by slerp, which has no default for it"),
        (f"merge_method: nearswap\nbase_model: c\n{MODELS}parameters: {{t: 1}}\n", "nearswap takes exactly 1 models"),
        (f"{TIES}tokenizer_source: base\ntokenizer: {{source: union}}\n", "it stands beside tokenizer_source"),
        (f"{TIES}tokenizer_source: d\n", "tokenizer.source: d is none of the models that are merged"),
        (f"{TIES}tokenizer: {{source: union, tokens: {{x: {{kind: zero}}}}}}\n", "tokenizer.tokens.x: {source: MODEL}"),
        ("modules: {a: {}, b: {}}\nmerge_method: linear\n", "modules: only models of one module (a decoder) are"),
        ("slices:\n- sources: [{model: a, layer_range: [0, 9]}]\nmerge_method: passthrough\n",
         "slices[0].sources[0].layer_range: [0, 9] reaches beyond the 2 layers of a"),
        ("slices:\n- sources: [{model: a, layer_range: [0, -1]}]\nmerge_method: passthrough\n",
         "slices[0].sources[0].layer_range: [start, stop] with 0 <= start < stop is needed"),
        ("merge_method: linear\nslices:\n- sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 1]}]",
         "slices[0].sources: the layer ranges of a slice must be equally long, but came [1, 2] layers"),
        ("slices:\n- sources: [{model: none, layer_range: [0, 2]}]\nmerge_method: passthrough\n",
         "slices[0].sources[0].model: the configuration of none cannot be read"),
        (f"{TIES}---\n{TIES}", "one merge must be the result, but no other uses any of these: merge 1, merge 2"),
        (f"name: x\n{TIES.replace('model: a', 'model: y')}---\nname: y\n{TIES.replace('model: a', 'model: x')}",
         "the merges x, y use each other in a circle"),
        (TIES.replace("weight: 0.5", "weight: 1" + "0" * 400, 1), "models[0].parameters.weight: a number, true or fal"),
        (TIES.replace("model: b", "model: a"), "models[1]: a stands at models[0] already; name each model once"),
        (f"name: x\n{TIES}---\nname: x\n{TIES}", "the names of merges must differ, but x stands twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read_mergekit(text)
    assert said in str(raised.value)


def test_all_mistakes_are_named_at_once_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "merge_method: tiess\nmodells: []\ndtype: int64\nmodels:\n- {model: a, parameters: {weight: x}}\n- {modle: b}\n"
    )
    with pytest.raises(RecipeError) as raised:
        load_recipe(file)
    text = str(raised.value)
    assert text.startswith(f"{file}: 6 mistakes in the mergekit file:\n")
    for words in ("'tiess'", "'modells'", "int64", "models[0].parameters.weight", "models[1]: unknown key 'modle'",
                  "models[1].model: a folder or a Hub id is needed"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("text", ["", "nonsense", "- 1\n- 2\n", "merge_method: [\n", "\x00"])
def test_a_file_that_is_no_recipe_is_an_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        load_recipe(file)


def test_what_changes_nothing_is_left_out_with_a_note() -> None:
    single = "parameters:\n  int8_mask: true\n  t: 0.3\n  lambda: {filter: self_attn, value: 0.5}\n"
    reading = read_mergekit(f"{TIES}{single}")
    assert reading.recipe.parameters["lambda"] == 1.0
    assert reading.recipe.parameters_of("attention", 0, "model.layers.0.self_attn.q_proj.weight")["lambda"] == 0.5
    assert reading.notes == ("int8_mask is left out: it changes no result", "t is left out: ties has no such parameter")


def test_levels_count_from_the_inside_out_and_fall_through_filters() -> None:
    recipe = read_mergekit(
        "merge_method: linear\n"
        "slices:\n"
        "- sources:\n"
        "  - {model: a, layer_range: [0, 2], parameters: {weight: [{filter: q_proj, value: 1}]}}\n"
        "  - {model: b, layer_range: [0, 2]}\n"
        "  parameters: {weight: [{filter: self_attn, value: 2}]}\n"
        "parameters: {weight: 3}\n"
    ).recipe

    def weights(part: str) -> object:
        return recipe.parameters_of("other", 0, f"model.layers.0.{part}.weight")["weight"]

    assert weights("self_attn.q_proj") == {"a": 1.0, "b": 2.0}
    assert weights("self_attn.k_proj") == 2.0
    assert weights("mlp.up_proj") == 3.0


def test_filters_of_several_numbers_are_joined_by_the_names_of_tensors() -> None:
    recipe = read_mergekit(
        "merge_method: linear\nmodels:\n"
        "- {model: a, parameters: {weight: [{filter: q_proj, value: 1}, {value: 2}]}}\n"
        "- {model: b, parameters: {weight: [{filter: self_attn, value: 3}, {filter: norm, value: 4}, {value: 5}]}}\n"
    ).recipe
    for name, expected in {
        "self_attn.q_proj": {"a": 1.0, "b": 3.0},
        "self_attn.v_proj": {"a": 2.0, "b": 3.0},
        "input_layernorm": {"a": 2.0, "b": 4.0},
        "mlp.up_proj": {"a": 2.0, "b": 5.0},
    }.items():
        assert recipe.parameters_of("other", 1, f"model.layers.1.{name}.weight")["weight"] == expected


def test_a_gradient_ends_with_the_head_and_one_layer_lies_at_its_end() -> None:
    text = (
        "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: [0, 1], parameters: {weight: [1, 2]}}\n"
    )
    recipe = read_mergekit(text + "  - {model: b, layer_range: [0, 1], parameters: {weight: 5}}\n").recipe
    at = {role: recipe.parameters_of(role, layer, "x")["weight"]
          for role, layer in (("embedding", None), ("mlp", 0), ("head", None))}  # fmt: skip
    firsts = [next(iter(value.values())) for value in at.values()]
    assert firsts == [1.0, 2.0, 2.0]


def test_a_slice_without_a_model_gives_it_no_part() -> None:
    text = ("merge_method: linear\nslices:\n"
            "- sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 1]}]\n"
            "- sources: [{model: a, layer_range: [1, 2]}]\nparameters: {weight: 0.5}\n")  # fmt: skip
    recipe = read_mergekit(text).recipe
    weights = [list(recipe.parameters_of("mlp", i, "x")["weight"].values()) if i else 0.5 for i in (0, 1)]
    assert weights == [0.5, [0.5, 0.0]]


def test_several_documents_are_one_recipe_in_any_order(here: Path) -> None:
    first = f"name: soup\nmerge_method: linear\n{MODELS}dtype: float32\n"
    last = "merge_method: slerp\nbase_model: soup\nmodels: [{model: soup}, {model: c}]\nparameters: {t: 0.2}\n"
    one, other = (read_mergekit(text).recipe for text in (f"{first}---\n{last}", f"{last}---\n{first}"))
    assert one == other and one.parents[0].name == "soup" and one.parents[0].source.method == "linear"
    last = last.replace("parameters", "name: it\nparameters")
    assert read_mergekit(f"{first}---\n{last}").recipe == one


def test_a_merge_that_the_result_does_not_use_is_noted() -> None:
    reading = read_mergekit(f"name: soup\nmerge_method: linear\n{MODELS}---\nmerge_method: linear\n{MODELS}")
    assert reading.notes == ("merge 1 (soup) is left out: the result does not use it",)


def test_slerp_counts_t_from_the_base_of_each_slice_and_from_one_that_is_not_listed() -> None:
    both = "[{model: a, layer_range: [%d, %d]}, {model: b, layer_range: [%d, %d]}]"
    recipe = read_mergekit(
        f"merge_method: slerp\nslices:\n- {{sources: {both % (0, 1, 0, 1)}, base_model: a}}\n"
        f"- {{sources: {both % (1, 2, 1, 2)}, base_model: b}}\nparameters: {{t: 0.25}}\n"
    ).recipe
    assert [one.name for one in recipe.parents] == ["a", "b"]
    assert [recipe.parameters_of("mlp", layer, "x")["t"] for layer in (0, 1)] == [0.25, 0.75]
    alone = read_mergekit("merge_method: slerp\nbase_model: a\nmodels: [{model: b}]\nparameters: {t: 0.25}\n").recipe
    assert ([one.name for one in alone.parents], dict(alone.parameters)) == (["a", "b"], {"t": 0.25})


def test_breadcrumbs_removes_no_outlier_where_all_is_kept() -> None:
    recipe = read_mergekit(
        "merge_method: breadcrumbs\nbase_model: c\nparameters: {gamma: 0.1, weight: 1}\n"
        "models: [{model: a}, {model: b, parameters: {density: 0.5}}]\n"
    ).recipe
    assert recipe.parameters["gamma"] == {"a": 0.0, "b": 0.1}
