"""The tokenizer that a recipe builds, as data: forms, round trip, hash, mistakes."""

from dataclasses import replace
from typing import Any

import pytest

from evomerge.errors import RecipeError
from evomerge.merge.plan import check_recipe
from evomerge.merge.tokens.templates import BUILT_IN
from evomerge.recipe import ModelSource, Parent, Recipe, TokenizerBuild
from evomerge.recipe.lineage import flatten
from evomerge.recipe.tokenizer import TEMPLATES, ModelToken, TokenRow, ZeroRow


def made(**fields: Any) -> Recipe:
    return Recipe("linear", (Parent("a", ModelSource("x/a")), Parent("b", ModelSource("x/b"))), **fields)


YAML = """
method: linear
parents: {a: x/a, no: x/no}
tokenizer:
  source: union
  tokens:
    yes: no
    <|end|>: {kind: model_token, model: no, token: 1e3}
    <|tool|>: {source: {kind: zero}, force: true}
    <|sep|>: {source: {kind: model_token, model: a, token_id: 5}}
  pad_to_multiple_of: 64
chat_template: no
"""


def test_every_form_is_read_and_written_back() -> None:
    recipe = Recipe.from_yaml(YAML)
    assert recipe.tokenizer == TokenizerBuild(
        "union",
        {
            "yes": TokenRow(ModelToken("no")),
            "<|end|>": TokenRow(ModelToken("no", token="1e3")),
            "<|tool|>": TokenRow(ZeroRow(), force=True),
            "<|sep|>": TokenRow(ModelToken("a", token_id=5)),
        },
        64,
    )
    assert recipe.chat_template == "no"  # a parent of that name, not the flag
    for again in (Recipe.from_yaml(recipe.to_yaml()), Recipe.from_data(recipe.to_data())):
        assert again == recipe
        assert again.content_hash == recipe.content_hash
    assert hash(recipe.tokenizer) == hash(Recipe.from_yaml(YAML).tokenizer)


def test_the_order_of_tokens_changes_nothing_and_what_builds_another_model_changes_the_hash() -> None:
    rows = {"x": TokenRow(ModelToken("a")), "y": TokenRow(ZeroRow())}
    one, other = (made(tokenizer=TokenizerBuild(tokens=dict(items))) for items in (rows.items(), [*rows.items()][::-1]))
    assert one == other
    assert one.content_hash == other.content_hash
    different = [
        made(),
        made(tokenizer="a"),
        made(tokenizer=TokenizerBuild("a")),
        made(tokenizer=TokenizerBuild()),
        made(tokenizer=TokenizerBuild(tokens={"x": TokenRow(ModelToken("a"))})),
        made(tokenizer=TokenizerBuild(tokens={"x": TokenRow(ModelToken("a"), force=True)})),
        made(tokenizer=TokenizerBuild(pad_to_multiple_of=8)),
        made(chat_template="chatml"),
        made(chat_template="auto"),
        made(chat_template="{{ messages }}"),
    ]
    assert len({recipe.content_hash for recipe in different}) == len(different)


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (["a"], "`tokenizer` is a parent's name"),
        ({"source": 3}, "union, base or a parent's name, but came 3"),
        ({"source": "union", "pads": 3}, "unknown key of `tokenizer`: 'pads'"),
        ({"pad_to_multiple_of": 0}, "whole number from 1, but came 0"),
        ({"pad_to_multiple_of": True}, "whole number from 1, but came True"),
        ({"tokens": ["x"]}, "maps tokens to where their rows come from"),
        ({"tokens": {"x": 5}}, "where the row of 'x' comes from"),
        ({"tokens": {"x": {"kind": "zero", "model": "a"}}}, "where the row of 'x' comes from"),
        ({"tokens": {"x": {"kind": "model_token", "model": "a"}}}, "where the row of 'x' comes from"),
        ({"tokens": {"x": {"kind": "model_token", "model": "a", "token_id": -1}}}, "where the row of 'x' comes from"),
        ({"tokens": {"x": {"source": "a", "force": 1}}}, "where the row of 'x' comes from"),
        ({"source": "c"}, "tokenizer.source must be 'union', or name a parent (a, b) or 'base', not 'c'"),
        ({"tokens": {"x": "c"}}, "takes the row of 'x' from 'c', which is neither a parent (a, b) or 'base'"),
        ("union", "or be {source: union}, not 'union'"),
    ],
)
def test_mistakes_are_named(tokenizer: Any, words: str) -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe.from_data({"method": "linear", "parents": {"a": "x/a", "b": "x/b"}, "tokenizer": tokenizer})
    assert words in str(raised.value)


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"'pads'.*whole number from 1.*row of 'x'"):
        Recipe.from_data(
            {
                "method": "linear",
                "parents": {"a": "x/a"},
                "tokenizer": {"pads": 1, "pad_to_multiple_of": 0.5, "tokens": {"x": None}},
            }
        )
    with pytest.raises(RecipeError, match=r"tokenizer must name.*generation_config must name.*chat_template must be"):
        made(tokenizer="c", generation_config="c", chat_template="c")


def test_what_shows_only_beside_the_rest_of_the_recipe_is_named_before_models_are_opened() -> None:
    recipe = made(
        tokenizer=TokenizerBuild("base", {"x": TokenRow(ModelToken("base"))}), chat_template="{% if %}{{ messages }}"
    )
    with pytest.raises(RecipeError) as raised:
        check_recipe(recipe)
    assert "tokenizer.source is 'base', but the recipe has no base" in str(raised.value)
    assert "tokenizer.tokens.x is 'base', but the recipe has no base" in str(raised.value)
    assert "chat_template is no template that Jinja can read" in str(raised.value)
    check_recipe(Recipe("passthrough", (Parent("a", ModelSource("x/a")),), tokenizer=TokenizerBuild()))


@pytest.mark.parametrize("template", [*TEMPLATES, "auto", "a", "{% generation %}{{ m }}{% endgeneration %}{% break %}"])
def test_a_template_may_be_named_or_written_out(template: str) -> None:
    if "break" in template:
        template = "{% for m in messages %}" + template + "{% endfor %}"
    check_recipe(made(chat_template=template))


def test_every_template_that_recipes_may_name_is_there() -> None:
    assert set(BUILT_IN) == set(TEMPLATES)


def test_a_lineage_keeps_what_is_said_about_tokens() -> None:
    inner = made(parameters={"weight": 0.5})
    outer = Recipe("linear", (Parent("m", inner), Parent("c", ModelSource("x/c"))), chat_template="chatml")
    flat = flatten(outer)
    assert [parent.name for parent in flat.parents] == ["a", "b", "c"]
    assert flat.chat_template == "chatml"
    # Rows that a vocabulary moves are no sums of the checkpoints' rows, and names would be lost.
    for kept in (replace(outer, tokenizer=TokenizerBuild()), replace(outer, chat_template="m")):
        assert flatten(kept) == kept
    for built in (replace(inner, tokenizer=TokenizerBuild()), replace(inner, chat_template="chatml")):
        above = Recipe("linear", (Parent("m", built), Parent("c", ModelSource("x/c"))))
        assert flatten(above) == above
