"""A model over several devices: where its parts lie by their sizes, and that candidates are written there as on one."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from path_families import FAMILIES, VOCABULARY
from pretended_devices import pretended_devices
from safetensors.torch import load_file, save_file
from tiny_models import llama, make, near, recipe
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.live import model as resident
from evomerge.merge.live import writer as writing
from evomerge.merge.live.models import LiveModels
from evomerge.merge.live.placement import Part, partition, parts_of, plan_devices, spread
from evomerge.recipe import Recipe, Step

GPUS = [torch.device("cuda:0"), torch.device("cuda:1"), torch.device("cuda:2")]


def parts(*sizes: int, beside: dict[int, int] | None = None) -> list[Part]:
    return [Part(f"p{i}", size, (beside or {}).get(i)) for i, size in enumerate(sizes)]


def fullest(model: list[Part], free: list[int], chosen: tuple[int, ...] | list[int]) -> float:
    used = [0] * len(free)
    for part, device in zip(model, chosen, strict=True):
        used[device] += part.n_bytes
    return max(n / most for n, most in zip(used, free, strict=True))


def test_parts_are_shared_out_so_that_the_fullest_device_is_as_empty_as_can_be() -> None:
    draw = random.Random(0)
    for _ in range(200):
        model = parts(*(draw.randint(0, 9) for _ in range(draw.randint(1, 7))))
        free = [draw.randint(1, 25) for _ in range(draw.randint(1, 3))]
        runs = [
            each for each in itertools.product(range(len(free)), repeat=len(model)) if list(each) == sorted(each)
        ]  # fmt: skip
        best = min(fullest(model, free, each) for each in runs)
        chosen = partition(model, free)
        assert (chosen is None) == (best > 1.0)
        if chosen is not None:
            assert chosen == sorted(chosen)
            assert fullest(model, free, chosen) == pytest.approx(best, abs=1e-9)


def test_a_part_lies_beside_the_one_that_it_shares_tensors_with() -> None:
    assert partition(parts(4, 5, 5, 5, 5, 0, beside={5: 0}), [14, 14]) == [0, 0, 0, 1, 1, 0]
    assert partition(parts(4, 9, 3, beside={2: 0}), [10, 10]) == [0, 1, 0]
    assert partition(parts(4, 9, 7, beside={2: 0}), [10, 10]) is None
    assert partition(parts(10, 10), [10, 10]) == [0, 1]  # to the last byte
    assert partition(parts(10, 10), [30, 10]) == [0, 0]  # a third of one is less than all of another
    assert partition(parts(6, 6, 6), [10, 0, 20]) == [0, 2, 2]


def config_of(name: str, n_layers: int) -> Any:
    if name == "gpt2":
        return GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_head=4, n_layer=n_layers)
    if name == "mixtral":
        return MixtralConfig(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_attention_heads=4,
                             num_key_value_heads=2, num_local_experts=2, num_hidden_layers=n_layers)  # fmt: skip
    kind, settings = FAMILIES[name]
    listed = {key: (value * n_layers)[:n_layers] for key, value in settings.items() if isinstance(value, list)}
    return kind(**{**settings, **listed}, num_hidden_layers=n_layers)


@pytest.mark.parametrize("name", [*FAMILIES, "gpt2", "mixtral"])
def test_the_parts_of_a_model_are_all_of_it(name: str) -> None:
    architecture = Architecture(config_of(name, 5))
    model = architecture.model
    found = parts_of(architecture, torch.bfloat16)
    assert sum(part.n_bytes for part in found) == sum(
        tensor.numel() * 2 for tensor in (*model.parameters(), *model.buffers())
    )
    names = [part.name for part in found]
    inside = [
        name for name, _ in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
        if sum(name == part or name.startswith(f"{part}.") for part in names) != 1
    ]  # fmt: skip
    assert not inside, "these are in no part, or in two"
    assert {f"{architecture.layers_name}.{layer}" for layer in range(5)} < set(names)
    places, taken = plan_devices(architecture, torch.bfloat16, dict.fromkeys(GPUS[:2], 1 << 30))
    homes = {name: next(places[part] for part in places if name.startswith(f"{part}.")) for name in architecture.shapes}
    assert set(homes.values()) == set(GPUS[:2])
    assert min(taken.values()) * 3 > max(taken.values())
    assert all(homes[name] == homes[first] for name, first in architecture.canonical.items()), "ties are torn"


def test_what_does_not_fit_is_refused_with_the_sizes() -> None:
    architecture = Architecture(llama(hidden_size=512, num_hidden_layers=8, vocab_size=4000))
    needed = sum(part.n_bytes for part in parts_of(architecture, torch.float32))
    plan_devices(architecture, torch.float32, dict.fromkeys(GPUS, needed))
    with pytest.raises(
        CheckpointError, match=r"takes 0\.\d\d GiB, in parts of up to .* free: cuda:0 has 0\.\d\d GiB, cuda:1 has"
    ):
        plan_devices(architecture, torch.float32, dict.fromkeys(GPUS[:2], needed // 3))


# --- written and run where there are no GPUs ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Families of four layers: with a head of its own, tied, and with experts that the model has stacked."""
    folder = tmp_path_factory.mktemp("deep")
    made: dict[str, Any] = {}
    for name, changes in (("untied", {}), ("tied", {"tie_word_embeddings": True})):
        base = make(folder / name / "base", 0, num_hidden_layers=4, **changes)
        made[name] = [base, *(near(folder / name / str(seed), base, seed) for seed in (1, 2))]
    experts = [folder / "experts" / str(seed) for seed in range(3)]
    for seed, place in enumerate(experts):
        model = AutoModelForCausalLM.from_config(config_of("mixtral", 4), experts_implementation="eager")
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        model.save_pretrained(place)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (place / file).write_bytes((made["untied"][0] / file).read_bytes())
    made["experts"] = experts
    return SimpleNamespace(**made)


