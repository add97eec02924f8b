"""What stays open: checkpoints for good, recipes and what was found of them within a bound."""

import gc
import weakref
from types import SimpleNamespace

import pytest
from tiny_models import recipe, same_bytes

from evomerge.merge import sources as opening
from evomerge.merge.apply import merge_tensor
from evomerge.merge.cache import KEPT, Latest
from evomerge.merge.files.model import OpenModel
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.pipeline import prepared
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe


def child(family: SimpleNamespace, number: int) -> Recipe:
    """A merge of a base's fine-tune with another merge, different for each number."""
    inner = recipe("linear", family.base, {"math": family.math, "japanese": family.japanese},
                   parameters={"weight": {"math": 1.0 + number / 1000, "japanese": 1.0}})  # fmt: skip
    return recipe("ties", family.base, {"mix": inner, "code": family.code}, parameters={"density": 0.5})


@pytest.mark.slow
def test_a_thousand_different_parents_that_are_recipes_take_no_more_than_a_few(family, monkeypatch) -> None:
    monkeypatch.setattr(prepared, "SMALL", 16)  # so that tables are kept of these small tensors
    alive: weakref.WeakSet[OpenModel] = weakref.WeakSet()

    class Noted(OpenModel):
        def __init__(self, **fields: object) -> None:
            super().__init__(**fields)  # type: ignore[arg-type]
            alive.add(self)

    monkeypatch.setattr(opening, "OpenModel", Noted)
    sources = Sources()
    most, used = 0, []
    for number in range(1000):
        plan = sources.plan(child(family, number))
        for task in plan.tasks[:2]:
            merge_tensor(plan, task)
        if number % 100 == 99:
            del plan, task
            gc.collect()
            most = max(most, len(alive))
            used.append(sources.parent_cache.used)
    assert most <= KEPT + 1
    assert 0 < used[-1] <= 1.1 * used[0], "what was found of a recipe goes with it"


def test_a_parent_that_was_forgotten_has_the_same_bytes_when_it_comes_again(family: SimpleNamespace) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    live.write(child(family, 0))
    first = {name: tensor.clone() for name, tensor in live.model.state_dict().items()}
    for number in range(1, KEPT + 5):
        live.sources.plan(child(family, number))
    live.write(child(family, 0))
    assert same_bytes(dict(live.model.state_dict()), first)


def test_checkpoints_stay_open(family: SimpleNamespace) -> None:
    sources = Sources()
    opened = sources.open(ModelSource(str(family.base)))
    for number in range(KEPT + 5):
        sources.plan(child(family, number))
    assert sources.open(ModelSource(str(family.base))) is opened


def test_a_recipe_that_is_used_through_its_family_stays_open(family: SimpleNamespace) -> None:
    sources, used = Sources(), child(family, 0)
    inner = used.parents[0].source
    opened = sources.open(inner)
    for number in range(1, 2 * KEPT):
        sources.plan(child(family, number))
        sources.plan(used)
    assert sources.open(inner) is opened


def test_the_latest_are_kept_in_the_order_of_use() -> None:
    latest: Latest[int, int] = Latest()
    for number in range(KEPT + 1):
        latest.find(number, lambda number=number: number)
        latest.use(0)
    assert latest.find(0, lambda: -1) == 0
    assert latest.find(1, lambda: -1) == -1
