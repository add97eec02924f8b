"""Layer paths in memory: the right function, no weights of their own, and families that are refused."""

import copy
import gc
import random
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from path_families import FAMILIES, WINDOW, family_config, make_family
from tiny_models import make, near, recipe
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config
from transformers.masking_utils import create_causal_mask

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.live.models import LiveModels, check_paths
from evomerge.merge.paths.placed import path_problems
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe, Step

# Layers 0, 1 of "a" and 0, 1, 2 of "b": repeats, neighbours of the other parent, scales on both sides of 1.
WILD = (
    Step("a", 0),
    Step("b", 2, 0.5),
    Step("a", 1),
    Step("b", 0, 1.7),
    Step("b", 2),
    Step("a", 0, 0.8),
    Step("a", 0),
)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two parents of a family, their plain transformers models, and what holds them live."""
    a, b = make_family(tmp_path_factory.mktemp("pair"), request.param)
    live = LiveModels(dtype="float32")
    plain = {"a": _plain(a), "b": _plain(b)}
    return SimpleNamespace(name=request.param, a=a, b=b, live=live, plain=plain)


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    a, b = make_family(tmp_path_factory.mktemp("llamas"), "llama")
    return SimpleNamespace(a=a, b=b)


def _plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)


def stack(a: Any, b: Any, path: Sequence[Step], **fields: Any) -> Recipe:
    return recipe(PASSTHROUGH, None, {"a": a, "b": b}, path=tuple(path), **fields)


def tokens(batch: int = 2, length: int = 3 * WINDOW, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 32, (batch, length), generator=torch.Generator().manual_seed(seed))


class Scaled(torch.nn.Module):
    """A layer whose input is multiplied by a number."""

    def __init__(self, layer: Any, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale

    def forward(self, hidden: torch.Tensor, **rest: Any) -> Any:
        return self.layer(self.scale * hidden, **rest)


def built_by_its_class(pair: SimpleNamespace, path: Sequence[Step]) -> Any:
    """The model of a path as transformers builds it from a configuration, with copied weights."""
    changes = {}
    types = {name: getattr(model.config, "layer_types", None) for name, model in pair.plain.items()}
    if types["a"] is not None:
        changes["layer_types"] = [types[step.parent][step.layer] for step in path]
    model = AutoModelForCausalLM.from_config(family_config(pair.name, len(path), **changes)).eval()
    prefix = Architecture(model.config).layers_name + "."
    first = pair.plain["a"].state_dict()
    state = {name: tensor for name, tensor in first.items() if not name.startswith(prefix)}
    for t, step in enumerate(path):
        source = f"{prefix}{step.layer}."
        for name, tensor in pair.plain[step.parent].state_dict().items():
            if name.startswith(source):
                state[f"{prefix}{t}.{name.removeprefix(source)}"] = tensor
    model.load_state_dict(state)
    layers = model.get_submodule(prefix[:-1])
    for t, step in enumerate(path):
        if step.scale != 1.0:
            layers[t] = Scaled(layers[t], step.scale)
    return model.requires_grad_(False)


def test_a_path_is_the_model_that_its_class_builds_for_it(pair: SimpleNamespace) -> None:
    pair.live.write(stack(pair.a, pair.b, WILD))
    expected = built_by_its_class(pair, WILD)(tokens()).logits
    assert torch.equal(pair.live.model(tokens()).logits, expected)
    pair.live.write(stack(pair.a, pair.b, WILD[:3]))
    assert not torch.allclose(pair.live.model(tokens()).logits, expected, atol=0.1)


def test_a_llama_path_is_its_layers_called_one_after_another(llamas: SimpleNamespace) -> None:
    plain = {"a": _plain(llamas.a), "b": _plain(llamas.b)}
    body, ids = plain["a"].model, tokens()
    hidden = body.embed_tokens(ids)
    positions = torch.arange(ids.shape[1])[None]
    mask = create_causal_mask(
        config=body.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None, position_ids=positions
    )
    rotary = body.rotary_emb(hidden, position_ids=positions)
    for step in WILD:
        layer = plain[step.parent].model.layers[step.layer]
        hidden = layer(step.scale * hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
    expected = plain["a"].lm_head(body.norm(hidden))
    live = LiveModels()
    live.write(stack(llamas.a, llamas.b, WILD))
    assert torch.equal(live.model(ids).logits, expected)


def test_all_layers_of_the_first_parent_are_the_first_parent(pair: SimpleNamespace) -> None:
    for first, second, depth in (("a", "b", 2), ("b", "a", 3)):
        parents = {first: getattr(pair, first), second: getattr(pair, second)}
        whole = tuple(Step(first, layer) for layer in range(depth))
        pair.live.write(recipe(PASSTHROUGH, None, parents, path=whole))
        assert torch.equal(pair.live.model(tokens()).logits, pair.plain[first](tokens()).logits)


def test_generation_with_a_cache_is_generation_without_token_for_token(pair: SimpleNamespace) -> None:
    pair.live.write(stack(pair.a, pair.b, WILD))
    model, ids = pair.live.model, tokens(3)
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 5, 2)):  # on the left; the longest row is longer than the window
        ids[row, :padding], mask[row, :padding] = 0, 0
    settings = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8, "pad_token_id": 0}
    cached = model.generate(ids, attention_mask=mask, use_cache=True, **settings)
    assert cached.shape == (3, 3 * WINDOW + 8)
    assert torch.equal(cached, model.generate(ids, attention_mask=mask, use_cache=False, **settings))
    for row, padding in enumerate((0, 5, 2)):
        alone = model.generate(ids[row : row + 1, padding:], use_cache=True, **settings)
        assert torch.equal(alone[0], cached[row, padding:])
    assert len({tuple(row[-8:].tolist()) for row in cached}) > 1  # or nothing of the prompt would show


def test_every_step_has_a_cache_slot_of_its_own_and_of_its_layers_type(pair: SimpleNamespace) -> None:
    pair.live.write(stack(pair.a, pair.b, WILD))
    slots = pair.live.model(tokens(), use_cache=True).past_key_values.layers
    assert len(slots) == len(WILD)
    keys = [slot.keys[:, :, -1] for slot in slots]  # of the last token: also sliding slots hold it
    assert not any(torch.equal(keys[i], keys[j]) for i in range(len(WILD)) for j in range(i))
    types = [getattr(pair.plain[step.parent].config, "layer_types", None) for step in WILD]
    if types[0] is not None:
        expected = [kinds[step.layer] == "sliding_attention" for kinds, step in zip(types, WILD, strict=True)]
        assert len(set(expected)) == 2
        assert [slot.is_sliding for slot in slots] == expected


def test_a_path_holds_the_parents_parameters_and_switching_makes_no_tensor(pair: SimpleNamespace) -> None:
    pair.live.write(recipe(PASSTHROUGH, None, {"a": pair.a}))
    a = {id(parameter) for parameter in pair.live.model.parameters()}
    pair.live.write(recipe(PASSTHROUGH, None, {"b": pair.b}))
    b = {id(parameter) for parameter in pair.live.model.parameters()}
    draw = random.Random(0)
    paths = [WILD[:n] for n in (7, 1, 4)] + [
        [Step("a", draw.randrange(2), draw.choice((1.0, 0.5))) for _ in range(draw.randint(1, 9))] for _ in range(10)
    ]
    for path in paths:  # the occurrences are made
        pair.live.write(stack(pair.a, pair.b, path))
    model = pair.live.model
    model.tie_weights()  # as lm-eval does when it wraps a model

    def n_tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())  # isinstance would follow proxies

    before = n_tensors()
    for path in reversed(paths):
        pair.live.write(stack(pair.a, pair.b, path))
        assert pair.live.model is model
        assert {id(parameter) for parameter in model.parameters()} <= a | b
        assert model.config.num_hidden_layers == len(path)
    assert n_tensors() == before


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_a_kind_of_layer_that_the_first_parent_lacks_comes_with_its_masks_and_tables(name: str, tmp_path: Path) -> None:
    (a,) = make_family(tmp_path / "full", name, depths=(2,), layer_types=["full_attention"] * 2)
    (b,) = make_family(tmp_path / "sliding", name, depths=(3,), layer_types=["sliding_attention"] * 3)
    live = LiveModels()
    pair = SimpleNamespace(name=name, plain={"a": _plain(a), "b": _plain(b)})
    for path in (WILD, [Step("b", 1), Step("b", 0)], [Step("a", 1), Step("a", 0)]):
        live.write(stack(a, b, path))
        assert torch.equal(live.model(tokens()).logits, built_by_its_class(pair, path)(tokens()).logits)
    check_paths(live, [Parent("a", ModelSource(str(a))), Parent("b", ModelSource(str(b)))], None)


def test_switching_between_merges_parents_and_paths_gives_what_each_gives_alone(llamas: SimpleNamespace) -> None:
    merge = recipe("linear", None, {"x": llamas.a, "y": llamas.a}, parameters={"weight": {"x": 0.4, "y": 0.9}})
    recipes = [
        stack(llamas.a, llamas.b, WILD),
        stack(llamas.b, llamas.a, [Step("a", 2), Step("b", 1, 0.5)]),
        stack(merge, llamas.b, WILD),
        stack(merge, llamas.b, WILD[:2], dtype="bfloat16"),
        stack(llamas.a, llamas.b, WILD, dtype="bfloat16"),
        recipe(PASSTHROUGH, None, {"a": llamas.a}),
        recipe(PASSTHROUGH, None, {"a": llamas.b}, dtype="bfloat16"),
        recipe(PASSTHROUGH, None, {"a": merge}),
        merge,
        recipe("linear", None, {"a": llamas.a}),
        recipe("linear", None, {"b": llamas.b}),  # of another depth
        recipe("slerp", None, {"a": llamas.a, "b": merge}, parameters={"t": 0.3}),
    ]

    def logits(live: LiveModels, of: Recipe) -> torch.Tensor:
        live.write(of)
        assert live.recipe == of
        return live.model(tokens()).logits

    expected = [logits(LiveModels(dtype="float32"), of) for of in recipes]
    assert len({each.sum().item() for each in expected}) >= 9
    together = LiveModels(dtype="float32")
    order = [*range(len(recipes))] * 4
    random.Random(0).shuffle(order)
    for index in order:
        assert torch.equal(logits(together, recipes[index]), expected[index]), index


def test_two_merges_that_look_alike_stand_in_one_path(llamas: SimpleNamespace, tmp_path: Path) -> None:
    one = recipe("linear", None, {"x": llamas.a, "y": llamas.a}, parameters={"weight": {"x": 0.4, "y": 0.9}})
    two = recipe("task_arithmetic", llamas.a, {"x": near(tmp_path / "near", llamas.a, 1, scale=0.2)})
    files = [merge_to_disk(each, tmp_path / each.method) for each in (one, two)]
    live = LiveModels()
    path = [Step("a", 0), Step("b", 1), Step("b", 0), Step("a", 1)]
    for parents in ((0, 1), (1, 0), (1, 1)):
        live.write(stack(*((one, two)[index] for index in parents), path))
        found = live.model(tokens()).logits
        live.write(stack(*(files[index] for index in parents), path))
        assert torch.equal(found, live.model(tokens()).logits)


def test_a_parent_that_is_merged_anew_for_each_candidate_takes_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make(tmp_path / "base", 0)
    math, other = near(tmp_path / "math", base, 1), make(tmp_path / "other", 5, num_hidden_layers=3)
    path = (Step("a", 1), Step("b", 2, 0.5), Step("a", 0), Step("a", 1))

    def candidate(weight: float) -> Recipe:
        inner = recipe("task_arithmetic", base, {"math": math}, parameters={"weight": weight}, dtype="bfloat16")
        return stack(inner, other, path)

    live = LiveModels(dtype="float32")
    live.write(candidate(0.5))
    model, parameters = live.model, {id(each) for each in live.model.parameters()}
    monkeypatch.setattr(Architecture, "__init__", lambda *_, **__: pytest.fail("an architecture for one candidate"))
    for weight in (0.1, 0.9):
        live.write(candidate(weight))
        assert live.model is model
        assert {id(each) for each in live.model.parameters()} == parameters
    monkeypatch.undo()
    for weight in (0.9, 0.1):
        live.write(candidate(weight))
        merge = merge_to_disk(candidate(weight).parents[0].source, tmp_path / f"merge-{weight}")
        fresh = LiveModels(dtype="float32")
        fresh.write(stack(merge, other, path))
        assert torch.equal(live.model(tokens() % 24).logits, fresh.model(tokens() % 24).logits)


def test_a_path_is_a_parent_of_another_and_leaves_with_it(llamas: SimpleNamespace) -> None:
    inner = stack(llamas.a, llamas.b, [Step("a", 0), Step("b", 2), Step("b", 0)])
    live = LiveModels()
    live.write(stack(llamas.a, llamas.b, [Step("b", 0), Step("b", 2), Step("b", 1, 0.5)]))
    expected = live.model(tokens()).logits
    live.write(stack(inner, llamas.b, [Step("a", 2), Step("a", 1), Step("b", 1, 0.5)]))
    assert torch.equal(live.model(tokens()).logits, expected)
    gone = weakref.ref(live.model)
    other = stack(llamas.a, llamas.b, [Step("b", 0), Step("b", 1)])
    live.write(stack(other, llamas.b, [Step("a", 1)]))
    gc.collect()
    assert gone() is None


def test_a_merge_that_the_path_passes_by_is_not_computed_but_still_checked(
    llamas: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveModels()
    good = recipe("linear", None, {"x": llamas.b, "y": llamas.b}, parameters={"weight": {"x": 1.0, "y": 2.0}})
    bad = recipe("linear", None, {"x": llamas.b, "y": llamas.b}, parameters={"weight": -1.0, "wait": 3.0})
    path = [Step("a", 0), Step("a", 1)]
    live.write(stack(llamas.a, good, [*path, Step("b", 0)]))
    monkeypatch.setattr("evomerge.merge.live.writer.start_tensor", lambda *_, **__: pytest.fail("it is computed"))
    other = recipe("linear", None, {"x": llamas.b, "y": llamas.b}, parameters={"weight": {"x": 1.0, "y": 3.0}})
    live.write(stack(llamas.a, other, path))
    with pytest.raises(RecipeError, match="unknown parameter of linear 'wait'"):
        live.write(stack(llamas.a, bad, path))
    assert live.recipe is None


def test_a_parents_values_are_rounded_as_the_files_of_the_result(tmp_path: Path) -> None:
    exact = make(tmp_path / "exact", 0)
    half = make(tmp_path / "half", 1, dtype="bfloat16")
    path = [Step("a", 0), Step("b", 1)]
    weights = {name: tensor.clone() for name, tensor in _plain(exact).state_dict().items()}
    live = LiveModels(dtype="float32")
    name = "model.layers.1.mlp.up_proj.weight"
    live.write(stack(half, exact, path))  # no dtype is named: the first parent's
    assert torch.equal(live.model.state_dict()[name], weights[name].bfloat16().float())
    live.write(stack(exact, half, [Step("b", 1), Step("a", 1)]))
    assert torch.equal(live.model.state_dict()[name], weights[name])
    live.write(stack(exact, half, [Step("b", 1), Step("a", 1)], dtype="float16"))
    assert torch.equal(live.model.state_dict()[name], weights[name].half().float())
    big = near(tmp_path / "big", exact, 2, scale=70_000.0)
    with pytest.raises(RecipeError, match=r"does not fit float16: its values are not finite there"):
        live.write(stack(exact, big, path, dtype="float16"))


def test_the_tokenizer_is_the_first_parents_or_the_one_that_is_named(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a", 0), make(tmp_path / "b", 1, tokens="あいう")
    live = LiveModels()
    with pytest.raises(RuntimeError, match="no recipe has been written yet"):
        _ = live.tokenizer
    path = [Step("a", 0), Step("b", 1)]
    live.write(stack(a, b, path))
    first = live.tokenizer
    assert "a" in first.get_vocab()
    live.write(stack(a, b, path, tokenizer="b"))
    assert "あ" in live.tokenizer.get_vocab()
    live.write(stack(a, b, path[:1]))
    assert live.tokenizer is first


def test_hooks_on_the_path_model_stay_there(llamas: SimpleNamespace) -> None:
    live = LiveModels()
    live.write(recipe(PASSTHROUGH, None, {"a": llamas.a}))
    parent = live.model
    live.write(stack(llamas.a, llamas.b, WILD))
    calls: list[int] = []
    handle = live.model.register_forward_pre_hook(lambda *_: calls.append(1))
    seen = live.model(tokens(), output_hidden_states=True, output_attentions=True)
    assert (len(seen.hidden_states), len(calls)) == (len(WILD) + 1, 1)
    parent(tokens())
    again = [Step("a", 0), Step("b", 1), Step("a", 1), Step("b", 1)]  # with layers that were not there before
    live.write(stack(llamas.a, llamas.b, again))
    live.model(tokens())
    handle.remove()
    assert len(calls) == 2
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in parent.modules())
    seen = live.model(tokens(), output_hidden_states=True)
    assert len(seen.hidden_states) == 5
    assert torch.equal(seen.logits, live.model(tokens()).logits)
    # The input of layer 1 of a, the third step, is what came out of the second.
    assert torch.equal(
        live.model.model.layers[2](
            seen.hidden_states[2],
            position_embeddings=live.model.model.rotary_emb(seen.hidden_states[2], torch.arange(12)[None]),
        ),
        seen.hidden_states[3],
    )


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    a, b = make_family(tmp_path, "gemma2", dtype="bfloat16")
    live = LiveModels()
    parents = [Parent("a", ModelSource(str(a))), Parent("b", ModelSource(str(b)))]
    check_paths(live, parents, None)
    live.write(stack(a, b, WILD))
    assert live.model(tokens()).logits.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in live.model.parameters()} == {torch.bfloat16}


def test_every_family_passes_the_rehearsal(pair: SimpleNamespace) -> None:
    parents = [Parent("a", ModelSource(str(pair.a))), Parent("b", ModelSource(str(pair.b)))]
    check_paths(pair.live, parents, "float32")
    assert path_problems(Sources().open(parents[1].source)) == []


def test_parents_that_cannot_share_a_model_are_refused_before_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, wide = make(tmp_path / "a", 0), make(tmp_path / "wide", 1, hidden_size=32)
    monkeypatch.setattr("evomerge.merge.live.model._load", lambda *_: pytest.fail("weights were loaded"))
    live = LiveModels()
    for refuse in (
        lambda: check_paths(live, [Parent("a", ModelSource(str(a))), Parent("wide", ModelSource(str(wide)))], None),
        lambda: live.write(stack(a, wide, [Step("a", 0), Step("b", 0)])),
    ):
        with pytest.raises(CheckpointError, match="hidden_size is 32 instead of 16"):
            refuse()
    with pytest.raises(CheckpointError, match="a has 2 layers, so none with index 2"):
        live.write(stack(a, a, [Step("a", 2)]))


def _without_index(model: Any) -> None:
    for layer in model.model.layers:
        del layer.self_attn.layer_idx


def _own_configuration(model: Any) -> None:
    model.model.layers[1].mlp.config = copy.deepcopy(model.config)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_without_index, r"their slot in the KV cache by an attribute layer_idx, which layer 0 .* but came none"),
        (_own_configuration, "configurations of their own"),
        (
            lambda model: setattr(model.model.layers[1], "keeps", 3),
            r"layer 1 elsewhere would change keeps from 3 to None",
        ),
        (lambda model: setattr(model.model, "order", [0, 1]), r"also shows in model: order from \[0, 1\] to None"),
    ],
)
def test_a_family_whose_layers_cannot_move_says_why(
    break_it: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    source = ModelSource(str(make(tmp_path / "a", 0)))
    live = LiveModels()
    break_it(live.sources.open(source).architecture.model)
    with pytest.raises(CheckpointError, match=rf"cannot run in another order:\n  - a \(.*\): .*{message}"):
        check_paths(live, [Parent("a", source)], None)
    assert live.model is None


def test_layers_that_depend_on_their_place_are_refused(tmp_path: Path) -> None:
    settings = {"vocab_size": 16, "n_embd": 8, "n_head": 2, "n_layer": 2, "bos_token_id": 1, "eos_token_id": 1}

    def problems(**changes: Any) -> list[str]:
        config = GPT2Config(**settings, **changes)
        config.save_pretrained(tmp_path)
        opened = SimpleNamespace(
            architecture=Architecture(config),
            config=config,
            label="gpt2",
            folder=tmp_path,
            trust_remote_code=False,
            has_other_parts=False,
        )
        return path_problems(opened)  # type: ignore[arg-type]

    assert problems() == []
    (problem,) = problems(scale_attn_by_inverse_layer_idx=True)
    assert "layer 1 elsewhere would change attn.scaling" in problem


def test_a_class_that_mixes_up_its_caches_is_found_by_the_rehearsal(
    llamas: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = [Parent("a", ModelSource(str(llamas.a))), Parent("b", ModelSource(str(llamas.b)))]
    update = DynamicCache.update
    monkeypatch.setattr(DynamicCache, "update", lambda self, k, v, layer, *a, **kw: update(self, k, v, 0, *a, **kw))
    with pytest.raises(CheckpointError, match="a path over layers of a "):
        check_paths(LiveModels(), parents, None)
    monkeypatch.undo()

    def confused(self: Any, keys: torch.Tensor, values: torch.Tensor, layer: int, *rest: Any, **more: Any) -> Any:
        kept, also = update(self, keys, values, layer, *rest, **more)
        return (kept.flip(2), also) if layer and kept.shape != keys.shape else (kept, also)

    monkeypatch.setattr(DynamicCache, "update", confused)
    with pytest.raises(CheckpointError, match=r"other logits with a cache than without .*allowed 0.001"):
        check_paths(LiveModels(), parents, None)
