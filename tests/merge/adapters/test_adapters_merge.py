"""Merges of adapters: what a merge of dense parents gives, with A and B multiplied, never averaged apart."""

from dataclasses import dataclass, replace
from pathlib import Path

import peft_adapters
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merge.adapters.low_rank import LowRankChange, Summand, write_sum
from evomerge.merge.adapters.model import AdapterTensors
from evomerge.merge.apply import write_tensor
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.kernels.engine import engine_for
from evomerge.merge.kernels.torch_engine import TorchEngine
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.merge.sources import Sources
from evomerge.recipe import Group, ModelSource, Recipe


@dataclass
class Models:
    """A base with adapters of different ranks and targets, and the dense models that peft makes of them."""

    base: Path
    adapters: dict[str, Path]
    dense: dict[str, Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("adapters")
    base = tiny_models.make(folder / "base", 0)
    kinds = {
        "math": {"target_modules": ["q_proj", "down_proj"], "r": 3},
        "japanese": {"target_modules": ["q_proj", "o_proj"], "r": 5, "use_rslora": True},
        "code": {"target_modules": ["q_proj", "up_proj"], "use_dora": True},
    }
    adapters = {
        name: peft_adapters.adapt(base, folder / name, seed, **kind) for seed, (name, kind) in enumerate(kinds.items())
    }
    dense = {name: peft_adapters.write_dense(base, path, folder / f"dense-{name}") for name, path in adapters.items()}
    return Models(base, adapters, dense)


def tensors(recipe: Recipe, out: Path) -> dict[str, torch.Tensor]:
    return tiny_models.tensors_of(merge_to_disk(recipe, out))


TAKE_TWO = [
    name
    for name in METHODS.names
    if find_method(name).spec.n_parents[0] <= 2 and name not in ("passthrough", "function")
]


@pytest.mark.parametrize("method", TAKE_TWO)
def test_every_method_gives_what_it_gives_of_dense_parents(method: str, models: Models, tmp_path: Path) -> None:
    spec = find_method(method).spec
    most = spec.n_parents[1] or 2
    names = ["math", "japanese"][:most]
    base = models.base if spec.needs_base else None

    def merged(parents: dict[str, Path]) -> dict[str, torch.Tensor]:
        chosen = {name: parents[name] for name in names}
        weights = {"weight": {"math": 0.7, "japanese": 0.4}} if spec.parameter("weight") and most > 1 else {}
        of = tiny_models.recipe(method, base, chosen, parameters=weights, seed=3)
        return tensors(of, tmp_path / next(iter(chosen.values())).name)

    low, full = merged(models.adapters), merged(models.dense)
    assert low.keys() == full.keys()
    for name in full:
        torch.testing.assert_close(
            low[name], full[name], rtol=1e-5, atol=3e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


SUMS = ("linear", "task_arithmetic")


@pytest.mark.parametrize("method", SUMS)
def test_a_weighted_sum_multiplies_no_adapter_out(
    method: str, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = models.base if find_method(method).spec.needs_base else None
    of = tiny_models.recipe(
        method, base, models.adapters, parameters={"weight": {"math": 0.7, "japanese": 0.2, "code": -0.4}}
    )
    expected = tensors(replace(of, parents=tiny_models.recipe(method, base, models.dense).parents), tmp_path / "dense")
    sources = Sources()
    plan = sources.plan(of)
    for parent in of.parents:
        sources.open(parent.source).tensors.below("model.layers.0.self_attn.q_proj.weight")  # DoRA's lengths, once
    monkeypatch.setattr(AdapterTensors, "load", lambda *_: pytest.fail("an adapter was multiplied out"))
    for task in plan.tasks:
        out = torch.empty(task.shape)
        write_tensor(plan, task, out)
        torch.testing.assert_close(out, expected[task.name], rtol=1e-5, atol=3e-6)


def test_a_sum_on_an_engine_of_plain_torch_has_the_same_bits(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = tiny_models.recipe("task_arithmetic", models.base, models.adapters, parameters={"weight": 0.3})
    compiled = tensors(of, tmp_path / "compiled")
    monkeypatch.setenv("EVOMERGE_KERNELS", "torch")
    assert tiny_models.same_bytes(tensors(of, tmp_path / "torch"), compiled)


def test_a_and_b_are_not_averaged_apart(models: Models, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    pair = {name: models.adapters[name] for name in ("math", "japanese")}
    made = tensors(tiny_models.recipe("linear", None, pair), tmp_path / "out")[name]
    changes = [
        Sources().open(ModelSource(str(path))).load(name) - tiny_models.tensors_of(models.base)[name]
        for path in pair.values()
    ]
    rank = torch.linalg.matrix_rank(made - tiny_models.tensors_of(models.base)[name], rtol=1e-4)
    assert rank == 3 + 5 == sum(int(torch.linalg.matrix_rank(change, rtol=1e-4)) for change in changes)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Adapters of another type than their base, with a dense parent beside them."""
    folder = tmp_path_factory.mktemp("mixed")
    base = tiny_models.make(folder / "base", 0, dtype=request.param)
    adapters = {
        "one": peft_adapters.adapt(
            base, folder / "one", 1, target_modules=["q_proj", "embed_tokens"], dtype=torch.bfloat16
        ),
        "two": peft_adapters.adapt(base, folder / "two", 2, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    }
    return Models(base, adapters, {"whole": tiny_models.near(folder / "whole", base, 5)})


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "slerp", "dare_ties"])
def test_memory_and_disk_have_the_same_bytes_and_the_bases_type(method: str, mixed: Models, tmp_path: Path) -> None:
    parents = {"one": mixed.adapters["one"], "two": mixed.adapters["two"]}
    if find_method(method).spec.n_parents[1] is None:
        parents["whole"] = mixed.dense["whole"]
    base = mixed.base if find_method(method).spec.needs_base else None
    live = LiveModel(ModelSource(str(mixed.base)))
    for seed, group in enumerate((Group({}, roles=("mlp",)), Group({}, layers=(0, 1)))):
        of = tiny_models.recipe(method, base, parents, groups=(group,), seed=seed)
        live.write(of)
        live.model.save_pretrained(tmp_path / f"live-{seed}")
        disk = tensors(of, tmp_path / f"disk-{seed}")
        assert tiny_models.same_bytes(tiny_models.tensors_of(tmp_path / f"live-{seed}"), disk)
        assert {one.dtype for one in disk.values()} == {
            one.dtype for one in tiny_models.tensors_of(mixed.base).values()
        }


def test_an_adapter_alone_is_its_sum_with_one_cast(mixed: Models, tmp_path: Path) -> None:
    opened = Sources().open(ModelSource(str(mixed.adapters["one"])))
    alone = tensors(tiny_models.recipe("linear", None, {"one": mixed.adapters["one"]}), tmp_path / "out")
    for name, tensor in tiny_models.tensors_of(mixed.base).items():
        assert torch.equal(alone[name], opened.load(name).to(tensor.dtype))
        assert opened.tensors.infos[name].result_dtype == tensor.dtype
    assert opened.load("model.layers.0.self_attn.q_proj.weight").dtype == torch.float32


def test_what_no_adapter_changes_is_a_copy_that_is_written_once(mixed: Models) -> None:
    live = LiveModel(ModelSource(str(mixed.base)))
    pair = {"one": mixed.adapters["one"], "two": mixed.adapters["two"]}
    of = [
        tiny_models.recipe("task_arithmetic", mixed.base, pair, parameters={"weight": weight}) for weight in (0.3, 0.6)
    ]
    plan = live.sources.plan(of[0])
    copied = {task.name for task in plan.tasks if task.copy_of is not None}
    assert copied == {task.name for task in plan.tasks} - {
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)
    } - {"model.embed_tokens.weight", "lm_head.weight"}  # fmt: skip
    live.write(of[0])
    live.write(of[1])
    assert live.written.tensors == 4
    untouched = live.sources.open(ModelSource(str(pair["one"])))
    below = live.sources.open(ModelSource(str(mixed.base)))
    assert untouched.load(copied.pop()).data_ptr() in {below.load(name).data_ptr() for name in below.tensors.infos}


def test_adapters_of_different_bases_are_merged_dense(models: Models, tmp_path: Path) -> None:
    other = tiny_models.near(tmp_path / "other", models.base, 9)
    foreign = peft_adapters.adapt(other, tmp_path / "foreign", 4, target_modules=["q_proj"])
    dense = peft_adapters.write_dense(other, foreign, tmp_path / "foreign-dense")
    for method, base in (("linear", None), ("task_arithmetic", models.base)):
        low = {"math": models.adapters["math"], "foreign": foreign}
        full = {"math": models.dense["math"], "foreign": dense}
        made = tensors(tiny_models.recipe(method, base, low, parameters={"weight": 0.6}), tmp_path / f"low-{method}")
        for name, tensor in tensors(
            tiny_models.recipe(method, base, full, parameters={"weight": 0.6}), tmp_path / f"full-{method}"
        ).items():
            torch.testing.assert_close(made[name], tensor, rtol=1e-5, atol=3e-6)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_sums_of_any_ranks_and_shapes_equal_dense_ones(data: st.DataObject) -> None:
    draw = data.draw
    n, rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 40)), draw(st.integers(1, 70))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    origin = random(n, rows, columns).to(kind)
    terms, exact = [], torch.zeros(n, rows, columns, dtype=torch.float64)
    by_column = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        rank, weight, scale = draw(st.integers(1, 9)), draw(st.floats(-1.5, 1.5)), draw(st.floats(0.1, 3.0))
        left, right = random(n, rows, rank).to(kind), random(n, rank, columns)
        gain = random(columns if by_column else rows).abs() if n == 1 and draw(st.booleans()) else None
        terms.append(Summand(weight, LowRankChange(left, right, scale, gain, by_column)))
        theta = origin.double() + scale * left.double() @ right.double()
        if gain is not None:
            theta = theta * (gain.double()[None] if by_column else gain.double()[:, None])
        exact += weight * theta
    terms.append(Summand(0.25, None))
    other = random(n, rows, columns)
    exact += 0.25 * origin.double() - 0.5 * other.double()
    out = torch.empty(n, rows, columns)
    assert not write_sum(engine_for(out.device), origin, terms, [(-0.5, other)], out)
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-4)
    plain = torch.empty_like(out)
    write_sum(TorchEngine(), origin, terms, [(-0.5, other)], plain)
    assert torch.equal(out, plain)
