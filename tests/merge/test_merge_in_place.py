"""Writing candidates into a live model: the disk's bytes, only what changed, no growth, and repair after a failure."""

import random
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from method_case import ARITHMETIC
from tiny_models import make, near, recipe, same_bytes, tensors_of

from evomerge.errors import RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.kernels import engine as engines
from evomerge.merge.kernels import parallel
from evomerge.merge.live import writer as writing
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.pipeline import prepared
from evomerge.merge.methods.registry import find_method
from evomerge.merge.sources import Sources
from evomerge.recipe import Group, ModelSource, Recipe


@pytest.fixture(scope="session")
def mixed_family(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A bf16 base with an fp32 and an fp16 fine-tune; no size is a multiple of anything."""
    folder = tmp_path_factory.mktemp("mixed")
    sizes = {"vocab_size": 29, "hidden_size": 18, "intermediate_size": 23, "head_dim": 6, "num_attention_heads": 3}
    base = make(folder / "base", 0, dtype="bfloat16", tie_word_embeddings=True, **sizes)
    return SimpleNamespace(
        base=base,
        math=near(folder / "math", make(folder / "b32", 0, tie_word_embeddings=True, **sizes), 1),
        japanese=near(folder / "jp", make(folder / "b16", 0, dtype="float16", tie_word_embeddings=True, **sizes), 2),
    )


def genome(method: str, family: SimpleNamespace, draw: random.Random, **fields: Any) -> Recipe:
    """A random recipe, with a group of its own for one role."""
    known = {p.name for p in find_method(method).spec.parameters}

    def values() -> dict[str, Any]:
        rows = {name: draw.choice((0.0, 0.3, draw.random(), 1.0)) + 0.01 for name in ("math", "japanese")}
        every = {
            "weight": rows,
            "density": {name: draw.choice((draw.random(), 0.5, 1.0)) for name in rows},
            "lambda": draw.choice((1.0, draw.uniform(0.5, 1.5))),
            "t": draw.choice((0.0, draw.random(), 1.0)),
            "normalize": draw.random() < 0.5,
            "election": draw.choice(("sum", "count")),
            "scope": draw.choice(("tensor", "model")),
        }
        return {name: value for name, value in every.items() if name in known}

    parents = {"math": family.math, "japanese": family.japanese}
    group = Group({k: v for k, v in values().items() if k != "scope"}, roles=(draw.choice(("attention", "mlp")),))
    return recipe(method, family.base, parents, parameters=values(), groups=(group,), seed=draw.randrange(3), **fields)


def state(live: LiveModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in live.model.state_dict().items()}


def on_disk(of: Recipe, folder: Path) -> dict[str, torch.Tensor]:
    tensors = tensors_of(merge_to_disk(of, folder))
    if "lm_head.weight" not in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    return tensors


@pytest.mark.parametrize("engine", ["numba", "torch"])
@pytest.mark.parametrize("small", [0, 1 << 14], ids=["tables", "sorted"])
def test_in_place_is_disk_for_every_method_engine_and_number_of_threads(
    engine: str, small: int, mixed_family: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's bytes come from the other engine and one thread; the live model's from two threads, chunk by chunk."""
    threads = torch.get_num_threads()
    live = LiveModel(ModelSource(str(mixed_family.base)))
    for number, method in enumerate(ARITHMETIC):
        of = genome(method, mixed_family, random.Random(number), dtype=(None, "float16", "float32")[number % 3])
        monkeypatch.setenv(engines.VARIABLE, "torch" if engine == "numba" else "numba")
        torch.set_num_threads(1)
        disk = on_disk(of, tmp_path / method)
        monkeypatch.setenv(engines.VARIABLE, engine)
        monkeypatch.setattr(prepared, "SMALL", small)
        torch.set_num_threads(2)
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "CHUNK", 1024)
            live.write(of)
        torch.set_num_threads(threads)
        for name, tensor in state(live).items():
            assert torch.equal(tensor, disk[name].to(tensor.dtype)), (method, name)


@pytest.mark.parametrize("cache", ["none", "auto", 1e-5])
def test_the_cache_changes_no_byte_and_the_order_of_genomes_neither(
    cache: str | float, family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "SMALL", 16)
    recipes = [genome(method, family, random.Random(n)) for n in range(3) for method in ("ties", "slerp", "dare_ties")]
    expected = []
    for of in recipes:
        live = LiveModel(ModelSource(str(family.base)))
        live.write(of)
        expected.append(state(live))
    live = LiveModel(ModelSource(str(family.base)), sources=Sources(cache=cache))
    order = [*range(len(recipes)), *reversed(range(len(recipes)))]
    for index in order:
        live.write(recipes[index])
        assert same_bytes(state(live), expected[index])
    assert live.sources.parent_cache.used <= live.sources.parent_cache.budget


