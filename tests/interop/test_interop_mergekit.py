"""Recipes in mergekit's words, and what mergekit has no words for."""

from pathlib import Path

import pytest
import yaml
from tiny_models import make, near, recipe

from evomerge.interop.mergekit import read_mergekit, write_mergekit
from evomerge.interop.mergekit.vocabulary import METHODS
from evomerge.merge.methods.registry import find_method
from evomerge.recipe import Group, ModelSource, Parent, Recipe, Step, TokenizerBuild
from evomerge.recipe.tokenizer import ModelToken, TokenRow, ZeroRow


def stack(*runs: tuple[str, int, int], sources: dict[str, ModelSource | Recipe] | None = None, **changes) -> Recipe:
    chosen = sources or {"a": ModelSource("org/a"), "b": ModelSource("org/b", revision="v1")}
    path = tuple(Step(name, layer) for name, start, stop in runs for layer in range(start, stop))
    changes = {"dtype": "float32", **changes}
    return Recipe("passthrough", tuple(Parent(*item) for item in chosen.items()), path=path, **changes)


def written(one: Recipe) -> dict:
    found = write_mergekit(one)
    assert found.problems == ()
    return yaml.safe_load(found.text)


def test_a_path_becomes_slices_of_whole_layers() -> None:
    one = stack(("a", 0, 2), ("b", 1, 4), ("b", 3, 4), ("a", 2, 3), dtype="bfloat16")
    text = write_mergekit(one).text
    assert text.startswith("# mergekit-yaml FILE DIR\n")
    assert "layer_range: [0, 2]" in text
    assert yaml.safe_load(text) == {
        "slices": [
            {"sources": [{"model": "org/a", "layer_range": [0, 2]}]},
            {"sources": [{"model": "org/b@v1", "layer_range": [1, 4]}]},
            {"sources": [{"model": "org/b@v1", "layer_range": [3, 4]}]},
            {"sources": [{"model": "org/a", "layer_range": [2, 3]}]},
        ],
        "merge_method": "passthrough",
        "base_model": "org/a",
        "dtype": "bfloat16",
    }


def test_paths_with_mergekits_own_signs_are_spelled_out_and_a_model_named_twice_is_written_twice() -> None:
    sources = {"a": ModelSource("/models/a+b@c"), "b": ModelSource("~/b")}
    text = write_mergekit(stack(("a", 0, 1), ("b", 0, 1), ("a", 1, 2), sources=sources)).text
    data = yaml.safe_load(text)
    assert data["base_model"] == {"model": {"path": "/models/a+b@c"}}
    assert data["slices"][1]["sources"][0]["model"] == str(Path("~/b").expanduser())
    assert "&" not in text and "*" not in text


def test_remote_code_is_asked_for_in_the_command() -> None:
    sources = {"a": ModelSource("org/a", trust_remote_code=True)}
    text = write_mergekit(stack(("a", 0, 1), sources=sources)).text
    assert text.startswith("# mergekit-yaml FILE DIR --trust-remote-code\n")


def test_all_that_mergekit_cannot_say_is_said_at_once() -> None:
    inner = Recipe("layer_swap", (Parent("x", ModelSource("org/x")), Parent("y", ModelSource("org/y"))))
    one = Recipe(
        "passthrough",
        (Parent("a", ModelSource("zoo:math")), Parent("b", inner), Parent("idle", ModelSource("org/idle"))),
        path=(Step("b", 0), Step("a", 1, 0.5), Step("b", 2)),
        tokenizer="b",
        generation_config="idle",
        chat_template="a",
        dtype="float32",
    )
    found = write_mergekit(one)
    expected = ["no input scale, but a layer 1 has 0.5", "embeddings from the first step's model, b, instead of a"]
    expected += ["head from the last step's model, b, instead of a", "the tokenizer of b", "a is zoo:math"]
    expected += ["b: mergekit has no method layer_swap", "no generation config of another model (idle)"]
    expected += ["no chat template of a model by name (a)"]
    assert found.text == "" and len(found.problems) == len(expected)
    for words in expected:
        assert any(words in problem for problem in found.problems), words


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (recipe("ties", Path("b"), {"a": Path("a")}, parameters={"election": "count"}), "no word for election: count"),
        (recipe("ties", Path("b"), {"a": Path("a")}, parameters={"scope": "model"}), "its ties is scope: tensor"),
        (
            recipe(
                "breadcrumbs", Path("c"), {"a": Path("a")}, parameters={"density": 0.5, "gamma": 0.0, "scope": "tensor"}
            ),
            "of breadcrumbs with gamma: 0, mergekit drops the whole task vector of a, unless its density is 1",
        ),
        (
            recipe(
                "breadcrumbs",
                Path("c"),
                {"a": Path("a")},
                parameters={"density": 0.95, "gamma": 0.1, "scope": "tensor"},
            ),
            "mergekit removes fewer outliers than gamma of breadcrumbs says",
        ),
        (
            recipe(
                "nuslerp",
                Path("c"),
                {"a": Path("a"), "b": Path("b")},
                parameters={"of": "task_vectors"},
                groups=(Group({"of": "weights"}, tensors=("x",)),),
            ),
            "of a base of nuslerp, mergekit measures task vectors",
        ),
        (
            recipe("linear", None, {"a": Path("a")}, groups=(Group({}, tensors=("x",), method="slerp"),)),
            "one method in a merge, but groups have slerp",
        ),
        (
            recipe("linear", None, {"a": Path("none-a")}, groups=(Group({"weight": 0.5}, roles=("mlp",)),)),
            "groups by layers or roles are written by the names of tensors",
        ),
    ],
)
def test_what_a_method_or_a_group_says_beyond_mergekit_is_named(one: Recipe, said: str) -> None:
    (problem,) = write_mergekit(one).problems
    assert said in problem


