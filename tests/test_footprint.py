"""Live models that do not fit into memory are refused before they are loaded; parents that do not are named."""

from __future__ import annotations

import logging

import pytest

from evomerge import footprint
from evomerge.build import prepare
from evomerge.cli.compose import compose
from evomerge.errors import ConfigError
from evomerge.footprint import live_bytes, model_bytes
from evomerge.merge.live import LiveModels
from evomerge.merge.parents import OpenModel
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource

SMALL = ["experiment=zoo_ja_math", "evaluation.split={search:4,validation:4,test:4}", "execution.device=cpu"]
PATHS = ["experiment=zoo_dataflow", *SMALL[1:]]


def allow(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(footprint, "free_bytes", lambda _device: n_bytes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_size_of_a_model_is_what_it_takes_once_loaded(dtype: str) -> None:
    source, sources = ModelSource("zoo:base"), Sources()
    live = LiveModels(dtype=dtype, sources=sources)
    live.load(source)
    loaded = live._merges[0].model.parameters()
    n_bytes = sum(parameter.untyped_storage().nbytes() for parameter in loaded)
    assert model_bytes(sources.open(source), dtype) == n_bytes > 0
    assert model_bytes(sources.open(source), None) * 2 == model_bytes(sources.open(source), "float32")


def test_paths_take_one_model_for_each_parent_and_one_for_the_average() -> None:
    prepared = prepare(compose(PATHS))
    live = prepared.live_models()
    for recipe in prepared.baselines.values():
        live.write(recipe)
    models = [one.model for one in (*live._parents.values(), *live._merges)]
    storages = [parameter.untyped_storage() for model in models for parameter in model.parameters()]
    n_bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    assert live_bytes(prepared.config, prepared.sources, "float32") == n_bytes
    assert len(models) == len(prepared.config.models.parents) + 1


@pytest.mark.parametrize("words", [SMALL, PATHS], ids=["merges", "paths"])
def test_a_model_that_does_not_fit_is_a_mistake_with_its_sizes(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    config = prepare(compose(words))
    needed = live_bytes(config.config, config.sources, "float32")
    allow(monkeypatch, needed)
    prepare(compose(words))
    allow(monkeypatch, needed - 1)
    monkeypatch.setattr(OpenModel, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(
        ConfigError, match=r"tak(es|e) 0\.0\d GiB in float32, but cpu has 0\.0\d GiB free; set execution"
    ):
        prepare(compose(words))


def test_a_smaller_dtype_is_only_advised_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 1000)
    with pytest.raises(ConfigError, match=r"in bfloat16, but cpu has 0\.00 GiB free; use fewer or smaller models"):
        prepare(compose([*SMALL, "execution.dtype=bfloat16"]))


def test_it_is_one_mistake_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 1000)
    with pytest.raises(ConfigError) as caught:
        prepare(compose([*SMALL, "evaluation.tasks=[{name: zoo_ja_maths, metric: acc}]"]))
    assert len(caught.value.problems) >= 2
    assert sum("GiB" in problem for problem in caught.value.problems) == 1


def test_parents_that_do_not_fit_beside_the_live_model_are_said_to_be_streamed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare(compose(SMALL))
    one = model_bytes(prepared.sources.open(ModelSource("zoo:base")), "float32")
    files = 3 * one // 2  # three models, stored in float16
    for free, said in ((one + files, 0), (one + files - 1, 1)):
        caplog.clear()
        monkeypatch.setattr(footprint, "free_memory", lambda free=free: free)
        with caplog.at_level(logging.WARNING):
            prepared.live_models()
        assert caplog.text.count("streamed from disk for each candidate") == said
