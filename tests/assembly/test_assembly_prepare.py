"""Settings of a configuration that reach the objects which are made from it."""

import importlib.util
from typing import Any

import pytest

from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.errors import ConfigError
from evomerge.evaluation.engines import registry as engines
from evomerge.evaluation.engines.lm_eval import LmEvalEngine

SMALL = ["experiment=zoo_ja_math", "evaluation.split={search:4,validation:4,test:4}", "execution.device=cpu"]


@pytest.mark.parametrize(("cache", "n_bytes"), [("none", 0), ("0", 0), ("0.5", 1 << 29)])
def test_the_cache_has_the_size_that_was_given(cache: str, n_bytes: int) -> None:
    prepared = prepare(compose([*SMALL, f"execution.cache={cache}"]))
    assert prepared.sources.parent_cache.budget == n_bytes
    assert prepared.live_models().sources is prepared.sources  # what the worker merges with


def test_the_cache_is_a_share_of_the_free_memory_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evomerge.merge.cache.free_memory", lambda: 4 << 30)
    assert prepare(compose(SMALL)).sources.parent_cache.budget == 1 << 30


def test_the_engine_is_the_one_that_was_named() -> None:
    prepared = prepare(compose([*SMALL, "evaluation.engine=lm-eval"]))
    assert isinstance(prepared.harness._engine_made(), LmEvalEngine)


def test_an_engine_whose_package_is_missing_is_named_with_the_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "vllm" else genuine(name, *rest)

    monkeypatch.setattr(engines.importlib.util, "find_spec", find_spec)
    with pytest.raises(ConfigError, match=r"needs the package vllm, which is not installed: pip install") as caught:
        prepare(compose([*SMALL, "evaluation.engine=vllm", "method.name=tise"]))
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match=r"needs the package vllm"):
        engines.make_engine("vllm", batch_size=1, max_length=None)


def test_a_reference_that_is_no_baseline_is_named_with_the_other_mistakes() -> None:
    tasks = "[{name: zoo_ja_math, metric: negative_flips, of: acc, reference: maths}, {name: zoo_ja_math, metric: ac}]"
    with pytest.raises(
        ConfigError, match=r"in `reference` of task 'zoo_ja_math': 'maths'; did you mean 'math'"
    ) as caught:
        prepare(compose([*SMALL, f"evaluation.tasks={tasks}"]))
    assert len(caught.value.problems) == 2


def test_items_of_a_task_with_several_entries_cost_once() -> None:
    tasks = "[{name: zoo_ja_math, metric: acc}, {name: zoo_ja_math, metric: generated_tokens, weight: 0.001}]"
    prepared = prepare(compose([*SMALL, f"evaluation.tasks={tasks}"]))
    assert prepared.items_per_candidate == 4
    assert [spec.direction for spec in prepared.objectives.specs] == ["maximize", "minimize"]


@pytest.mark.parametrize(
    ("objective", "weights", "said"),
    [
        ("worst", (2, 1), "the weights 2, 1 have no effect"),
        ("worst", (1, 1), None),
        ("worst", (1, 0), None),
        ("sum", (2, 1), None),
    ],
)
def test_weights_that_have_no_effect_are_told_before_the_search(
    objective: str, weights: tuple[int, int], said: str | None
) -> None:
    tasks = zip(("zoo_ja_math", "zoo_en_math"), weights, strict=True)
    entries = [f"{{name: {name}, metric: acc, weight: {weight}}}" for name, weight in tasks]
    words = [f"evaluation.tasks=[{', '.join(entries)}]", f"evaluation.objective={objective}"]
    texts = [one.text for one in prepare(compose([*SMALL, *words])).cautions if "no effect" in one.text]
    assert len(texts) == (said is not None) and all(said in text for text in texts)
