"""Live models that do not fit into memory are refused before they are loaded; parents that do not are named."""

from __future__ import annotations

import logging

import pytest

from evomerge.assembly import memory_plan as footprint
from evomerge.assembly.memory_plan import (
    Share,
    device_shares,
    live_bytes,
    memory_problems,
    merged_models,
    model_bytes,
    parent_bytes,
    parents_stay,
)
from evomerge.assembly.prepare import prepare
from evomerge.assembly.workers import make_live_models
from evomerge.cli.compose import compose
from evomerge.config.reader import from_data
from evomerge.config.schema import SearchConfig
from evomerge.errors import ConfigError
from evomerge.merge.files.model import OpenModel
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource
from evomerge.system.memory import GIB

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
        prepare(compose([*SMALL, "evaluation.tasks=[{name: zoo_ja_math, metric: accc}]"]))
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


# --- where the parents of merges stay -------------------------------------------------------------------------------


def share(device: str, free: float, live: float, parents: float) -> Share:
    return Share(device, *(int(size * GIB) for size in (free, live, parents)))


def test_parents_stay_where_they_leave_a_quarter_to_forward_passes() -> None:
    fits, sentence = parents_stay("auto", [share("cuda:0", 80, 14, 46)])
    assert fits
    assert sentence == (
        "parents (46.00 GiB) stay on cuda:0 beside the live model (14.00 GiB): 80.00 GiB are free for this worker"
    )
    assert parents_stay("device", [share("cuda:0", 80, 14, 46)])[0]
    fits, sentence = parents_stay("auto", [share("cuda:0", 80, 14, 46.1)])
    assert not fits
    assert sentence == (
        "parents (46.10 GiB) are read from the machine's memory, one copy for all its workers: beside the live model "
        "(14.00 GiB) they would not leave 25% of the 80.00 GiB that are free for this worker on cuda:0 to forward "
        "passes, so each candidate copies at most 46.10 GiB to cuda:0"
    )


def test_an_engine_with_weights_of_its_own_is_counted() -> None:
    assert not parents_stay("auto", [Share("cuda:0", 80, 14, 46, 14)])[0]
    stay, sentence = parents_stay("auto", [Share("cuda:0", 80 * GIB, 14 * GIB, 32 * GIB, 14 * GIB)])
    assert stay
    assert "beside the live model (14.00 GiB, and as much in the engine)" in sentence
    config, sources = read("evaluation.engine=vllm", "execution.device=cpu"), Sources()
    (one,) = device_shares(config, sources, ["cpu"], "float32")
    assert one.engine == one.live == live_bytes(config, sources, "float32")


def test_on_several_devices_they_must_fit_on_each() -> None:
    roomy, full = share("cuda:0", 80, 20, 20), share("cuda:1", 50, 20, 20)
    assert parents_stay("auto", [roomy, share("cuda:1", 60, 20, 20)]) == (
        True,
        "parents (40.00 GiB) stay on cuda:0 and cuda:1 beside the live model (40.00 GiB): 140.00 GiB are free for this "
        "worker",
    )
    assert not parents_stay("auto", [roomy, full])[0]


@pytest.mark.parametrize("setting", ["auto", "device", "host"])
def test_on_a_cpu_they_are_the_mapped_files_whatever_is_asked_for(setting: str) -> None:
    stay, sentence = parents_stay(setting, [share("cpu", 80, 1, 1)])
    assert not stay
    assert "one copy for all its workers: candidates are merged on the CPU, which reads them there" in sentence


def test_the_machine_s_memory_can_be_asked_for() -> None:
    stay, sentence = parents_stay("host", [share("cuda:0", 80, 1, 1)])
    assert not stay
    assert sentence.endswith("execution.parents is host, so each candidate copies at most 1.00 GiB to cuda:0")


def pretend(monkeypatch: pytest.MonkeyPatch, free: dict[str, int], total: int = 1 << 50) -> None:
    monkeypatch.setattr(footprint, "free_bytes", lambda device: free[str(device)])
    monkeypatch.setattr(footprint, "total_bytes", lambda _device: total)