def altered(folder: Path, base: Path, name: str, value: float) -> Path:
    """A fine-tune with one value of one tensor changed."""
    near(folder, base, 5)
    tensors = load_file(folder / "model.safetensors")
    tensors[name][0, 0] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretended devices have equal room."""
    monkeypatch.setattr(resident, "free_bytes", lambda _device: 1 << 20)


def merged(family: list[Path], method: str, weight: float, **more: Any) -> Recipe:
    base, *parents = family
    parameters: dict[str, Any] = {"weight": weight, **more} if method != "slerp" else {"t": weight}
    named = dict(zip("ab", parents, strict=True))
    needs_base = method not in ("linear", "slerp")
    return recipe(method, base if needs_base else None, named, parameters=parameters, dtype="float32")


RECIPES = {
    "linear": lambda family: merged(family, "linear", 0.3),
    "slerp": lambda family: merged(family, "slerp", 0.4),
    "ties": lambda family: merged(family, "ties", 0.9, density=0.4),
    "ties over the model": lambda family: merged(family, "ties", 0.9, density=0.4, scope="model"),
    "dare_ties": lambda family: merged(family, "dare_ties", 0.9, density=0.4),
    "a parent": lambda family: recipe("passthrough", None, {"a": family[1]}),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        # Each recipe and each kind of model; the rest of the pairs are slow.
        pytest.param(kind, name, marks=() if kind == "untied" or name == "ties over the model" else pytest.mark.slow)
        for kind in ("untied", "tied", "experts")
        for name in RECIPES
    ],
)
def test_a_candidate_is_written_and_runs_as_on_one_device(
    deep: SimpleNamespace, room: None, kind: str, name: str
) -> None:
    family = getattr(deep, kind)
    wanted = RECIPES[name](family)
    tokens = torch.tensor([[3, 9, 4, 7, 5]])
    one = LiveModels(dtype="float32")
    one.write(merged(family, "linear", 0.5))
    one.write(wanted)
    with pretended_devices(), torch.no_grad():
        several = LiveModels(dtype="float32", device=GPUS[:2])
        several.write(merged(family, "linear", 0.5))
        several.write(wanted)
        state = several.model.state_dict(keep_vars=True)
        assert {tensor.device for tensor in state.values()} == set(GPUS[:2])
        for key, tensor in one.model.state_dict(keep_vars=True).items():
            assert torch.equal(state[key].cpu(), tensor), key
        for model in (one.model, several.model):
            model.config._experts_implementation = "eager"  # the others choose their kernels by the kind of device
        made = several.model(tokens.to(several.device), use_cache=True)
        assert made.logits.device == several.device
        torch.testing.assert_close(made.logits.cpu(), one.model(tokens).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "device"), [("model.layers.0.mlp.up_proj.weight", 0), ("lm_head.weight", 1)])
def test_a_result_that_is_not_finite_is_refused_wherever_it_lies(
    deep: SimpleNamespace, room: None, tmp_path: Path, name: str, device: int
) -> None:
    large = altered(tmp_path / "large", deep.untied[0], name, 1e6)
    with pretended_devices(), torch.no_grad():
        live = LiveModels(dtype="float16", device=GPUS[:2])
        live.write(merged(deep.untied, "linear", 0.5))
        assert live.model.state_dict()[name].device == GPUS[device]
        before = live.model.state_dict()[name].cpu().clone()
        with pytest.raises(RecipeError, match=rf"the merged {name} does not fit float16"):
            live.write(merged([deep.untied[0], deep.untied[1], large], "linear", 0.5))
        live.write(merged(deep.untied, "linear", 0.5))
        assert torch.equal(live.model.state_dict()[name].cpu(), before)


def test_flags_of_several_devices_are_read_in_their_order() -> None:
    with pretended_devices():
        flags = [torch.tensor(value, device=GPUS[place]) for value, place in ((True, 1), (False, 0), (True, 0))]
        assert writing._values(flags) == [True, False, True]
        assert writing._values([]) == []


def test_a_parent_that_is_not_finite_is_named(deep: SimpleNamespace, room: None, tmp_path: Path) -> None:
    bad = altered(tmp_path / "bad", deep.untied[0], "model.layers.3.mlp.up_proj.weight", torch.nan)
    with pretended_devices(), pytest.raises(CheckpointError, match=r"parent 'b'.*layers.3.mlp.up_proj.*NaN"):
        live = LiveModels(dtype="float32", device=GPUS[:2])
        live.write(merged([deep.untied[0], deep.untied[1], bad], "linear", 0.5))


def test_a_layer_path_needs_one_device(deep: SimpleNamespace) -> None:
    live = LiveModels(device=GPUS[:2])
    path = recipe("passthrough", None, {"a": deep.untied[1]}, path=(Step("a", 0), Step("a", 0)))
    with pytest.raises(CheckpointError, match="a layer path runs on one device, but this worker has 2"):
        live.write(path)


def test_parts_that_share_tensors_cannot_be_torn_apart() -> None:
    config = llama(num_hidden_layers=4)
    places, _ = plan_devices(Architecture(config), torch.float32, dict.fromkeys(GPUS[:2], 1 << 20))
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    model.model.layers[3].mlp.up_proj = model.model.layers[0].mlp.up_proj
    with pretended_devices(), pytest.raises(CheckpointError, match=r"layers\.0 .*shares tensors with another part"):
        spread(model, places)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("kind", ["untied", "tied", "experts"])
def test_two_gpus_hold_what_the_cpu_holds(deep: SimpleNamespace, kind: str) -> None:
    family = getattr(deep, kind)
    tokens = torch.tensor([[3, 9, 4, 7, 5]])
    one, several = LiveModels(dtype="float32"), LiveModels(dtype="float32", device=GPUS[:2])
    for name in RECIPES:
        one.write(RECIPES[name](family))
        several.write(RECIPES[name](family))
        state = several.model.state_dict(keep_vars=True)
        assert {tensor.device for tensor in state.values()} == set(GPUS[:2])
        for key, tensor in one.model.state_dict(keep_vars=True).items():
            assert torch.equal(state[key].cpu(), tensor), key
        with torch.no_grad():
            logits = several.model(tokens.to(several.device)).logits
        torch.testing.assert_close(logits.cpu(), one.model(tokens).logits, rtol=1e-3, atol=1e-4)