def test_recipes_of_recipes_are_several_merges() -> None:
    soup = Recipe("linear", (Parent("x", ModelSource("org/x")), Parent("y", ModelSource("org/y"))), dtype="float32")
    one = Recipe("slerp", (Parent("soup of two", soup), Parent("z", ModelSource("org/z"))), None, {"t": 0.25},
                 dtype="float32")  # fmt: skip
    text = write_mergekit(one).text
    assert text.startswith("# mergekit-multi FILE --intermediate-dir PARTS --out-path DIR\n")
    first, second = yaml.safe_load_all(text)
    assert first["name"] == "soup_of_two" and first["merge_method"] == "linear" and "name" not in second
    assert [model["model"] for model in second["models"]] == ["soup_of_two", "org/z"]
    assert second["base_model"] == "soup_of_two" and second["parameters"] == {"t": 0.25}
    again = read_mergekit(text).recipe
    assert again.parents[0].source == Recipe("linear", soup.parents, None, {"weight": 1.0, "normalize": True},
                                             dtype="float32")  # fmt: skip


def test_parts_of_names_are_filters_without_the_models_and_order_counts() -> None:
    groups = (Group({"t": 0.9}, tensors=("q_proj", "lm_head")), Group({"t": 0.1}, tensors=("self_attn",)))
    parents = {"a": ModelSource("org/a"), "b": ModelSource("org/b")}
    one = Recipe("slerp", tuple(Parent(*item) for item in parents.items()), None, {"t": 0.5}, groups, dtype="float32")
    assert written(one)["parameters"]["t"] == [
        {"filter": "q_proj", "value": 0.9},
        {"filter": "lm_head", "value": 0.9},
        {"filter": "self_attn", "value": 0.1},
        {"value": 0.5},
    ]


def test_layers_are_slices_and_roles_filters_by_the_names_in_the_headers(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0, num_hidden_layers=3)
    parents = {name: near(tmp_path / name, base, seed) for seed, name in enumerate("ab", 1)}
    groups = (
        Group({"weight": {"a": 0.1, "b": 0.9}}, layers=(0, 1), roles=("attention",)),
        Group({"weight": 0.7}, layers=(1, 3)),
        Group({"weight": 0.0}, roles=("norm",)),
    )
    one = recipe("task_arithmetic", base, parents, parameters={"weight": 0.4, "lambda": 0.8}, groups=groups)
    data = written(one)
    assert [[source.get("layer_range") for source in each["sources"]] for each in data["slices"]] == [
        [[0, 1]] * 3,
        [[1, 3]] * 3,
    ]
    assert data["slices"][0]["sources"][0]["parameters"]["weight"] == [
        {"filter": "attn", "value": 0.1},
        {"filter": "norm", "value": 0.0},
        {"value": 0.4},
    ]
    assert data["parameters"]["lambda"] == 0.8 and data["dtype"] == "float32"
    again = read_mergekit(write_mergekit(one).text).recipe
    for name, role, layer in [
        ("model.layers.0.self_attn.q_proj.weight", "attention", 0),
        ("model.layers.0.input_layernorm.weight", "norm", 0),
        ("model.layers.2.input_layernorm.weight", "norm", 2),
        ("model.norm.weight", "norm", None),
        ("lm_head.weight", "head", None),
        ("model.embed_tokens.weight", "embedding", None),
    ]:
        mine, theirs = (each.parameters_of(role, layer, name)["weight"] for each in (one, again))
        assert theirs in (mine, dict(mine) if not isinstance(mine, float) else mine), name