def test_after_500_genomes_the_bytes_are_a_fresh_models_and_memory_has_not_grown(family: SimpleNamespace) -> None:
    draw = random.Random(7)
    live = LiveModel(ModelSource(str(family.base)))
    parameters = {name: tensor.data_ptr() for name, tensor in live.model.state_dict().items()}
    after_warming, of = 0, None
    for number in range(500):
        of = genome(draw.choice(ARITHMETIC), family, draw)
        live.write(of)
        if number == 250:
            after_warming = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert of is not None
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - after_warming
    assert grown < 8 * 1024, f"{grown} KiB more after 250 further candidates"
    assert {name: tensor.data_ptr() for name, tensor in live.model.state_dict().items()} == parameters
    fresh = LiveModel(ModelSource(str(family.base)))
    fresh.write(of)
    assert same_bytes(state(live), state(fresh))


def test_only_the_group_that_changed_is_written(family: SimpleNamespace) -> None:
    parents = {"math": family.math, "japanese": family.japanese}

    def of(mlp: float, weight: float = 0.4, **fields: Any) -> Recipe:
        group = Group({"weight": mlp}, roles=("mlp",))
        return recipe("ties", family.base, parents, parameters={"weight": weight}, groups=(group,), **fields)

    live = LiveModel(ModelSource(str(family.base)))
    n_tensors = len(live.sources.plan(of(0.5)).tasks)
    n_mlp = sum("mlp" in task.name for task in live.sources.plan(of(0.5)).tasks)
    counts = []
    for each in (of(0.5), of(0.5), of(0.7), of(0.7, 0.6), of(0.7, 0.6, dtype="bfloat16"), of(0.7, 0.6)):
        live.write(each)
        counts.append(live.written.tensors)
        fresh = LiveModel(ModelSource(str(family.base)))
        fresh.write(each)
        assert same_bytes(state(live), state(fresh))
    assert counts == [n_tensors, 0, n_mlp, n_tensors - n_mlp, n_tensors, n_tensors]


def test_an_interrupted_write_leaves_nothing_that_the_next_one_trusts(
    family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = {"math": family.math, "japanese": family.japanese}
    one, other = (recipe("linear", None, parents, parameters={"weight": {"math": w, "japanese": 1.0}}) for w in (1, 2))
    live, fresh = (LiveModel(ModelSource(str(family.base))) for _ in range(2))
    fresh.write(one)
    n_tensors = len(live.sources.plan(one).tasks)
    genuine = writing.start_tensor
    for when in range(n_tensors):
        live.write(one)
        left = iter(range(when))

        def stop(plan: Any, task: Any, out: torch.Tensor, left: Any = left, **options: Any) -> Any:
            if next(left, None) is None:
                out.fill_(9.0)  # half-way through this tensor
                raise KeyboardInterrupt
            return genuine(plan, task, out, **options)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(writing, "start_tensor", stop)
            live.write(other)
        assert live.recipe is None
        live.write(one)
        assert live.written.tensors == when + 1
        assert same_bytes(state(live), state(fresh))


def test_a_result_that_is_not_finite_is_written_again_next_time(family: SimpleNamespace) -> None:
    parents = {"math": family.math}
    good = recipe("task_arithmetic", family.base, parents, parameters={"weight": 0.5}, dtype="float16")
    bad = recipe("task_arithmetic", family.base, parents, parameters={"weight": 1e9}, dtype="float16")
    live, fresh = (LiveModel(ModelSource(str(family.base))) for _ in range(2))
    fresh.write(good)
    for _ in range(2):
        live.write(good)
        with pytest.raises(RecipeError, match=r"the merged .* does not fit float16"):
            live.write(bad)
        assert live.recipe is None
    live.write(good)
    assert same_bytes(state(live), state(fresh))


def test_a_result_beyond_the_live_dtype_is_refused_too(family: SimpleNamespace) -> None:
    of = recipe("task_arithmetic", family.base, {"math": family.math}, parameters={"weight": 1e7})
    live = LiveModel(ModelSource(str(family.base)), dtype="float16")
    with pytest.raises(RecipeError, match=r"the merged .* does not fit float16"):
        live.write(of)


def test_a_copied_tensor_is_the_parents_bit_for_bit_even_minus_zero(tmp_path: Path, family: SimpleNamespace) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    with torch.no_grad():
        for tensor in live.model.state_dict().values():
            tensor.view(-1)[:2] = -0.0
    live.model.save_pretrained(tmp_path / "zeros")
    for method in ARITHMETIC:
        if find_method(method).spec.n_parents[0] == 1:
            known = (
                {"weight": 1.0, "density": 1.0} if find_method(method).spec.parameter("density") else {"weight": 1.0}
            )
            live.write(recipe(method, family.base, {"a": tmp_path / "zeros"}, parameters=known))
            live._writer.forget()
            assert all(
                same_bytes({name: live.model.state_dict()[name]}, {name: tensor})
                for name, tensor in tensors_of(tmp_path / "zeros").items()
            )