def read(*words: str) -> SearchConfig:
    return from_data(compose([*SMALL[:2], *words]))


def test_parents_on_the_device_that_do_not_fit_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    config, sources = read("execution.parents=device"), Sources()
    live, parents = live_bytes(config, sources, None), parent_bytes(config, sources)
    opened = [sources.open(ModelSource(f"zoo:{name}")) for name in ("base", "math", "japanese")]
    assert parents == sum(model_bytes(one, None) for one in opened)
    needed = -(-(live + parents) * 4 // 3)
    pretend(monkeypatch, {"cuda:0": needed})
    assert memory_problems(config, sources, ["cuda:0"], None) == []
    pretend(monkeypatch, {"cuda:0": needed - 4})
    (problem,) = memory_problems(config, sources, ["cuda:0"], None)
    assert problem.startswith(
        "execution.parents is device, but the parents (0.01 GiB) do not fit beside the live model (0.00 GiB) into cuda"
    )
    assert memory_problems(read(), sources, ["cuda:0"], None) == []
    pretend(monkeypatch, {"cuda:0": needed}, total=2 * needed - 4)
    assert memory_problems(config, sources, ["cuda:0"], None) == []
    (problem,) = memory_problems(config, sources, ["cuda:0"], None, sharers=2)
    assert "do not fit" in problem


def test_a_base_that_the_method_does_not_read_is_not_kept() -> None:
    sources = Sources()
    assert [one.label for one in merged_models(read(), sources)] == ["zoo:math", "zoo:japanese", "zoo:base"]
    linear = read("method=linear")
    assert [one.label for one in merged_models(linear, sources)] == ["zoo:math", "zoo:japanese"]
    paths = from_data(compose(["experiment=zoo_dataflow"]))
    assert parent_bytes(paths, Sources()) == 0


def test_several_devices_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    config, sources = read(), Sources()
    needed = live_bytes(config, sources, "float32")
    two = ["cuda:0", "cuda:1"]
    pretend(monkeypatch, dict.fromkeys(two, needed))
    shares = device_shares(config, sources, two, "float32")
    assert sum(one.live for one in shares) >= needed  # buffers that are not saved count, too
    assert max(one.live for one in shares) < 0.8 * needed
    assert abs(sum(one.parents for one in shares) - parent_bytes(config, sources)) <= 2
    assert memory_problems(config, sources, two, "float32") == []
    pretend(monkeypatch, dict.fromkeys(two, int(0.8 * needed)))
    assert memory_problems(config, sources, ["cuda:0"], "float32")
    assert memory_problems(config, sources, two, "float32") == []
    pretend(monkeypatch, dict.fromkeys(two, needed // 3))
    (problem,) = memory_problems(config, sources, two, "float32")
    assert "does not fit into what is free: cuda:0 has 0.00 GiB, cuda:1 has 0.00 GiB; set execution.dtype" in problem


def test_workers_that_share_a_memory_are_refused_where_all_of_them_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    config, sources = read(), Sources()
    needed = live_bytes(config, sources, "float32")

    def said(free: int, total: int, sharers: int, at_least: int) -> list[str]:
        pretend(monkeypatch, {"cpu": free}, total)
        return memory_problems(config, sources, ["cpu"], "float32", sharers=sharers, at_least=at_least)

    assert said(needed, 4 * needed, 4, 4) == []  # the others have loaded theirs
    (problem,) = said(needed, 4 * needed - 4, 4, 4)
    assert "GiB free for each of the 4 workers that share it; use fewer workers, or set execution.dtype" in problem
    assert said(needed, 4 * needed - 4, 4, 3) == []  # perhaps there are only three
    (problem,) = said(needed - 1, 4 * needed, 4, 1)
    assert "GiB free; use fewer workers, or set" in problem


def test_the_decision_is_logged_when_the_live_model_is_loaded(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    with caplog.at_level(logging.INFO):
        prepare(compose(SMALL)).live_models()
        make_live_models(read("execution.device=cpu"), Sources(), tell=told.append)
    assert "candidates are merged on the CPU" in caplog.text
    assert len(told) == 1
    assert told[0] in caplog.text