def test_stacks_that_are_merged_are_slices_with_several_sources(tmp_path: Path) -> None:
    for name in "abc":
        make(tmp_path / name, ord(name), num_hidden_layers=4)
    sources = {name: ModelSource(str(tmp_path / name)) for name in "abc"}
    low = stack(("a", 0, 3), ("b", 1, 3), sources={"a": sources["a"], "b": sources["b"]}, head="b", dtype=None)
    high = stack(("c", 0, 4), ("c", 3, 4), sources={"c": sources["c"]}, dtype=None)
    one = Recipe("slerp", (Parent("low", low), Parent("high", high)), None, {"t": 0.3})
    data = written(one)
    ranges = [[source["layer_range"] for source in each["sources"]] for each in data["slices"]]
    assert ranges == [[[0, 3], [0, 3]], [[1, 2], [3, 4]], [[2, 3], [3, 4]]]
    assert data["slices"][2]["base_model"] == str(tmp_path / "b") and data["dtype"] == "float32"


def test_arithmetic_is_asked_for_in_fp32_with_one_cast(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 0, dtype="bfloat16")
    one = recipe("linear", None, {"a": folder, "b": folder})
    assert {key: written(one)[key] for key in ("dtype", "out_dtype")} == {"dtype": "float32", "out_dtype": "bfloat16"}
    copied = recipe("passthrough", None, {"a": folder})
    assert written(copied)["dtype"] == "bfloat16" and "out_dtype" not in written(copied)


def test_tokenizers_that_are_built_go_there_and_back() -> None:
    build = TokenizerBuild(
        "base",
        {"<x>": TokenRow(ModelToken("a", token="<y>"), force=True), "<z>": TokenRow(ZeroRow()),
         "<w>": TokenRow(ModelToken("base"))},
        pad_to_multiple_of=8,
    )  # fmt: skip
    one = Recipe(
        "task_arithmetic",
        (Parent("a", ModelSource("org/a")),),
        Parent("base", ModelSource("org/base")),
        {"weight": 0.5, "lambda": 1.0},
        dtype="float32",
        tokenizer=build,
        chat_template="chatml",
    )
    text = write_mergekit(one).text
    assert yaml.safe_load(text)["tokenizer"]["tokens"]["<x>"] == {
        "source": {"kind": "model_token", "model": "org/a", "token": "<y>"},
        "force": True,
    }
    again = read_mergekit(text).recipe
    assert again.tokenizer == build and again.chat_template == "chatml"


def test_a_stack_says_where_mergekits_rows_are_others(tmp_path: Path) -> None:
    sources: dict[str, ModelSource | Recipe] = {}
    for i, name in enumerate("ab"):
        sources[name] = ModelSource(str(make(tmp_path / name, i)))
    one = stack(("a", 0, 1), ("b", 1, 2), sources=sources, head="b", tokenizer=TokenizerBuild("union"))
    found = write_mergekit(one)
    assert not found.problems and "a row of zeros" in found.notes[0]
    assert read_mergekit(found.text).recipe == one
    rows = TokenizerBuild("union", {"<x>": TokenRow(ModelToken("a"))})
    refused = write_mergekit(stack(("a", 0, 1), ("b", 1, 2), sources=sources, head="b", tokenizer=rows))
    assert "their own models alone, a and b, but the row of '<x>' is a's" in refused.problems[0]
    assert not write_mergekit(stack(("a", 0, 1), ("b", 1, 2), ("a", 1, 2), sources=sources, tokenizer=rows)).problems


def test_every_parameter_of_a_shared_method_has_a_word_or_a_fixed_value() -> None:
    for words in METHODS.values():
        spec = find_method(words.ours).spec
        said = {word.ours for word in words.words} | set(words.fixed)
        assert set(words.divided({one.name: one.default for one in spec.parameters})) <= said, words.theirs
        for name, value in words.fixed.items():
            parameter = spec.parameter(name)
            assert parameter is not None and type(parameter.default) is type(value), (words.theirs, name)


def test_all_that_mergekit_cannot_express_is_named_beside_a_method_that_it_lacks() -> None:
    inner = recipe("iso_c", Path("c"), {"a": Path("a")})
    groups = (Group({}, tensors=("x",), method="slerp"),)
    one = recipe("tsv_m", Path("c"), {"a": inner, "b": Path("b")}, tokenizer="b", generation_config="a", groups=groups)
    problems = "\n".join(write_mergekit(one).problems)
    for words in (
        "method tsv_m",
        "groups have slerp",
        "tokenizer of b",
        "generation config",
        "a: mergekit has no method iso_c",
    ):
        assert words in problems
